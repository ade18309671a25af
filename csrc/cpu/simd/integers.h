// 16 lanes of 32-bit integers, and what needs them: exponents, bit masks, wide products.
#pragma once
#include "core/tensor.h"

namespace eyrie {

#if defined(EYRIE_LEVEL_AVX512)

struct I16 {
  __m512i v;
};
EYRIE_INLINE I16 i_set1(uint32_t x) { return {_mm512_set1_epi32(int(x))}; }
EYRIE_INLINE I16 i_load(const uint32_t* p) { return {_mm512_loadu_si512(p)}; }
EYRIE_INLINE void i_store(uint32_t* p, I16 a) { _mm512_storeu_si512(p, a.v); }
EYRIE_INLINE I16 i_add(I16 a, I16 b) { return {_mm512_add_epi32(a.v, b.v)}; }
EYRIE_INLINE I16 i_xor(I16 a, I16 b) { return {_mm512_xor_si512(a.v, b.v)}; }
EYRIE_INLINE I16 i_and(I16 a, uint32_t mask) { return {_mm512_and_si512(a.v, _mm512_set1_epi32(int(mask)))}; }
EYRIE_INLINE I16 i_or_and(I16 a, I16 b, uint32_t mask) {  // a | (b & mask)
#ifdef EYRIE_EMULATE_AVX512
  return {_mm512_or_si512(a.v, _mm512_and_si512(b.v, _mm512_set1_epi32(int(mask))))};
#else
  return {_mm512_ternarylogic_epi32(a.v, b.v, _mm512_set1_epi32(int(mask)), 0xf8)};
#endif
}
template <int n>
EYRIE_INLINE I16 i_left(I16 a) {
  return {_mm512_slli_epi32(a.v, n)};
}
template <int n>
EYRIE_INLINE I16 i_right(I16 a) {  // zeros come in
  return {_mm512_srli_epi32(a.v, n)};
}
EYRIE_INLINE I16 i_load_u8(const uint8_t* p) { return {_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p))}; }
EYRIE_INLINE V16 v_from_bits(I16 a) { return {_mm512_castsi512_ps(a.v)}; }
EYRIE_INLINE V16 v_lookup(V16 table, I16 i) { return {_mm512_permutexvar_ps(i.v, table.v)}; }  // by the low four bits
EYRIE_INLINE I16 i_min(I16 a, I16 b) { return {_mm512_min_epu32(a.v, b.v)}; }  // unsigned
EYRIE_INLINE bool i_any_below(I16 a, uint32_t limit) {  // unsigned
  return _mm512_cmplt_epu32_mask(a.v, _mm512_set1_epi32(int(limit))) != 0;
}
// a * m: the low words, and the high words in *high.
EYRIE_INLINE I16 i_mul_wide(I16 a, uint32_t m, I16* high) {
  const __m512i x = _mm512_set1_epi32(int(m));
  const __m512i even = _mm512_mul_epu32(a.v, x), odd = _mm512_mul_epu32(_mm512_srli_epi64(a.v, 32), x);
  high->v = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
  return {_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32))};
}
EYRIE_INLINE void i_transpose4(I16* w) {
  const __m512i a = _mm512_unpacklo_epi32(w[0].v, w[1].v), b = _mm512_unpackhi_epi32(w[0].v, w[1].v);
  const __m512i c = _mm512_unpacklo_epi32(w[2].v, w[3].v), d = _mm512_unpackhi_epi32(w[2].v, w[3].v);
  w[0].v = _mm512_unpacklo_epi64(a, c);
  w[1].v = _mm512_unpackhi_epi64(a, c);
  w[2].v = _mm512_unpacklo_epi64(b, d);
  w[3].v = _mm512_unpackhi_epi64(b, d);
}
EYRIE_INLINE V16 v_from_int(I16 a) { return {_mm512_cvtepi32_ps(a.v)}; }  // signed
EYRIE_INLINE I16 i_truncate(V16 a) { return {_mm512_cvttps_epi32(a.v)}; }  // signed
EYRIE_INLINE V16 v_load_u16(const uint16_t* p) {
  return {_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)))};
}
// Lane i: bit i of bits ? x : y
EYRIE_INLINE V16 v_select_bits(uint32_t bits, V16 x, V16 y) {
  return {_mm512_mask_blend_ps(__mmask16(bits), y.v, x.v)};
}
EYRIE_INLINE uint32_t v_bits_lt(V16 a, V16 b) {
  return _mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ);
}  // bit i: a[i] < b[i]
EYRIE_INLINE V16 v_split(V16 x, V16* exponent) {
  const __m512i root = _mm512_set1_epi32(0x3f3504f3), i = _mm512_sub_epi32(_mm512_castps_si512(x.v), root);
  exponent->v = _mm512_cvtepi32_ps(_mm512_srai_epi32(i, 23));
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_and_si512(i, _mm512_set1_epi32(0x7fffff)), root))};
}

