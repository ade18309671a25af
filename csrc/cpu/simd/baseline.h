// Level `baseline`: 16 lanes in plain C++, for any x86-64 (and any other CPU). No fused multiply-add: results are within
// rounding of the other levels, not bit-equal to them.
#pragma once
#include <math.h>

#include "cpu/simd/scalar.h"

#define EYRIE_LEVEL baseline

namespace eyrie {

struct V16 {
  float v[16];
};

#define EYRIE_LANES(expr)                  \
  V16 r;                                   \
  for (int i = 0; i < 16; i++) r.v[i] = (expr); \
  return r

EYRIE_INLINE V16 v_zero() { EYRIE_LANES(0.0f); }
EYRIE_INLINE V16 v_set1(float x) { EYRIE_LANES(x); }
EYRIE_INLINE V16 v_load(const float* p) { EYRIE_LANES(p[i]); }
EYRIE_INLINE V16 v_load_n(const float* p, int n) { EYRIE_LANES(i < n ? p[i] : 0.0f); }
EYRIE_INLINE V16 v_load_f16(const uint16_t* p) { EYRIE_LANES(f16_to_float(p[i])); }
EYRIE_INLINE V16 v_load_bf16(const uint16_t* p) { EYRIE_LANES(bf16_to_float(p[i])); }
EYRIE_INLINE V16 v_load_i8(const int8_t* p) { EYRIE_LANES(float(p[i])); }
EYRIE_INLINE void v_store(float* p, V16 a) {
  for (int i = 0; i < 16; i++) p[i] = a.v[i];
}
EYRIE_INLINE void v_store_n(float* p, V16 a, int n) {
  for (int i = 0; i < n; i++) p[i] = a.v[i];
}
EYRIE_INLINE void v_store_f16(uint16_t* p, V16 a) {
  for (int i = 0; i < 16; i++) p[i] = float_to_f16(a.v[i]);
}
EYRIE_INLINE void v_store_bf16(uint16_t* p, V16 a) {
  for (int i = 0; i < 16; i++) p[i] = float_to_bf16(a.v[i]);
}
EYRIE_INLINE V16 v_add(V16 a, V16 b) { EYRIE_LANES(a.v[i] + b.v[i]); }
EYRIE_INLINE V16 v_sub(V16 a, V16 b) { EYRIE_LANES(a.v[i] - b.v[i]); }
EYRIE_INLINE V16 v_mul(V16 a, V16 b) { EYRIE_LANES(a.v[i] * b.v[i]); }
EYRIE_INLINE V16 v_div(V16 a, V16 b) { EYRIE_LANES(a.v[i] / b.v[i]); }
EYRIE_INLINE V16 v_fma(V16 a, V16 b, V16 c) { EYRIE_LANES(a.v[i] * b.v[i] + c.v[i]); }
EYRIE_INLINE V16 v_max(V16 a, V16 b) { EYRIE_LANES(a.v[i] > b.v[i] ? a.v[i] : b.v[i]); }
EYRIE_INLINE V16 v_min(V16 a, V16 b) { EYRIE_LANES(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }
EYRIE_INLINE V16 v_round_int(V16 a) { EYRIE_LANES(rintf(a.v[i])); }
EYRIE_INLINE V16 v_round_bf16(V16 a) { EYRIE_LANES(bf16_to_float(float_to_bf16(a.v[i]))); }
// 2^n for integral n in [-126, 127]
EYRIE_INLINE V16 v_pow2(V16 n) { EYRIE_LANES(bits_to_float(uint32_t(int32_t(n.v[i]) + 127) << 23)); }
// a < b ? x : y
EYRIE_INLINE V16 v_select_lt(V16 a, V16 b, V16 x, V16 y) { EYRIE_LANES(a.v[i] < b.v[i] ? x.v[i] : y.v[i]); }
// The lanes of a then b at even places, and those at odd places.
EYRIE_INLINE void v_unzip(V16 a, V16 b, V16* even, V16* odd) {
  for (int i = 0; i < 8; i++) {
    even->v[i] = a.v[2 * i];
    odd->v[i] = a.v[2 * i + 1];
    even->v[i + 8] = b.v[2 * i];
    odd->v[i + 8] = b.v[2 * i + 1];
  }
}
// Scalars with the rounding of the level's vector instruction.
EYRIE_INLINE float s_fma(float a, float b, float c) { return a * b + c; }
EYRIE_INLINE float s_sqrt(float a) { return sqrtf(a); }

// Fixed trees: lane i meets lane i+8, then i+4, i+2, i+1.
EYRIE_INLINE float v_reduce_add(V16 a) {
  for (int h = 8; h; h /= 2)
    for (int i = 0; i < h; i++) a.v[i] = a.v[i] + a.v[i + h];
  return a.v[0];
}
EYRIE_INLINE float v_reduce_max(V16 a) {
  for (int h = 8; h; h /= 2)
    for (int i = 0; i < h; i++) a.v[i] = a.v[i] > a.v[i + h] ? a.v[i] : a.v[i + h];
  return a.v[0];
}
#undef EYRIE_LANES

}  // namespace eyrie
