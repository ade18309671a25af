import { fstatSync, readFileSync } from 'node:fs';
import { EyrieError } from '../errors.ts';

/** Whether standard input is a pipe or a file; a terminal and /dev/null are not. */
export function isPiped(): boolean {
  try {
    return !fstatSync(0).isCharacterDevice();
  } catch {
    return false; // closed
  }
}

/** Bytes as text, exactly: a BOM stays, and what is no UTF-8 is refused instead of replaced. */
export function decodeText(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    const next = 'convert it first, for instance with iconv';
    throw new EyrieError('EYRIE_INVALID_ARGUMENT', `${where}: expected UTF-8, got other bytes; ${next}`, {
      cause,
    });
  }
}

/** All of standard input. `whileWaiting` is called after `waitMs` without a byte; what it returns ends the wait. */
export async function readStdin(waitMs = 0, whileWaiting?: () => 'stop' | undefined): Promise<string> {
  const { stdin } = process;
  const chunks: Buffer[] = [];
  let stopped = false;
  const timer =
    whileWaiting &&
    setTimeout(() => {
      if (whileWaiting() !== 'stop') return;
      stopped = true;
      stdin.destroy();
    }, waitMs);
  try {
    for await (const chunk of stdin) {
      clearTimeout(timer);
      chunks.push(chunk as Buffer);
    }
  } catch (error) {
    if (!stopped) throw error;
  } finally {
    clearTimeout(timer);
  }
  return decodeText(Buffer.concat(chunks), 'standard input');
}

/** A text file. @throws EyrieError EYRIE_FILE, EYRIE_INVALID_ARGUMENT */
export function readTextFile(path: string): string {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    const why =
      (cause as NodeJS.ErrnoException).code === 'ENOENT' ? 'does not exist' : (cause as Error).message;
    throw new EyrieError('EYRIE_FILE', `${path}: expected a text file, got none: ${why}`, { cause });
  }
  return decodeText(bytes, path);
}
