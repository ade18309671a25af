// The numbers of quantize_weight: scales and codes, for the CPU and for CUDA, whose bits agree. Each is one operation of IEEE 754 in fp32 (or
// exact), but for the squared errors of 4-bit groups, which are summed in double in the order of the inputs.
//
//   i8       d = max |w| / 127, q = rint(w / d)              8-bit rows below 2^-100 become zeros
//   f8_e4m3  d = max |w| / 448, q = e4m3(w / d)
//   4 bits   d = f16(-m / s), m the value of largest magnitude, s of 7, 7.25 … 9 that with the least squared error, the first of
//            several; q = rint(w / d) + 8 in 0..15. The code 0 is then -8, m's own place.
//
// w / d is w times the rounded inverse of d. What is not finite makes d NaN and q zero.
#pragma once
#include "core/fp8.h"
#include "core/half.h"

namespace eyrie {

constexpr int kGroupInputs = 128;  // of a group of i4_g128
constexpr int kScaleCandidates = 9;
constexpr uint16_t kNanScale = 0x7e00;

// Numbers below 2^-126 are zeros wherever they are computed with.
EYRIE_BOTH float flushed(float x) { return float_to_bits(x) & 0x7f800000u ? x : 0.0f; }
// To the nearest integer, ties to even; |x| < 2^22.
EYRIE_BOTH float rounded(float x) {
  const float big = 0x1.8p23f;
  return (x + big) - big;
}

struct RowScale {
  float d, inverse;
};
// top: the bits of the largest magnitude of a row. most: the largest code.
EYRIE_BOTH RowScale row_scale(uint32_t top, float most) {
  if (top >= 0x7f800000u) return {bits_to_float(0x7fc00000u), 0};
  if (top < 0x0d800000u) return {0, 0};  // 2^-100
  const float d = bits_to_float(top) / most;
  return {d, 1.0f / d};
}
EYRIE_BOTH int8_t code_i8(float x, float inverse) {
  if (inverse == 0) return 0;
  const float y = x * inverse;
  return int8_t(rounded(y > 127.0f ? 127.0f : y < -127.0f ? -127.0f : y));
}
EYRIE_BOTH uint8_t code_e4m3(float x, float inverse) { return inverse == 0 ? 0 : float_to_e4m3(x * inverse); }

EYRIE_BOTH float inverse_i4(uint16_t d) {
  return (d & 0x7fffu) == 0 || (d & 0x7fffu) > 0x7c00u ? 0.0f : 1.0f / f16_to_float(d);
}
EYRIE_BOTH int code_i4(float x, float inverse) {
  if (inverse == 0) return 8;
  const float y = x * inverse;
  return int(rounded(y > 7.0f ? 7.0f : y < -8.0f ? -8.0f : y)) + 8;
}
// The value of largest magnitude, the first of several; NaN when one is not finite or d would not fit f16.
EYRIE_BOTH float extreme_of(const float* x, int size) {
  uint32_t top = 0;
  float m = 0;
  for (int k = 0; k < size; k++) {
    const uint32_t bits = float_to_bits(x[k]) & 0x7fffffffu;
    if (bits > top) {
      top = bits;
      m = x[k];
    }
  }
  return top > 0x48dfe400u ? bits_to_float(0x7fc00000u) : m;  // 7 * 65504
}
EYRIE_BOTH uint16_t candidate_i4(float m, int i) { return m == 0 ? 0 : float_to_f16(-m / (7.0f + 0.25f * float(i))); }
EYRIE_BOTH double error_i4(const float* x, int size, uint16_t d) {
  const float scale = f16_to_float(d), inverse = inverse_i4(d);
  double sum = 0;
  for (int k = 0; k < size; k++) {
    const double e = x[k] - scale * float(code_i4(x[k], inverse) - 8);  // the product is exact
    sum += e * e;
  }
  return sum;
}
// The scale of a group, on a CPU: error_i4 of all candidates beside each other, in as many lanes.
EYRIE_INLINE uint16_t scale_i4(const float* x, int size) {
  constexpr int kLanes = 16;  // the last candidate several times
  const float m = extreme_of(x, size);
  if (m != m) return kNanScale;
  uint16_t d[kLanes];
  float scale[kLanes], inverse[kLanes];
  double sum[kLanes] = {};
  for (int i = 0; i < kLanes; i++) {
    d[i] = candidate_i4(m, i < kScaleCandidates ? i : kScaleCandidates - 1);
    scale[i] = f16_to_float(d[i]);
    inverse[i] = inverse_i4(d[i]);
  }
  for (int k = 0; k < size; k++)
    for (int i = 0; i < kLanes; i++) {
      const float y = x[k] * inverse[i], low = y < -8.0f ? -8.0f : y, q = rounded(low > 7.0f ? 7.0f : low);
      const double e = x[k] - scale[i] * q;
      sum[i] += e * e;
    }
  int best = 0;
  for (int i = 1; i < kScaleCandidates; i++)
    if (sum[i] < sum[best]) best = i;
  return d[best];
}

}  // namespace eyrie
