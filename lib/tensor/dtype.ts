import { EyrieError } from '../errors.ts';

/** Element types of dense tensors. */
export type DType = 'f32' | 'f16' | 'bf16' | 'i32' | 'u8' | 'u16' | 'f8_e4m3' | 'i8';
/** Formats of packed weight matrices that lie in files. */
export const FILE_FORMATS = [
  'f32',
  'f16',
  'bf16',
  'q8_0',
  'q4_0',
  'q4_1',
  'q5_0',
  'q5_1',
  'q2_k',
  'q3_k',
  'q4_k',
  'q5_k',
  'q6_k',
  'iq4_nl',
  'iq4_xs',
  'mxfp4',
] as const;
export type FileFormat = (typeof FILE_FORMATS)[number];
/** Formats that `quantizeWeight` makes of matrices of floats. */
export type QuantizedFormat = 'i8' | 'f8_e4m3' | 'i4_g128' | 'q4_0';
/** Formats of packed weight matrices. */
export type WeightFormat = FileFormat | QuantizedFormat;

/** Typed arrays that carry tensor data; f16, bf16 and f8_e4m3 travel as their bits. */
export type TensorData = Float32Array | Int32Array | Uint8Array | Uint16Array | Int8Array;

export const DTYPE_BYTES: Record<DType, number> = {
  f32: 4,
  f16: 2,
  bf16: 2,
  i32: 4,
  u8: 1,
  u16: 2,
  f8_e4m3: 1,
  i8: 1,
};

/** A typed array over `buffer` for the dtype. */
export function typedArray(dtype: DType, buffer: ArrayBuffer): TensorData {
  switch (dtype) {
    case 'f32':
      return new Float32Array(buffer);
    case 'i32':
      return new Int32Array(buffer);
    case 'u8':
    case 'f8_e4m3':
      return new Uint8Array(buffer);
    case 'i8':
      return new Int8Array(buffer);
    default:
      return new Uint16Array(buffer);
  }
}

/** Whether `data` is the typed array that carries `dtype`. */
export function carries(dtype: DType, data: TensorData): boolean {
  switch (dtype) {
    case 'f32':
      return data instanceof Float32Array;
    case 'i32':
      return data instanceof Int32Array;
    case 'u8':
    case 'f8_e4m3':
      return data instanceof Uint8Array;
    case 'i8':
      return data instanceof Int8Array;
    default:
      return data instanceof Uint16Array;
  }
}

/** The number of elements of a shape. */
export function sizeOf(shape: readonly number[]): number {
  let n = 1;
  for (const d of shape) {
    if (!Number.isSafeInteger(d) || d < 0) {
      throw new EyrieError('EYRIE_SHAPE', `shape [${shape.join(',')}]: every size must be an integer >= 0`);
    }
    n *= d;
  }
  return n;
}
