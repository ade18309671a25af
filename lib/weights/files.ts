import { closeSync, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { type ErrorCode, EyrieError } from '../errors.ts';

export const DOWNLOAD_AGAIN = 'Download the file again and compare its size and checksum with the source.';
export const CONVERT_AGAIN = 'Convert the model again with a current converter.';

/** The one shape of the messages of this room: where, what is wrong, what was expected, what came, what to do. */
export function problem(
  code: ErrorCode,
  path: string,
  what: string,
  expected: string,
  found: string,
  next: string,
  cause?: unknown,
): EyrieError {
  const message = `${path}: ${what}: expected ${expected}, got ${found}. ${next}`;
  return new EyrieError(code, message, cause === undefined ? undefined : { cause });
}

/** A name from a file, made safe for a message: quoted, control characters escaped, clipped. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 96 ? `${text.slice(0, 96)}…` : text);
}

/** A list for a message, clipped so that a hostile file cannot make the message endless. */
export function list(names: readonly string[], limit = 50): string {
  const shown = names.slice(0, limit).map(quote).join(', ');
  return names.length > limit ? `${shown} and ${names.length - limit} more` : shown;
}

/** What changes when a file is written to, or replaced. */
export interface FileState {
  size: number;
  modifiedMs: number;
}

/** Throws when a file that is read a second time is not what it was. */
export function requireUnchanged(file: SourceFile, before: FileState): void {
  const { size, modifiedMs } = file.state;
  if (size === before.size && modifiedMs === before.modifiedMs) return;
  const found = `${size} bytes of ${new Date(modifiedMs).toISOString()}`;
  const expected = `the ${before.size} bytes of ${new Date(before.modifiedMs).toISOString()}`;
  throw problem(
    'EYRIE_FILE',
    file.path,
    'changed since it was opened',
    expected,
    found,
    'Load the model again.',
  );
}

/**
 * A file open for reading, its size known. Reads are synchronous on purpose: a header is a few large reads followed
 * by a parse that blocks for longer than they do, and one flow of control keeps the parsers simple.
 */
export class SourceFile {
  readonly path: string;
  readonly state: FileState;
  readonly #fd: number;

  constructor(path: string, fd: number, state: FileState) {
    this.path = path;
    this.state = state;
    this.#fd = fd;
  }

  get size(): number {
    return this.state.size;
  }

  /** Fills `into` from `position`. The caller has checked that the range is inside the file. */
  readInto(into: Uint8Array, position: number): void {
    let done = 0;
    while (done < into.length) {
      let got: number;
      try {
        got = readSync(this.#fd, into, done, into.length - done, position + done);
      } catch (error) {
        throw fileError(this.path, error);
      }
      if (got === 0) {
        const found = `the end at byte ${position + done}`;
        throw problem(
          'EYRIE_FILE',
          this.path,
          'the file shrank',
          `${this.size} bytes`,
          found,
          DOWNLOAD_AGAIN,
        );
      }
      done += got;
    }
  }

  /** The first bytes of the file, fewer than `length` if it is shorter. */
  head(length: number): Buffer {
    const bytes = Buffer.alloc(Math.min(length, this.size));
    this.readInto(bytes, 0);
    return bytes;
  }
}

/** Opens `path` for the duration of `use`. Anything but a readable regular file is an `EYRIE_FILE` error. */
export function withFile<T>(path: string, use: (file: SourceFile) => T): T {
  let fd: number;
  try {
    // Before opening: to open a named pipe would block for ever.
    requireRegular(path, statSync(path));
    fd = openSync(path, 'r');
  } catch (error) {
    throw fileError(path, error);
  }
  try {
    const stat = fstatSync(fd);
    requireRegular(path, stat);
    return use(new SourceFile(path, fd, { size: stat.size, modifiedMs: stat.mtimeMs }));
  } finally {
    closeSync(fd);
  }
}

function requireRegular(path: string, stat: { isFile(): boolean; isDirectory(): boolean }): void {
  if (stat.isFile()) return;
  const found = stat.isDirectory() ? 'a folder' : 'a device, pipe or socket';
  throw problem('EYRIE_FILE', path, 'not a file', 'a regular file', found, 'Give the path of a file.');
}

/** Turns an error of node:fs into an `EYRIE_FILE` error; an {@link EyrieError} passes unchanged. */
export function fileError(path: string, error: unknown): EyrieError {
  if (error instanceof EyrieError) return error;
  const code = (error as NodeJS.ErrnoException).code;
  const found = code === 'ENOENT' || code === 'ENOTDIR' ? 'no such file or folder' : String(error);
  const next = code === 'EACCES' ? 'Check its permissions.' : 'Check the path, or download the model first.';
  return problem('EYRIE_FILE', path, 'cannot be read', 'a readable file', found, next, error);
}

/** What a file really is, judged by its first bytes, when it is not what its name says; null if that is unclear. */
export function recognize(head: Buffer): string | null {
  const text = head.toString('latin1');
  if (text.startsWith('version https://git-lfs'))
    return 'a Git LFS pointer instead of the file it stands for';
  if (/^\s*<(!doctype|html|\?xml)/i.test(text)) return 'a web page, probably an error of the download';
  if (text.startsWith('GGUF')) return 'a GGUF file';
  if (/^(lmgg|fmgg|tjgg|algg)/.test(text)) return 'a GGML file from before GGUF';
  if (text.startsWith('PK\x03\x04')) return 'a zip archive, perhaps a PyTorch checkpoint';
  if (text.startsWith('\x80')) return 'a Python pickle, perhaps a PyTorch checkpoint';
  return null;
}

/** The same for a message about a file that must be something else. */
export function describeContent(head: Buffer): string {
  if (head.length === 0) return 'an empty file';
  const looksLikeSafetensors = head[8] === 0x7b;
  const unknown = `the bytes ${head.toString('hex', 0, 8)}`;
  return recognize(head) ?? (looksLikeSafetensors ? 'what looks like a safetensors file' : unknown);
}
