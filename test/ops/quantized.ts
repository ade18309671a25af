import type { QuantizedFormat } from '../../lib/ops/index.ts';
import { e4m3Bits, f16Bits, fromE4m3, fromF16, roundEven } from '../helpers/floats.ts';

const f = Math.fround;

/** Codes and scales of a matrix [N,K] by the definition of quantize_weight; d is that of each 32 inputs. */
export function quantized(
  format: QuantizedFormat,
  source: Float32Array,
  N: number,
  K: number,
): { q: Float64Array; d: Float64Array } {
  const blocks = Math.ceil(K / 32);
  const q = new Float64Array(N * K);
  const d = new Float64Array(N * blocks);
  const size = format === 'i4_g128' ? 128 : format === 'q4_0' ? 32 : K;
  for (let n = 0; n < N; n++)
    for (let k0 = 0; k0 < K; k0 += size) {
      const x = source.subarray(n * K + k0, n * K + Math.min(K, k0 + size));
      const of = format === 'i8' || format === 'f8_e4m3' ? rowOf(format, x) : groupOf(x);
      q.set(of.q, n * K + k0);
      d.fill(of.d, n * blocks + k0 / 32, n * blocks + Math.min(blocks, Math.ceil((k0 + size) / 32)));
    }
  return { q, d };
}

function rowOf(format: 'i8' | 'f8_e4m3', x: Float32Array): { q: number[]; d: number } {
  const zeros = Array.from(x, () => 0);
  let top = 0;
  for (const v of x) {
    if (!Number.isFinite(v)) return { q: zeros, d: Number.NaN };
    top = Math.max(top, Math.abs(v));
  }
  if (top < 2 ** -100) return { q: zeros, d: 0 };
  const d = f(top / (format === 'i8' ? 127 : 448));
  const inverse = f(1 / d);
  // An integer has no -0, and what is smaller than the normal numbers has none either.
  const code = (v: number) =>
    format === 'i8'
      ? Math.max(-127, Math.min(127, roundEven(f(v * inverse)))) + 0
      : fromE4m3(e4m3Bits(Math.abs(v) < 2 ** -126 ? 0 : f(v * inverse)));
  return { q: Array.from(x, code), d };
}

function groupOf(x: Float32Array): { q: number[]; d: number } {
  let m = 0;
  for (const v of x) {
    if (!Number.isFinite(v) || Math.abs(v) > 7 * 65504) return { q: Array.from(x, () => 8), d: Number.NaN };
    if (Math.abs(v) > Math.abs(m)) m = v;
  }
  let best = { q: Array.from(x, () => 8), d: 0, error: Number.POSITIVE_INFINITY };
  for (let i = 0; m !== 0 && i < 9; i++) {
    const d = fromF16(f16Bits(f(-m / (7 + i / 4))));
    const inverse = d === 0 ? 0 : f(1 / d);
    const q = Array.from(x, (v) => (d === 0 ? 8 : Math.max(-8, Math.min(7, roundEven(f(v * inverse)))) + 8));
    const error = x.reduce((sum, v, k) => sum + f(v - d * (q[k]! - 8)) ** 2, 0);
    if (error < best.error) best = { q, d, error };
  }
  return best;
}
