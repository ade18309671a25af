/**
 * Every element format that a GGUF or a safetensors file can name, in one table. `blockSize` elements are stored
 * together in `blockBytes` bytes; plain formats have a block of one element. `ggml` is the type id of a GGUF file,
 * `safetensors` the name in a safetensors header; a format without the one or the other does not occur there.
 * Being listed means that a file can be opened, not that an op can compute with it.
 */
const TABLE = {
  f32: { blockSize: 1, blockBytes: 4, ggml: 0, safetensors: 'F32' },
  f16: { blockSize: 1, blockBytes: 2, ggml: 1, safetensors: 'F16' },
  bf16: { blockSize: 1, blockBytes: 2, ggml: 30, safetensors: 'BF16' },
  f64: { blockSize: 1, blockBytes: 8, ggml: 28, safetensors: 'F64' },
  i8: { blockSize: 1, blockBytes: 1, ggml: 24, safetensors: 'I8' },
  i16: { blockSize: 1, blockBytes: 2, ggml: 25, safetensors: 'I16' },
  i32: { blockSize: 1, blockBytes: 4, ggml: 26, safetensors: 'I32' },
  i64: { blockSize: 1, blockBytes: 8, ggml: 27, safetensors: 'I64' },
  u8: { blockSize: 1, blockBytes: 1, safetensors: 'U8' },
  u16: { blockSize: 1, blockBytes: 2, safetensors: 'U16' },
  u32: { blockSize: 1, blockBytes: 4, safetensors: 'U32' },
  u64: { blockSize: 1, blockBytes: 8, safetensors: 'U64' },
  bool: { blockSize: 1, blockBytes: 1, safetensors: 'BOOL' },
  c64: { blockSize: 1, blockBytes: 8, safetensors: 'C64' },
  f8_e4m3: { blockSize: 1, blockBytes: 1, safetensors: 'F8_E4M3' },
  f8_e5m2: { blockSize: 1, blockBytes: 1, safetensors: 'F8_E5M2' },
  f8_e8m0: { blockSize: 1, blockBytes: 1, safetensors: 'F8_E8M0' },
  f8_e4m3fnuz: { blockSize: 1, blockBytes: 1, safetensors: 'F8_E4M3FNUZ' },
  f8_e5m2fnuz: { blockSize: 1, blockBytes: 1, safetensors: 'F8_E5M2FNUZ' },
  // Sub-byte formats of safetensors: the smallest run of elements that fills whole bytes is the block.
  f6_e2m3: { blockSize: 4, blockBytes: 3, safetensors: 'F6_E2M3' },
  f6_e3m2: { blockSize: 4, blockBytes: 3, safetensors: 'F6_E3M2' },
  f4: { blockSize: 2, blockBytes: 1, safetensors: 'F4' },
  q4_0: { blockSize: 32, blockBytes: 18, ggml: 2 },
  q4_1: { blockSize: 32, blockBytes: 20, ggml: 3 },
  q5_0: { blockSize: 32, blockBytes: 22, ggml: 6 },
  q5_1: { blockSize: 32, blockBytes: 24, ggml: 7 },
  q8_0: { blockSize: 32, blockBytes: 34, ggml: 8 },
  q8_1: { blockSize: 32, blockBytes: 36, ggml: 9 },
  q2_k: { blockSize: 256, blockBytes: 84, ggml: 10 },
  q3_k: { blockSize: 256, blockBytes: 110, ggml: 11 },
  q4_k: { blockSize: 256, blockBytes: 144, ggml: 12 },
  q5_k: { blockSize: 256, blockBytes: 176, ggml: 13 },
  q6_k: { blockSize: 256, blockBytes: 210, ggml: 14 },
  q8_k: { blockSize: 256, blockBytes: 292, ggml: 15 },
  iq2_xxs: { blockSize: 256, blockBytes: 66, ggml: 16 },
  iq2_xs: { blockSize: 256, blockBytes: 74, ggml: 17 },
  iq3_xxs: { blockSize: 256, blockBytes: 98, ggml: 18 },
  iq1_s: { blockSize: 256, blockBytes: 50, ggml: 19 },
  iq4_nl: { blockSize: 32, blockBytes: 18, ggml: 20 },
  iq3_s: { blockSize: 256, blockBytes: 110, ggml: 21 },
  iq2_s: { blockSize: 256, blockBytes: 82, ggml: 22 },
  iq4_xs: { blockSize: 256, blockBytes: 136, ggml: 23 },
  iq1_m: { blockSize: 256, blockBytes: 56, ggml: 29 },
  tq1_0: { blockSize: 256, blockBytes: 54, ggml: 34 },
  tq2_0: { blockSize: 256, blockBytes: 66, ggml: 35 },
  mxfp4: { blockSize: 32, blockBytes: 17, ggml: 39 },
  nvfp4: { blockSize: 64, blockBytes: 36, ggml: 40 },
  q1_0: { blockSize: 128, blockBytes: 18, ggml: 41 },
  q2_0: { blockSize: 64, blockBytes: 18, ggml: 42 },
} as const satisfies Record<string, DTypeFormat>;

export interface DTypeFormat {
  readonly blockSize: number;
  readonly blockBytes: number;
  readonly ggml?: number;
  readonly safetensors?: string;
}

export type WeightDType = keyof typeof TABLE;

/** The format of each dtype: how many elements share a block, and how many bytes the block takes. */
export const DTYPES: Readonly<Record<WeightDType, DTypeFormat>> = TABLE;

const entries = Object.entries(DTYPES) as [WeightDType, DTypeFormat][];

/** GGUF tensor type id → dtype. */
export const GGML_TYPES: ReadonlyMap<number, WeightDType> = new Map(
  entries.flatMap(([dtype, format]) => (format.ggml === undefined ? [] : [[format.ggml, dtype] as const])),
);

/** Ids that early files used and that every current reader refuses. */
export const REMOVED_GGML_TYPES: ReadonlyMap<number, string> = new Map([
  [4, 'Q4_2'],
  [5, 'Q4_3'],
  [31, 'Q4_0_4_4'],
  [32, 'Q4_0_4_8'],
  [33, 'Q4_0_8_8'],
  [36, 'IQ4_NL_4_4'],
  [37, 'IQ4_NL_4_8'],
  [38, 'IQ4_NL_8_8'],
]);

/** safetensors dtype name → dtype. */
export const SAFETENSORS_DTYPES: ReadonlyMap<string, WeightDType> = new Map(
  entries.flatMap(([dtype, format]) =>
    format.safetensors === undefined ? [] : [[format.safetensors, dtype] as const],
  ),
);

/** The product of `shape`, or null when it is not exactly representable. */
export function elementCount(shape: readonly number[]): number | null {
  // A zero anywhere makes the product zero, however large the other dimensions are.
  if (shape.includes(0)) return 0;
  let product = 1;
  for (const dim of shape) {
    product *= dim;
    if (!Number.isSafeInteger(product)) return null;
  }
  return product;
}

/** Bytes of `elements` elements; null when they do not fill whole blocks or the number is not exact. */
export function byteCount(dtype: WeightDType, elements: number): number | null {
  const { blockSize, blockBytes } = DTYPES[dtype];
  if (elements % blockSize !== 0) return null;
  const bytes = (elements / blockSize) * blockBytes;
  return Number.isSafeInteger(bytes) ? bytes : null;
}
