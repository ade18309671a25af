import { statSync } from 'node:fs';
import { Command } from 'commander';
import type { Tokenizer, TokenizerSource } from '../tokenizer/index.ts';
import { readStdin } from './input.ts';

interface TokenizeFlags {
  special?: true;
  json?: true;
}

export function tokenizeCommand(): Command {
  return new Command('tokenize')
    .description('Turns the text on standard input into token ids, separated by spaces.')
    .argument('<model>', 'GGUF file (a vocabulary without weights will do), or folder with tokenizer.json')
    .option(
      '--special',
      'control tokens in the text count as such, and BOS goes in front where the model wants it',
    )
    .option('--json', 'prints one object with ids and the text of each token')
    .action(tokenize);
}

async function tokenize(model: string, flags: TokenizeFlags): Promise<void> {
  const { Tokenizer } = await import('../tokenizer/index.ts');
  const tokenizer = await Tokenizer.create(await tokenizerOf(model));
  const text = await readStdin(1000, () => {
    if (process.stdin.isTTY) process.stderr.write('reading the text from standard input; Ctrl-D ends it\n');
    return undefined;
  });
  const ids = await tokenizer.encode(text, flags.special ? {} : { special: false, bos: false });
  const shown = flags.json
    ? JSON.stringify({ ids, tokens: ids.map((id) => textOf(tokenizer, id)) })
    : ids.join(' ');
  process.stdout.write(`${shown}\n`);
}

/** The tokenizer of a model, without asking for weights that only a model would need. */
async function tokenizerOf(path: string): Promise<TokenizerSource> {
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
    const { sourceFromFolder } = await import('../tokenizer/index.ts');
    return sourceFromFolder(path);
  }
  const { openWeights } = await import('../weights/index.ts');
  const { tokenizerSource } = await import('../engine/tokenizer-source.ts');
  return tokenizerSource(await openWeights(path));
}

/** The text that a token adds; where it is a part of a character, U+FFFD stands for it. */
function textOf(tokenizer: Tokenizer, id: number): string {
  return new TextDecoder('utf-8', { ignoreBOM: true }).decode(tokenizer.tokenBytes(id));
}
