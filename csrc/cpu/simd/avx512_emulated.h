// The AVX-512 intrinsics in terms of AVX2 (SIMDe, Debian's libsimde-dev): test builds only (EYRIE_EMULATE_AVX512), so that
// a machine without AVX-512 can show that this level has the bits of AVX2.
#pragma once
#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <simde/x86/f16c.h>
#include <simde/x86/fma.h>

// What SIMDe 0.7.4 lacks. Macros, since the compiler's own declarations of these names are there too.
static inline __attribute__((always_inline)) simde__m512 emulated_maskz_loadu_ps(unsigned mask, const void* p) {
  float lanes[16] = {};
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) lanes[i] = static_cast<const float*>(p)[i];
  return simde_mm512_loadu_ps(lanes);
}
static inline __attribute__((always_inline)) void emulated_mask_storeu_ps(void* p, unsigned mask, simde__m512 v) {
  float lanes[16];
  simde_mm512_storeu_ps(lanes, v);
  for (int i = 0; i < 16; i++)
    if (mask >> i & 1) static_cast<float*>(p)[i] = lanes[i];
}
#define _mm512_maskz_loadu_ps emulated_maskz_loadu_ps
#define _mm512_mask_storeu_ps emulated_mask_storeu_ps
static inline __attribute__((always_inline)) simde__m512 emulated_join(simde__m256 lo, simde__m256 hi) {
  float lanes[16];
  simde_mm256_storeu_ps(lanes, lo);
  simde_mm256_storeu_ps(lanes + 8, hi);
  return simde_mm512_loadu_ps(lanes);
}
static inline __attribute__((always_inline)) simde__m256 emulated_half(simde__m512 v, int upper) {
  float lanes[16];
  simde_mm512_storeu_ps(lanes, v);
  return simde_mm256_loadu_ps(lanes + 8 * upper);
}
static inline __attribute__((always_inline)) simde__m512 emulated_cvtph_ps(simde__m256i h) {
  return emulated_join(_mm256_cvtph_ps(_mm256_castsi256_si128(h)), _mm256_cvtph_ps(_mm256_extracti128_si256(h, 1)));
}
static inline __attribute__((always_inline)) simde__m256i emulated_cvtps_ph(simde__m512 v) {  // to nearest even
  return _mm256_set_m128i(_mm256_cvtps_ph(emulated_half(v, 1), 0), _mm256_cvtps_ph(emulated_half(v, 0), 0));
}
static inline __attribute__((always_inline)) simde__m512i emulated_cvtps_epi32(simde__m512 v) {
  int lanes[16];
  _mm256_storeu_si256((__m256i*)lanes, _mm256_cvtps_epi32(emulated_half(v, 0)));
  _mm256_storeu_si256((__m256i*)(lanes + 8), _mm256_cvtps_epi32(emulated_half(v, 1)));
  return simde_mm512_loadu_si512(lanes);
}
#define _mm512_cvtph_ps emulated_cvtph_ps
#define _mm512_cvtps_ph(v, rounding) emulated_cvtps_ph(v)
#define _mm512_extractf32x8_ps emulated_half
#define _mm512_cvtps_epi32 emulated_cvtps_epi32
static inline __attribute__((always_inline)) simde__m512i emulated_join_i(__m256i lo, __m256i hi) {
  int lanes[16];
  _mm256_storeu_si256((__m256i*)lanes, lo);
  _mm256_storeu_si256((__m256i*)(lanes + 8), hi);
  return simde_mm512_loadu_si512(lanes);
}
static inline __attribute__((always_inline)) __m256i emulated_half_i(simde__m512i v, int upper) {
  int lanes[16];
  simde_mm512_storeu_si512(lanes, v);
  return _mm256_loadu_si256((const __m256i*)(lanes + 8 * upper));
}
#define EYRIE_HALVES(name, to, from, f) \
  static inline __attribute__((always_inline)) to name(from v) { return f; }
EYRIE_HALVES(emulated_cvtepu16_epi32, simde__m512i, __m256i,
             emulated_join_i(_mm256_cvtepu16_epi32(_mm256_castsi256_si128(v)),
                             _mm256_cvtepu16_epi32(_mm256_extracti128_si256(v, 1))))
EYRIE_HALVES(emulated_cvtepi32_ps, simde__m512, simde__m512i,
             emulated_join(_mm256_cvtepi32_ps(emulated_half_i(v, 0)), _mm256_cvtepi32_ps(emulated_half_i(v, 1))))
EYRIE_HALVES(emulated_cvttps_epi32, simde__m512i, simde__m512,
             emulated_join_i(_mm256_cvttps_epi32(emulated_half(v, 0)), _mm256_cvttps_epi32(emulated_half(v, 1))))
EYRIE_HALVES(emulated_cvtepi8_epi32, simde__m512i, __m128i,
             emulated_join_i(_mm256_cvtepi8_epi32(v), _mm256_cvtepi8_epi32(_mm_srli_si128(v, 8))))
EYRIE_HALVES(emulated_cvtepu8_epi32, simde__m512i, __m128i,
             emulated_join_i(_mm256_cvtepu8_epi32(v), _mm256_cvtepu8_epi32(_mm_srli_si128(v, 8))))
#undef EYRIE_HALVES
static inline __attribute__((always_inline)) simde__m512 emulated_permutexvar_ps(simde__m512i index, simde__m512 v) {
  float lanes[16], out[16];
  int at[16];
  simde_mm512_storeu_ps(lanes, v);
  simde_mm512_storeu_si512(at, index);
  for (int i = 0; i < 16; i++) out[i] = lanes[at[i] & 15];
  return simde_mm512_loadu_ps(out);
}
static inline __attribute__((always_inline)) __m256i emulated_cvtepi32_epi16(simde__m512i v) {
  int lanes[16];
  short out[16];
  simde_mm512_storeu_si512(lanes, v);
  for (int i = 0; i < 16; i++) out[i] = (short)lanes[i];
  return _mm256_loadu_si256((const __m256i*)out);
}
static inline __attribute__((always_inline)) unsigned short emulated_cmplt_epu32_mask(simde__m512i a, simde__m512i b) {
  unsigned x[16], y[16];
  simde_mm512_storeu_si512(x, a);
  simde_mm512_storeu_si512(y, b);
  unsigned short m = 0;
  for (int i = 0; i < 16; i++) m |= (unsigned short)((x[i] < y[i]) << i);
  return m;
}
#define _mm512_cvtepu16_epi32 emulated_cvtepu16_epi32
#define _mm512_cvtepi32_ps emulated_cvtepi32_ps
#define _mm512_cvttps_epi32 emulated_cvttps_epi32
#define _mm512_cvtepi8_epi32 emulated_cvtepi8_epi32
#define _mm512_cvtepu8_epi32 emulated_cvtepu8_epi32
#define _mm512_permutexvar_ps emulated_permutexvar_ps
#define _mm512_cvtepi32_epi16 emulated_cvtepi32_epi16
#define _mm512_cmplt_epu32_mask emulated_cmplt_epu32_mask
#define _mm512_srai_epi32(v, n) \
  emulated_join_i(_mm256_srai_epi32(emulated_half_i(v, 0), n), _mm256_srai_epi32(emulated_half_i(v, 1), n))
