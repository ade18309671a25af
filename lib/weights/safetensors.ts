import type { EyrieError } from '../errors.ts';
import { byteCount, elementCount, SAFETENSORS_DTYPES } from './dtypes.ts';
import {
  CONVERT_AGAIN,
  DOWNLOAD_AGAIN,
  problem,
  quote,
  recognize,
  type SourceFile,
  withFile,
} from './files.ts';
import { isObject, jsonType, parseJsonObject } from './hf-config.ts';
import type { JsonObject } from './json.ts';
import type { ParsedFile, TensorInfo } from './types.ts';

/** The limit of the format itself. */
const MAX_HEADER_BYTES = 100_000_000;
const LENGTH_BYTES = 8;

/** Reads and checks the header of one safetensors file as strictly as the format's own reader does. */
export function parseSafetensors(path: string): ParsedFile {
  return withFile(path, (file) => {
    const header = readHeader(file);
    const dataStart = LENGTH_BYTES + header.bytes;
    const tensors: TensorInfo[] = [];
    for (const [name, value] of Object.entries(header.json)) {
      if (name === '__metadata__') checkMetadata(path, value);
      else tensors.push(readTensor(file, name, value, dataStart));
    }
    checkLayout(file, tensors, dataStart);
    return { path, fileBytes: file.size, tensors };
  });
}

function readHeader(file: SourceFile): { json: JsonObject; bytes: number } {
  const { path, size } = file;
  const head = file.head(32);
  if (size < LENGTH_BYTES) {
    throw bad(path, 'truncated', `at least ${LENGTH_BYTES} bytes`, `${size}`);
  }
  // Compared as a bigint, as it may be anything up to 2^64.
  const length = head.readBigUInt64LE(0);
  if (length > BigInt(Math.min(MAX_HEADER_BYTES, size - LENGTH_BYTES))) {
    // Another format read as a length gives an absurd one, so say what the file is if that can be told.
    const kind = recognize(head);
    const found = kind === null ? `${length}` : `${length}, as the file is ${kind}`;
    const expected = `at most ${MAX_HEADER_BYTES} and at most the ${size - LENGTH_BYTES} bytes that follow`;
    throw bad(path, 'header length', expected, found);
  }
  const bytes = Buffer.allocUnsafe(Number(length));
  file.readInto(bytes, LENGTH_BYTES);
  if (bytes[0] !== 0x7b) {
    const found = bytes.length === 0 ? 'an empty header' : quote(bytes.subarray(0, 8).toString('latin1'));
    throw bad(path, 'header', 'JSON that starts with "{"', found);
  }
  const options = { duplicateKeys: 'refuse', sizesOnly: true } as const;
  const json = parseJsonObject(path, bytes, 'EYRIE_SAFETENSORS', options, 'the header');
  return { json, bytes: bytes.length };
}

function checkMetadata(path: string, value: unknown): void {
  const what = '"__metadata__"';
  if (!isObject(value)) throw bad(path, what, 'an object of strings', jsonType(value), CONVERT_AGAIN);
  for (const [key, entry] of Object.entries(value)) {
    if (typeof entry === 'string') continue;
    throw bad(path, `${what}, key ${quote(key)}`, 'a string', jsonType(entry), CONVERT_AGAIN);
  }
}

function readTensor(file: SourceFile, name: string, value: unknown, dataStart: number): TensorInfo {
  const { path } = file;
  const what = `tensor ${quote(name)}`;
  if (!isObject(value))
    throw bad(path, what, 'an object with dtype, shape and data_offsets', jsonType(value));
  const { dtype: dtypeName, shape, data_offsets: offsets } = value;
  if (typeof dtypeName !== 'string') throw bad(path, `${what}: dtype`, 'a string', jsonType(dtypeName));
  const dtype = SAFETENSORS_DTYPES.get(dtypeName);
  if (dtype === undefined) {
    const expected = `one of ${[...SAFETENSORS_DTYPES.keys()].join(', ')}`;
    throw bad(path, `${what}: unknown dtype`, expected, quote(dtypeName), CONVERT_AGAIN);
  }
  if (!isSizes(shape)) throw bad(path, `${what}: shape`, 'an array of sizes', describeSizes(shape));
  if (!isSizes(offsets) || offsets.length !== 2) {
    throw bad(path, `${what}: data_offsets`, 'an array of two offsets', describeSizes(offsets));
  }
  const [begin, end] = offsets as [number, number];
  const available = file.size - dataStart;
  if (begin > end || end > available) {
    const expected = `begin ≤ end ≤ ${available}, the bytes of data in the file`;
    throw bad(path, `${what}: data_offsets`, expected, `[${begin}, ${end}]`);
  }
  const elements = elementCount(shape);
  const bytes = elements === null ? null : byteCount(dtype, elements);
  if (bytes === null) {
    const found = `shape ${showShape(shape)} of ${dtypeName}`;
    throw bad(path, `${what}: size`, 'whole bytes, fewer than 2^53', found, CONVERT_AGAIN);
  }
  if (bytes !== end - begin) {
    const expected = `${bytes} bytes for shape ${showShape(shape)} of ${dtypeName}`;
    throw bad(path, `${what}: data_offsets`, expected, `${end - begin} in [${begin}, ${end}]`);
  }
  return { name, dtype, shape, file: path, offset: dataStart + begin, bytes };
}

/** The header's numbers are all sizes already (`sizesOnly`), so that only the kinds are left to check. */
function isSizes(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => typeof size === 'number');
}

function describeSizes(value: unknown): string {
  if (!Array.isArray(value)) return jsonType(value);
  const stranger = value.find((size) => typeof size !== 'number');
  return stranger === undefined ? `${value.length} numbers` : `an array with ${jsonType(stranger)} in it`;
}

function showShape(shape: readonly number[]): string {
  const shown = shape.slice(0, 8).join(', ');
  return shape.length > 8 ? `[${shown}, … ${shape.length} in all]` : `[${shown}]`;
}

/** The tensors fill the data exactly: no hole, no overlap, nothing behind the last. */
function checkLayout(file: SourceFile, tensors: readonly TensorInfo[], dataStart: number): void {
  // By end as well, so that an empty tensor comes before the one that starts where it lies.
  const ordered = [...tensors].sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = dataStart;
  for (const tensor of ordered) {
    if (tensor.offset !== end) {
      const fault = tensor.offset > end ? 'a hole before it' : 'overlaps the one before it';
      const expected = `its data at offset ${end - dataStart}`;
      const found = `${tensor.offset - dataStart}`;
      throw bad(file.path, `tensor ${quote(tensor.name)}: ${fault}`, expected, found, CONVERT_AGAIN);
    }
    end += tensor.bytes;
  }
  if (end !== file.size) {
    throw bad(file.path, 'bytes after the last tensor', `a file of ${end} bytes`, `${file.size}`);
  }
}

function bad(path: string, what: string, expected: string, found: string, next = DOWNLOAD_AGAIN): EyrieError {
  return problem('EYRIE_SAFETENSORS', path, what, expected, found, next);
}
