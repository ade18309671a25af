// Activations as the matrix kernels read them. Rows are cut into groups of at most kGroup, as even as possible; a group is
// [blocks][R rows][32] floats, each block's 16 even inputs before its 16 odd ones, then [blocks][R] sums of the blocks and
// [blocks][2][R] sums of their halves. Inputs are
// rounded to bf16 (unless kept in fp32), normalised first on request, padded with zeros, and flushed to zero below 2^-98, so that
// scaling one by 16^-6 is exact.
#pragma once
#include "core/tiles.h"
#include "cpu/norm.h"
#include "cpu/row_groups.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

struct Activations {
  int64_t rows, groups, blocks;
  const float* plain;  // null when no weight needs it
  const float* nibbles;  // scaled by 16^-p for the nibble p that each input meets
};

EYRIE_INLINE int64_t row_floats(int64_t blocks) { return blocks * (kBlock + 3); }

// One row of K inputs into its group of R rows. `nibbles` selects the scaled form. sums, halves: where sums go.
EYRIE_INLINE void prepare_row(const float* x, int64_t K, bool bf16, bool nibbles, int R, float* values, float* sums,
                              float* halves) {
  alignas(64) static const float kScale[32] = {
      0x1p0f,   0x1p-4f, 0x1p-8f,  0x1p-12f, 0x1p0f,   0x1p-4f,  0x1p-8f,  0x1p-12f, 0x1p0f,   0x1p-4f,  0x1p-8f,
      0x1p-12f, 0x1p0f,  0x1p-4f,  0x1p-8f,  0x1p-12f, 0x1p-16f, 0x1p-20f, 0x1p-24f, 0x1p0f,   0x1p-16f, 0x1p-20f,
      0x1p-24f, 0x1p0f,  0x1p-16f, 0x1p-20f, 0x1p-24f, 0x1p0f,   0x1p-16f, 0x1p-20f, 0x1p-24f, 0x1p0f};
  const V16 scale_even = v_load(kScale), scale_odd = v_load(kScale + 16);
  for (int64_t k = 0; k < K; k += kBlock, values += R * kBlock, sums += R) {
    V16 a, b;
    load_block(x, k, K, bf16, &a, &b);
    V16 even, odd;
    v_unzip(a, b, &even, &odd);
    if (nibbles) {
      even = v_mul(even, scale_even);
      odd = v_mul(odd, scale_odd);
      *sums = v_reduce_add(v_add(a, b));
      if (halves) {
        halves[0] = v_reduce_add(a);
        halves[R] = v_reduce_add(b);
        halves += 2 * R;
      }
    }
    v_store(values, even);
    v_store(values + 16, odd);
  }
}

EYRIE_INLINE void prepare_rows(const Tensor& x, int64_t K, const Prepare& how, const Activations& to, float* plain,
                               float* nibbles, float* normed, Range rows) {
  for (int64_t g = 0; g < to.groups; g++) {
    const int64_t r0 = group_begin(to, g), r1 = group_begin(to, g + 1), R = r1 - r0, at = r0 * row_floats(to.blocks);
    for (int64_t r = r0 > rows.begin ? r0 : rows.begin; r < r1 && r < rows.end; r++) {
      const float* row = (const float*)x.data + r * x.stride[0];
      if (how.normalise) {
        rms_norm_row(row, how.norm, how.eps, K, normed);
        row = normed;
      }
      const int64_t i = r - r0, sums = at + R * to.blocks * kBlock + i;
      if (plain) prepare_row(row, K, how.bf16, false, int(R), plain + at + i * kBlock, plain + sums, nullptr);
      if (!nibbles) continue;
      float* halves = nibbles + at + R * to.blocks * (kBlock + 1) + i;
      prepare_row(row, K, how.bf16, true, int(R), nibbles + at + i * kBlock, nibbles + sums,
                  how.halves ? halves : nullptr);
    }
  }
}

// Prepares x [T,K] for this launch. Few values: every worker makes its own copy, which costs less than to wait for the others.
EYRIE_INLINE Activations prepare(Team& team, const Tensor& x, int64_t T, int64_t K, const Prepare& how, bool need_plain,
                                 bool need_nibbles) {
  Activations to{T, div_up(T, kGroup), div_up(K, kBlock), nullptr, nullptr};
  const bool share = team.size > 1 && T * K > 8192;
  const size_t bytes = size_t(T * row_floats(to.blocks)) * 4;
  float* normed = how.normalise ? (float*)team.local(size_t(K) * 4) : nullptr;
  float *plain = nullptr, *nibbles = nullptr;
  if (need_plain) plain = (float*)(share ? team.shared(bytes) : team.local(bytes));
  if (need_nibbles) nibbles = (float*)(share ? team.shared(bytes) : team.local(bytes));
  prepare_rows(x, K, how, to, plain, nibbles, normed, share ? team_range(team, T) : Range{0, T});
  if (share) team.barrier();
  to.plain = plain;
  to.nibbles = nibbles;
  return to;
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
