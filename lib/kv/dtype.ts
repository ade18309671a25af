/**
 * What keys and values are kept in. f8_e4m3 has a fixed scale of 1 (its range is ±448), i8 an f16 scale for each token and head,
 * which is the more exact one of the two.
 */
export const KV_DTYPES = ['f32', 'f16', 'bf16', 'f8_e4m3', 'i8'] as const;
export type KvDType = (typeof KV_DTYPES)[number];
