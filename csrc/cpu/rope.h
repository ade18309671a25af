// Rotary embedding of one head: x[0..R) is rotated in place by the angles of one table row, cos(R/2) then sin(R/2).
// Pairs are (i, i + R/2), or (2i, 2i + 1) when interleaved: (a, b) -> (a cos - b sin, b cos + a sin).
#pragma once
#include "core/tensor.h"

namespace eyrie {

EYRIE_INLINE void rope_row(float* x, const float* cos_sin, int R, int interleaved) {
  const int half = R / 2;
  if (interleaved) {
    for (int i = 0; i < half; i++) {
      const float a = x[2 * i], b = x[2 * i + 1], c = cos_sin[i], s = cos_sin[half + i];
      x[2 * i] = s_fma(a, c, -b * s);
      x[2 * i + 1] = s_fma(b, c, a * s);
    }
    return;
  }
  for (int i = 0; i < half; i += 16) {
    const int n = half - i;
    if (n >= 16) {
      const V16 a = v_load(x + i), b = v_load(x + half + i), c = v_load(cos_sin + i), s = v_load(cos_sin + half + i);
      v_store(x + i, v_fma(a, c, v_mul(v_sub(v_zero(), b), s)));
      v_store(x + half + i, v_fma(b, c, v_mul(a, s)));
    } else {
      const V16 a = v_load_n(x + i, n), b = v_load_n(x + half + i, n);
      const V16 c = v_load_n(cos_sin + i, n), s = v_load_n(cos_sin + half + i, n);
      v_store_n(x + i, v_fma(a, c, v_mul(v_sub(v_zero(), b), s)), n);
      v_store_n(x + half + i, v_fma(b, c, v_mul(a, s)), n);
    }
  }
}

}  // namespace eyrie
