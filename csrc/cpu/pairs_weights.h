// How a block of packed weights (core/tiles.h) becomes vectors of pairs of bf16: get<j>(block) gives inputs 2j and 2j + 1 of 16 outputs. All
// formats here have codes that bf16 holds exactly.
#pragma once
#include "core/codes.h"
#include "cpu/matmul_scales.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// Whether the format's numbers are pairs here; f16 and f32 do not fit into bf16.
EYRIE_INLINE bool fits_pairs(DType t) { return t != DType::f32 && t != DType::f16; }

// The table of a format with nibbles.
EYRIE_INLINE const CodeTable& table_of(DType t) {
  Codes c = Codes::q4;
  if (t == DType::iq4_nl || t == DType::iq4_xs) c = Codes::iq4;
  if (t == DType::mxfp4) c = Codes::fp4;
  if (t == DType::q5_0 || t == DType::q5_1 || t == DType::q5_k) c = Codes::q5;
  if (t == DType::q6_k) c = Codes::q6;
  if (t == DType::q2_k) c = Codes::q2;
  if (t == DType::q3_k) c = Codes::q3;
  return kCodeTables.of[int(c)];
}

struct Table {
  __m512i low, high;
};
EYRIE_INLINE Table load_table(const CodeTable& t) {
  return {_mm512_load_si512(t.value), _mm512_load_si512(t.value + 32)};
}

EYRIE_INLINE __m512i vector_of(const uint8_t* block, int v) { return _mm512_loadu_si512(block + v * 64); }
// Two vectors of floats that bf16 holds: those of even inputs to the low halves.
EYRIE_INLINE __m512i join_pairs(V16 even, V16 odd) {
  return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(even.v), 16), _mm512_castps_si512(odd.v));
}

struct PairsBf16 {  // and what unpack_pairs() makes
  static constexpr int kBytes = 1024;
  template <int j>
  EYRIE_INLINE __m512i get(const uint8_t* block, const Table&) {
    return vector_of(block, j);
  }
};
struct PairsI8 {
  static constexpr int kBytes = 512;
  template <int j>
  EYRIE_INLINE __m512i get(const uint8_t* block, const Table&) {
    const int8_t* p = (const int8_t*)block + j * 32;
    return join_pairs(v_load_i8(p), v_load_i8(p + 16));
  }
};
struct PairsF8 {
  static constexpr int kBytes = 512;
  template <int j>
  EYRIE_INLINE __m512i get(const uint8_t* block, const Table&) {
    return join_pairs(v_load_e4m3(block + j * 32), v_load_e4m3(block + j * 32 + 16));
  }
};

// x's words moved down by n bits (up for a negative n).
template <int n>
EYRIE_INLINE __m512i words_right(__m512i x) {
  if constexpr (n > 0) return _mm512_srli_epi16(x, n);
  else if constexpr (n < 0) return _mm512_slli_epi16(x, -n);
  else return x;
}

// Codes of 2 to 6 bits: nibble p of the low word of a dword meets an even input, of the high word the odd one after it.
template <int bits>
struct PairsCodes {
  static constexpr int kBytes = bits == 2 ? 128 : bits == 3 ? 192 : bits == 4 ? 256 : bits == 5 ? 320 : 384;
  template <int j>
  EYRIE_INLINE __m512i get(const uint8_t* block, const Table& t) {
    constexpr int s = j / 4, p = 4 * (j % 4);
    if constexpr (bits == 2)
      return _mm512_permutexvar_epi16(words_right<p + s % 2 * 2>(vector_of(block, s / 2)), t.low);
    if constexpr (bits == 4) return _mm512_permutexvar_epi16(words_right<p>(vector_of(block, s)), t.low);
    // The low bits where mask has ones, the high ones elsewhere; a vpermw looks at five bits, a vpermt2w at six.
    if constexpr (bits == 3) {
      const __m512i low = words_right<p + s % 2 * 2>(vector_of(block, s / 2)),
                    high = words_right<p + s - 2>(vector_of(block, 2));
      return _mm512_permutexvar_epi16(_mm512_ternarylogic_epi32(low, high, _mm512_set1_epi16(3), 0xe4), t.low);
    }
    if constexpr (bits == 5) {
      const __m512i low = words_right<p>(vector_of(block, s)), high = words_right<p + s - 4>(vector_of(block, 4));
      return _mm512_permutexvar_epi16(_mm512_ternarylogic_epi32(low, high, _mm512_set1_epi16(15), 0xe4), t.low);
    }
    if constexpr (bits == 6) {
      const __m512i low = words_right<p>(vector_of(block, s)),
                    high = words_right<p + s % 2 * 2 - 4>(vector_of(block, 4 + s / 2));
      return _mm512_permutex2var_epi16(t.low, _mm512_ternarylogic_epi32(low, high, _mm512_set1_epi16(15), 0xe4),
                                       t.high);
    }
  }
};

template <class W, int j>
EYRIE_INLINE void unpack_from(const uint8_t* block, const Table& t, uint8_t* out) {
  _mm512_storeu_si512(out + j * 64, W::template get<j>(block, t));
  if constexpr (j < 15) unpack_from<W, j + 1>(block, t, out);
}
template <class W>
static void unpack_blocks(const uint8_t* from, int64_t blocks, const CodeTable& table, uint8_t* out) {
  const Table t = load_table(table);
  for (int64_t b = 0; b < blocks; b++) unpack_from<W, 0>(from + b * W::kBytes, t, out + b * PairsBf16::kBytes);
}

// Blocks to [16 pairs][16 n] pairs.
static void unpack_pairs(DType t, const uint8_t* from, int64_t blocks, uint8_t* out) {
  const CodeTable& table = table_of(t);
  switch (tile_format(t).value_bytes) {
    case 128: return unpack_blocks<PairsCodes<2>>(from, blocks, table, out);
    case 192: return unpack_blocks<PairsCodes<3>>(from, blocks, table, out);
    case 256: return unpack_blocks<PairsCodes<4>>(from, blocks, table, out);
    case 320: return unpack_blocks<PairsCodes<5>>(from, blocks, table, out);
    case 384: return unpack_blocks<PairsCodes<6>>(from, blocks, table, out);
    default:
      return t == DType::f8_e4m3 ? unpack_blocks<PairsF8>(from, blocks, table, out)
                                 : unpack_blocks<PairsI8>(from, blocks, table, out);
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
