import type { EyrieError } from '../errors.ts';
import {
  CONVERT_AGAIN,
  type FileState,
  problem,
  quote,
  requireUnchanged,
  type SourceFile,
  withFile,
} from './files.ts';
import { ARRAY, BOOL, STRING, VALUE_TYPES } from './gguf-values.ts';
import { decodeText } from './text.ts';

/** A 64-bit integer is a number where that is exact, else a bigint. */
export type GgufValue = number | bigint | boolean | string | GgufValue[];

export interface GgufEntry {
  type: number;
  /** Where its bytes start in the header. */
  at: number;
}

/**
 * The key-value part of a GGUF file. It was checked when the file was opened; values are decoded when asked for, as
 * a vocabulary is large and often not needed. Each typed getter takes an optional second argument to return when the
 * key is absent; without it absence is an error. A value of another type is always an error.
 */
export class GgufMetadata {
  readonly path: string;
  readonly #file: FileState;
  readonly #headerBytes: number;
  readonly #entries: ReadonlyMap<string, GgufEntry>;
  #held: Buffer | null;

  constructor(file: SourceFile, bytes: Buffer, entries: ReadonlyMap<string, GgufEntry>) {
    this.path = file.path;
    this.#file = file.state;
    this.#headerBytes = bytes.length;
    this.#held = bytes;
    this.#entries = entries;
  }

  /** Lets go of the header's bytes, megabytes of vocabulary mostly. What is asked for later is read from the file again. */
  release(): void {
    this.#held = null;
  }

