// The register tile of products of pairs: R rows x P panels of 16 outputs. The arithmetic, the same for every tile shape: a chain of
// VDPBF16PS over the 16 pairs of a block of 32 inputs, ascending; one such step is
//
//   c = fma(x_2j, w_2j, fma(x_2j+1, w_2j+1, c))      each rounded to nearest, subnormals flushed
//
// in float weights on the accumulator itself, from block to block; in formats with scales from 0, and then acc = fma(d, c, acc) and, with
// a minimum, acc = fma(m, sum x, acc). Formats with two scales a block do this for each half of it.
#pragma once
#include "cpu/pairs_weights.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

struct PairSource {
  const uint8_t* values[2];
  const uint8_t* next[2];  // the values of the panels that follow, `left` blocks from here
  int64_t left;
  const float* d[2];  // prepare_scales'
  const float* m[2];
  const CodeTable* table;
};

enum class PairFold { none, scale, scale_min, halves_min };

// Adds `blocks` blocks to acc [P][R][16]. x: [blocks][R][16 pairs]; sums: [blocks][R], or [blocks][2][R].
using PairTile = void (*)(const PairSource&, int64_t blocks, const uint32_t* x, const float* sums, float* acc);

// Bytes, about, between the weights in use and those fetched into L2. (Zen 4, a thread, GB/s: q4_0 11.3 when fetched into L1 at any distance,
// 12.9, 17.2, 18.6, 17.1 into L2 at 1, 4, 8, 12 KB. bf16 is left to the hardware: 28.6, with fetches 22.7.)
constexpr int kPairsAhead = 8192;

// Pairs [j, end) of a block.
template <class W, int R, int P, int j, int end>
EYRIE_INLINE void pair_chain(const uint8_t* const (&block)[P], const Table& t, const uint32_t* x, __m512 (&c)[P][R]) {
  __m512i w[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) w[p] = W::template get<j>(block[p], t);
#pragma GCC unroll 16
  for (int r = 0; r < R; r++) {
    const __m512i b = _mm512_set1_epi32(int(x[r * 16 + j]));
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) c[p][r] = _mm512_dpbf16_ps(c[p][r], (__m512bh)w[p], (__m512bh)b);
  }
  if constexpr (j + 1 < end) pair_chain<W, R, P, j + 1, end>(block, t, x, c);
}

// acc = fma(d, c, acc), then fma(m, sum, acc) with a minimum.
template <bool min, int R, int P>
EYRIE_INLINE void fold_pairs(const PairSource& s, int64_t at, const __m512 (&c)[P][R], const float* sums,
                             __m512 (&a)[P][R]) {
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) {
    const __m512 d = _mm512_loadu_ps(s.d[p] + at * kPanel);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) a[p][r] = _mm512_fmadd_ps(d, c[p][r], a[p][r]);
    if constexpr (min) {
      const __m512 m = _mm512_loadu_ps(s.m[p] + at * kPanel);
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) a[p][r] = _mm512_fmadd_ps(m, _mm512_set1_ps(sums[at * R + r]), a[p][r]);
    }
  }
}