#elif defined(EYRIE_LEVEL_AVX2)

struct I16 {
  __m256i lo, hi;
};
EYRIE_INLINE I16 i_set1(uint32_t x) { return {_mm256_set1_epi32(int(x)), _mm256_set1_epi32(int(x))}; }
EYRIE_INLINE I16 i_load(const uint32_t* p) {
  return {_mm256_loadu_si256((const __m256i*)p), _mm256_loadu_si256((const __m256i*)(p + 8))};
}
EYRIE_INLINE void i_store(uint32_t* p, I16 a) {
  _mm256_storeu_si256((__m256i*)p, a.lo);
  _mm256_storeu_si256((__m256i*)(p + 8), a.hi);
}
EYRIE_INLINE I16 i_add(I16 a, I16 b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
EYRIE_INLINE I16 i_xor(I16 a, I16 b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
EYRIE_INLINE I16 i_and(I16 a, uint32_t mask) {
  const __m256i m = _mm256_set1_epi32(int(mask));
  return {_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m)};
}
EYRIE_INLINE I16 i_or_and(I16 a, I16 b, uint32_t mask) {  // a | (b & mask)
  const __m256i m = _mm256_set1_epi32(int(mask));
  return {_mm256_or_si256(a.lo, _mm256_and_si256(b.lo, m)), _mm256_or_si256(a.hi, _mm256_and_si256(b.hi, m))};
}
template <int n>
EYRIE_INLINE I16 i_left(I16 a) {
  return {_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)};
}
template <int n>
EYRIE_INLINE I16 i_right(I16 a) {  // zeros come in
  return {_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)};
}
EYRIE_INLINE I16 i_load_u8(const uint8_t* p) {
  return {_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)),
          _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)(p + 8)))};
}
EYRIE_INLINE V16 v_from_bits(I16 a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }
EYRIE_INLINE __m256 ymm_lookup(V16 table, __m256i i) {
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.lo, i), _mm256_permutevar8x32_ps(table.hi, i),
                          _mm256_castsi256_ps(_mm256_slli_epi32(i, 28)));
}
EYRIE_INLINE V16 v_lookup(V16 table, I16 i) {  // by the low four bits
  return {ymm_lookup(table, i.lo), ymm_lookup(table, i.hi)};
}
EYRIE_INLINE I16 i_min(I16 a, I16 b) {
  return {_mm256_min_epu32(a.lo, b.lo), _mm256_min_epu32(a.hi, b.hi)};
}  // unsigned
EYRIE_INLINE bool i_any_below(I16 a, uint32_t limit) {  // unsigned
  const __m256i least = _mm256_min_epu32(a.lo, a.hi);
  return _mm256_movemask_epi8(_mm256_cmpeq_epi32(_mm256_max_epu32(least, _mm256_set1_epi32(int(limit))), least)) != -1;
}
EYRIE_INLINE __m256i ymm_mul_wide(__m256i a, __m256i m, __m256i* high) {
  const __m256i even = _mm256_mul_epu32(a, m), odd = _mm256_mul_epu32(_mm256_srli_epi64(a, 32), m);
  *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
// a * m: the low words, and the high words in *high.
EYRIE_INLINE I16 i_mul_wide(I16 a, uint32_t m, I16* high) {
  const __m256i x = _mm256_set1_epi32(int(m));
  return {ymm_mul_wide(a.lo, x, &high->lo), ymm_mul_wide(a.hi, x, &high->hi)};
}
EYRIE_INLINE void ymm_transpose4(__m256i* p, __m256i* q, __m256i* r, __m256i* s) {
  const __m256i a = _mm256_unpacklo_epi32(*p, *q), b = _mm256_unpackhi_epi32(*p, *q);
  const __m256i c = _mm256_unpacklo_epi32(*r, *s), d = _mm256_unpackhi_epi32(*r, *s);
  *p = _mm256_unpacklo_epi64(a, c);
  *q = _mm256_unpackhi_epi64(a, c);
  *r = _mm256_unpacklo_epi64(b, d);
  *s = _mm256_unpackhi_epi64(b, d);
}
EYRIE_INLINE void i_transpose4(I16* w) {
  ymm_transpose4(&w[0].lo, &w[1].lo, &w[2].lo, &w[3].lo);
  ymm_transpose4(&w[0].hi, &w[1].hi, &w[2].hi, &w[3].hi);
}
EYRIE_INLINE V16 v_from_int(I16 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }  // signed
EYRIE_INLINE I16 i_truncate(V16 a) { return {_mm256_cvttps_epi32(a.lo), _mm256_cvttps_epi32(a.hi)}; }  // signed
EYRIE_INLINE V16 v_load_u16(const uint16_t* p) {
  return {_mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p))),
          _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)(p + 8))))};
}
EYRIE_INLINE __m256 ymm_bit_mask(uint32_t bits) {
  const __m256i lane = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
  return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(int(bits)), lane), lane));
}
// Lane i: bit i of bits ? x : y
EYRIE_INLINE V16 v_select_bits(uint32_t bits, V16 x, V16 y) {
  return {_mm256_blendv_ps(y.lo, x.lo, ymm_bit_mask(bits)), _mm256_blendv_ps(y.hi, x.hi, ymm_bit_mask(bits >> 8))};
}
EYRIE_INLINE uint32_t v_bits_lt(V16 a, V16 b) {  // bit i: a[i] < b[i]
  return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ))) |
         uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))) << 8;
}
EYRIE_INLINE __m256 ymm_split(__m256 x, __m256* exponent) {
  const __m256i root = _mm256_set1_epi32(0x3f3504f3), i = _mm256_sub_epi32(_mm256_castps_si256(x), root);
  *exponent = _mm256_cvtepi32_ps(_mm256_srai_epi32(i, 23));
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_and_si256(i, _mm256_set1_epi32(0x7fffff)), root));
}
EYRIE_INLINE V16 v_split(V16 x, V16* exponent) {
  return {ymm_split(x.lo, &exponent->lo), ymm_split(x.hi, &exponent->hi)};
}

