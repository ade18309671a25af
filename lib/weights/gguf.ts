import {
  byteCount,
  DTYPES,
  elementCount,
  GGML_TYPES,
  REMOVED_GGML_TYPES,
  type WeightDType,
} from './dtypes.ts';
import {
  CONVERT_AGAIN,
  DOWNLOAD_AGAIN,
  describeContent,
  problem,
  quote,
  type SourceFile,
  withFile,
} from './files.ts';
import { GgufCursor } from './gguf-cursor.ts';
import { type GgufEntry, GgufMetadata } from './gguf-metadata.ts';
import { readValueType, skipValue } from './gguf-values.ts';
import type { ParsedFile, TensorInfo } from './types.ts';

const MAX_KEY_BYTES = 65535;
const MAX_NAME_BYTES = 64;
const MAX_DIMS = 4;
// The least bytes that one entry can take; counts are held against them before anything is made for the entries.
const LEAST_PAIR_BYTES = 8 + 1 + 4 + 1;
const LEAST_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8;
const DEFAULT_ALIGNMENT = 32;

export interface ParsedGguf extends ParsedFile {
  metadata: GgufMetadata;
}

/** Reads and checks the header of one GGUF file (version 2 or 3, little-endian). */
export function parseGguf(path: string): ParsedGguf {
  return withFile(path, (file) => {
    const cursor = new GgufCursor(file);
    checkVersion(file, cursor);
    // A file without tensors is a vocabulary, and valid.
    const tensorCount = cursor.count('tensors', LEAST_TENSOR_BYTES);
    const pairCount = cursor.count('metadata keys', LEAST_PAIR_BYTES);
    const metadata = readMetadata(cursor, pairCount);
    const alignment = readAlignment(metadata);
    const headers: TensorHeader[] = [];
    while (headers.length < tensorCount) headers.push(readTensor(cursor, headers.length));
    const dataStart = Math.ceil(cursor.position / alignment) * alignment;
    const tensors = headers.map((header) => placeTensor(file, header, dataStart, alignment));
    checkTensorSet(path, tensors);
    return { path, fileBytes: file.size, tensors, metadata };
  });
}

function checkVersion(file: SourceFile, cursor: GgufCursor): void {
  const head = file.head(32);
  if (head.subarray(0, 4).toString('latin1') !== 'GGUF') {
    const found = describeContent(head);
    const next = found.includes('GGML') ? CONVERT_AGAIN : DOWNLOAD_AGAIN;
    throw problem('EYRIE_GGUF', file.path, 'not a GGUF file', 'the bytes "GGUF" first', found, next);
  }
  cursor.skip(4);
  const version = cursor.u32();
  if (version === 2 || version === 3) return;
  cursor.context = 'the version';
  if (version !== 0 && (version & 0xffff) === 0) {
    const next = 'Get the little-endian file, or convert the model on a little-endian machine.';
    throw cursor.fail('byte order', 'a little-endian file', 'a big-endian one', next);
  }
  const next = version > 3 ? 'Get a file of version 3, or a newer eyrie.' : CONVERT_AGAIN;
  throw cursor.fail('not supported', '2 or 3', `${version}`, next);
}

function readMetadata(cursor: GgufCursor, count: number): GgufMetadata {
  const entries = new Map<string, GgufEntry>();
  for (let i = 0; i < count; i++) {
    cursor.context = `metadata key ${i + 1} of ${count}`;
    const key = cursor.text('key', MAX_KEY_BYTES);
    cursor.context = `metadata key ${quote(key)}`;
    if (entries.has(key)) throw cursor.fail('duplicate key', 'each key once', 'it twice', CONVERT_AGAIN);
    const type = readValueType(cursor);
    entries.set(key, { type, at: cursor.position });
    skipValue(cursor, type);
  }
  // A copy of just this part: the cursor's buffer is larger and would live as long as the metadata.
  const bytes = Buffer.from(cursor.bytes.subarray(0, cursor.position));
  return new GgufMetadata(cursor.file, bytes, entries);
}

function readAlignment(metadata: GgufMetadata): number {
  const key = 'general.alignment';
  if (!metadata.has(key)) return DEFAULT_ALIGNMENT;
  const type = metadata.typeOf(key);
  const value = metadata.number(key);
  // The format asks for a multiple of 8; readers compute with masks, so it must be a power of two as well.
  const isPowerOfTwo = Number.isInteger(Math.log2(value));
  if (type === 'u32' && value >= 8 && isPowerOfTwo) return value;
  const what = `metadata key "${key}"`;
  const expected = 'an alignment that is a u32, a power of two and at least 8';
  throw problem('EYRIE_GGUF', metadata.path, what, expected, `${type} ${value}`, CONVERT_AGAIN);
}

