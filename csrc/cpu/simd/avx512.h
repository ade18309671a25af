// Level `avx512`: 16 lanes in one zmm register; AVX-512 F, BW, DQ, VL.
#pragma once
#ifdef EYRIE_EMULATE_AVX512
#include "cpu/simd/avx512_emulated.h"
#else
#include <immintrin.h>
#endif

#include "core/half.h"

#ifndef EYRIE_LEVEL
#define EYRIE_LEVEL avx512
#endif
#define EYRIE_LEVEL_AVX512 1

namespace eyrie {

struct V16 {
  __m512 v;
};

EYRIE_INLINE __mmask16 avx512_tail_mask(int n) {  // lanes below n
  return n >= 16 ? __mmask16(0xffff) : n <= 0 ? __mmask16(0) : __mmask16((1u << n) - 1);
}
EYRIE_INLINE __m512i avx512_round_bf16(__m512 x) {  // rounded bits in the high half of each lane, low half undefined
  const __m512i u = _mm512_castps_si512(x);
  const __m512i even = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i r = _mm512_add_epi32(u, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_mask_or_epi32(r, nan, u, _mm512_set1_epi32(0x400000));
}

EYRIE_INLINE V16 v_zero() { return {_mm512_setzero_ps()}; }
EYRIE_INLINE V16 v_set1(float x) { return {_mm512_set1_ps(x)}; }
EYRIE_INLINE V16 v_load(const float* p) { return {_mm512_loadu_ps(p)}; }
EYRIE_INLINE V16 v_load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(avx512_tail_mask(n), p)}; }
EYRIE_INLINE V16 v_load_f16(const uint16_t* p) { return {_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p))}; }
// f16 has room for e4m3 with its bits moved: the value times 2^-8, but for NaN.
EYRIE_INLINE V16 v_load_e4m3(const uint8_t* p) {
  const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)p)), low = _mm256_set1_epi16(0x7f);
  const __m256i mag = _mm256_and_si256(x, low), sign = _mm256_and_si256(x, _mm256_set1_epi16(int16_t(0x8000)));
  const __m256i nan = _mm256_and_si256(_mm256_cmpeq_epi16(mag, low), _mm256_set1_epi16(0x7e00));
  const __m256i h = _mm256_or_si256(_mm256_or_si256(_mm256_slli_epi16(mag, 7), sign), nan);
  return {_mm512_mul_ps(_mm512_cvtph_ps(h), _mm512_set1_ps(256.0f))};
}
EYRIE_INLINE V16 v_load_bf16(const uint16_t* p) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16))};
}
EYRIE_INLINE V16 v_load_i8(const int8_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i*)p)))};
}
EYRIE_INLINE void v_store(float* p, V16 a) { _mm512_storeu_ps(p, a.v); }
EYRIE_INLINE void v_store_n(float* p, V16 a, int n) { _mm512_mask_storeu_ps(p, avx512_tail_mask(n), a.v); }
EYRIE_INLINE void v_store_f16(uint16_t* p, V16 a) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT));
}
EYRIE_INLINE void v_store_bf16(uint16_t* p, V16 a) {
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(avx512_round_bf16(a.v), 16)));
}
EYRIE_INLINE V16 v_add(V16 a, V16 b) { return {_mm512_add_ps(a.v, b.v)}; }
EYRIE_INLINE V16 v_sub(V16 a, V16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
EYRIE_INLINE V16 v_mul(V16 a, V16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
EYRIE_INLINE V16 v_div(V16 a, V16 b) { return {_mm512_div_ps(a.v, b.v)}; }
EYRIE_INLINE V16 v_fma(V16 a, V16 b, V16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
EYRIE_INLINE V16 v_max(V16 a, V16 b) { return {_mm512_max_ps(a.v, b.v)}; }
EYRIE_INLINE V16 v_min(V16 a, V16 b) { return {_mm512_min_ps(a.v, b.v)}; }
EYRIE_INLINE V16 v_round_int(V16 a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
EYRIE_INLINE V16 v_round_bf16(V16 a) {
  return {_mm512_castsi512_ps(_mm512_and_si512(avx512_round_bf16(a.v), _mm512_set1_epi32(int(0xffff0000))))};
}
// 2^n for integral n in [-126, 127]
EYRIE_INLINE V16 v_pow2(V16 n) {
  return {
      _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n.v), _mm512_set1_epi32(127)), 23))};
}
// a < b ? x : y
EYRIE_INLINE V16 v_select_lt(V16 a, V16 b, V16 x, V16 y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
// The lanes of a then b at even places, and those at odd places.
EYRIE_INLINE void v_unzip(V16 a, V16 b, V16* even, V16* odd) {
  const __m512i e = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i o = _mm512_add_epi32(e, _mm512_set1_epi32(1));
  even->v = _mm512_permutex2var_ps(a.v, e, b.v);
  odd->v = _mm512_permutex2var_ps(a.v, o, b.v);
}
EYRIE_INLINE float s_fma(float a, float b, float c) {
  return _mm_cvtss_f32(_mm_fmadd_ss(_mm_set_ss(a), _mm_set_ss(b), _mm_set_ss(c)));
}
EYRIE_INLINE float s_sqrt(float a) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(a))); }

// Fixed trees: lane i meets lane i+8, then i+4, i+2, i+1.
EYRIE_INLINE float v_reduce_add(V16 a) {
  const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_add_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}
EYRIE_INLINE float v_reduce_max(V16 a) {
  const __m256 s8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 s4 = _mm_max_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
  const __m128 s2 = _mm_max_ps(s4, _mm_movehl_ps(s4, s4));
  return _mm_cvtss_f32(_mm_max_ss(s2, _mm_shuffle_ps(s2, s2, 1)));
}

}  // namespace eyrie
