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
  IntLanes u;
  memcpy(&u, p, 64);
  return {__builtin_convertvector(u & int32_t(mask), Lanes)};
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
  IntLanes u;
  memcpy(&u, p, 64);
  return {__builtin_convertvector((u >> 28) & 15, Lanes)};
#endif
}

// 16 pairs of bf16: the low ones or the high ones.
template <bool high>
EYRIE_INLINE V16 bf16_of_pairs(const uint8_t* p) {
#if EYRIE_LEVEL_AVX512
  const __m512i u = _mm512_loadu_si512(p);
  return {
      _mm512_castsi512_ps(high ? _mm512_and_si512(u, _mm512_set1_epi32(int(0xffff0000))) : _mm512_slli_epi32(u, 16))};
#elif EYRIE_LEVEL_AVX2
  const __m256i a = _mm256_loadu_si256((const __m256i*)p), b = _mm256_loadu_si256((const __m256i*)(p + 32));
  if (!high) return {_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(b, 16))};
  const __m256i m = _mm256_set1_epi32(int(0xffff0000));
  return {_mm256_castsi256_ps(_mm256_and_si256(a, m)), _mm256_castsi256_ps(_mm256_and_si256(b, m))};
#else
  IntLanes u;
  memcpy(&u, p, 64);
  return {(Lanes)(high ? u & int32_t(0xffff0000) : u << 16)};
#endif
}

enum class Fold {
  none,
  scale,
  scale_min,
  scale_min8,
  group8
};  // acc + dot; d; d and m; d and m = -8 d; d of 4 blocks, q - 8

template <Fold fold>
struct Unpacked {  // [32 k][16 n] floats: packed f32, and what unpack() makes of the other formats
  static constexpr int kSlice = 512;
  static constexpr Fold kFold = fold;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) {
    return v_load((const float*)s + i * 16);
  }
};
using WeightsF32 = Unpacked<Fold::none>;
struct WeightsF16 {
  static constexpr int kSlice = 256;
  static constexpr Fold kFold = Fold::none;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) {
    return v_load_f16((const uint16_t*)s + i * 16);
  }
};
struct WeightsBf16 {
  static constexpr int kSlice = 256;
  static constexpr Fold kFold = Fold::none;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) {
    return bf16_of_pairs<i % 2 == 1>(s + i / 2 * 64);
  }
};
template <Fold fold>
struct WeightsI8 {
  static constexpr int kSlice = 128;
  static constexpr Fold kFold = fold;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) {
    return v_load_i8((const int8_t*)s + i * 16);
  }
};
using WeightsQ8 = WeightsI8<Fold::scale>;
struct WeightsF8 {
  static constexpr int kSlice = 128;
  static constexpr Fold kFold = Fold::none;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) {
    return v_load_e4m3(s + i * 16);
  }
};
template <Fold fold>
struct WeightsQ4 {
  static constexpr int kSlice = 64;
  static constexpr Fold kFold = fold;
  template <int i>
  EYRIE_INLINE V16 get(const uint8_t* s) {
    constexpr int p = i / 2 + i % 2 * 4;
    return p == 7 ? top_nibbles(s) : masked_dwords(s, 0xfu << (4 * p));
  }
};

// One block to [32 k][16 n] floats, nibbles with their factors 16^p.
template <class W>
EYRIE_INLINE void unpack_block(const uint8_t* block, float* out) {
  for (int s = 0; s < 4; s++, block += W::kSlice, out += 8 * kPanel) {
    v_store(out, W::template get<0>(block));
    v_store(out + 16, W::template get<1>(block));
    v_store(out + 32, W::template get<2>(block));
    v_store(out + 48, W::template get<3>(block));
    v_store(out + 64, W::template get<4>(block));
    v_store(out + 80, W::template get<5>(block));
    v_store(out + 96, W::template get<6>(block));
    v_store(out + 112, W::template get<7>(block));
  }
}

template <class W>
static void unpack_blocks(const uint8_t* from, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; b++) unpack_block<W>(from + b * 4 * W::kSlice, out + b * kBlock * kPanel);
}

static void unpack(DType t, const uint8_t* from, int64_t blocks, float* out) {
  switch (t) {
    case DType::f32: return;
    case DType::f16: return unpack_blocks<WeightsF16>(from, blocks, out);
    case DType::bf16: return unpack_blocks<WeightsBf16>(from, blocks, out);
    case DType::q8_0:
    case DType::i8: return unpack_blocks<WeightsQ8>(from, blocks, out);
    case DType::f8_e4m3: return unpack_blocks<WeightsF8>(from, blocks, out);
    default: return unpack_blocks<WeightsQ4<Fold::scale_min>>(from, blocks, out);
  }
}

EYRIE_INLINE bool has_nibbles(DType t) { return t == DType::q4_0 || t == DType::q4_1 || t == DType::i4_g128; }

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
