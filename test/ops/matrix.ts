import {
  type FileFormat,
  packWeight,
  type QuantizedFormat,
  quantizeWeight,
  type Stream,
  Tensor,
  type Weight,
  type WeightFormat,
} from '../../lib/ops/index.ts';
import { bf16Bits, f16Bits, fromBf16, fromF16 } from '../helpers/floats.ts';
import type { Random } from '../helpers/random.ts';
import { quantized } from './quantized.ts';

export const FILE_FORMATS: readonly FileFormat[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1'];
/** Those that only quantize_weight makes. */
export const MADE_FORMATS = ['i8', 'f8_e4m3', 'i4_g128'] as const satisfies QuantizedFormat[];
export const FORMATS: readonly WeightFormat[] = [...FILE_FORMATS, ...MADE_FORMATS];

/** Whether files hold it in blocks of 32. */
export const isQuantised = (format: WeightFormat): boolean => format.startsWith('q');
export const isMade = (format: WeightFormat): format is 'i8' | 'f8_e4m3' | 'i4_g128' =>
  MADE_FORMATS.some((f) => f === format);

/** A matrix [N,K] as a file stores it (formats that no file has: as f32), and what its bytes mean. */
export interface Matrix {
  format: WeightFormat;
  shape: readonly [number, number];
  bytes: Uint8Array;
  /** [N,K] integers of quantised formats (q4_0, i4_g128: 0..15, not centred), else the values */
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
  return a.d[b]! * (a.format === 'q4_0' || a.format === 'i4_g128' ? q - 8 : q);
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
  if (isMade(format)) {
    const v = random.normal(N * K);
    a.bytes = new Uint8Array(v.buffer);
    Object.assign(a, quantized(format, v, N, K));
  } else if (format === 'f32') {
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
  if (isMade(a.format)) {
    using src = Tensor.from(stream, 'f32', a.shape, new Float32Array(a.bytes.buffer));
    return quantizeWeight(src, a.format, permute);
  }
  const src = Tensor.from(stream, 'u8', [a.bytes.length], a.bytes);
  const w = packWeight(src, a.format, a.shape, permute);
  src.dispose();
  return w;
}
