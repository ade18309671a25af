import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';

/** Bytes written front to back, so that a test can say exactly what a file holds, be it valid or not. */
export class Bytes {
  #parts: Buffer[] = [];
  length = 0;

  raw(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes));
    this.length += bytes.length;
    return this;
  }

  u32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value >>> 0);
    return this.raw(bytes);
  }

  u64(value: bigint | number): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return this.raw(bytes);
  }

  string(value: string | Uint8Array): this {
    const bytes = Buffer.from(value as Uint8Array);
    return this.u64(bytes.length).raw(bytes);
  }

  zeros(count: number): this {
    return this.raw(Buffer.alloc(count));
  }

  toBuffer(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Value type ids of GGUF, written down again here so that a slip in the reader shows. */
export const V = {
  u8: 0,
  i8: 1,
  u16: 2,
  i16: 3,
  u32: 4,
  i32: 5,
  f32: 6,
  bool: 7,
  string: 8,
  array: 9,
  u64: 10,
  i64: 11,
  f64: 12,
} as const;

export type Value = number | bigint | string | Uint8Array | ArrayValue;
/** `count` overrides the number of items that the file claims. */
export interface ArrayValue {
  of: number;
  items: Value[];
  count?: bigint;
}
export type Pair = [key: string | Uint8Array, type: number, value: Value];

export interface TensorSpec {
  name: string | Uint8Array;
  /** Innermost first, as in the file. */
  dims: (number | bigint)[];
  type?: number;
  /** Bytes of its data; by default those of an f32 tensor. */
  bytes?: number;
  offset?: number | bigint;
  dimCount?: number;
}

export interface GgufSpec {
  magic?: string;
  version?: number;
  pairs?: Pair[];
  pairCount?: bigint;
  tensors?: TensorSpec[];
  tensorCount?: bigint;
  /** What the writer pads to; a pair for `general.alignment` is up to the test. */
  alignment?: number;
}

type Scalar = [size: number, write: (bytes: Buffer, value: number | bigint) => void];
const SCALARS: Readonly<Record<number, Scalar>> = {
  [V.u8]: [1, (bytes, value) => bytes.writeUInt8(Number(value))],
  [V.i8]: [1, (bytes, value) => bytes.writeInt8(Number(value))],
  [V.u16]: [2, (bytes, value) => bytes.writeUInt16LE(Number(value))],
  [V.i16]: [2, (bytes, value) => bytes.writeInt16LE(Number(value))],
  [V.u32]: [4, (bytes, value) => bytes.writeUInt32LE(Number(value))],
  [V.i32]: [4, (bytes, value) => bytes.writeInt32LE(Number(value))],
  [V.f32]: [4, (bytes, value) => bytes.writeFloatLE(Number(value))],
  [V.bool]: [1, (bytes, value) => bytes.writeUInt8(Number(value))],
  [V.u64]: [8, (bytes, value) => bytes.writeBigUInt64LE(BigInt(value))],
  [V.i64]: [8, (bytes, value) => bytes.writeBigInt64LE(BigInt(value))],
  [V.f64]: [8, (bytes, value) => bytes.writeDoubleLE(Number(value))],
};

function writeValue(out: Bytes, type: number, value: Value): void {
  if (typeof value === 'string' || value instanceof Uint8Array) {
    out.string(value);
    return;
  }
  if (typeof value === 'object') {
    out.u32(value.of).u64(value.count ?? value.items.length);
    for (const item of value.items) writeValue(out, value.of, item);
    return;
  }
  // An id that GGUF does not have is written as four bytes, for the tests of unknown types.
  const [size, write] = SCALARS[type] ?? SCALARS[V.u32]!;
  const bytes = Buffer.alloc(size);
  write(bytes, value);
  out.raw(bytes);
}

/** A GGUF file. Tensor data is the tensor's number, repeated. */
export function gguf(spec: GgufSpec): Buffer {
  const pairs = spec.pairs ?? [];
  const tensors = spec.tensors ?? [];
  const alignment = spec.alignment ?? 32;
  const pad = (n: number) => Math.ceil(n / alignment) * alignment;
  const out = new Bytes().raw(Buffer.from(spec.magic ?? 'GGUF')).u32(spec.version ?? 3);
  out.u64(spec.tensorCount ?? tensors.length).u64(spec.pairCount ?? pairs.length);
  for (const [key, type, value] of pairs) {
    out.string(key).u32(type);
    writeValue(out, type, value);
  }
  const sizes = tensors.map(
    (tensor) => tensor.bytes ?? tensor.dims.reduce<number>((n, dim) => n * Number(dim), 4),
  );
  let offset = 0;
  tensors.forEach((tensor, i) => {
    out.string(tensor.name).u32(tensor.dimCount ?? tensor.dims.length);
    for (const dim of tensor.dims) out.u64(dim);
    out.u32(tensor.type ?? 0).u64(tensor.offset ?? offset);
    offset += pad(sizes[i]!);
  });
  if (tensors.length > 0) out.zeros(pad(out.length) - out.length);
  sizes.forEach((size, i) => {
    out.raw(Buffer.alloc(size, i + 1));
    if (i + 1 < sizes.length) out.zeros(pad(size) - size);
  });
  return out.toBuffer();
}

/** A safetensors file: the header as text or as a value to write as JSON, then the data. */
export function safetensors(header: unknown, data: number | Uint8Array = 0, length?: bigint): Buffer {
  const isRaw = typeof header === 'string' || header instanceof Uint8Array;
  const text = Buffer.from(isRaw ? (header as Uint8Array) : JSON.stringify(header));
  return new Bytes()
    .u64(length ?? text.length)
    .raw(text)
    .raw(typeof data === 'number' ? Buffer.alloc(data, 1) : data)
    .toBuffer();
}

/** A temporary folder for one test file, removed at its end; returns a function that writes a file there. */
export function temporaryFolder(): {
  folder: string;
  write(name: string, content: string | Uint8Array): string;
} {
  const folder = mkdtempSync(join(tmpdir(), 'eyrie-weights-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  return {
    folder,
    write(name, content) {
      const path = join(folder, name);
      writeFileSync(path, content);
      return path;
    },
  };
}