interface TensorHeader {
  name: string;
  dtype: WeightDType;
  shape: number[];
  bytes: number;
  /** From the start of the data, as the file has it. */
  relative: number;
}

function readTensor(cursor: GgufCursor, index: number): TensorHeader {
  cursor.context = `tensor ${index + 1}`;
  const name = cursor.text('name', MAX_NAME_BYTES);
  cursor.context = `tensor ${quote(name)}`;
  const dimCount = cursor.u32();
  if (dimCount > MAX_DIMS) {
    throw cursor.fail('number of dimensions', `at most ${MAX_DIMS}`, `${dimCount}`, DOWNLOAD_AGAIN);
  }
  const dims: number[] = []; // innermost first
  for (let d = 0; d < dimCount; d++) dims.push(cursor.u64());
  const dtype = tensorType(cursor);
  const { blockSize } = DTYPES[dtype];
  const rowLength = dims[0] ?? 1;
  if (rowLength % blockSize !== 0) {
    const expected = `a multiple of the block size ${blockSize} of ${dtype}`;
    throw cursor.fail('row length', expected, `${rowLength}`, CONVERT_AGAIN);
  }
  const elements = elementCount(dims);
  const bytes = elements === null ? null : byteCount(dtype, elements);
  if (bytes === null) {
    throw cursor.fail('size', 'fewer than 2^53 bytes', `dimensions ${dims.join(' × ')}`, DOWNLOAD_AGAIN);
  }
  return { name, dtype, shape: dims.reverse(), bytes, relative: cursor.u64() };
}

function tensorType(cursor: GgufCursor): WeightDType {
  const id = cursor.u32();
  const dtype = GGML_TYPES.get(id);
  if (dtype !== undefined) return dtype;
  const removed = REMOVED_GGML_TYPES.get(id);
  if (removed !== undefined) {
    throw cursor.fail('tensor type', 'a type in use', `${id} (${removed}, removed from GGUF)`, CONVERT_AGAIN);
  }
  const next = `${DOWNLOAD_AGAIN} If the type is new, a newer eyrie may know it.`;
  throw cursor.fail(
    'unknown tensor type',
    `a known id (0 to ${Math.max(...GGML_TYPES.keys())})`,
    `${id}`,
    next,
  );
}

function placeTensor(
  file: SourceFile,
  header: TensorHeader,
  dataStart: number,
  alignment: number,
): TensorInfo {
  const { name, dtype, shape, bytes, relative } = header;
  const what = `tensor ${quote(name)}`;
  if (relative % alignment !== 0) {
    const expected = `an offset that is a multiple of the alignment ${alignment}`;
    throw problem('EYRIE_GGUF', file.path, `${what}: unaligned`, expected, `${relative}`, CONVERT_AGAIN);
  }
  // A tensor without elements has nothing to read, so a file may end before the padding that would precede it.
  const available = Math.max(0, file.size - dataStart);
  if (relative + bytes > available) {
    const expected = `${bytes} bytes at offset ${relative} within ${available} bytes of data`;
    const found = `a file of ${file.size} bytes`;
    throw problem('EYRIE_GGUF', file.path, `${what}: past the end`, expected, found, DOWNLOAD_AGAIN);
  }
  return { name, dtype, shape, file: file.path, offset: dataStart + relative, bytes };
}

/** Names are unique and no two tensors share bytes. Unused bytes between tensors are harmless and accepted. */
function checkTensorSet(path: string, tensors: readonly TensorInfo[]): void {
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (names.has(name)) {
      const what = `duplicate tensor ${quote(name)}`;
      throw problem('EYRIE_GGUF', path, what, 'each name once', 'it twice', CONVERT_AGAIN);
    }
    names.add(name);
  }
  const placed = tensors.filter((tensor) => tensor.bytes > 0).sort((a, b) => a.offset - b.offset);
  for (let i = 1; i < placed.length; i++) {
    const before = placed[i - 1]!;
    const tensor = placed[i]!;
    const end = before.offset + before.bytes;
    if (tensor.offset < end) {
      const what = `tensors ${quote(before.name)} and ${quote(tensor.name)} overlap`;
      const expected = `the second at byte ${end} or later`;
      throw problem('EYRIE_GGUF', path, what, expected, `byte ${tensor.offset}`, CONVERT_AGAIN);
    }
  }
}
