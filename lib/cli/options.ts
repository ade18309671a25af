import { type Command, InvalidArgumentError, Option } from 'commander';
import { ARITHMETICS } from '../engine/device.ts';
import type { GenerateOptions, LoadOptions } from '../engine/index.ts';
import { KV_DTYPES } from '../kv/dtype.ts';
import { QUANTIZATIONS } from '../models/quantization.ts';
import { SAMPLING_COLUMNS } from '../native/ops.gen.ts';
import { resolveSampling, type SamplingParams } from '../sampling/params.ts';

const ANY_VOCABULARY = 2 ** 31 - 1;

/** A decimal number, whole text: Number() alone takes '' and '0x10'. */
function decimal(text: string): number {
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : Number.NaN;
}

/** A parser of whole numbers from `min` on. */
export function integer(min: number): (text: string) => number {
  return (text) => {
    const value = decimal(text);
    if (Number.isSafeInteger(value) && value >= min) return value;
    throw new InvalidArgumentError(`Expected an integer >= ${min}, got '${text}'`);
  };
}

/** A parser that accepts what the sampler accepts, in the sampler's words. */
function sampling(name: keyof SamplingParams): (text: string) => number {
  return (text) => {
    const value = decimal(text);
    if (Number.isNaN(value)) throw new InvalidArgumentError(`Expected a number, got '${text}'`);
    try {
      resolveSampling({ [name]: value }, ANY_VOCABULARY);
    } catch (error) {
      throw new InvalidArgumentError((error as Error).message.replace(/^\w+: e/, 'E'));
    }
    return value;
  };
}

function device(text: string): string {
  if (/^(auto|cpu|cuda:\d+|emulated)$/.test(text)) return text;
  throw new InvalidArgumentError(`Expected auto, cpu or cuda:N, got '${text}'`);
}

function stop(text: string, before: string[] = []): string[] {
  if (text === '') throw new InvalidArgumentError('Expected a text, got an empty one');
  return [...before, text];
}

function kebab(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** The columns of `sample`, a flag each, and what else shapes a generation. */
export function addGenerateOptions(command: Command): Command {
  command.option('--max-tokens <n>', 'most tokens to generate', integer(1), 512);
  for (const { name, default: fallback, doc } of SAMPLING_COLUMNS) {
    // A model's generation_config.json may ask for sampling; without one, runs are greedy.
    const shown = name === 'temperature' ? "the model's own, or 0" : fallback;
    command.option(`--${kebab(name)} <number>`, `${doc} (default: ${shown})`, sampling(name));
  }
  return command
    .option('--seed <n>', 'makes draws repeatable (default: random)', sampling('seed'))
    .option('--stop <text>', 'ends the text before this one; may be repeated', stop);
}

/** How a model is loaded. */
export function addLoadOptions(command: Command, { context = true } = {}): Command {
  command
    .option('--threads <n>', 'worker threads (default: the cores that are there)', integer(1))
    .option('--device <name>', 'auto, cpu or cuda:N (default: auto; EYRIE_DEVICE overrides)', device)
    .addOption(
      new Option('--activations <type>', 'f32 rounds nothing; auto rounds inputs of matrices to bf16')
        .choices(['auto', 'f32'])
        .default('auto'),
    )
    .addOption(
      new Option(
        '--arithmetic <kind>',
        'native is what the processor does fastest; portable has the same bits on all with AVX2',
      ).choices(ARITHMETICS),
    )
    .addOption(weightsOption('quantises matrices of floats while loading (default: what the file has)'));
  if (context) addContext(command);
  return command.addOption(
    new Option(
      '--kv-dtype <type>',
      'numbers of the KV cache (default: f16; f32 with --activations f32)',
    ).choices(KV_DTYPES),
  );
}

export function weightsOption(description: string): Option {
  return new Option('--weights <format>', description).choices(QUANTIZATIONS);
}

function addContext(command: Command): void {
  command.option('--context <n>', "longest text in tokens (default: the model's, at most 4096)", integer(2));
}

/** The flags of {@link addLoadOptions} and {@link addGenerateOptions}; absent ones are absent keys. */
export type LoadFlags = Pick<
  LoadOptions,
  'threads' | 'device' | 'arithmetic' | 'activations' | 'weights' | 'kvDtype'
> & {
  context?: number;
};
export type GenerateFlags = Omit<SamplingParams, 'logitBias' | 'allowedIds'> & {
  maxTokens: number;
  stop?: string[];
};

export function loadOptions(flags: LoadFlags): LoadOptions {
  const { context } = flags;
  return {
    ...pick(flags, ['threads', 'device', 'arithmetic', 'activations', 'weights', 'kvDtype']),
    ...(context === undefined ? {} : { contextLength: context }),
  };
}

/** The seed is chosen here when it is not given, so that a run can report it. */
export function generateOptions(flags: GenerateFlags): GenerateOptions & { seed: number } {
  const names = SAMPLING_COLUMNS.map((column) => column.name);
  const seed = flags.seed ?? Math.floor(Math.random() * 2 ** 32);
  return { ...pick(flags, [...names, 'maxTokens', 'stop']), seed };
}

function pick<T extends object, K extends keyof T>(from: T, keys: readonly K[]): Pick<T, K> {
  return Object.fromEntries(
    keys.flatMap((key) => (from[key] === undefined ? [] : [[key, from[key]]])),
  ) as Pick<T, K>;
}
