// What scales the blocks of a format (core/tiles.h), as floats: products of a half and a code of at most 8 bits, which are exact. A list
// of blocks gets them at once, before its products.
#pragma once
#include "core/tiles.h"
#include "cpu/simd/integers.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// Formats of codes with a minimum, or whose codes are not centred: sums of the activations are wanted. In the arithmetic of single products
// (matmul_weights.h) their activations are scaled by 16^-p.
EYRIE_INLINE bool has_nibbles(DType t) {
  return (t >= DType::q5_0 && t <= DType::q6_k) || t == DType::q4_0 || t == DType::q4_1 || t == DType::i4_g128;
}

// Formats with a scale for each half of a block.
EYRIE_INLINE bool has_halves(DType t) { return t == DType::q2_k || t == DType::q3_k || t == DType::q6_k; }

// Whether a tile takes scales of blocks as floats that prepare_scales made.
EYRIE_INLINE bool has_prepared_scales(DType t) {
#ifndef EYRIE_LEVEL_PAIRS
  if (t == DType::i4_g128) return false;  // folded by groups
#endif
  return tile_format(t).scale_blocks > 0 || t == DType::mxfp4;
}

// d and m of blocks [b0, b0 + blocks) of a panel: [blocks][16 n], or [blocks][half][16 n].
static void prepare_scales(DType t, const TileShape& s, const uint8_t* panel, int64_t b0, int64_t blocks, float* d,
                           float* m) {
  const uint16_t* const scales = (const uint16_t*)(panel + s.scales);
  const uint16_t* const mins = (const uint16_t*)(panel + s.mins);
  const uint8_t* const codes = panel + s.codes;
  const bool super_blocks = tile_format(t).scale_blocks == kSuperBlocks;
  for (int64_t i = 0; i < blocks; i++, d += kPanel, m += kPanel) {
    const int64_t b = b0 + i;
    const int64_t at = (super_blocks ? b / kSuperBlocks : t == DType::i4_g128 ? b / kGroupBlocks : b) * kPanel;
    switch (t) {
      case DType::mxfp4: v_store(d, v_from_bits(i_left<23>(i_load_u8(codes + b * kPanel)))); break;
      case DType::iq4_xs:
        v_store(d, v_mul(v_load_f16(scales + at), v_load_i8((const int8_t*)codes + b * kPanel)));
        break;
      case DType::q4_k:
      case DType::q5_k: {
        const int8_t* c = (const int8_t*)codes + b * 2 * kPanel;
        v_store(d, v_mul(v_load_f16(scales + at), v_load_i8(c)));
        v_store(m, v_mul(v_load_f16(mins + at), v_load_i8(c + kPanel)));
        break;
      }
      case DType::q3_k:
      case DType::q6_k: {
        const V16 super = v_load_f16(scales + at), zero = v_set1(t == DType::q6_k ? -32.0f : -4.0f);
        const int8_t* c = (const int8_t*)codes + b * 2 * kPanel;
        const V16 first = v_mul(super, v_load_i8(c)), second = v_mul(super, v_load_i8(c + kPanel));
        v_store(d, first);
        v_store(m, v_mul(zero, first));
        v_store(d += kPanel, second);
        v_store(m += kPanel, v_mul(zero, second));
        break;
      }
      case DType::q2_k: {
        const V16 super = v_load_f16(scales + at), least = v_load_f16(mins + at);
        const I16 first = i_load_u8(codes + b * 2 * kPanel), second = i_load_u8(codes + (b * 2 + 1) * kPanel);
        v_store(d, v_mul(super, v_from_int(i_and(first, 15))));
        v_store(m, v_mul(least, v_from_int(i_right<4>(first))));
        v_store(d += kPanel, v_mul(super, v_from_int(i_and(second, 15))));
        v_store(m += kPanel, v_mul(least, v_from_int(i_right<4>(second))));
        break;
      }
      case DType::q4_0:
      case DType::i4_g128:
      case DType::q5_0: {
        const V16 v = v_load_f16(scales + at);
        v_store(d, v);
        v_store(m, v_mul(v, v_set1(t == DType::q5_0 ? -16.0f : -8.0f)));
        break;
      }
      case DType::q4_1:
      case DType::q5_1: v_store(m, v_load_f16(mins + at)); [[fallthrough]];
      default: v_store(d, v_load_f16(scales + at)); break;  // q8_0, iq4_nl
    }
  }
}

// Fetches what prepare_scales will read of `blocks` blocks from b0 on.
EYRIE_INLINE void fetch_scales(DType t, const TileShape& s, const uint8_t* panel, int64_t b0, int64_t blocks) {
  const TileFormat f = tile_format(t);
  const int64_t per = f.scale_blocks > 1 ? f.scale_blocks : 1, first = b0 / per * kPanel * 2,
                size = div_up(blocks, per) * kPanel * 2;
  for (int64_t i = 0; s.scales && i < size; i += 64) __builtin_prefetch(panel + s.scales + first + i, 0, 2);
  for (int64_t i = 0; s.mins && i < size; i += 64) __builtin_prefetch(panel + s.mins + first + i, 0, 2);
  for (int64_t i = 0; s.codes && i < blocks * f.codes * kPanel; i += 64)
    __builtin_prefetch(panel + s.codes + b0 * f.codes * kPanel + i, 0, 2);
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
