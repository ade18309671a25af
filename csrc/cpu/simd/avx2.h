// Level `avx2`: 16 lanes as two ymm registers; AVX2, FMA, F16C.
#pragma once
#include <immintrin.h>

#include "core/half.h"

#define EYRIE_LEVEL avx2
#define EYRIE_LEVEL_AVX2 1

namespace eyrie {

struct V16 {
  __m256 lo, hi;
};

EYRIE_INLINE __m256i avx2_tail_mask(int n) {  // lanes below n
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
EYRIE_INLINE __m256 avx2_from_bf16(__m128i h) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16));
}
EYRIE_INLINE __m256i avx2_round_bf16(__m256 x) {  // rounded bits in the high half of each lane, low half undefined
  const __m256i u = _mm256_castps_si256(x);
  const __m256i even = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
  const __m256i r = _mm256_add_epi32(u, _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff)));
  const __m256 nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
  return _mm256_blendv_epi8(r, _mm256_or_si256(u, _mm256_set1_epi32(0x400000)), _mm256_castps_si256(nan));
}

EYRIE_INLINE V16 v_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
EYRIE_INLINE V16 v_set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
EYRIE_INLINE V16 v_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
EYRIE_INLINE V16 v_load_n(const float* p, int n) {
  return {_mm256_maskload_ps(p, avx2_tail_mask(n)), _mm256_maskload_ps(p + 8, avx2_tail_mask(n - 8))};
}
EYRIE_INLINE V16 v_load_f16(const uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p)),
          _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
// f16 has room for e4m3 with its bits moved: the value times 2^-8, but for NaN.
EYRIE_INLINE __m256i avx2_e4m3_as_f16(const uint8_t* p) {
  const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)p)), low = _mm256_set1_epi16(0x7f);
  const __m256i mag = _mm256_and_si256(x, low), sign = _mm256_and_si256(x, _mm256_set1_epi16(int16_t(0x8000)));
  const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(mag, low), _mm256_set1_epi16(0x7e00));
  return _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16(mag, 7), sign), nan);
}
EYRIE_INLINE V16 v_load_e4m3(const uint8_t* p) {
  const __m256i h = avx2_e4m3_as_f16(p);
  const __m256 scale = _mm256_set1_ps(256.0f);
  return {_mm256_mul_ps(_mm256_cvtph_ps(_mm256_castsi256_si128(h)), scale),
          _mm256_mul_ps(_mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)), scale)};
}
EYRIE_INLINE V16 v_load_bf16(const uint16_t* p) {
  return {avx2_from_bf16(_mm_loadu_si128((const __m128i*)p)), avx2_from_bf16(_mm_loadu_si128((const __m128i*)(p + 8)))};
}
EYRIE_INLINE V16 v_load_i8(const int8_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)p))),
          _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8))))};
}
EYRIE_INLINE void v_store(float* p, V16 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
EYRIE_INLINE void v_store_n(float* p, V16 a, int n) {
  _mm256_maskstore_ps(p, avx2_tail_mask(n), a.lo);
  _mm256_maskstore_ps(p + 8, avx2_tail_mask(n - 8), a.hi);
}
EYRIE_INLINE void v_store_f16(uint16_t* p, V16 a) {
  _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128((__m128i*)(p + 8), _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
EYRIE_INLINE void v_store_bf16(uint16_t* p, V16 a) {
  const __m256i l = _mm256_srli_epi32(avx2_round_bf16(a.lo), 16), h = _mm256_srli_epi32(avx2_round_bf16(a.hi), 16);
  _mm256_storeu_si256((__m256i*)p, _mm256_permute4x64_epi64(_mm256_packus_epi32(l, h), 0xd8));
}
EYRIE_INLINE V16 v_add(V16 a, V16 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
EYRIE_INLINE V16 v_sub(V16 a, V16 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
EYRIE_INLINE V16 v_mul(V16 a, V16 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
EYRIE_INLINE V16 v_div(V16 a, V16 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
EYRIE_INLINE V16 v_fma(V16 a, V16 b, V16 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
EYRIE_INLINE V16 v_max(V16 a, V16 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
EYRIE_INLINE V16 v_min(V16 a, V16 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
EYRIE_INLINE V16 v_round_int(V16 a) {
  return {_mm256_round_ps(a.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(a.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
EYRIE_INLINE V16 v_round_bf16(V16 a) {
  const __m256i high = _mm256_set1_epi32(int(0xffff0000));
  return {_mm256_castsi256_ps(_mm256_and_si256(avx2_round_bf16(a.lo), high)),
          _mm256_castsi256_ps(_mm256_and_si256(avx2_round_bf16(a.hi), high))};
}
// 2^n for integral n in [-126, 127]
EYRIE_INLINE V16 v_pow2(V16 n) {
  const __m256i bias = _mm256_set1_epi32(127);
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.lo), bias), 23)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n.hi), bias), 23))};
}
// a < b ? x : y
EYRIE_INLINE V16 v_select_lt(V16 a, V16 b, V16 x, V16 y) {
  return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
// The lanes of a then b at even places, and those at odd places.
EYRIE_INLINE void v_unzip(V16 a, V16 b, V16* even, V16* odd) {
  const __m256 e0 = _mm256_shuffle_ps(a.lo, a.hi, 0x88), e1 = _mm256_shuffle_ps(b.lo, b.hi, 0x88);
  const __m256 o0 = _mm256_shuffle_ps(a.lo, a.hi, 0xdd), o1 = _mm256_shuffle_ps(b.lo, b.hi, 0xdd);
  even->lo = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(e0), 0xd8));
  even->hi = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(e1), 0xd8));
  odd->lo = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(o0), 0xd8));
  odd->hi = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(o1), 0xd8));
}
EYRIE_INLINE float s_fma(float a, float b, float c) {
  return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}
EYRIE_INLINE float s_sqrt(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }

// Fixed trees: lane i meets lane i+8, then i+4, i+2, i+1.
EYRIE_INLINE float v_reduce_add(V16 a) {
  const __m256 s8 = _mm256_add_ps(a.lo, a.hi);
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
EYRIE_INLINE float v_reduce_max(V16 a) {
  const __m256 s8 = _mm256_max_ps(a.lo, a.hi);
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

}  // namespace eyrie
