// The packed weight layout. A matrix [N,K] is cut into panels of 16 outputs and blocks of 32 inputs; ragged edges are
// padded with zeros. A panel is contiguous and 64-byte aligned: first the values of all blocks, then planes of what scales them.
//
//   f32        block: [32 k][16 n] floats
//   f16        block: [32 k][16 n] halves
//   bf16       block: [16 k pairs][16 n][2 k]: a dword is (k even low, k odd high), the B operand of a bf16 dot product
//   q8_0, i8   block: [32 k][16 n] signed bytes
//   f8_e4m3    as q8_0, bytes of core/fp8.h
//   others     block: vectors of 16 dwords, one for each output; a dword is 8 nibbles p (from the low end). Slice j of the block is
//              k = 8j..8j+7, and k = 8j + 2(p % 4) + p / 4 meets nibble p: even inputs in the low word, odd ones in the high word.
//     4 bits     q4_0, q4_1, q4_k, i4_g128, iq4_nl, iq4_xs, mxfp4: vectors j = 0..3, the code
//     5 bits     q5_0, q5_1, q5_k: as 4 bits, then a vector whose nibble p has bit j: bit 4 of the code
//     6 bits     q6_k: as 4 bits, then two vectors j / 2 whose nibble p has two bits at 2 (j % 2): bits 4 and 5
//     2 bits     q2_k: two vectors j / 2, nibble p has two bits at 2 (j % 2)
//     3 bits     q3_k: as 2 bits, then a vector whose nibble p has bit j: bit 2
//
//   what    value of code q                    planes, each padded to 64 bytes
//   q8_0    d q                                scales: [block][16 n] halves (d)
//   q4_0    d (q - 8); q5_0 d (q - 16)         the same; iq4_nl: d table[q]
//   q4_1    d q + m; q5_1 the same             scales, then mins: [block][16 n] halves (m)
//   i4_g128 d (q - 8)                          scales: [group of 4 blocks][16 n] halves
//   i8      d q; f8_e4m3 the same              scales: [16 n] floats, one an output
//   mxfp4   2^(e - 127) table[q]               codes: [block][16 n] bytes (e)
//   q4_k    d a q + m b; q5_k the same         scales, mins: [8 blocks][16 n] halves (d; m, negated), codes: [block][a, b][16 n] bytes
//   q2_k    likewise for each half of a block  codes: [block][half][16 n] bytes, a in the low nibble, b in the high one
//   q6_k    d a (q - 32) for each half         scales, codes: [block][half][16 n] signed bytes (a); q3_k d a (q - 4)
//   iq4_xs  d a table[q]                       scales, codes: [block][16 n] signed bytes (a)
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

// Weight formats that every device has; the others are the CPU's.
EYRIE_BOTH constexpr bool on_devices(DType t) { return t < DType::q5_0; }

// The row of the source that becomes output n: with a head size, 0,2,4,…,1,3,5,… within each head (pack_weight's permute).
EYRIE_BOTH int64_t source_row(int64_t n, int permute) {
  if (permute <= 0) return n;
  const int64_t i = n % permute, half = permute / 2;
  return n - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

constexpr int kSuperBlocks = 8;  // that share d in the formats whose blocks have scales of a few bits

// What lies in a panel: bytes of a block's values, blocks to a half of the scales plane (0: floats, one an output, or no plane),
// whether there are mins beside, bytes of a block's codes for an output.
struct TileFormat {
  int value_bytes, scale_blocks;
  bool mins;
  int codes;
};

EYRIE_BOTH constexpr TileFormat tile_format(DType t) {
  switch (t) {
    case DType::f32: return {2048, 0, false, 0};
    case DType::f16:
    case DType::bf16: return {1024, 0, false, 0};
    case DType::q8_0: return {512, 1, false, 0};
    case DType::i8:
    case DType::f8_e4m3: return {512, 0, false, 0};
    case DType::q4_1: return {256, 1, true, 0};
    case DType::i4_g128: return {256, kGroupBlocks, false, 0};
    case DType::q5_0: return {320, 1, false, 0};
    case DType::q5_1: return {320, 1, true, 0};
    case DType::q2_k: return {128, kSuperBlocks, true, 2};
    case DType::q3_k: return {192, kSuperBlocks, false, 2};
    case DType::q4_k: return {256, kSuperBlocks, true, 2};
    case DType::q5_k: return {320, kSuperBlocks, true, 2};
    case DType::q6_k: return {384, kSuperBlocks, false, 2};
    case DType::iq4_xs: return {256, kSuperBlocks, false, 1};
    case DType::mxfp4: return {256, 0, false, 1};
    default: return {256, 1, false, 0};  // q4_0, iq4_nl
  }
}

struct TileShape {
  int64_t panels, blocks;
  int64_t value_bytes;  // of one block of one panel
  int64_t scales, mins, codes;  // byte offsets inside a panel; 0 when the format has none
  int64_t panel_bytes;
};

EYRIE_INLINE int64_t plane_bytes(int64_t bytes) { return div_up(bytes, 64) * 64; }

EYRIE_INLINE TileShape tile_shape(DType t, int64_t n, int64_t k) {
  const TileFormat f = tile_format(t);
  TileShape s{};
  s.panels = div_up(n, kPanel);
  s.blocks = div_up(k, kBlock);
  s.value_bytes = f.value_bytes;
  int64_t at = s.blocks * f.value_bytes;
  const int64_t halves = f.scale_blocks ? plane_bytes(div_up(s.blocks, f.scale_blocks) * kPanel * 2) : 0;
  if (halves || has_row_scales(t)) {
    s.scales = at;
    at += halves ? halves : kPanel * 4;
  }
  if (f.mins) {
    s.mins = at;
    at += halves;
  }
  if (f.codes) {
    s.codes = at;
    at += plane_bytes(s.blocks * kPanel * f.codes);
  }
  s.panel_bytes = at;
  return s;
}

EYRIE_INLINE int64_t tile_bytes(DType t, int64_t n, int64_t k) {
  const TileShape s = tile_shape(t, n, k);
  return s.panels * s.panel_bytes;
}

}  // namespace eyrie
