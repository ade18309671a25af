// How a block of packed weights [32 k][16 n] (core/tiles.h) becomes fp32 lanes. A block is four slices of 8 k; get<i, s>(block)
// gives the 16 outputs' weights of k = 8 s + i. kSlice: bytes of a slice, where slices are alike.
//
// 4-bit nibbles are not shifted down: masking nibble p of a dword and converting gives q 16^p, and the activations that meet it
// were multiplied by 16^-p beforehand (matmul_rows.h). Both factors are powers of two, so every product, and therefore every fused
// multiply-add, is the one of q and x: two integer operations a weight vector and no table.
#pragma once
#include "core/codes.h"
#include "core/tiles.h"
#include "cpu/matmul_scales.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

EYRIE_INLINE I16 load_dwords(const uint8_t* p) { return i_load((const uint32_t*)p); }
// 16 dwords & mask, as signed integers to float.
EYRIE_INLINE V16 masked_dwords(const uint8_t* p, uint32_t mask) { return v_from_int(i_and(load_dwords(p), mask)); }
// The top nibbles of 16 dwords (they would be negative in place).
EYRIE_INLINE V16 top_nibbles(const uint8_t* p) { return v_from_int(i_right<28>(load_dwords(p))); }
// 16 pairs of bf16: the low ones or the high ones.
template <bool high>
EYRIE_INLINE V16 bf16_of_pairs(const uint8_t* p) {
  return v_from_bits(high ? i_and(load_dwords(p), 0xffff0000) : i_left<16>(load_dwords(p)));
}

enum class Fold {
  none,  // acc + dot
  scale,  // d
  scale_min,  // d and m
  halves_min,  // d and m for each half of a block
  group8  // d of 4 blocks, q - 8
};

template <Fold fold>
struct Unpacked {  // [32 k][16 n] floats: packed f32, and what unpack() makes of the other formats
  static constexpr int kSlice = 512;
  static constexpr Fold kFold = fold;
  template <int i, int s>
  EYRIE_INLINE V16 get(const uint8_t* block) {
    return v_load((const float*)(block + s * kSlice) + i * 16);
  }
};
using WeightsF32 = Unpacked<Fold::none>;
struct WeightsF16 {
  static constexpr int kSlice = 256;
  static constexpr Fold kFold = Fold::none;
  template <int i, int s>
  EYRIE_INLINE V16 get(const uint8_t* block) {
    return v_load_f16((const uint16_t*)(block + s * kSlice) + i * 16);
  }
};
struct WeightsBf16 {
  static constexpr int kSlice = 256;
  static constexpr Fold kFold = Fold::none;
  template <int i, int s>
  EYRIE_INLINE V16 get(const uint8_t* block) {
    return bf16_of_pairs<i % 2 == 1>(block + s * kSlice + i / 2 * 64);
  }
};
template <Fold fold>
struct WeightsI8 {
  static constexpr int kSlice = 128;
  static constexpr Fold kFold = fold;
  template <int i, int s>
  EYRIE_INLINE V16 get(const uint8_t* block) {
    return v_load_i8((const int8_t*)block + s * kSlice + i * 16);
  }
};
using WeightsQ8 = WeightsI8<Fold::scale>;
struct WeightsF8 {
  static constexpr int kSlice = 128;
  static constexpr Fold kFold = Fold::none;
  template <int i, int s>
  EYRIE_INLINE V16 get(const uint8_t* block) {
    return v_load_e4m3(block + s * kSlice + i * 16);
  }
};
template <Fold fold>
struct WeightsQ4 {
  static constexpr int kSlice = 64;
  static constexpr Fold kFold = fold;
  template <int i, int s>
  EYRIE_INLINE V16 get(const uint8_t* block) {
    constexpr int p = i / 2 + i % 2 * 4;
    return p == 7 ? top_nibbles(block + s * kSlice) : masked_dwords(block + s * kSlice, 0xfu << (4 * p));
  }
};

EYRIE_INLINE I16 nibble_vector(const uint8_t* block, int v) { return load_dwords(block + v * 64); }

