// How a block of packed weights [32 k][16 n] (core/tiles.h) becomes fp32 lanes. A block is four slices of 8 k; get<i>(slice)
// gives the 16 outputs' weights of k = 8 slice + i.
//
// 4-bit nibbles are not shifted down: masking nibble p of a dword and converting gives q 16^p, and the activations that meet it
// were multiplied by 16^-p beforehand (matmul_rows.h). Both factors are powers of two, so every product, and therefore every fused
// multiply-add, is the one of q and x: two integer operations a weight vector and no table.
#pragma once
#include "core/tiles.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// 16 dwords & mask, as signed integers to float.
EYRIE_INLINE V16 masked_dwords(const uint8_t* p, uint32_t mask) {
#if EYRIE_LEVEL_AVX512
  return {_mm512_cvtepi32_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(int(mask))))};
#elif EYRIE_LEVEL_AVX2
  const __m256i m = _mm256_set1_epi32(int(mask));
  return {_mm256_cvtepi32_ps(_mm256_and_si256(_mm256_loadu_si256((const __m256i*)p), m)),
          _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_loadu_si256((const __m256i*)(p + 32)), m))};
#else
  uint32_t u[16];
  memcpy(u, p, 64);
  V16 r;
  for (int i = 0; i < 16; i++) r.v[i] = float(int32_t(u[i] & mask));
  return r;
#endif
}

// The top nibbles of 16 dwords (they would be negative in place).
EYRIE_INLINE V16 top_nibbles(const uint8_t* p) {
#if EYRIE_LEVEL_AVX512
  return {_mm512_cvtepi32_ps(_mm512_srli_epi32(_mm512_loadu_si512(p), 28))};
#elif EYRIE_LEVEL_AVX2
  return {_mm256_cvtepi32_ps(_mm256_srli_epi32(_mm256_loadu_si256((const __m256i*)p), 28)),
          _mm256_cvtepi32_ps(_mm256_srli_epi32(_mm256_loadu_si256((const __m256i*)(p + 32)), 28))};
#else
  uint32_t u[16];
  memcpy(u, p, 64);
  V16 r;
  for (int i = 0; i < 16; i++) r.v[i] = float(int32_t(u[i] >> 28));
  return r;
#endif
}

// 16 pairs of bf16: the low ones or the high ones.
template <bool high>
EYRIE_INLINE V16 bf16_of_pairs(const uint8_t* p) {
#if EYRIE_LEVEL_AVX512
  const __m512i u = _mm512_loadu_si512(p);
  return {_mm512_castsi512_ps(high ? _mm512_and_si512(u, _mm512_set1_epi32(int(0xffff0000))) : _mm512_slli_epi32(u, 16))};
#elif EYRIE_LEVEL_AVX2
  const __m256i a = _mm256_loadu_si256((const __m256i*)p), b = _mm256_loadu_si256((const __m256i*)(p + 32));
  if (!high) return {_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
  const __m256i m = _mm256_set1_epi32(int(0xffff0000));
  return {_mm256_castsi256_ps(_mm256_and_si256(a, m)), _mm256_castsi256_ps(_mm256_and_si256(b, m))};
#else
  uint32_t u[16];
  memcpy(u, p, 64);
  V16 r;
  for (int i = 0; i < 16; i++) r.v[i] = bits_to_float(high ? u[i] & 0xffff0000 : u[i] << 16);
  return r;
#endif
}

enum class Fold { none, scale, scale_min, scale_min8 };  // acc + dot; d; d and m; d and m = -8 d

struct WeightsF32 {
  static constexpr int kSlice = 512;
  static constexpr bool kNibbles = false;
  static constexpr Fold kFold = Fold::none;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) { return v_load((const float*)s + i * 16); }
};
struct WeightsF16 {
  static constexpr int kSlice = 256;
  static constexpr bool kNibbles = false;
  static constexpr Fold kFold = Fold::none;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) { return v_load_f16((const uint16_t*)s + i * 16); }
};
struct WeightsBf16 {
  static constexpr int kSlice = 256;
  static constexpr bool kNibbles = false;
  static constexpr Fold kFold = Fold::none;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) { return bf16_of_pairs<i % 2 == 1>(s + i / 2 * 64); }
};
struct WeightsQ8 {
  static constexpr int kSlice = 128;
  static constexpr bool kNibbles = false;
  static constexpr Fold kFold = Fold::scale;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) { return v_load_i8((const int8_t*)s + i * 16); }
};
template <Fold fold>
struct WeightsQ4 {
  static constexpr int kSlice = 64;
  static constexpr bool kNibbles = true;
  static constexpr Fold kFold = fold;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) {
    constexpr int p = i / 2 + i % 2 * 4;
    return p == 7 ? top_nibbles(s) : masked_dwords(s, 0xfu << (4 * p));
  }
};

EYRIE_INLINE bool has_nibbles(DType t) { return t == DType::q4_0 || t == DType::q4_1; }

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
