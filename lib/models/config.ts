import { EyrieError } from '../errors.ts';
import type { RopeConfig } from '../nn/rope-table.ts';

/** What differs between the layers of one model. */
export interface LayerConfig {
  /** Visible positions, the token itself included; 0: all. */
  window: number;
  /** Whether queries and keys are rotated (SmolLM3 leaves some layers out). */
  rope: boolean;
}

/** A model as the modules need it, whatever file format and dialect it came from. */
export interface ModelConfig {
  /** The family that reads it, for instance "llama". */
  family: string;
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  /** Positions the model was made for. */
  maxPositions: number;
  normEps: number;
  /** The output head is the embedding. */
  tied: boolean;
  /** Biases on q, k and v. */
  qkvBias: boolean;
  /** RMS norms on the heads of q and k. */
  qkNorm: boolean;
  rope: RopeConfig;
  layers: LayerConfig[];
  /** The weight file stores the rows of q and k in interleaved rotary order; otherwise in half order. */
  permutedHeads: boolean;
  bosId: number | null;
  eosIds: number[];
}

/** Throws EYRIE_CONFIG for numbers that contradict each other, before anything is allocated. */
export function validateConfig(c: ModelConfig, where: string): ModelConfig {
  const positive: (keyof ModelConfig)[] = [
    'vocabSize',
    'hiddenSize',
    'intermediateSize',
    'heads',
    'kvHeads',
    'headDim',
    'maxPositions',
  ];
  for (const key of positive) {
    const v = c[key];
    if (typeof v !== 'number' || !Number.isSafeInteger(v) || v < 1 || v > 2 ** 31 - 1) {
      throw new EyrieError('EYRIE_CONFIG', `${where}: ${key} must be a positive integer, got ${String(v)}`);
    }
  }
  if (c.layers.length < 1 || c.layers.length > 10_000) {
    throw new EyrieError('EYRIE_CONFIG', `${where}: a model has 1 to 10000 layers, got ${c.layers.length}`);
  }
  if (c.heads % c.kvHeads !== 0) {
    throw new EyrieError(
      'EYRIE_CONFIG',
      `${where}: ${c.heads} attention heads cannot share ${c.kvHeads} key-value heads evenly`,
    );
  }
  if (c.headDim > 256)
    throw new EyrieError(
      'EYRIE_ARCHITECTURE',
      `${where}: heads of ${c.headDim} dimensions are not supported (at most 256)`,
    );
  if (c.rope.dims % 2 !== 0 || c.rope.dims > c.headDim) {
    throw new EyrieError(
      'EYRIE_CONFIG',
      `${where}: ${c.rope.dims} rotary dimensions do not fit heads of ${c.headDim}`,
    );
  }
  if (!(c.normEps > 0 && c.normEps < 1))
    throw new EyrieError('EYRIE_CONFIG', `${where}: norm epsilon must be in (0,1), got ${c.normEps}`);
  if (!(c.rope.theta > 1))
    throw new EyrieError('EYRIE_CONFIG', `${where}: rope theta must be above 1, got ${c.rope.theta}`);
  return c;
}
