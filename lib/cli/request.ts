import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { EyrieError } from '../errors.ts';
import { isPiped, readStdin } from './input.ts';
import { UsageError } from './report.ts';

/** The model of the package; lib/cli and dist/cli lie equally deep. */
export const TINY: string = fileURLToPath(new URL('../../models/tiny', import.meta.url));
const DEMO = '4 7 4 -> 5';

const PUZZLE =
  `no MODEL is named: taking the one of the package, which solves one kind of puzzle, such as "${DEMO}":\n` +
  'which two of + - * M (M: the larger one) go between the three numbers, left to right and modulo 13, to give the fourth?';

/** What `eyrie run` was asked for. */
export interface Request {
  model: string;
  prompt: string;
  /** Words for standard error, ahead of everything else. */
  note: string | null;
}

/** Tells the arguments of `run [model] [prompt...]` apart. A null prompt is to come from standard input. */
export function readArguments(words: readonly string[]): { model: string | null; prompt: string | null } {
  const [first, ...rest] = words;
  if (first === undefined) return { model: null, prompt: null };
  if (rest.length > 0) return { model: first, prompt: only(rest.join(' ')) };
  if (existsSync(first) || first.endsWith('.gguf')) return { model: first, prompt: null };
  if (!/\s/.test(first) && /^[.~]|[/\\]|\.safetensors$/.test(first)) {
    throw new EyrieError(
      'EYRIE_FILE',
      `${first} does not exist; MODEL is a .gguf file or a folder with config.json and model.safetensors ` +
        '(if it is the prompt, name a MODEL before it)',
    );
  }
  return { model: null, prompt: only(first) };
}

function only(text: string): string | null {
  return text === '-' ? null : text;
}

export async function readRequest(words: readonly string[]): Promise<Request> {
  const { model, prompt } = readArguments(words);
  const found = prompt ?? (await promptFromStdin(words));
  const note = model === null ? PUZZLE : null;
  if (found !== null && found !== '') return { model: model ?? TINY, prompt: found, note };
  if (words.length === 0) return { model: TINY, prompt: DEMO, note };
  throw new UsageError('no prompt: give it as an argument, or as text on standard input');
}

async function promptFromStdin(words: readonly string[]): Promise<string | null> {
  const asked = words.at(-1) === '-';
  if (!asked && !isPiped()) return null;
  const text = await readStdin(2000, () => {
    // A bare `eyrie run` is often the first try, and its standard input may be a pipe that nobody writes to.
    if (words.length === 0) return 'stop';
    process.stderr.write('reading the prompt from standard input\n');
    return undefined;
  });
  // echo and editors end a text with a line break that is no part of it.
  return text.replace(/\r?\n$/, '');
}
