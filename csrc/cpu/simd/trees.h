// Reductions and transposes of 16 rows at a time. Every 256-bit level shares one text; AVX-512 implies AVX2.
#pragma once
#include "core/tensor.h"

namespace eyrie {

#if defined(EYRIE_LEVEL_AVX2) || defined(EYRIE_LEVEL_AVX512)

// The first step of the tree of v_reduce_add: p[i] = a[i] + a[i+8].
EYRIE_INLINE void v_store_half_sums(float* p, V16 a) {
#ifdef EYRIE_LEVEL_AVX2
  _mm256_storeu_ps(p, _mm256_add_ps(a.lo, a.hi));
#else
  _mm256_storeu_ps(p, _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1)));
#endif
}

// The other steps, for 8 rows of half sums [8][8]; lane t of the result is the sum of row t.
EYRIE_INLINE __m256 ymm_finish_sums(const float* p) {
  __m256 s4[4];  // rows t and t + 4
#pragma GCC unroll 4
  for (int t = 0; t < 4; t++) {
    const __m256 low =
        _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 8 * t)), _mm_loadu_ps(p + 8 * t + 32), 1);
    const __m256 high =
        _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p + 8 * t + 4)), _mm_loadu_ps(p + 8 * t + 36), 1);
    s4[t] = _mm256_add_ps(low, high);
  }
  const __m256 a = _mm256_add_ps(_mm256_shuffle_ps(s4[0], s4[1], 0x44), _mm256_shuffle_ps(s4[0], s4[1], 0xee));
  const __m256 b = _mm256_add_ps(_mm256_shuffle_ps(s4[2], s4[3], 0x44), _mm256_shuffle_ps(s4[2], s4[3], 0xee));
  return _mm256_add_ps(_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(a, b, 0xdd));
}

// 16 rows of half sums [16][8] to their 16 sums: exactly the bits of v_reduce_add on each row.
EYRIE_INLINE V16 v_finish_sums(const float* p) {
  const __m256 lo = ymm_finish_sums(p), hi = ymm_finish_sums(p + 64);
#ifdef EYRIE_LEVEL_AVX2
  return {lo, hi};
#else
  return {_mm512_insertf32x8(_mm512_castps256_ps512(lo), hi, 1)};
#endif
}

EYRIE_INLINE void ymm_transpose8(const float* in, int64_t in_stride, float* const* out, int64_t column) {
  __m256 r[8], u[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; i++) r[i] = _mm256_loadu_ps(in + i * in_stride);
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    u[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
    u[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(u[i], u[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(u[i], u[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(u[i + 1], u[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(u[i + 1], u[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; i++) {
    _mm256_storeu_ps(out[i] + column, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
    _mm256_storeu_ps(out[i + 4] + column, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
  }
}

// out[c][r] = in[r * in_stride + c] for 16 x 16.
EYRIE_INLINE void v_transpose16(const float* in, int64_t in_stride, float* const* out) {
  ymm_transpose8(in, in_stride, out, 0);
  ymm_transpose8(in + 8, in_stride, out + 8, 0);
  ymm_transpose8(in + 8 * in_stride, in_stride, out, 8);
  ymm_transpose8(in + 8 * in_stride + 8, in_stride, out + 8, 8);
}

#elif defined(EYRIE_LEVEL_NEON)
}  // namespace eyrie
#include "cpu/simd/neon_integers.h"
namespace eyrie {
#else

EYRIE_INLINE void v_store_half_sums(float* p, V16 a) {
  for (int i = 0; i < 8; i++) p[i] = a.v[i] + a.v[i + 8];
}
EYRIE_INLINE V16 v_finish_sums(const float* p) {
  V16 r;
  for (int t = 0; t < 16; t++) {
    float s[4];
    for (int i = 0; i < 4; i++) s[i] = p[8 * t + i] + p[8 * t + i + 4];
    r.v[t] = (s[0] + s[2]) + (s[1] + s[3]);
  }
  return r;
}
EYRIE_INLINE void v_transpose16(const float* in, int64_t in_stride, float* const* out) {
  for (int r = 0; r < 16; r++)
    for (int c = 0; c < 16; c++) out[c][r] = in[r * in_stride + c];
}

#endif

}  // namespace eyrie
