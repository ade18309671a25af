import { EyrieError } from '../errors.ts';
import { SAMPLING_COLUMNS } from '../native/ops.gen.ts';

/** The columns of sampling.def as options. */
export type SamplingColumns = { [K in (typeof SAMPLING_COLUMNS)[number]['name']]: number };

/** How a sequence's tokens are drawn. Order: penalties, bias, mask, temperature, min-p, top-k, top-p (vLLM's). */
export interface SamplingParams extends Partial<SamplingColumns> {
  /** Added to the logits of token ids; -Infinity forbids. */
  logitBias?: Record<number, number>;
  /** The only ids that may be drawn. */
  allowedIds?: readonly number[];
  /** Draws are a function of seed, position and logits alone. @default random */
  seed?: number;
  /** Number of most likely tokens to report per position; 0 reports the drawn one only. @default none */
  logprobs?: number;
}

/** Checked parameters with every default filled in. */
export interface ResolvedSampling {
  columns: Float32Array;
  seedLow: number;
  seedHigh: number;
  seed: number;
  logprobs: number | null;
  penalised: boolean;
  biasIds: number[];
  biasValues: number[];
  allowedIds: readonly number[] | null;
}

const F32_MAX = 3.4028234663852886e38;

/** @throws EyrieError EYRIE_INVALID_ARGUMENT naming the option, its range and what came */
export function resolveSampling(p: SamplingParams, vocabSize: number): ResolvedSampling {
  const fail = (name: string, expected: string, got: unknown): never => {
    throw new EyrieError('EYRIE_INVALID_ARGUMENT', `${name}: expected ${expected}, got ${String(got)}`);
  };
  const columns = new Float32Array(SAMPLING_COLUMNS.length);
  for (const [i, c] of SAMPLING_COLUMNS.entries()) {
    const v = p[c.name] ?? c.default;
    if (typeof v !== 'number' || !(v >= c.min && v <= c.max))
      fail(c.name, `a number from ${c.min} to ${c.max}`, v);
    columns[i] = v;
  }
  const topK = p.topK ?? 0;
  if (!Number.isInteger(topK)) fail('topK', 'an integer', topK);
  if (p.topP === 0) fail('topP', 'a number above 0', 0);
  // f32 holds integers exactly up to 2^24; more than the vocabulary is all of it.
  columns[SAMPLING_COLUMNS.findIndex((c) => c.name === 'topK')] = topK >= vocabSize ? 0 : topK;
  const seed = p.seed ?? Math.floor(Math.random() * Number.MAX_SAFE_INTEGER);
  if (!Number.isSafeInteger(seed) || seed < 0) fail('seed', 'an integer from 0 to 2^53 - 1', seed);
  const id = (name: string, x: number) => {
    if (!Number.isInteger(x) || x < 0 || x >= vocabSize) fail(name, `token ids below ${vocabSize}`, x);
    return x;
  };
  const bias = Object.entries(p.logitBias ?? {}).map(([k, v]) => [id('logitBias', Number(k)), v] as const);
  for (const [, v] of bias)
    if (typeof v !== 'number' || Number.isNaN(v) || v === Number.POSITIVE_INFINITY)
      fail('logitBias', 'numbers or -Infinity', v);
  if (p.logprobs !== undefined && (!Number.isInteger(p.logprobs) || p.logprobs < 0 || p.logprobs > 128))
    fail('logprobs', 'an integer from 0 to 128', p.logprobs);
  if (p.allowedIds?.length === 0) fail('allowedIds', 'at least one id', '[]');
  for (const x of p.allowedIds ?? []) id('allowedIds', x);
  return {
    columns,
    seedLow: seed | 0,
    seedHigh: Math.floor(seed / 2 ** 32) | 0,
    seed,
    logprobs: p.logprobs ?? null,
    penalised:
      (p.repetitionPenalty ?? 1) !== 1 || (p.frequencyPenalty ?? 0) !== 0 || (p.presencePenalty ?? 0) !== 0,
    biasIds: bias.map(([k]) => k),
    // The kernel takes finite numbers; the lowest of them forbids a token as -Infinity does.
    biasValues: bias.map(([, v]) => Math.min(Math.max(v, -F32_MAX), F32_MAX)),
    allowedIds: p.allowedIds ?? null,
  };
}
