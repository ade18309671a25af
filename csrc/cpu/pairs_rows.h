// Rows of activations as pairs of bf16, for products of pairs (cpu/pairs.h) and of tiles (cpu/amx.h): normalised first on request, rounded, flushed to
// zero below 2^-98, padded with zeros to whole blocks.
#pragma once
#include "cpu/norm.h"
#include "cpu/pairs_weights.h"
#include "cpu/row_groups.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// Rows in groups of at most kGroup, as even as possible: [blocks][R rows][16 pairs], then sums of what was rounded, [blocks][R] and
// [blocks][2][R] of halves. R: stored_rows.
struct Activations {
  int64_t rows, groups, blocks;
  const uint32_t* pairs;
};
EYRIE_INLINE int64_t row_words(int64_t blocks) { return blocks * (kBlock / 2 + 3); }

EYRIE_INLINE void prepare_row(const float* x, int64_t K, int R, uint32_t* pairs, float* sums, float* halves) {
  for (int64_t k = 0; k < K; k += kBlock, pairs += R * kBlock / 2) {
    V16 a, b;
    load_block(x, k, K, true, &a, &b);
    V16 even, odd;
    v_unzip(a, b, &even, &odd);
    _mm512_storeu_si512(pairs, join_pairs(even, odd));
    if (sums) {
      *sums = v_reduce_add(v_add(a, b));
      sums += R;
    }
    if (halves) {
      halves[0] = v_reduce_add(a);
      halves[R] = v_reduce_add(b);
      halves += 2 * R;
    }
  }
}

// Prepares x [T,K] for this launch. Few values: every worker makes its own copy, which costs less than to wait for the others.
EYRIE_INLINE Activations prepare(Team& team, const Tensor& x, int64_t T, int64_t K, const Prepare& how, bool,
                                 bool need_sums) {
  Activations to{T, div_up(T, kGroup), div_up(K, kBlock), nullptr};
  const bool share = team.size > 1 && T * K > 8192;
  const size_t bytes = size_t(stored_before(to, to.groups) * row_words(to.blocks)) * 4;
  float* normed = how.normalise ? (float*)team.local(size_t(K) * 4) : nullptr;
  uint32_t* pairs = (uint32_t*)(share ? team.shared(bytes) : team.local(bytes));
  const Range rows = share ? team_range(team, T) : Range{0, T};
  for (int64_t g = 0; g < to.groups; g++) {
    const int64_t r0 = group_begin(to, g), r1 = group_begin(to, g + 1), R = stored_rows(to, g);
    uint32_t* values = pairs + stored_before(to, g) * row_words(to.blocks);
    float* sums = (float*)(values + R * to.blocks * kBlock / 2);
    for (int64_t r = r0 > rows.begin ? r0 : rows.begin; r < r1 && r < rows.end; r++) {
      const float* row = (const float*)x.data + r * x.stride[0];
      if (how.normalise) {
        rms_norm_row(row, how.norm, how.eps, K, normed);
        row = normed;
      }
      prepare_row(row, K, int(R), values + (r - r0) * kBlock / 2, need_sums ? sums + (r - r0) : nullptr,
                  how.halves ? sums + R * to.blocks + (r - r0) : nullptr);
    }
  }
  if (share) team.barrier();
  to.pairs = pairs;
  return to;
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
