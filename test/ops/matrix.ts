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
import { BLOCK_FORMATS, type BlockFormat, elements, LAYOUTS, randomBlocks } from './blocks.ts';
import { quantized } from './quantized.ts';

/** Those that every device has, and all, which the CPU has. */
export const DEVICE_FILE_FORMATS: readonly FileFormat[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1'];
export const FILE_FORMATS: readonly FileFormat[] = [
  ...DEVICE_FILE_FORMATS,
  ...BLOCK_FORMATS.filter((format) => !DEVICE_FILE_FORMATS.includes(format)),
];
/** Those that only quantize_weight makes. */
export const MADE_FORMATS = ['i8', 'f8_e4m3', 'i4_g128'] as const satisfies QuantizedFormat[];
export const DEVICE_FORMATS: readonly WeightFormat[] = [...DEVICE_FILE_FORMATS, ...MADE_FORMATS];
export const FORMATS: readonly WeightFormat[] = [...FILE_FORMATS, ...MADE_FORMATS];
/** The formats that a backend has. */
export const formatsOf = (backend: { cuda: boolean }): readonly WeightFormat[] =>
  backend.cuda ? DEVICE_FORMATS : FORMATS;

/** Whether files hold it in blocks. */
export const isQuantised = (format: WeightFormat): format is BlockFormat =>
  BLOCK_FORMATS.some((f) => f === format);
/** Inputs of a block of the format; 1 where rows may have any length. */
export const blockOf = (format: WeightFormat): number => (isQuantised(format) ? LAYOUTS[format].block : 1);
export const isMade = (format: WeightFormat): format is 'i8' | 'f8_e4m3' | 'i4_g128' =>
  MADE_FORMATS.some((f) => f === format);

/** A matrix [N,K] as a file stores it (formats that no file has: as f32), and what its bytes mean. */
export interface Matrix {
  format: WeightFormat;
  shape: readonly [number, number];
  bytes: Uint8Array;
  /** [N,K] codes of formats with codes (not centred), numbers of those with a table, else the values */
  q: Float64Array;
  /** inputs that share d and m: 32, or 16 */
  shared: number;
  /** [N,K/shared]: the value is d * q + m; float formats: 1 and 0 */
  d: Float64Array;
  m: Float64Array;
  /** [N,K/shared]: what is added to codes before they are multiplied: m is d * zero where it is not 0 */
  zero: Float64Array;
  /** whether m is folded at all */
  hasMin: boolean;
}

/** The value of output n, input k, in float64 (exact), with the sign that zeros have. */
export function weightAt(a: Matrix, n: number, k: number): number {
  const K = a.shape[1];
  const b = n * Math.ceil(K / a.shared) + Math.floor(k / a.shared);
  const q = a.q[n * K + k]!;
  if (a.zero[b]) return a.d[b]! * (q + a.zero[b]!);
  return a.hasMin ? a.d[b]! * q + a.m[b]! : a.d[b]! * q;
}

export function randomMatrix(random: Random, format: WeightFormat, N: number, K: number): Matrix {
  const shared = isQuantised(format) ? LAYOUTS[format].shared : 32;
  const groups = Math.ceil(K / shared);
  const a: Matrix = {
    format,
    shape: [N, K],
    bytes: new Uint8Array(0),
    q: new Float64Array(N * K),
    shared,
    d: new Float64Array(N * groups).fill(1),
    m: new Float64Array(N * groups),
    zero: new Float64Array(N * groups),
    hasMin: false,
  };
  if (isMade(format)) {
    const v = random.normal(N * K);
    a.bytes = new Uint8Array(v.buffer);
    Object.assign(a, quantized(format, v, N, K));
    if (format === 'i4_g128') a.zero.fill(-8);
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
  } else if (isQuantised(format)) {
    a.bytes = randomBlocks(random, format, (N * K) / LAYOUTS[format].block);
    readBlocks(a);
  }
  return a;
}

/** Fills in what the bytes of a block format mean. */
export function readBlocks(a: Matrix): void {
  const table = a.format.startsWith('iq4') || a.format === 'mxfp4';
  a.hasMin = !table && a.format !== 'q8_0';
  elements(a.format as BlockFormat, a.bytes).forEach((e, i) => {
    a.q[i] = e.q;
    if (i % a.shared) return;
    a.d[i / a.shared] = e.d;
    a.m[i / a.shared] = e.zero ? e.d * e.zero : e.m;
    a.zero[i / a.shared] = e.zero;
  });
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