#elif defined(EYRIE_LEVEL_NEON)
}  // namespace eyrie
#include "cpu/simd/neon_integers.h"
namespace eyrie {
#else

struct I16 {
  uint32_t v[16];
};
#define EYRIE_LANES(expr)                       \
  I16 r;                                        \
  for (int i = 0; i < 16; i++) r.v[i] = (expr); \
  return r
EYRIE_INLINE I16 i_set1(uint32_t x) { EYRIE_LANES(x); }
EYRIE_INLINE I16 i_load(const uint32_t* p) { EYRIE_LANES(p[i]); }
EYRIE_INLINE void i_store(uint32_t* p, I16 a) {
  for (int i = 0; i < 16; i++) p[i] = a.v[i];
}
EYRIE_INLINE I16 i_add(I16 a, I16 b) { EYRIE_LANES(a.v[i] + b.v[i]); }
EYRIE_INLINE I16 i_xor(I16 a, I16 b) { EYRIE_LANES(a.v[i] ^ b.v[i]); }
EYRIE_INLINE I16 i_and(I16 a, uint32_t mask) { EYRIE_LANES(a.v[i] & mask); }
EYRIE_INLINE I16 i_or_and(I16 a, I16 b, uint32_t mask) { EYRIE_LANES(a.v[i] | (b.v[i] & mask)); }
template <int n>
EYRIE_INLINE I16 i_left(I16 a) {
  EYRIE_LANES(a.v[i] << n);
}
template <int n>
EYRIE_INLINE I16 i_right(I16 a) {  // zeros come in
  EYRIE_LANES(a.v[i] >> n);
}
EYRIE_INLINE I16 i_load_u8(const uint8_t* p) { EYRIE_LANES(p[i]); }
EYRIE_INLINE V16 v_from_bits(I16 a) {
  V16 r;
  memcpy(&r, a.v, 64);
  return r;
}
EYRIE_INLINE V16 v_lookup(V16 table, I16 a) {  // by the low four bits
  V16 r;
  for (int i = 0; i < 16; i++) r.v[i] = table.v[a.v[i] & 15];
  return r;
}
EYRIE_INLINE I16 i_min(I16 a, I16 b) { EYRIE_LANES(a.v[i] < b.v[i] ? a.v[i] : b.v[i]); }  // unsigned
EYRIE_INLINE bool i_any_below(I16 a, uint32_t limit) {  // unsigned
  for (int i = 0; i < 16; i++)
    if (a.v[i] < limit) return true;
  return false;
}
// a * m: the low words, and the high words in *high.
EYRIE_INLINE I16 i_mul_wide(I16 a, uint32_t m, I16* high) {
  for (int i = 0; i < 16; i++) high->v[i] = uint32_t(uint64_t(a.v[i]) * m >> 32);
  EYRIE_LANES(a.v[i] * m);
}
EYRIE_INLINE void i_transpose4(I16* w) {
  for (int lane = 0; lane < 16; lane += 4)
    for (int r = 0; r < 4; r++)
      for (int c = 0; c < r; c++) {
        const uint32_t t = w[r].v[lane + c];
        w[r].v[lane + c] = w[c].v[lane + r];
        w[c].v[lane + r] = t;
      }
}
EYRIE_INLINE V16 v_from_int(I16 a) {  // signed
  V16 r;
  for (int i = 0; i < 16; i++) r.v[i] = float(int32_t(a.v[i]));
  return r;
}
EYRIE_INLINE I16 i_truncate(V16 a) { EYRIE_LANES(uint32_t(int32_t(a.v[i]))); }  // signed
EYRIE_INLINE V16 v_load_u16(const uint16_t* p) {
  V16 r;
  for (int i = 0; i < 16; i++) r.v[i] = float(p[i]);
  return r;
}
// Lane i: bit i of bits ? x : y
EYRIE_INLINE V16 v_select_bits(uint32_t bits, V16 x, V16 y) {
  V16 r;
  for (int i = 0; i < 16; i++) r.v[i] = bits >> i & 1 ? x.v[i] : y.v[i];
  return r;
}
EYRIE_INLINE uint32_t v_bits_lt(V16 a, V16 b) {  // bit i: a[i] < b[i]
  uint32_t bits = 0;
  for (int i = 0; i < 16; i++) bits |= uint32_t(a.v[i] < b.v[i]) << i;
  return bits;
}
EYRIE_INLINE V16 v_split(V16 x, V16* exponent) {
  V16 m;
  for (int k = 0; k < 16; k++) {
    const int32_t i = int32_t(float_to_bits(x.v[k]) - 0x3f3504f3u);
    exponent->v[k] = float(i >> 23);
    m.v[k] = bits_to_float((uint32_t(i) & 0x7fffff) + 0x3f3504f3u);
  }
  return m;
}
#undef EYRIE_LANES

#endif

// v_split: x (positive, normal) = m * 2^exponent, m in [sqrt(1/2), sqrt 2).
// i_transpose4: in each lane of 128 bits, word c of w[r] and word r of w[c] change places.

}  // namespace eyrie
