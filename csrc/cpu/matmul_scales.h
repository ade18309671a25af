// What scales the blocks of a format (core/tiles.h), as floats: products of a half and a code of at most 8 bits, which are exact. A list
// of blocks gets them at once, before its products.
#pragma once
#include "core/tiles.h"
#include "cpu/simd/integers.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// Formats with a scale for each half of a block.
EYRIE_INLINE bool has_halves(DType t) { return t == DType::q2_k || t == DType::q3_k || t == DType::q6_k; }

// Whether a tile takes the scales as floats: `unpacked`: the values are floats too (matmul_weights.h).
EYRIE_INLINE bool has_prepared_scales(DType t, bool unpacked) {
  if (t >= DType::q5_0 && t <= DType::mxfp4) return true;
  return unpacked && (t == DType::q8_0 || t == DType::q4_0 || t == DType::q4_1);
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
    const int64_t at = (super_blocks ? b / kSuperBlocks : b) * kPanel;
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
      case DType::q5_0: {
        const V16 v = v_load_f16(scales + at);
        v_store(d, v);
        v_store(m, v_mul(v, v_set1(t == DType::q4_0 ? -8.0f : -16.0f)));
        break;
      }
      case DType::q4_1:
      case DType::q5_1: v_store(m, v_load_f16(mins + at)); [[fallthrough]];
      default: v_store(d, v_load_f16(scales + at)); break;  // q8_0, iq4_nl
    }
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
