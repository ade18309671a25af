// The packed weight layout. A matrix [N,K] is cut into panels of 16 outputs and blocks of 32 inputs; ragged edges are
// padded with zeros. A panel is contiguous and 64-byte aligned: first the values of all blocks, then the scales of all blocks,
// then the mins.
//
//   f32        block: [32 k][16 n] floats
//   f16        block: [32 k][16 n] halves
//   bf16       block: [16 k pairs][16 n][2 k]: a dword is (k even low, k odd high), the B operand of a bf16 dot product
//   q8_0       block: [32 k][16 n] signed bytes
//   q4_0,q4_1  block: 4 vectors j of 16 dwords; the dword of output n holds k = 8j..8j+7, nibble p (from the low end)
//              holds k = 8j + 2(p % 4) + p / 4: even inputs in the low word, odd ones in the high word
//   i4_g128    as q4_0
//   i8         as q8_0
//   f8_e4m3    as q8_0, bytes of core/fp8.h
//   scales     [block][16 n] halves (d); q4_1: then mins [block][16 n] halves (m). Values: q8_0 d*q, q4_0 d*(q-8), q4_1 d*q+m.
//              i4_g128: [group of 4 blocks][16 n] halves, d*(q-8). i8, f8_e4m3: [16 n] floats, one an output, d*q
#pragma once
#include "core/tensor.h"

namespace eyrie {

constexpr int kPanel = 16;  // outputs of a panel
constexpr int kBlock = 32;  // inputs of a block

EYRIE_INLINE int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

constexpr int kGroupBlocks = 4;  // that share a scale in i4_g128

// Formats with a scale for each output; those that quantize_weight alone makes (q4_0 lies in files too).
EYRIE_BOTH constexpr bool has_row_scales(DType t) { return t == DType::i8 || t == DType::f8_e4m3; }
EYRIE_BOTH constexpr bool made_of_floats(DType t) { return has_row_scales(t) || t == DType::i4_g128; }

// The row of the source that becomes output n: with a head size, 0,2,4,…,1,3,5,… within each head (pack_weight's permute).
EYRIE_BOTH int64_t source_row(int64_t n, int permute) {
  if (permute <= 0) return n;
  const int64_t i = n % permute, half = permute / 2;
  return n - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

struct TileShape {
  int64_t panels, blocks;
  int64_t value_bytes;  // of one block of one panel
  int64_t scales, mins;  // byte offsets inside a panel; 0 when the format has none
  int64_t panel_bytes;
};

EYRIE_INLINE TileShape tile_shape(DType t, int64_t n, int64_t k) {
  TileShape s{};
  s.panels = div_up(n, kPanel);
  s.blocks = div_up(k, kBlock);
  int64_t bytes = 0;
  switch (t) {
    case DType::f32: bytes = 2048; break;
    case DType::f16:
    case DType::bf16: bytes = 1024; break;
    case DType::q8_0:
    case DType::i8:
    case DType::f8_e4m3: bytes = 512; break;
    default: bytes = 256; break;  // q4_0, q4_1, i4_g128
  }
  s.value_bytes = bytes;
  int64_t at = s.blocks * bytes;
  const int64_t groups = t == DType::i4_g128 ? div_up(s.blocks, kGroupBlocks) : s.blocks;
  const int64_t plane = has_row_scales(t) ? kPanel * 4 : div_up(groups * kPanel * 2, 64) * 64;
  if (t == DType::q8_0 || t == DType::q4_0 || t == DType::q4_1 || made_of_floats(t)) {
    s.scales = at;
    at += plane;
  }
  if (t == DType::q4_1) {
    s.mins = at;
    at += plane;
  }
  s.panel_bytes = at;
  return s;
}

EYRIE_INLINE int64_t tile_bytes(DType t, int64_t n, int64_t k) {
  const TileShape s = tile_shape(t, n, k);
  return s.panels * s.panel_bytes;
}

}  // namespace eyrie
