import { CONVERT_AGAIN, DOWNLOAD_AGAIN } from './files.ts';
import type { GgufCursor } from './gguf-cursor.ts';

export const BOOL = 7;
export const STRING = 8;
export const ARRAY = 9;

/** Arrays may hold arrays; real files do not, and this depth keeps the walk and its callers shallow. */
export const MAX_ARRAY_DEPTH = 4;

interface ValueType {
  readonly name: string;
  /** Bytes of a value; for strings and arrays the least a value can take. */
  readonly bytes: number;
  /** Reads a number; absent for bool, string and array. */
  readonly number?: (bytes: Buffer, at: number) => number | bigint;
  readonly integer?: boolean;
}

/** The value types of GGUF by their id. */
export const VALUE_TYPES: readonly ValueType[] = [
  { name: 'u8', bytes: 1, number: (b, at) => b.readUInt8(at), integer: true },
  { name: 'i8', bytes: 1, number: (b, at) => b.readInt8(at), integer: true },
  { name: 'u16', bytes: 2, number: (b, at) => b.readUInt16LE(at), integer: true },
  { name: 'i16', bytes: 2, number: (b, at) => b.readInt16LE(at), integer: true },
  { name: 'u32', bytes: 4, number: (b, at) => b.readUInt32LE(at), integer: true },
  { name: 'i32', bytes: 4, number: (b, at) => b.readInt32LE(at), integer: true },
  { name: 'f32', bytes: 4, number: (b, at) => b.readFloatLE(at) },
  { name: 'bool', bytes: 1 },
  { name: 'string', bytes: 8 },
  { name: 'array', bytes: 12 },
  { name: 'u64', bytes: 8, number: (b, at) => exact(b.readBigUInt64LE(at)), integer: true },
  { name: 'i64', bytes: 8, number: (b, at) => exact(b.readBigInt64LE(at)), integer: true },
  { name: 'f64', bytes: 8, number: (b, at) => b.readDoubleLE(at) },
];

/** A number wherever it is exact, so that callers meet a bigint only where a number would lie. */
function exact(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

export function readValueType(cursor: GgufCursor): number {
  const type = cursor.u32();
  if (VALUE_TYPES[type] === undefined) {
    const expected = `a value type from 0 to ${VALUE_TYPES.length - 1}`;
    throw cursor.fail('unknown value type', expected, `${type}`, `${DOWNLOAD_AGAIN} Or: ${CONVERT_AGAIN}`);
  }
  return type;
}

/** Moves over a value of `type` and checks it on the way; decoding it is left until somebody asks. */
export function skipValue(cursor: GgufCursor, type: number, depth = 0): void {
  if (type === STRING) cursor.skip(cursor.count('string bytes', 1));
  else if (type === ARRAY) skipArray(cursor, depth + 1);
  else if (type === BOOL) skipBools(cursor, 1);
  else cursor.skip(VALUE_TYPES[type]!.bytes);
}

function skipArray(cursor: GgufCursor, depth: number): void {
  if (depth > MAX_ARRAY_DEPTH) {
    throw cursor.fail('nested array', `at most ${MAX_ARRAY_DEPTH} levels`, 'a deeper one', DOWNLOAD_AGAIN);
  }
  const type = readValueType(cursor);
  const elementBytes = VALUE_TYPES[type]!.bytes;
  const count = cursor.count('array elements', elementBytes);
  if (type === BOOL) skipBools(cursor, count);
  else if (type === STRING || type === ARRAY) for (let i = 0; i < count; i++) skipValue(cursor, type, depth);
  else cursor.skip(count * elementBytes);
}

function skipBools(cursor: GgufCursor, count: number): void {
  cursor.need(count);
  for (const end = cursor.position + count; cursor.position < end; cursor.position++) {
    const byte = cursor.bytes[cursor.position]!;
    if (byte > 1) throw cursor.fail('bool', '0 or 1', `${byte} at byte ${cursor.position}`, DOWNLOAD_AGAIN);
  }
}
