import { CommanderError } from 'commander';
import { EyrieError } from '../errors.ts';

/** Wrong usage that the option parser cannot see. */
export class UsageError extends Error {}

/** Writes an error for people to standard error, unless that was done already, and returns the exit code. */
export function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  // On a terminal, a progress line may stand where the message begins.
  const start = process.stderr.isTTY ? '\r\x1b[K' : '';
  const say = (text: string): void => void process.stderr.write(`${start}eyrie: ${text}\n`);
  if (error instanceof UsageError) {
    say(error.message);
    return 2;
  }
  if (process.env.EYRIE_DEBUG === '1' && error instanceof Error) say(error.stack ?? error.message);
  else if (error instanceof EyrieError) say(`${error.message} (${error.code})`);
  else say(`${error instanceof Error ? error.message : String(error)} (EYRIE_DEBUG=1 shows where)`);
  return 1;
}