  /** @throws EyrieError EYRIE_FILE, when they were released and the file is another one now */
  get #bytes(): Buffer {
    this.#held ??= withFile(this.path, (file) => {
      requireUnchanged(file, this.#file);
      return file.head(this.#headerBytes);
    });
    return this.#held;
  }

  keys(): string[] {
    return [...this.#entries.keys()];
  }

  has(key: string): boolean {
    return this.#entries.has(key);
  }

  /** The type as the file has it, `u32` or `array of string`; undefined when the key is absent. */
  typeOf(key: string): string | undefined {
    const entry = this.#entries.get(key);
    return entry && this.#typeName(entry);
  }

  isArray(key: string): boolean {
    return this.#entries.get(key)?.type === ARRAY;
  }

  /** The value, whatever its type. A string that is not UTF-8 is an error; {@link bytes} has it. */
  get(key: string): GgufValue | undefined {
    const entry = this.#entries.get(key);
    return entry && this.#decode(key, entry.type, entry.at).value;
  }

  string(key: string, absent?: string): string {
    const entry = this.#find(key, 'string', absent, (type) => type === STRING);
    return entry ? this.#text(key, entry.at) : absent!;
  }

  /** The exact bytes of a string. */
  bytes(key: string, absent?: Uint8Array): Uint8Array {
    const entry = this.#find(key, 'string', absent, (type) => type === STRING);
    return entry ? this.#string(entry.at) : absent!;
  }

  number(key: string, absent?: number): number {
    const entry = this.#find(key, 'number', absent, isNumber);
    return entry ? this.#numberAt(key, entry.type, entry.at) : absent!;
  }

  /** A number stored as one of the integer types. */
  integer(key: string, absent?: number): number {
    const entry = this.#find(key, 'integer', absent, isInteger);
    return entry ? this.#numberAt(key, entry.type, entry.at) : absent!;
  }

  boolean(key: string, absent?: boolean): boolean {
    const entry = this.#find(key, 'bool', absent, (type) => type === BOOL);
    return entry ? this.#bytes[entry.at] === 1 : absent!;
  }

  numbers(key: string, absent?: number[]): number[] {
    const array = this.#findArray(key, 'numbers', absent, isNumber);
    if (!array) return absent!;
    const { bytes } = VALUE_TYPES[array.type]!;
    return Array.from({ length: array.count }, (_, i) =>
      this.#numberAt(key, array.type, array.at + i * bytes),
    );
  }

  booleans(key: string, absent?: boolean[]): boolean[] {
    const array = this.#findArray(key, 'bools', absent, (type) => type === BOOL);
    if (!array) return absent!;
    return Array.from({ length: array.count }, (_, i) => this.#bytes[array.at + i] === 1);
  }

  strings(key: string, absent?: string[]): string[] {
    const array = this.#findArray(key, 'strings', absent, (type) => type === STRING);
    if (!array) return absent!;
    return this.#strings(array, (at, index) => this.#text(key, at, index));
  }

  /** The exact bytes of an array of strings; a token need not be UTF-8. They are views: do not write to them. */
  bytesArray(key: string, absent?: Uint8Array[]): Uint8Array[] {
    const array = this.#findArray(key, 'strings', absent, (type) => type === STRING);
    return array ? this.#strings(array, (at) => this.#string(at)) : absent!;
  }

  /**
   * An array of strings without an object for each: string i is bytes[starts[i]..ends[i]). A view of the header: do not write to it.
   */
  packedStrings(key: string): { bytes: Uint8Array; starts: Uint32Array; ends: Uint32Array } {
    const array = this.#findArray(key, 'strings', undefined, (type) => type === STRING)!;
    const starts = new Uint32Array(array.count);
    const ends = new Uint32Array(array.count);
    let at = array.at;
    for (let i = 0; i < array.count; i++) {
      starts[i] = at + 8;
      at += 8 + this.#length(at);
      ends[i] = at;
    }
    return { bytes: this.#bytes, starts, ends };
  }

  /** The entry of `key` when its type is accepted; null when it is absent and the caller has a value for that. */
  #find(key: string, wanted: string, absent: unknown, accept: (type: number) => boolean): GgufEntry | null {
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      if (absent !== undefined) return null;
      throw this.#error(key, wanted, 'no such key', CONVERT_AGAIN);
    }
    if (accept(entry.type)) return entry;
    throw this.#error(key, wanted, this.#typeName(entry), CONVERT_AGAIN);
  }

  #findArray(key: string, wanted: string, absent: unknown, accept: (type: number) => boolean) {
    const entry = this.#find(key, `array of ${wanted}`, absent, (type) => type === ARRAY);
    if (!entry) return null;
    const array = this.#array(entry.at);
    // An empty array has no elements that could have the wrong type, and converters disagree about its type.
    if (array.count === 0 || accept(array.type)) return array;
    throw this.#error(key, `array of ${wanted}`, this.#typeName(entry), CONVERT_AGAIN);
  }

  #array(at: number): GgufEntry & { count: number } {
    return { type: this.#bytes.readUInt32LE(at), count: this.#length(at + 4), at: at + 12 };
  }

  /** Lengths were checked against the file when it was opened, so they are exact. */
  #length(at: number): number {
    return this.#bytes.readUInt32LE(at) + this.#bytes.readUInt32LE(at + 4) * 2 ** 32;
  }

  #string(at: number): Uint8Array {
    // Not `subarray`, which is slower than this by half, and a vocabulary has a hundred thousand of them.
    return new Uint8Array(this.#bytes.buffer, this.#bytes.byteOffset + at + 8, this.#length(at));
  }

  /** Applies `map` to the position of each string of an array. */
  #strings<T>(array: { count: number; at: number }, map: (at: number, index: number) => T): T[] {
    const result = new Array<T>(array.count);
    let at = array.at;
    for (let i = 0; i < array.count; i++) {
      result[i] = map(at, i);
      at += 8 + this.#length(at);
    }
    return result;
  }

  #text(key: string, at: number, index?: number): string {
    const text = decodeText(this.#bytes, at + 8, at + 8 + this.#length(at));
    if (text !== null) return text;
    const where = index === undefined ? '' : ` at index ${index}`;
    const found = `the bytes ${Buffer.from(this.#string(at)).toString('hex', 0, 16)}${where}`;
    throw this.#error(key, 'valid UTF-8', found, 'Read it as bytes, or convert the model again.');
  }

  #numberAt(key: string, type: number, at: number): number {
    const value = VALUE_TYPES[type]!.number!(this.#bytes, at);
    if (typeof value === 'number') return value;
    throw this.#error(key, 'an integer within ±2^53', `${value}`, CONVERT_AGAIN);
  }

  #decode(key: string, type: number, at: number): { value: GgufValue; end: number } {
    if (type === STRING) return { value: this.#text(key, at), end: at + 8 + this.#length(at) };
    if (type === ARRAY) {
      const array = this.#array(at);
      const value: GgufValue[] = [];
      let end = array.at;
      for (let i = 0; i < array.count; i++) {
        const element = this.#decode(key, array.type, end);
        value.push(element.value);
        end = element.end;
      }
      return { value, end };
    }
    const { bytes, number } = VALUE_TYPES[type]!;
    return { value: number ? number(this.#bytes, at) : this.#bytes[at] === 1, end: at + bytes };
  }

  #typeName(entry: GgufEntry): string {
    if (entry.type !== ARRAY) return VALUE_TYPES[entry.type]!.name;
    return `array of ${VALUE_TYPES[this.#array(entry.at).type]!.name}`;
  }

  #error(key: string, expected: string, found: string, next: string): EyrieError {
    return problem('EYRIE_GGUF', this.path, `metadata key ${quote(key)}`, expected, found, next);
  }
}

function isNumber(type: number): boolean {
  return VALUE_TYPES[type]!.number !== undefined;
}

function isInteger(type: number): boolean {
  return VALUE_TYPES[type]!.integer === true;
}
