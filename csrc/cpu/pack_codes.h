// The blocks of ggml's quantised formats as files hold them (ggml-quants.c is their definition), taken apart: the codes of 32 inputs, one
// a byte, and what scales them. A block of 256 inputs has eight such parts.
#pragma once
#include "core/tiles.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// q[l] and q[l + 16] are the nibbles of byte l.
EYRIE_INLINE void split_nibbles(const uint8_t* bytes, uint8_t* q) {
  for (int l = 0; l < 16; l++) {
    q[l] = bytes[l] & 15;
    q[l + 16] = bytes[l] >> 4;
  }
}

// q[l] = `bits` bits of bytes[l] from bit `at` on, moved to bit `to`, beside what q has.
EYRIE_INLINE void add_bits(const uint8_t* bytes, int bits, int at, int to, uint8_t* q) {
  const int mask = (1 << bits) - 1;
  for (int l = 0; l < kBlock; l++) q[l] = uint8_t(q[l] | ((bytes[l] >> at) & mask) << to);
}

// The codes of part `part` of a block.
EYRIE_INLINE void block_codes(DType t, const uint8_t* block, int part, uint8_t (&q)[kBlock]) {
  for (int l = 0; l < kBlock; l++) q[l] = 0;
  switch (t) {
    case DType::q5_0:
    case DType::q5_1: {
      const uint8_t* high = block + (t == DType::q5_0 ? 2 : 4);
      split_nibbles(high + 4, q);
      for (int l = 0; l < kBlock; l++) q[l] = uint8_t(q[l] | ((high[l / 8] >> (l % 8)) & 1) << 4);
      return;
    }
    case DType::q4_k: return add_bits(block + 16 + part / 2 * 32, 4, part % 2 * 4, 0, q);
    case DType::q5_k:
      add_bits(block + 48 + part / 2 * 32, 4, part % 2 * 4, 0, q);
      return add_bits(block + 16, 1, part, 4, q);
    case DType::q6_k:
      add_bits(block + part / 4 * 64 + part % 2 * 32, 4, part % 4 / 2 * 4, 0, q);
      return add_bits(block + 128 + part / 4 * 32, 2, part % 4 * 2, 4, q);
    case DType::q3_k:
      add_bits(block + 32 + part / 4 * 32, 2, part % 4 * 2, 0, q);
      return add_bits(block, 1, part, 2, q);
    case DType::q2_k: return add_bits(block + 16 + part / 4 * 32, 2, part % 4 * 2, 0, q);
    case DType::iq4_xs: return split_nibbles(block + 8 + part * 16, q);
    case DType::mxfp4: return split_nibbles(block + 1, q);
    default: return split_nibbles(block + 2, q);  // iq4_nl
  }
}

// Nibble rows of a block (core/tiles.h): rows[v][i] is what k = 8j + i puts into vector v.
EYRIE_INLINE void nibble_rows(DType t, const uint8_t (&q)[kBlock], uint8_t (&rows)[6][8]) {
  const int bytes = tile_format(t).value_bytes;
  if (bytes < 256) {  // two bits, then one
    for (int i = 0; i < 8; i++) {
      rows[0][i] = uint8_t((q[i] & 3) | (q[8 + i] & 3) << 2);
      rows[1][i] = uint8_t((q[16 + i] & 3) | (q[24 + i] & 3) << 2);
      rows[2][i] = uint8_t(q[i] >> 2 | q[8 + i] >> 2 << 1 | q[16 + i] >> 2 << 2 | q[24 + i] >> 2 << 3);
    }
    return;
  }
  for (int k = 0; k < kBlock; k++) rows[k / 8][k % 8] = q[k] & 15;
  for (int i = 0; i < 8; i++) {
    if (bytes == 320) rows[4][i] = uint8_t(q[i] >> 4 | q[8 + i] >> 4 << 1 | q[16 + i] >> 4 << 2 | q[24 + i] >> 4 << 3);
    if (bytes == 384) {
      rows[4][i] = uint8_t(q[i] >> 4 | q[8 + i] >> 4 << 2);
      rows[5][i] = uint8_t(q[16 + i] >> 4 | q[24 + i] >> 4 << 2);
    }
  }
}

// A nibble row as the dword it is packed into: k0 k2 k4 k6 k1 k3 k5 k7 from the low end.
EYRIE_INLINE uint32_t nibble_dword(const uint8_t (&row)[8]) {
  uint64_t v;
  memcpy(&v, row, 8);
  v |= v >> 12;  // k0k2 k1k3 . . k4k6 k5k7 . .
  const uint64_t even = v & 0x000000ff000000ff, odd = v & 0x0000ff000000ff00;
  return uint32_t(((even | even >> 24) & 0xffff) | ((odd << 8 | odd >> 16) & 0xffff0000));
}

// Where d lies in a block, and the bytes a, b of a part (an output's place in core/tiles.h's codes).
EYRIE_INLINE int scale_offset(DType t) {
  return t == DType::q2_k ? 80 : t == DType::q3_k ? 108 : t == DType::q6_k ? 208 : 0;
}
EYRIE_INLINE void part_codes(DType t, const uint8_t* block, int part, uint8_t (&c)[2]) {
  switch (t) {
    case DType::q2_k:
      c[0] = block[2 * part];
      c[1] = block[2 * part + 1];
      return;
    case DType::q3_k:
      for (int h = 0; h < 2; h++) {
        const int i = 2 * part + h, low = block[96 + i % 8] >> (i / 8 * 4) & 15,
                  high = block[104 + i % 4] >> (i / 4 * 2) & 3;
        c[h] = uint8_t((low | high << 4) - 32);
      }
      return;
    case DType::q6_k:
      c[0] = block[192 + 2 * part];
      c[1] = block[192 + 2 * part + 1];
      return;
    case DType::iq4_xs: {
      const int low = block[4 + part / 2] >> (part % 2 * 4) & 15, high = (block[2 + part / 4] >> (part % 4 * 2)) & 3;
      c[0] = uint8_t((low | high << 4) - 32);
      return;
    }
    case DType::mxfp4: c[0] = block[0]; return;
    default: {  // q4_k, q5_k: six bits each in twelve bytes
      const uint8_t* s = block + 4;
      c[0] = uint8_t(part < 4 ? s[part] & 63 : (s[part + 4] & 15) | s[part - 4] >> 6 << 4);
      c[1] = uint8_t(part < 4 ? s[part + 4] & 63 : s[part + 4] >> 4 | s[part] >> 6 << 4);
    }
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
