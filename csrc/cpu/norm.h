// Norms of one row. Sums run in four accumulators of 16 lanes (block b of 16 goes to accumulator b % 4), added pairwise,
// then across the lanes: the order depends on D alone.
#pragma once
#include "core/tensor.h"

namespace eyrie {

EYRIE_INLINE V16 load_row_block(const float* x, int64_t i, int64_t D) {
  return i + 16 <= D ? v_load(x + i) : v_load_n(x + i, int(D - i));
}
EYRIE_INLINE void store_row_block(float* x, int64_t i, int64_t D, V16 a) {
  if (i + 16 <= D) v_store(x + i, a);
  else v_store_n(x + i, a, int(D - i));
}

EYRIE_INLINE float sum_of_squares_row(const float* x, int64_t D) {
  V16 s0 = v_zero(), s1 = v_zero(), s2 = v_zero(), s3 = v_zero();
  int64_t i = 0;
  for (; i + 64 <= D; i += 64) {
    const V16 a = v_load(x + i), b = v_load(x + i + 16), c = v_load(x + i + 32), d = v_load(x + i + 48);
    s0 = v_fma(a, a, s0);
    s1 = v_fma(b, b, s1);
    s2 = v_fma(c, c, s2);
    s3 = v_fma(d, d, s3);
  }
  if (i < D) {
    const V16 a = load_row_block(x, i, D);
    s0 = v_fma(a, a, s0);
    i += 16;
  }
  if (i < D) {
    const V16 a = load_row_block(x, i, D);
    s1 = v_fma(a, a, s1);
    i += 16;
  }
  if (i < D) {
    const V16 a = load_row_block(x, i, D);
    s2 = v_fma(a, a, s2);
    i += 16;
  }
  if (i < D) {
    const V16 a = load_row_block(x, i, D);
    s3 = v_fma(a, a, s3);
  }
  return v_reduce_add(v_add(v_add(s0, s1), v_add(s2, s3)));
}

// out = x / sqrt(mean(x^2) + eps) * w; w may be null, out may be x.
EYRIE_INLINE void rms_norm_row(const float* x, const float* w, float eps, int64_t D, float* out) {
  const V16 r = v_set1(1.0f / s_sqrt(sum_of_squares_row(x, D) / float(D) + eps));
  for (int64_t i = 0; i < D; i += 16) {
    V16 y = v_mul(load_row_block(x, i, D), r);
    if (w) y = v_mul(y, load_row_block(w, i, D));
    store_row_block(out, i, D, y);
  }
}

// out = (x - mean) / sqrt(var + eps) * w + b, the variance from the differences (two passes); w and b may be null,
// out may be x.
EYRIE_INLINE void layer_norm_row(const float* x, const float* w, const float* b, float eps, int64_t D, float* out) {
  V16 s[4] = {v_zero(), v_zero(), v_zero(), v_zero()};
  for (int64_t i = 0; i < D; i += 16) s[i / 16 % 4] = v_add(s[i / 16 % 4], load_row_block(x, i, D));
  const float mean = v_reduce_add(v_add(v_add(s[0], s[1]), v_add(s[2], s[3]))) / float(D);
  const V16 m = v_set1(mean);
  for (int k = 0; k < 4; k++) s[k] = v_zero();
  for (int64_t i = 0; i < D; i += 16) {
    V16 d = v_sub(load_row_block(x, i, D), m);
    if (i + 16 > D) {  // lanes past the end hold -mean: clear them
      float lanes[16];
      v_store(lanes, d);
      d = v_load_n(lanes, int(D - i));
    }
    s[i / 16 % 4] = v_fma(d, d, s[i / 16 % 4]);
  }
  const float var = v_reduce_add(v_add(v_add(s[0], s[1]), v_add(s[2], s[3]))) / float(D);
  const V16 r = v_set1(1.0f / s_sqrt(var + eps));
  for (int64_t i = 0; i < D; i += 16) {
    V16 y = v_mul(v_sub(load_row_block(x, i, D), m), r);
    if (w) y = v_mul(y, load_row_block(w, i, D));
    if (b) y = v_add(y, load_row_block(b, i, D));
    store_row_block(out, i, D, y);
  }
}

}  // namespace eyrie
