import { EyrieError } from '../errors.ts';
import { type LayerConfig, type ModelConfig, validateConfig } from './config.ts';
import { Fields } from './fields.ts';
import { ropeFromHf } from './rope-config.ts';

/** How a family reads the parts of config.json that differ. */
export interface HfDialect {
  family: string;
  /** Default of `rope_theta`. */
  theta?: number;
  qkvBias?: boolean;
  qkNorm?: boolean;
  /** Default of `tie_word_embeddings` where a file leaves it out. */
  tied?: boolean;
  /** Which layers slide, where the file has no `layer_types`. */
  slides?: (f: Fields, layer: number) => boolean;
  /** Which layers rotate. */
  rotates?: (f: Fields, layer: number) => boolean;
}

/** Reads config.json of a Llama-like model. @throws EyrieError EYRIE_CONFIG, EYRIE_ARCHITECTURE */
export function configFromHf(where: string, json: Record<string, unknown>, dialect: HfDialect): ModelConfig {
  const f = new Fields(where, json);
  const heads = f.number('num_attention_heads');
  const hiddenSize = f.number('hidden_size');
  const headDim = f.number('head_dim', hiddenSize / heads);
  const maxPositions = f.number('max_position_embeddings', 2048);
  const hiddenAct = f.string('hidden_act') ?? 'silu';
  if (hiddenAct !== 'silu')
    throw new EyrieError(
      'EYRIE_ARCHITECTURE',
      `${where}: hidden_act "${hiddenAct}" is not supported for ${dialect.family} (silu is)`,
    );
  for (const key of ['mlp_bias', ...(dialect.qkvBias ? [] : ['attention_bias'])]) {
    if (f.boolean(key, false))
      throw new EyrieError(
        'EYRIE_ARCHITECTURE',
        `${where}: "${key}": true is not supported for ${dialect.family}`,
      );
  }
  return validateConfig(
    {
      family: dialect.family,
      vocabSize: f.number('vocab_size'),
      hiddenSize,
      intermediateSize: f.number('intermediate_size'),
      heads,
      kvHeads: f.number('num_key_value_heads', heads),
      headDim,
      maxPositions,
      normEps: f.number('rms_norm_eps', 1e-6),
      tied: f.boolean('tie_word_embeddings', dialect.tied ?? false),
      qkvBias: dialect.qkvBias ?? false,
      qkNorm: dialect.qkNorm ?? false,
      rope: ropeFromHf(f, headDim, maxPositions, dialect.theta ?? 10_000),
      layers: layersFromHf(f, dialect),
      permutedHeads: false,
      bosId: f.ids('bos_token_id')[0] ?? null,
      eosIds: f.ids('eos_token_id'),
    },
    where,
  );
}

function layersFromHf(f: Fields, dialect: HfDialect): LayerConfig[] {
  const count = f.number('num_hidden_layers');
  if (!Number.isInteger(count) || count < 1 || count > 10_000) {
    throw new EyrieError('EYRIE_CONFIG', `${f.where}: "num_hidden_layers" must be 1 to 10000, got ${count}`);
  }
  const window = f.number('sliding_window', 0);
  const types = f.array('layer_types');
  if (types && types.length !== count) {
    throw new EyrieError(
      'EYRIE_CONFIG',
      `${f.where}: "layer_types" has ${types.length} entries for ${count} layers`,
    );
  }
  return Array.from({ length: count }, (_, i) => {
    const type = types?.[i];
    if (type !== undefined && type !== 'full_attention' && type !== 'sliding_attention') {
      throw new EyrieError(
        'EYRIE_ARCHITECTURE',
        `${f.where}: layer type ${JSON.stringify(type)} is not supported for ${dialect.family}`,
      );
    }
    const slides = type !== undefined ? type === 'sliding_attention' : (dialect.slides?.(f, i) ?? false);
    if (slides && window < 1)
      throw new EyrieError(
        'EYRIE_CONFIG',
        `${f.where}: layer ${i} slides, but "sliding_window" is ${window}`,
      );
    return { window: slides ? window : 0, rope: dialect.rotates?.(f, i) ?? true };
  });
}
