import { type DType, type Pages, type Stream, Tensor, type TensorData } from '../../lib/ops/index.ts';
import { bf16Bits, e4m3Bits, f16Bits, fromBf16, fromE4m3, fromF16, roundEven } from '../helpers/floats.ts';
import type { Random } from '../helpers/random.ts';

export type CacheType = 'f32' | 'f16' | 'bf16' | 'f8_e4m3' | 'i8';
export const CACHE_TYPES: readonly CacheType[] = ['f32', 'f16', 'bf16', 'f8_e4m3', 'i8'];

/** An i8 row: the f16 scale by its definition, and what is stored. */
export function quantized(row: ArrayLike<number>): { codes: Int8Array; scale: number } {
  const codes = new Int8Array(row.length);
  let top = 0;
  for (let i = 0; i < row.length; i++) {
    const a = Math.abs(row[i]!);
    if (!Number.isFinite(a)) return { codes, scale: Number.NaN };
    top = Math.max(top, a);
  }
  if (top < 2 ** -26) return { codes, scale: 0 };
  const least = Math.fround(top / 127);
  let bits = f16Bits(least);
  if (fromF16(bits) < least) bits++;
  const scale = fromF16(Math.min(bits, 0x7bff));
  const inverse = Math.fround(1 / scale);
  for (let i = 0; i < row.length; i++) {
    const q = roundEven(Math.fround(row[i]! * inverse));
    codes[i] = Math.max(-127, Math.min(127, q));
  }
  return { codes, scale };
}

/** What a cache of this type keeps of a row; `scale`: of its head, where the type has such. */
export function keptRow(type: CacheType, row: ArrayLike<number>, scale: number): Float32Array {
  if (type === 'i8') {
    const q = quantized(row);
    return Float32Array.from(q.codes, (c) => c * q.scale);
  }
  const inverse = Math.fround(1 / scale);
  return Float32Array.from(row, (x) =>
    type === 'f32'
      ? x
      : type === 'f16'
        ? fromF16(f16Bits(x))
        : type === 'bf16'
          ? fromBf16(bf16Bits(x))
          : fromE4m3(e4m3Bits(Math.fround(x * inverse))) * scale,
  );
}

/** Numbers as a tensor of a float type holds them, for numbers that it keeps: only the encoding changes. */
export function encode(type: CacheType, x: Float32Array): Float32Array | Uint16Array {
  if (type === 'f32') return x;
  const bits = new Uint32Array(x.buffer, x.byteOffset, x.length);
  const out = new Uint16Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const e = (bits[i]! >>> 23) & 255;
    if (type === 'bf16') out[i] = bits[i]! >>> 16;
    else if (e > 112 && e < 143)
      out[i] = ((bits[i]! >>> 16) & 0x8000) | (((bits[i]! & 0x7fffffff) - 0x38000000) >>> 13);
    else out[i] = f16Bits(x[i]!);
  }
  return out;
}

/** Pages in one buffer, and what was made beside them. */
export type Uploaded = Pages & { whole: Tensor; plane?: Tensor; dispose(): void };

/**
 * A cache of one layer as plain numbers: keys and values of token j of request b, and where they lie. Pages are dealt out
 * in random order; whatever holds no token is NaN.
 */
export class Paged {
  readonly lens: readonly number[];
  readonly type: CacheType;
  readonly J: number;
  readonly S: number;
  readonly D: number;
  readonly E: number;
  readonly N: number;
  readonly M: number;
  readonly table: Int32Array;
  readonly k: Float32Array;
  readonly v: Float32Array;
  /** Of each head, with few bits, so that products are exact; 1 unless the type is f8_e4m3. */
  readonly kScale: Float32Array;
  readonly vScale: Float32Array;

  constructor(
    random: Random,
    lens: readonly number[],
    shape: { J: number; S: number; D: number; E: number },
    type: CacheType = 'f32',
  ) {
    this.J = shape.J;
    this.S = shape.S;
    this.D = shape.D;
    this.E = shape.E;
    this.lens = lens;
    this.type = type;
    const pages = lens.map((n) => Math.ceil(n / shape.S));
    this.N = pages.reduce((a, n) => a + n, 2);
    this.M = Math.max(1, ...pages);
    this.table = new Int32Array(lens.length * this.M).fill(-1);
    const free = random.permutation(this.N);
    const scale = (j: number) => (type === 'f8_e4m3' ? [1.25, 0.75, 3][j % 3]! : 1);
    this.kScale = Float32Array.from({ length: this.J }, (_, j) => scale(j));
    this.vScale = Float32Array.from({ length: this.J }, (_, j) => scale(j + 1));
    this.k = new Float32Array(this.N * this.J * this.S * this.D).fill(Number.NaN);
    this.v = new Float32Array(this.N * this.J * this.S * this.E).fill(Number.NaN);
    for (let b = 0; b < lens.length; b++) {
      for (let m = 0; m < pages[b]!; m++) this.table[b * this.M + m] = free.pop()!;
      for (let token = 0; token < lens[b]!; token++) {
        for (let j = 0; j < this.J; j++) {
          const row = this.row(b, token, j);
          this.k.set(keptRow(type, random.normal(this.D), this.kScale[j]!), row * this.D);
          this.v.set(keptRow(type, random.normal(this.E), this.vScale[j]!), row * this.E);
        }
      }
    }
  }

