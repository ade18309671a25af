import { EyrieError } from '../errors.ts';
import type { RopeConfig, RopeScaling } from '../nn/rope-table.ts';
import type { Fields } from './fields.ts';

/** Reads both dialects: published configs (`rope_theta`, `rope_scaling`) and transformers 5 (`rope_parameters`). */
export function ropeFromHf(
  f: Fields,
  headDim: number,
  maxPositions: number,
  defaultTheta: number,
): RopeConfig {
  const parameters = f.object('rope_parameters');
  const scaling = parameters ?? f.object('rope_scaling');
  const theta = parameters?.number('rope_theta', defaultTheta) ?? f.number('rope_theta', defaultTheta);
  const partial = parameters?.number('partial_rotary_factor', 1) ?? f.number('partial_rotary_factor', 1);
  const dims = Math.floor(headDim * partial);
  return { theta, dims, scaling: scaling ? scalingFromHf(scaling, f, maxPositions) : { type: 'none' } };
}

function scalingFromHf(s: Fields, f: Fields, maxPositions: number): RopeScaling {
  const type = s.string('rope_type') ?? s.string('type') ?? 'default';
  switch (type) {
    case 'default':
      return { type: 'none' };
    case 'linear':
      return { type: 'linear', factor: s.number('factor') };
    case 'llama3':
      return {
        type: 'llama3',
        factor: s.number('factor'),
        lowFreqFactor: s.number('low_freq_factor'),
        highFreqFactor: s.number('high_freq_factor'),
        originalMaxPositions: s.number(
          'original_max_position_embeddings',
          f.number('original_max_position_embeddings', maxPositions),
        ),
      };
    case 'yarn': {
      const original = s.number(
        'original_max_position_embeddings',
        f.number('original_max_position_embeddings', maxPositions),
      );
      const factor = s.number('factor', maxPositions / original);
      const mscale = s.number('mscale', 0);
      const mscaleAll = s.number('mscale_all_dim', 0);
      const m = (x: number) => (factor <= 1 ? 1 : 0.1 * x * Math.log(factor) + 1);
      return {
        type: 'yarn',
        factor,
        originalMaxPositions: original,
        betaFast: s.number('beta_fast', 32),
        betaSlow: s.number('beta_slow', 1),
        attentionFactor: s.number('attention_factor', mscale && mscaleAll ? m(mscale) / m(mscaleAll) : m(1)),
        truncate: s.boolean('truncate', true),
      };
    }
    default:
      throw new EyrieError(
        'EYRIE_ARCHITECTURE',
        `${f.where}: rotary scaling "${type}" is not supported (linear, llama3 and yarn are)`,
      );
  }
}
