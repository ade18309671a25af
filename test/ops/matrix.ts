import { packWeight, type Stream, Tensor, type Weight, type WeightFormat } from '../../lib/ops/index.ts';
import { bf16Bits, f16Bits, fromBf16, fromF16 } from '../helpers/floats.ts';
import type { Random } from '../helpers/random.ts';

export const FORMATS: readonly WeightFormat[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1'];

export const isQuantised = (format: WeightFormat): boolean => format.startsWith('q');

/** A matrix [N,K] as a file stores it, and what its bytes mean. */
export interface Matrix {
  format: WeightFormat;
  shape: readonly [number, number];
  bytes: Uint8Array;
  /** [N,K] integers of quantised formats (q4_0: 0..15, not centred), else the values */
  q: Float64Array;
  /** [N,K/32]: the value is d * q + m; float formats: 1 and 0 */
  d: Float64Array;
  m: Float64Array;
}

/** The value of output n, input k, in float64 (exact), with the sign that zeros have. */
export function weightAt(a: Matrix, n: number, k: number): number {
  const K = a.shape[1];
  const b = n * Math.ceil(K / 32) + (k >> 5);
  const q = a.q[n * K + k]!;
  if (a.format === 'q4_1') return a.d[b]! * q + a.m[b]!;
  return a.d[b]! * (a.format === 'q4_0' ? q - 8 : q);
}

export function randomMatrix(random: Random, format: WeightFormat, N: number, K: number): Matrix {
  const blocks = Math.ceil(K / 32);
  const a: Matrix = {
    format,
    shape: [N, K],
    bytes: new Uint8Array(0),
    q: new Float64Array(N * K),
    d: new Float64Array(N * blocks).fill(1),
    m: new Float64Array(N * blocks),
  };
  if (format === 'f32') {
    const v = random.normal(N * K);
    a.q.set(v);
    a.bytes = new Uint8Array(v.buffer);
  } else if (format === 'f16' || format === 'bf16') {
    const toBits = format === 'f16' ? f16Bits : bf16Bits;
    const fromBits = format === 'f16' ? fromF16 : fromBf16;
    const bits = Uint16Array.from({ length: N * K }, () => toBits(random.gauss()));
    a.q.set(Float64Array.from(bits, fromBits));
    a.bytes = new Uint8Array(bits.buffer);
  } else {
    const size = { q8_0: 34, q4_0: 18, q4_1: 20 }[format];
    a.bytes = Uint8Array.from({ length: N * blocks * size }, () => random.integer(0, 256));
    const view = new DataView(a.bytes.buffer);
    for (let b = 0; b < N * blocks; b++) {
      const d = f16Bits(random.gauss() * 0.02);
      view.setUint16(b * size, d, true);
      a.d[b] = fromF16(d);
      if (format === 'q4_0') a.m[b] = -8 * fromF16(d);
      if (format === 'q4_1') {
        const m = f16Bits(random.gauss() * 0.1);
        view.setUint16(b * size + 2, m, true);
        a.m[b] = fromF16(m);
      }
      for (let i = 0; i < 32; i++) {
        const byte = b * size + size - (format === 'q8_0' ? 32 - i : 16 - (i % 16));
        const nibble = i < 16 ? view.getUint8(byte) & 15 : view.getUint8(byte) >> 4;
        a.q[b * 32 + i] = format === 'q8_0' ? view.getInt8(byte) : nibble;
      }
    }
  }
  return a;
}

export function upload(stream: Stream, a: Matrix, permute: number = 0): Weight {
  const src = Tensor.from(stream, 'u8', [a.bytes.length], a.bytes);
  const w = packWeight(src, a.format, a.shape, permute);
  src.dispose();
  return w;
}