// `count` blocks at once: with few rows the chains of one block would wait for each other's steps.
template <class W, PairFold fold, int R, int P, int count>
EYRIE_INLINE void some_blocks(const PairSource& s, int64_t b, const Table& t, const uint32_t* x, const float* sums,
                              __m512 (&a)[P][R]) {
  constexpr bool kMin = fold == PairFold::scale_min || fold == PairFold::halves_min;
  constexpr int kAheadBlocks = kPairsAhead / W::kBytes + 1;
  const int64_t turn = s.left - kAheadBlocks;
  const uint8_t* block[count][P];
#pragma GCC unroll 2
  for (int i = 0; i < count; i++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      block[i][p] = s.values[p] + (b + i) * W::kBytes;
      const uint8_t* ahead =
          b + i < turn ? block[i][p] + kAheadBlocks * W::kBytes : s.next[p] + (b + i - turn) * W::kBytes;
#pragma GCC unroll 32
      for (int k = 0; W::kBytes < 1024 && k < W::kBytes; k += 64) __builtin_prefetch(ahead + k, 0, 2);
    }
  if constexpr (fold == PairFold::none) {
    pair_chain<W, R, P, 0, 16>(block[0], t, x, a);
    if constexpr (count == 2) pair_chain<W, R, P, 0, 16>(block[1], t, x + R * 16, a);
    return;
  }
  __m512 c[count * 2][P][R];
#pragma GCC unroll 4
  for (int i = 0; i < count * 2; i++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++)
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) c[i][p][r] = _mm512_setzero_ps();
  if constexpr (fold == PairFold::halves_min) {
    pair_chain<W, R, P, 0, 8>(block[0], t, x, c[0]);
    pair_chain<W, R, P, 8, 16>(block[0], t, x, c[1]);
    if constexpr (count == 2) {
      pair_chain<W, R, P, 0, 8>(block[1], t, x + R * 16, c[2]);
      pair_chain<W, R, P, 8, 16>(block[1], t, x + R * 16, c[3]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < count * 2; i++) fold_pairs<kMin, R, P>(s, 2 * b + i, c[i], sums, a);
  } else {
    pair_chain<W, R, P, 0, 16>(block[0], t, x, c[0]);
    if constexpr (count == 2) pair_chain<W, R, P, 0, 16>(block[1], t, x + R * 16, c[1]);
#pragma GCC unroll 2
    for (int i = 0; i < count; i++) fold_pairs<kMin, R, P>(s, b + i, c[i], sums, a);
  }
}

template <class W, PairFold fold, int R, int P>
static void pair_tile(const PairSource& s, int64_t blocks, const uint32_t* x, const float* sums, float* acc) {
  const Table t = load_table(*s.table);
  __m512 a[P][R];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) a[p][r] = _mm512_loadu_ps(acc + (p * R + r) * kPanel);
  int64_t b = 0;
  if constexpr (R * P <= 4)
    for (; b + 2 <= blocks; b += 2) some_blocks<W, fold, R, P, 2>(s, b, t, x + b * R * 16, sums, a);
  for (; b < blocks; b++) some_blocks<W, fold, R, P, 1>(s, b, t, x + b * R * 16, sums, a);
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) _mm512_storeu_ps(acc + (p * R + r) * kPanel, a[p][r]);
}

template <class W, PairFold fold>
static PairTile pair_tile_of(int R, int P) {
  constexpr PairTile one[] = {pair_tile<W, fold, 1, 1>, pair_tile<W, fold, 2, 1>, pair_tile<W, fold, 3, 1>,
                              pair_tile<W, fold, 4, 1>};
  constexpr PairTile two[] = {pair_tile<W, fold, 1, 2>, pair_tile<W, fold, 2, 2>, pair_tile<W, fold, 3, 2>,
                              pair_tile<W, fold, 4, 2>};
  return P == 2 ? two[R - 1] : one[R - 1];
}

// The tile of R rows and P panels of a format, packed or unpacked by unpack_pairs().
static PairTile pair_tile_of(DType t, bool unpacked, int R, int P) {
  const bool prepared = has_prepared_scales(t);
  if (unpacked || t == DType::bf16) {
    if (!prepared) return pair_tile_of<PairsBf16, PairFold::none>(R, P);
    if (has_halves(t)) return pair_tile_of<PairsBf16, PairFold::halves_min>(R, P);
    return has_nibbles(t) ? pair_tile_of<PairsBf16, PairFold::scale_min>(R, P)
                          : pair_tile_of<PairsBf16, PairFold::scale>(R, P);
  }
  switch (tile_format(t).value_bytes) {
    case 128: return pair_tile_of<PairsCodes<2>, PairFold::halves_min>(R, P);
    case 192: return pair_tile_of<PairsCodes<3>, PairFold::halves_min>(R, P);
    case 256:
      return has_nibbles(t) ? pair_tile_of<PairsCodes<4>, PairFold::scale_min>(R, P)
                            : pair_tile_of<PairsCodes<4>, PairFold::scale>(R, P);
    case 320: return pair_tile_of<PairsCodes<5>, PairFold::scale_min>(R, P);
    case 384: return pair_tile_of<PairsCodes<6>, PairFold::halves_min>(R, P);
    default:
      if (t == DType::f8_e4m3) return pair_tile_of<PairsF8, PairFold::none>(R, P);
      return prepared ? pair_tile_of<PairsI8, PairFold::scale>(R, P) : pair_tile_of<PairsI8, PairFold::none>(R, P);
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
