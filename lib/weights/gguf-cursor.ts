import type { EyrieError } from '../errors.ts';
import { DOWNLOAD_AGAIN, problem, quote, type SourceFile } from './files.ts';
import { decodeText } from './text.ts';

/** Real headers stay below 20 MB; beyond this one the file is hostile or not a model, and memory is not worth it. */
export const MAX_HEADER_BYTES = 256 * 2 ** 20;
const FIRST_READ = 2 ** 20;
/** Made for the header at once: pages that nothing was read into take no memory, while outgrown buffers stay until a collection. */
const CAPACITY = 16 * 2 ** 20;
const HIGH_WORD = 2 ** 32;

/**
 * Reads the header of a GGUF file front to back. Every read is checked against the file's size first, and only then
 * is memory made for it. `bytes` holds the file from its start and grows by doubling, in few large reads.
 */
export class GgufCursor {
  readonly file: SourceFile;
  /** What is being read, for messages. */
  context = 'the header';
  position = 0;
  bytes: Buffer = Buffer.alloc(0);
  #memory: Buffer = this.bytes;

  constructor(file: SourceFile) {
    this.file = file;
  }

  get remaining(): number {
    return this.file.size - this.position;
  }

  /** Makes `count` bytes from `position` available, or throws. */
  need(count: number): void {
    const end = this.position + count;
    if (end <= this.bytes.length) return;
    if (end > this.file.size) {
      const expected = `${count} more bytes at byte ${this.position}`;
      throw this.fail('truncated', expected, `the end of the file at byte ${this.file.size}`, DOWNLOAD_AGAIN);
    }
    if (end > MAX_HEADER_BYTES) {
      const next = 'This is not a model file that eyrie can read; check where it comes from.';
      throw this.fail('too large', `a header of at most ${MAX_HEADER_BYTES} bytes`, `at least ${end}`, next);
    }
    const length = Math.min(
      this.file.size,
      MAX_HEADER_BYTES,
      Math.max(end, FIRST_READ, 2 * this.bytes.length),
    );
    if (length > this.#memory.length) {
      this.#memory = Buffer.allocUnsafeSlow(Math.min(this.file.size, Math.max(length, CAPACITY)));
      this.bytes.copy(this.#memory);
    }
    this.file.readInto(this.#memory.subarray(this.bytes.length, length), this.bytes.length);
    this.bytes = this.#memory.subarray(0, length);
  }

  skip(count: number): void {
    this.need(count);
    this.position += count;
  }

  u32(): number {
    this.need(4);
    const value = this.bytes.readUInt32LE(this.position);
    this.position += 4;
    return value;
  }

  /** A 64-bit count, length or offset. Beyond 2^53 it could not be exact, and no file is that large. */
  u64(): number {
    this.need(8);
    const low = this.bytes.readUInt32LE(this.position);
    const high = this.bytes.readUInt32LE(this.position + 4);
    if (high >= 2 ** 21) {
      const value = this.bytes.readBigUInt64LE(this.position);
      throw this.fail('number out of range', 'less than 2^53', String(value), DOWNLOAD_AGAIN);
    }
    this.position += 8;
    return high * HIGH_WORD + low;
  }

  /** A count of things of at least `leastBytes` each, all of which the rest of the header must be able to hold. */
  count(what: string, leastBytes: number): number {
    const count = this.u64();
    const most = Math.floor(Math.min(this.remaining, MAX_HEADER_BYTES) / leastBytes);
    if (count > most) {
      throw this.fail(
        `count of ${what}`,
        `at most ${most}, all that could follow`,
        `${count}`,
        DOWNLOAD_AGAIN,
      );
    }
    return count;
  }

  /** A length-prefixed string as its exact bytes. The view is valid until the next read. */
  string(): Buffer {
    const length = this.count('string bytes', 1);
    this.need(length);
    const view = this.bytes.subarray(this.position, this.position + length);
    this.position += length;
    return view;
  }

  /** A string that must be text: a key or a tensor's name. */
  text(what: string, maxBytes: number): string {
    const bytes = this.string();
    if (bytes.length === 0 || bytes.length > maxBytes) {
      throw this.fail(`length of ${what}`, `1 to ${maxBytes} bytes`, `${bytes.length}`, DOWNLOAD_AGAIN);
    }
    const text = decodeText(bytes);
    if (text === null) {
      throw this.fail(what, 'valid UTF-8', quote(bytes.toString('latin1')), DOWNLOAD_AGAIN);
    }
    return text;
  }

  fail(what: string, expected: string, found: string, next: string): EyrieError {
    return problem('EYRIE_GGUF', this.file.path, `${this.context}: ${what}`, expected, found, next);
  }
}
