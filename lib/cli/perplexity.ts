import { Command } from 'commander';
import type { LLM } from '../engine/index.ts';
import { EyrieError } from '../errors.ts';
import { readTextFile } from './input.ts';
import { addLoadOptions, integer, type LoadFlags, loadOptions } from './options.ts';
import { count, loadProgress, Progress } from './progress.ts';

interface PerplexityFlags extends Omit<LoadFlags, 'context'> {
  window?: number;
  tokens?: number;
  json?: true;
  quiet?: true;
}

const WINDOW = 1024;

export function perplexityCommand(): Command {
  const command = new Command('perplexity')
    .description('How well a model predicts a text: exp of the mean negative log-likelihood of its tokens.')
    .argument('<model>', 'GGUF file or model folder')
    .argument('<file>', 'text file')
    .option(
      '--window <n>',
      `tokens of a context, each on its own (default: ${WINDOW}, or what the model has)`,
      integer(2),
    )
    .option('--tokens <n>', 'takes the first n tokens of the text (default: all)', integer(2))
    .option('--json', 'prints one object and nothing else')
    .option('--quiet', 'no progress');
  return addLoadOptions(command, { context: false }).action(perplexity);
}

async function perplexity(model: string, file: string, flags: PerplexityFlags): Promise<void> {
  const quiet = Boolean(flags.quiet || flags.json);
  const text = readTextFile(file);
  const { load } = await import('../engine/index.ts');
  const llm = await load(model, {
    ...loadOptions(flags),
    ...(flags.window === undefined ? {} : { contextLength: flags.window }),
    // Of the engine's own cache nothing is used; the check of the memory counts it for the one of the evaluator.
    kvTokens: flags.window ?? WINDOW,
    onProgress: loadProgress(quiet),
  });
  try {
    // A text is data: what looks like a control token in it is none.
    const ids = (await llm.tokenizer.encode(text, { special: false, bos: false })).slice(0, flags.tokens);
    const size = flags.window ?? Math.min(WINDOW, llm.engine.options.contextLength);
    const windows = split(ids, size, llm.tokenizer.addBos ? llm.tokenizer.bosId : null);
    if (windows.length === 0)
      throw new EyrieError(
        'EYRIE_INVALID_ARGUMENT',
        `${file}: expected two tokens or more, got ${count(ids.length, 'token')}`,
      );
    const { nll, scored, seconds } = await score(llm, windows, size, quiet);
    const result = {
      perplexity: Math.exp(nll / scored),
      meanNll: nll / scored,
      tokens: scored,
      windows: windows.length,
      window: size,
      tokensPerSecond: windows.reduce((sum, w) => sum + w.length, 0) / seconds,
      activations: flags.activations ?? 'auto',
    };
    process.stdout.write(flags.json ? `${JSON.stringify(result)}\n` : lineOf(result));
  } finally {
    await llm.dispose();
  }
}

/** Contexts of `size` tokens, the last one shorter, each beginning with BOS where the model wants it. */
export function split(ids: readonly number[], size: number, bos: number | null): number[][] {
  const head = bos === null ? [] : [bos];
  const step = size - head.length;
  const windows: number[][] = [];
  for (let at = 0; at < ids.length; at += step) windows.push([...head, ...ids.slice(at, at + step)]);
  // The first token of a context is not predicted, so a context of one token says nothing.
  return windows.filter((window) => window.length > 1);
}

async function score(llm: LLM, windows: readonly number[][], size: number, quiet: boolean) {
  const evaluator = llm.evaluator({ length: size });
  const progress = new Progress(quiet, 0.1);
  const started = performance.now();
  let nll = 0;
  let scored = 0;
  try {
    for (const [i, window] of windows.entries()) {
      const logprobs = await evaluator.score(window);
      for (const logprob of logprobs) nll -= logprob;
      scored += logprobs.length;
      if (!Number.isFinite(nll))
        throw new EyrieError(
          'EYRIE_EXECUTION',
          `window ${i + 1}: the model gave no finite probability; its weights are damaged`,
        );
      progress.show(
        (i + 1) / windows.length,
        `window ${i + 1} of ${windows.length}: perplexity ${Math.exp(nll / scored).toFixed(4)}`,
      );
    }
    progress.clear();
  } finally {
    evaluator.dispose();
  }
  return { nll, scored, seconds: (performance.now() - started) / 1000 };
}

function lineOf(r: {
  perplexity: number;
  tokens: number;
  windows: number;
  window: number;
  tokensPerSecond: number;
}): string {
  const what = `${count(r.tokens, 'token')} scored in ${count(r.windows, 'window')} of ${r.window}`;
  return `perplexity ${r.perplexity.toFixed(4)} · ${what} · ${r.tokensPerSecond.toFixed(1)} tokens/s\n`;
}
