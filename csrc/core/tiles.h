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
//   scales     [block][16 n] halves (d); q4_1: then mins [block][16 n] halves (m). Values: q8_0 d*q, q4_0 d*(q-8), q4_1 d*q+m
#pragma once
#include "core/tensor.h"

namespace eyrie {

constexpr int kPanel = 16;  // outputs of a panel
constexpr int kBlock = 32;  // inputs of a block

EYRIE_INLINE int64_t div_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

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
    case DType::q8_0: bytes = 512; break;
    default: bytes = 256; break;  // q4_0, q4_1
  }
  s.value_bytes = bytes;
  int64_t at = s.blocks * bytes;
  const int64_t plane = div_up(s.blocks * kPanel * 2, 64) * 64;
  if (t == DType::q8_0 || t == DType::q4_0 || t == DType::q4_1) {
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
