import { EyrieError } from '../errors.ts';

/** How the angles of a rotary embedding are scaled beyond the length a model was trained with. */
export type RopeScaling =
  | { type: 'none' }
  | { type: 'linear'; factor: number }
  | {
      type: 'llama3';
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositions: number;
    }
  | {
      type: 'yarn';
      factor: number;
      originalMaxPositions: number;
      betaFast: number;
      betaSlow: number;
      attentionFactor: number;
      truncate: boolean;
    }
  /** Divisors of the angles as a file stores them (GGUF's rope_freqs). */
  | { type: 'divisors'; divisors: ArrayLike<number> };

export interface RopeConfig {
  theta: number;
  /** Rotated dimensions R of a head. */
  dims: number;
  scaling: RopeScaling;
}

/** The angles per position, one for each of the R/2 pairs. */
export function ropeFrequencies(config: RopeConfig): Float64Array {
  const { theta, dims, scaling } = config;
  const half = dims / 2;
  const out = new Float64Array(half);
  for (let i = 0; i < half; i++) out[i] = theta ** ((-2 * i) / dims);
  switch (scaling.type) {
    case 'none':
      break;
    case 'linear':
      for (let i = 0; i < half; i++) out[i] = out[i]! / scaling.factor;
      break;
    case 'llama3':
      for (let i = 0; i < half; i++) out[i] = llama3(out[i]!, scaling);
      break;
    case 'yarn':
      yarn(out, config, scaling);
      break;
    case 'divisors':
      if (scaling.divisors.length !== half) {
        throw new EyrieError(
          'EYRIE_CONFIG',
          `rope_freqs has ${scaling.divisors.length} values, expected ${half}; convert the file again`,
        );
      }
      for (let i = 0; i < half; i++) out[i] = out[i]! / scaling.divisors[i]!;
      break;
  }
  return out;
}

/** Llama 3.1: long waves are stretched, short ones kept, a linear ramp between (transformers, rope_type "llama3"). */
function llama3(angle: number, s: Extract<RopeScaling, { type: 'llama3' }>): number {
  const wave = (2 * Math.PI) / angle;
  if (wave > s.originalMaxPositions / s.lowFreqFactor) return angle / s.factor;
  if (wave < s.originalMaxPositions / s.highFreqFactor) return angle;
  const t = (s.originalMaxPositions / wave - s.lowFreqFactor) / (s.highFreqFactor - s.lowFreqFactor);
  return ((1 - t) * angle) / s.factor + t * angle;
}

/** YaRN, "NTK by parts" (Peng et al. 2023, §3.2): pairs that turn often keep their angle, slow ones are interpolated. */
function yarn(angles: Float64Array, config: RopeConfig, s: Extract<RopeScaling, { type: 'yarn' }>): void {
  const { theta, dims } = config;
  const pairOf = (turns: number) =>
    (dims * Math.log(s.originalMaxPositions / (turns * 2 * Math.PI))) / (2 * Math.log(theta));
  let low = pairOf(s.betaFast);
  let high = pairOf(s.betaSlow);
  if (s.truncate) {
    low = Math.floor(low);
    high = Math.ceil(high);
  }
  low = Math.max(low, 0);
  high = Math.min(high, dims - 1);
  if (low === high) high += 0.001;
  for (let i = 0; i < angles.length; i++) {
    const ramp = Math.min(1, Math.max(0, (i - low) / (high - low)));
    angles[i] = angles[i]! * (1 - ramp) + (angles[i]! / s.factor) * ramp;
  }
}

/** The table of `ops.rope`: f32[positions, R], a row is cos(R/2) then sin(R/2), computed in double. */
export function ropeTable(config: RopeConfig, positions: number): Float32Array {
  const angles = ropeFrequencies(config);
  const magnitude = config.scaling.type === 'yarn' ? config.scaling.attentionFactor : 1;
  const half = angles.length;
  const out = new Float32Array(positions * 2 * half);
  for (let p = 0; p < positions; p++) {
    const row = p * 2 * half;
    for (let i = 0; i < half; i++) {
      out[row + i] = Math.cos(p * angles[i]!) * magnitude;
      out[row + half + i] = Math.sin(p * angles[i]!) * magnitude;
    }
  }
  return out;
}