  slot(b: number, token: number): number {
    return this.table[b * this.M + Math.floor(token / this.S)]! * this.S + (token % this.S);
  }

  /** Row of [N,J,S] that holds head j of a token. */
  row(b: number, token: number, j: number): number {
    const slot = this.slot(b, token);
    return (Math.floor(slot / this.S) * this.J + j) * this.S + (slot % this.S);
  }

  /** Keys and values in one buffer, a page's keys before its values: strided views, as the engine's are. */
  upload(s: Stream): Uploaded {
    const { N, J, S, D, E, type } = this;
    const [kPage, vPage] = [J * S * D, J * S * E];
    const all = new Float32Array(N * (kPage + vPage));
    for (let n = 0; n < N; n++) {
      all.set(this.k.subarray(n * kPage, (n + 1) * kPage), n * (kPage + vPage));
      all.set(this.v.subarray(n * vPage, (n + 1) * vPage), n * (kPage + vPage) + kPage);
    }
    const scales = new Uint16Array(N * 2 * J * S);
    const whole = Tensor.from(s, type as DType, [all.length], this.encodeAll(all, scales));
    const view = (width: number, offset: number) =>
      whole.view([N, J, S, width], { strides: [kPage + vPage, S * width, width, 1], offset });
    const out: Uploaded = {
      whole,
      k: view(D, 0),
      v: view(E, kPage),
      dispose: () => {
        const { whole, k, v, plane, kScale, vScale, kScales, vScales } = out;
        for (const t of [k, v, kScale, vScale, kScales, vScales, whole, plane]) t?.dispose();
      },
    };
    if (type === 'f8_e4m3') {
      out.kScale = Tensor.from(s, 'f32', [J], this.kScale);
      out.vScale = Tensor.from(s, 'f32', [J], this.vScale);
    }
    if (type === 'i8') {
      out.plane = Tensor.from(s, 'f16', [scales.length], scales);
      const strides = [2 * J * S, S, 1];
      out.kScales = out.plane.view([N, J, S], { strides });
      out.vScales = out.plane.view([N, J, S], { strides, offset: J * S });
    }
    return out;
  }

  /** Rows of [N][K|V][J][S] one after the other, with the place of each in `all`. */
  eachRow(visit: (row: number, at: number, width: number, scale: number) => void): void {
    const { N, J, S, D, E } = this;
    for (let row = 0, at = 0; row < N * 2 * J * S; row++) {
      const values = Math.floor(row / (J * S)) % 2 === 1;
      const j = Math.floor(row / S) % J;
      visit(row, at, values ? E : D, (values ? this.vScale : this.kScale)[j]!);
      at += values ? E : D;
    }
  }

  /** Values that the cache keeps, as it keeps them. i8 rows are quantised again, which does not change them; NaN is poison. */
  encodeAll(all: Float32Array, scales: Uint16Array): TensorData {
    if (this.type === 'f8_e4m3') {
      const codes = new Uint8Array(all.length);
      this.eachRow((_, at, width, scale) => {
        for (let i = at; i < at + width; i++) codes[i] = e4m3Bits(all[i]! / scale);
      });
      return codes;
    }
    if (this.type === 'i8') {
      const codes = new Int8Array(all.length).fill(-128);
      this.eachRow((row, at, width) => {
        const q = quantized(all.subarray(at, at + width));
        scales[row] = f16Bits(q.scale);
        if (!Number.isNaN(q.scale)) codes.set(q.codes, at);
      });
      return codes;
    }
    return encode(this.type, all);
  }

  /** What uploaded pages hold now, as keys [N,J,S,D] and values [N,J,S,E]. */
  async download(pages: Uploaded): Promise<{ k: Float32Array; v: Float32Array }> {
    const data = await pages.whole.read();
    const scales = pages.plane ? await pages.plane.read() : null;
    const all = Float32Array.from(
      data as ArrayLike<number>,
      this.type === 'f16'
        ? fromF16
        : this.type === 'bf16'
          ? fromBf16
          : this.type === 'f8_e4m3'
            ? fromE4m3
            : Number,
    );
    this.eachRow((row, at, width, scale) => {
      const factor = scales ? fromF16(scales[row]!) : scale;
      for (let i = at; i < at + width; i++) all[i]! *= factor;
    });
    const [kPage, vPage] = [this.J * this.S * this.D, this.J * this.S * this.E];
    const k = new Float32Array(this.k.length);
    const v = new Float32Array(this.v.length);
    for (let n = 0; n < this.N; n++) {
      k.set(all.subarray(n * (kPage + vPage), n * (kPage + vPage) + kPage), n * kPage);
      v.set(all.subarray(n * (kPage + vPage) + kPage, (n + 1) * (kPage + vPage)), n * vPage);
    }
    return { k, v };
  }
}
