// One row of `sample`: its options, and the way from logits to z (penalties, bias, mask, temperature), four tokens at a time.
#pragma once
#include "core/ops.gen.h"
#include "cuda/sample_noise.cuh"

namespace eyrie::cuda {

constexpr int kThreads = 256;
constexpr int kBlockTokens = 64;  // tokens with a common maximum: 16 threads
constexpr int kGroups = 2;  // of 4 tokens that a thread has of a slice
constexpr int kSlice = kThreads * 4 * kGroups;
constexpr int kSliceBlocks = kSlice / kBlockTokens;

struct SliceStats {
  float raw_max, raw_sum;  // sum of e^(x - raw_max)
  float z_max, z_sum;
  uint64_t best;  // the word of the slice's draw, when there are no filters
};

struct SampleParams {
  const float* logits;
  int64_t stride;
  const float* columns;
  const uint32_t* keys;
  const uint16_t* counts;
  const int32_t *counts_row, *bias_start, *bias_ids;
  const float* bias_values;
  const uint32_t* mask;
  int32_t* ids;
  float* logprobs;
  int32_t* top_ids;
  float* top_logprobs;
  SliceStats* stats;  // [R][slices]
  float *maxima, *raw_maxima;  // [R][slices][kSliceBlocks]
  uint32_t* tickets;  // [R]
  FaultAt fault;
  int V, U, L, W, K, slices;
};

struct Row {
  const uint16_t* counts;  // null: no penalties
  const uint32_t* mask;  // null: everything is allowed
  float scale, top_p, min_p, repetition, frequency, presence;
  int top_k;  // V: all
  int bias_begin, bias_end;
  NoiseKey key;
  bool greedy, filtered;
};

GPU_INLINE Row load_row(const SampleParams& p, int r) {
  const float* c = p.columns + int64_t(r) * int(SamplingColumn::count);
  Row o;
  const float temperature = c[int(SamplingColumn::temperature)], k = c[int(SamplingColumn::top_k)];
  o.top_p = c[int(SamplingColumn::top_p)];
  o.min_p = c[int(SamplingColumn::min_p)];
  o.repetition = c[int(SamplingColumn::repetition_penalty)];
  o.frequency = c[int(SamplingColumn::frequency_penalty)];
  o.presence = c[int(SamplingColumn::presence_penalty)];
  o.top_k = k >= 1.0f && k < float(p.V) ? int(k) : p.V;
  const bool penalties = o.repetition != 1.0f || o.frequency != 0.0f || o.presence != 0.0f;
  o.counts = nullptr;
  if (p.counts) {
    const int row = p.counts_row[r];
    if (in_range(p.fault, 4, r, row, -1, p.U) && row >= 0 && penalties) o.counts = p.counts + int64_t(row) * p.V;
  }
  o.mask = p.mask ? p.mask + int64_t(r) * p.W : nullptr;
  o.bias_begin = o.bias_end = 0;
  if (p.bias_start) {
    const int begin = p.bias_start[r], end = p.bias_start[r + 1];
    if (in_range(p.fault, 5, r, begin, 0, p.L + 1) && in_range(p.fault, 5, r + 1, end, begin, p.L + 1)) {
      o.bias_begin = begin;
      o.bias_end = end;
    }
  }
  const uint32_t* key = p.keys + int64_t(r) * 4;
  o.key = {key[0], key[1], key[2]};
  o.greedy = temperature == 0.0f;
  o.scale = o.greedy ? 1.0f : 1.0f / temperature;
  o.filtered = !o.greedy && (o.top_k < p.V || o.top_p < 1.0f || o.min_p > 0.0f);
  return o;
}

// Top-p over the whole vocabulary needs its total weight.
GPU_INLINE bool needs_sum(const SampleParams& p, const Row& o) {
  return o.filtered && o.top_p < 1.0f && o.top_k == p.V && !(o.min_p > 0.0f);
}

// NaN is -inf, +inf the largest float, so that differences are numbers.
GPU_INLINE float clean(float x) { return min_of(kMost, max_of(x, -INFINITY)); }

// The logits of the tokens first..first+3 (a multiple of 4); -inf behind the end.
GPU_INLINE void load_raw(const SampleParams& p, int r, int first, float (&x)[4]) {
  const float* at = p.logits + r * p.stride + first;
  if (first + 4 <= p.V && (reinterpret_cast<uintptr_t>(at) & 15) == 0) {
    const float4 v = *reinterpret_cast<const float4*>(at);
    x[0] = clean(v.x);
    x[1] = clean(v.y);
    x[2] = clean(v.z);
    x[3] = clean(v.w);
    return;
  }
#pragma unroll
  for (int j = 0; j < 4; j++) x[j] = first + j < p.V ? clean(at[j]) : -INFINITY;
}

// vLLM's: repetition counts the prompt and the output, the others the output.
GPU_INLINE float penalise(const Row& o, float y, uint32_t count) {
  if (count == 0) return y;
  y = y > 0.0f ? y / o.repetition : mul_rn(y, o.repetition);
  const uint32_t n = count & 0x7fffu;
  if (n == 0) return y;
  return sub_rn(fmaf(-o.frequency, float(n), y), o.presence);
}

// From clean logits to z, in place. biased: some bias may hit these tokens.
GPU_INLINE void adjust(const SampleParams& p, const Row& o, int first, bool biased, float (&y)[4]) {
  if (o.counts) {
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (first + j < p.V) y[j] = penalise(o, y[j], o.counts[first + j]);
  }
  if (biased) {
    for (int k = o.bias_begin; k < o.bias_end; k++) {  // one after the other: a token may have several
      const int at = p.bias_ids[k] - first;
      if (at < 0 || at >= 4 || first + at >= p.V) continue;
      const float value = p.bias_values[k];
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (j == at) y[j] = add_rn(y[j], value);
    }
  }
  const uint32_t allowed = o.mask && first < p.V ? o.mask[first >> 5] >> (first & 31) : ~0u;
#pragma unroll
  for (int j = 0; j < 4; j++) y[j] = allowed >> j & 1 ? clean(mul_rn(clean(y[j]), o.scale)) : -INFINITY;
}

GPU_INLINE float min_p_floor(const Row& o, float top) {
  if (!(o.min_p > 0.0f)) return -INFINITY;
  return o.min_p < 1.17549435e-38f ? sub_rn(top, 88.0f) : add_rn(top, log_exact(o.min_p));
}

// Weights are integers, so that their sums do not depend on the order: floor(e^(z - top) 2^40).
GPU_INLINE uint64_t weight_of(float z, float top) { return uint64_t(int64_t(exp_exact(sub_rn(z, top)) * 0x1p40f)); }

GPU_INLINE uint64_t nucleus(float top_p, uint64_t total) {
  const double p = top_p > 0.0f ? double(top_p) : 0.0;
  const uint64_t need = uint64_t(p * double(total));
  return need ? need : 1;  // one token at least
}

}  // namespace eyrie::cuda