// Codes of 2, 3, 5 and 6 bits, which have vectors that several slices share. Scaled by 16^p like nibbles.
template <Fold fold, int bits>
struct WeightsCodes {
  static constexpr int kSlice = 0;
  static constexpr int kBytes = bits == 2 ? 128 : bits == 3 ? 192 : bits == 5 ? 320 : 384;
  static constexpr Fold kFold = fold;
  template <int i, int s>
  EYRIE_INLINE V16 get(const uint8_t* block) {
    constexpr int p = i / 2 + i % 2 * 4;
    if constexpr (bits < 4) {
      const I16 low = i_right<s % 2 * 2>(nibble_vector(block, s / 2));
      I16 q = p == 7 ? i_and(i_right<28>(low), 3) : i_and(low, 3u << (4 * p));
      if constexpr (bits == 3) {
        const I16 row = nibble_vector(block, 2),
                  high = s < 2 ? i_left < s<2 ? 2 - s : 0>(row) : i_right < s<2 ? 0 : s - 2>(row);
        q = p == 7 ? i_or_and(q, i_right<28>(high), 4) : i_or_and(q, high, 4u << (4 * p));
      }
      return v_from_int(q);
    } else {
      constexpr int from = bits == 5 ? s : s % 2 * 2;
      constexpr uint32_t mask = bits == 5 ? 1 : 3;
      const I16 low = nibble_vector(block, s), high = nibble_vector(block, bits == 5 ? 4 : 4 + s / 2);
      if constexpr (p == 7) return v_from_int(i_or_and(i_right<28>(low), i_right<24 + from>(high), mask << 4));
      else return v_from_int(i_or_and(i_and(low, 15u << (4 * p)), i_left<4 - from>(high), mask << (4 * p + 4)));
    }
  }
};

// Nibbles that stand for the numbers of a table, not scaled.
template <bool fp4>
struct WeightsTable {
  static constexpr int kSlice = 64;
  static constexpr Fold kFold = Fold::scale;
  template <int i, int s>
  EYRIE_INLINE V16 get(const uint8_t* block) {
    constexpr int p = i / 2 + i % 2 * 4;
    return v_lookup(v_load(fp4 ? kFp4Values : kIq4Values), i_right<4 * p>(nibble_vector(block, s)));
  }
};

template <class W>
constexpr int block_bytes() {
  if constexpr (W::kSlice > 0) return 4 * W::kSlice;
  else return W::kBytes;
}

template <class W, int s>
EYRIE_INLINE void unpack_slice(const uint8_t* block, float* out) {
  v_store(out, W::template get<0, s>(block));
  v_store(out + 16, W::template get<1, s>(block));
  v_store(out + 32, W::template get<2, s>(block));
  v_store(out + 48, W::template get<3, s>(block));
  v_store(out + 64, W::template get<4, s>(block));
  v_store(out + 80, W::template get<5, s>(block));
  v_store(out + 96, W::template get<6, s>(block));
  v_store(out + 112, W::template get<7, s>(block));
}

// One block to [32 k][16 n] floats, nibbles with their factors 16^p.
template <class W>
EYRIE_INLINE void unpack_block(const uint8_t* block, float* out) {
  if constexpr (W::kSlice > 0) {
    for (int s = 0; s < 4; s++) unpack_slice<W, 0>(block + s * W::kSlice, out + s * 8 * kPanel);
  } else {
    unpack_slice<W, 0>(block, out);
    unpack_slice<W, 1>(block, out + 8 * kPanel);
    unpack_slice<W, 2>(block, out + 16 * kPanel);
    unpack_slice<W, 3>(block, out + 24 * kPanel);
  }
}

template <class W>
static void unpack_blocks(const uint8_t* from, int64_t blocks, float* out) {
  for (int64_t b = 0; b < blocks; b++) unpack_block<W>(from + b * block_bytes<W>(), out + b * kBlock * kPanel);
}

static void unpack(DType t, const uint8_t* from, int64_t blocks, float* out) {
  switch (t) {
    case DType::f32: return;
    case DType::f16: return unpack_blocks<WeightsF16>(from, blocks, out);
    case DType::bf16: return unpack_blocks<WeightsBf16>(from, blocks, out);
    case DType::q8_0:
    case DType::i8: return unpack_blocks<WeightsQ8>(from, blocks, out);
    case DType::f8_e4m3: return unpack_blocks<WeightsF8>(from, blocks, out);
    case DType::q5_0:
    case DType::q5_1:
    case DType::q5_k: return unpack_blocks<WeightsCodes<Fold::none, 5>>(from, blocks, out);
    case DType::q6_k: return unpack_blocks<WeightsCodes<Fold::none, 6>>(from, blocks, out);
    case DType::q2_k: return unpack_blocks<WeightsCodes<Fold::none, 2>>(from, blocks, out);
    case DType::q3_k: return unpack_blocks<WeightsCodes<Fold::none, 3>>(from, blocks, out);
    case DType::iq4_nl:
    case DType::iq4_xs: return unpack_blocks<WeightsTable<false>>(from, blocks, out);
    case DType::mxfp4: return unpack_blocks<WeightsTable<true>>(from, blocks, out);
    default: return unpack_blocks<WeightsQ4<Fold::scale_min>>(from, blocks, out);
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
