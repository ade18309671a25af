import { EyrieError } from '../errors.ts';
import type { RopeScaling } from '../nn/rope-table.ts';
import type { GgufMetadata } from '../weights/index.ts';
import { type ModelConfig, validateConfig } from './config.ts';

/** How a family reads the parts of GGUF metadata that differ. */
export interface GgufDialect {
  family: string;
  qkvBias?: boolean;
  qkNorm?: boolean;
  /** The converter stored the rows of q and k in interleaved rotary order. */
  permuted?: boolean;
  /** Which layers rotate. */
  rotates?: (layer: number) => boolean;
}

export interface GgufFacts {
  /** Rows of token_embd, for files without `vocab_size`. */
  vocabSize: number;
  /** There is no output.weight. */
  tied: boolean;
  /** Contents of rope_freqs.weight, or null. */
  ropeDivisors: Float32Array | null;
}

/** Reads the metadata of a Llama-like model. @throws EyrieError EYRIE_GGUF, EYRIE_CONFIG, EYRIE_ARCHITECTURE */
export function configFromGguf(meta: GgufMetadata, dialect: GgufDialect, facts: GgufFacts): ModelConfig {
  const arch = meta.string('general.architecture');
  const key = (k: string) => `${arch}.${k}`;
  const heads = meta.integer(key('attention.head_count'));
  const hiddenSize = meta.integer(key('embedding_length'));
  const headDim = meta.integer(key('attention.key_length'), hiddenSize / heads);
  if (meta.integer(key('attention.value_length'), headDim) !== headDim) {
    throw new EyrieError(
      'EYRIE_ARCHITECTURE',
      `${meta.path}: values and keys of different sizes are not supported for ${arch}`,
    );
  }
  const experts = meta.integer(key('expert_count'), 0);
  if (experts > 0)
    throw new EyrieError(
      'EYRIE_ARCHITECTURE',
      `${meta.path}: mixture of experts (${experts} experts) is not supported yet`,
    );
  const window = meta.integer(key('attention.sliding_window'), 0);
  const count = meta.integer(key('block_count'));
  if (count < 1 || count > 10_000)
    throw new EyrieError('EYRIE_CONFIG', `${meta.path}: block_count must be 1 to 10000, got ${count}`);
  const maxPositions = meta.integer(key('context_length'));
  const eos = meta.integer('tokenizer.ggml.eos_token_id', -1);
  const bos = meta.integer('tokenizer.ggml.bos_token_id', -1);
  return validateConfig(
    {
      family: dialect.family,
      vocabSize: facts.vocabSize,
      hiddenSize,
      intermediateSize: meta.integer(key('feed_forward_length')),
      heads,
      kvHeads: meta.integer(key('attention.head_count_kv'), heads),
      headDim,
      maxPositions,
      normEps: meta.number(key('attention.layer_norm_rms_epsilon')),
      tied: facts.tied,
      qkvBias: dialect.qkvBias ?? false,
      qkNorm: dialect.qkNorm ?? false,
      rope: {
        theta: meta.number(key('rope.freq_base'), 10_000),
        dims: meta.integer(key('rope.dimension_count'), headDim),
        scaling: scalingFromGguf(meta, key, facts, maxPositions),
      },
      layers: Array.from({ length: count }, (_, i) => ({ window, rope: dialect.rotates?.(i) ?? true })),
      permutedHeads: dialect.permuted ?? false,
      bosId: bos >= 0 ? bos : null,
      eosIds: eos >= 0 ? [eos] : [],
    },
    meta.path,
  );
}

function scalingFromGguf(
  meta: GgufMetadata,
  key: (k: string) => string,
  facts: GgufFacts,
  maxPositions: number,
): RopeScaling {
  const type = meta.string(key('rope.scaling.type'), 'none');
  const factor = meta.number(key('rope.scaling.factor'), 1);
  if (facts.ropeDivisors) {
    if (type === 'yarn')
      throw new EyrieError(
        'EYRIE_ARCHITECTURE',
        `${meta.path}: rope_freqs together with YaRN is not supported`,
      );
    return { type: 'divisors', divisors: facts.ropeDivisors };
  }
  if (type === 'none') return { type: 'none' };
  if (type === 'linear') return { type: 'linear', factor };
  if (type === 'yarn') {
    const original = meta.integer(key('rope.scaling.original_context_length'), maxPositions);
    return {
      type: 'yarn',
      factor,
      originalMaxPositions: original,
      betaFast: meta.number(key('rope.scaling.yarn_beta_fast'), 32),
      betaSlow: meta.number(key('rope.scaling.yarn_beta_slow'), 1),
      attentionFactor: meta.number(
        key('rope.scaling.attn_factor'),
        factor <= 1 ? 1 : 0.1 * Math.log(factor) + 1,
      ),
      truncate: true,
    };
  }
  throw new EyrieError(
    'EYRIE_ARCHITECTURE',
    `${meta.path}: rotary scaling "${type}" is not supported (linear and yarn are)`,
  );
}
