// sample, one launch. A block takes a slice of 2048 tokens of a row: logits -> z, maxima of blocks of 64 tokens, sums for the
// logprobs; a row without filters is drawn here. The last block of a row to finish (a ticket) then completes it: where the
// filters cut, the draw of what they keep, logprobs, the best K raw tokens. Slices are fixed, weights are integers, keys
// compare by (key, lowest id): nothing depends on the batch or on the order of the blocks. Ids are those of cpu/sample.cc.
#include "core/tiles.h"
#include "cuda/kernels.h"
#include "cuda/sample_select.cuh"

namespace eyrie::cuda {
namespace {

constexpr int kMaxBlocks = 65536;  // of 64 tokens, numbered in 16 bits

GPU_INLINE float group_max(float v) {  // over the 16 threads of a block of 64 tokens
#pragma unroll
  for (int o = 8; o; o >>= 1) v = fmaxf(v, __shfl_xor_sync(0xffffffffu, v, o));
  return v;
}

// The draw of a row without filters, among the tokens of the slice.
GPU_INLINE uint64_t draw_slice(const Row& o, int begin, const float (&y)[kGroups][4], Arena& s) {
  uint64_t best = kNoWord;  // by z
#pragma unroll
  for (int g = 0; g < kGroups; g++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const uint64_t word = word_of(key_of(y[g][j]), uint32_t(begin + (g * kThreads + int(threadIdx.x)) * 4 + j));
      if (y[g][j] > -INFINITY && word < best) best = word;
    }
  if (o.greedy) return block_min(best, s);
  // The likeliest token of each thread is drawn first: the others must beat the best of those.
  float bar = -INFINITY;
  if (best != kNoWord) bar = add_rn(value_of(word_key(best)), gumbel_of(o.key, uint32_t(best)));
  bar = block_max(bar, s);
  best = kNoWord;
#pragma unroll
  for (int g = 0; g < kGroups; g++)
    draw4(o.key, uint32_t(begin + (g * kThreads + int(threadIdx.x)) * 4), y[g], bar, best);
  return block_min(best, s);
}

GPU_INLINE void do_slice(const SampleParams& p, int r, int slice, Arena& s) {
  const int begin = slice * kSlice, tid = int(threadIdx.x);
  if (tid == 0) s.row = load_row(p, r);
  float y[kGroups][4], raw_high = -kMost, high = -INFINITY, raw_sum = 0.0f, sum = 0.0f;
#pragma unroll
  for (int g = 0; g < kGroups; g++) load_raw(p, r, begin + (g * kThreads + tid) * 4, y[g]);
  __syncthreads();
  const Row& o = s.row;
  const bool sum_raw = p.logprobs || p.top_logprobs, sum_z = needs_sum(p, o);
  bool biased = false;
  if (o.bias_begin < o.bias_end) {
    for (int k = o.bias_begin + tid; k < o.bias_end; k += kThreads) {
      const int id = p.bias_ids[k];
      biased |= in_range(p.fault, 6, k, id, 0, p.V) && id >= begin && id < begin + kSlice;
    }
    biased = __syncthreads_or(biased);
  }
  const int64_t block0 = (int64_t(r) * p.slices + slice) * kSliceBlocks;
#pragma unroll
  for (int g = 0; g < kGroups; g++) {
    const float m = fmaxf(fmaxf(y[g][0], y[g][1]), fmaxf(y[g][2], y[g][3]));
    raw_high = fmaxf(raw_high, m);
    if (p.K > 0) {
      const float t = group_max(m);
      if (tid % 16 == 0) p.raw_maxima[block0 + (g * kThreads + tid) / 16] = t;
    }
  }
  if (sum_raw) {
    raw_high = block_max(raw_high, s);
#pragma unroll
    for (int g = 0; g < kGroups; g++)
#pragma unroll
      for (int j = 0; j < 4; j++) raw_sum = add_rn(raw_sum, exp_exact(sub_rn(y[g][j], raw_high)));
    raw_sum = block_sum(raw_sum, s);
  }
#pragma unroll
  for (int g = 0; g < kGroups; g++) {
    const int first = begin + (g * kThreads + tid) * 4;
    adjust(p, o, first, biased, y[g]);
    const float m = fmaxf(fmaxf(y[g][0], y[g][1]), fmaxf(y[g][2], y[g][3]));
    high = fmaxf(high, m);
    if (o.filtered) {
      const float t = group_max(m);
      if (tid % 16 == 0) p.maxima[block0 + (g * kThreads + tid) / 16] = t;
    }
  }
  uint64_t best = kNoWord;
  if (!o.filtered) {
    best = draw_slice(o, begin, y, s);
  } else {
    high = block_max(high, s);
    if (sum_z && high > -INFINITY) {
#pragma unroll
      for (int g = 0; g < kGroups; g++)
#pragma unroll
        for (int j = 0; j < 4; j++) sum = add_rn(sum, exp_exact(sub_rn(y[g][j], high)));
      sum = block_sum(sum, s);
    }
  }
  if (tid == 0) p.stats[int64_t(r) * p.slices + slice] = {raw_high, raw_sum, high, sum, best};
}

// How far a nucleus from the slices' sums may be from that of the exact total.
GPU_INLINE uint64_t slack(uint64_t need) { return need / 65536 + 65536; }

// Leaves the words that the filters keep as candidates: min-p, then top-k, then top-p over what is left.
GPU_INLINE void filter(const RowView& v, const float* maxima, const SliceStats* stats, float top) {
  const SampleParams& p = v.p;
  const Row& o = v.o;
  const float least = fmaxf(min_p_floor(o, top), -kMost);
  const uint32_t first = uint32_t(word_of(key_of(top), 0) >> 32);
  const bool top_k = o.top_k < p.V, top_p = o.top_p < 1.0f, whole = top_p && !top_k && !(o.min_p > 0.0f);
  if (!whole) {
    v.build(maxima, top_k ? fmaxf(maxima_floor(v, maxima, top, o.top_k), least) : least, false, true);
    if (top_k) v.narrow(0, select(v, false, uint64_t(o.top_k), first, top).upto);
    if (!top_p) return;
  }
  // Without other filters the total weight is known from the slices, nearly. As long as that settles it, it takes only the best
  // tokens: as many as reach the floor of 128 blocks, or of 768. If it does not, the weights are summed.
  uint64_t about = 0;
  if (whole) {
    float sum = 0.0f;
#pragma unroll 1
    for (int i = int(threadIdx.x); i < p.slices; i += kThreads)
      if (stats[i].z_max > -INFINITY) sum = fmaf(stats[i].z_sum, exp_exact(sub_rn(stats[i].z_max, top)), sum);
    about = nucleus(o.top_p, uint64_t(double(block_sum(sum, v.s)) * 0x1p40));
  }
  for (int want = 128;; want *= 6) {
    const bool exact = !whole || want + want / 2 > v.blocks;
    uint64_t need = about;
    float floor = least;
    if (exact) {
      if (whole) v.build(maxima, least, false, false);
      const uint64_t total = v.weigh(top);
      need = nucleus(o.top_p, total);
      // Tokens of weight below (1 - p) total / V weigh less than (1 - p) total together: none of them is in the nucleus.
      const float rest = (1.0f - o.top_p) * float(total) / (0x1p40f * float(p.V));
      if (rest > 1e-30f) floor = top + log_exact(rest) - 1e-3f - 1e-6f * fabsf(top);
    } else {
      floor = maxima_floor(v, maxima, top, want);
    }
    if (whole) {
      v.build(maxima, fmaxf(floor, least), false, true);
      if (!exact && (!v.s.source.in_list || v.weigh(top) < need + slack(need))) continue;
    }
    const Selected chosen = select(v, true, need, first, top);
    v.narrow(0, chosen.upto);
    if (exact || (chosen.before + slack(need) < need && chosen.after >= need + slack(need))) return;
    want = v.blocks;
  }
}

// The best token by z + noise of what the filters keep.
GPU_INLINE uint64_t draw(const RowView& v) {
  uint64_t best = kNoWord;
  if (v.s.source.in_list) {
    v.each(0, [&](uint64_t word) {
      const uint32_t id = uint32_t(word);
      const uint64_t drawn = word_of(key_of(add_rn(value_of(word_key(word)), gumbel_of(v.o.key, id))), id);
      best = drawn < best ? drawn : best;
    });
  } else {
    float bar = -INFINITY;
    for (int i = int(threadIdx.x) / 16; i < v.s.live; i += kThreads / 16) {
      const int block = live_blocks(v.s, v.blocks)[i], first = block * kBlockTokens + int(threadIdx.x & 15) * 4;
      float y[4];
      v.values(false, block, first, y);
#pragma unroll
      for (int j = 0; j < 4; j++)
        if (word_of(key_of(y[j]), uint32_t(first + j)) > v.s.source.upto) y[j] = -INFINITY;
      draw4(v.o.key, uint32_t(first), y, bar, best);
    }
  }
  return block_min(best, v.s);
}

// The best K raw tokens in order, kThreads at a time.
GPU_INLINE void best_raw(const RowView& v, const float* maxima, float top, float lse, int r) {
  const SampleParams& p = v.p;
  Arena& s = v.s;
  uint64_t* const sorted = reinterpret_cast<uint64_t*>(s.bins);  // kThreads words
  v.build(maxima, maxima_floor(v, maxima, top, p.K), true, true);
  const uint64_t all = s.source.upto;
  for (int done = 0; done < p.K; done += kThreads) {
    const int n = min(kThreads, p.K - done);
    const uint64_t upto = select(v, false, uint64_t(n), uint32_t(word_of(key_of(top), 0) >> 32), top).upto;
    v.narrow(s.source.from, upto);
    if (threadIdx.x == 0) s.pick = 0;
    __syncthreads();
    for (int k = 0; k < v.chunks(); k++) v.each(k, [&](uint64_t word) { sorted[atomicAdd(&s.pick, 1)] = word; });
    __syncthreads();
    const int i = int(threadIdx.x);
    const uint64_t word = i < n ? sorted[i] : 0;
    int rank = 0;
    for (int k = 0; k < n; k++) rank += sorted[k] < word;
    if (i < n) {
      if (p.top_ids) p.top_ids[int64_t(r) * p.K + done + rank] = int32_t(uint32_t(word));
      if (p.top_logprobs) p.top_logprobs[int64_t(r) * p.K + done + rank] = sub_rn(value_of(word_key(word)), lse);
    }
    v.narrow(upto + 1, all);
  }
}

GPU_INLINE void finish_row(const SampleParams& p, int r, Arena& s) {
  const Row& o = s.row;
  const int tid = int(threadIdx.x), blocks = (p.V + kBlockTokens - 1) / kBlockTokens;
  const SliceStats* stats = p.stats + int64_t(r) * p.slices;
  const int64_t block0 = int64_t(r) * p.slices * kSliceBlocks;
  const RowView v = {p, o, s, r, blocks};
  float top = -INFINITY, raw_top = -kMost;
  uint64_t best = kNoWord;
#pragma unroll 1
  for (int i = tid; i < p.slices; i += kThreads) {
    const SliceStats t = stats[i];
    top = fmaxf(top, t.z_max);
    raw_top = fmaxf(raw_top, t.raw_max);
    best = t.best < best ? t.best : best;
  }
  if (!o.filtered) {
    best = block_min(best, s);
  } else {
    if (o.bias_begin < o.bias_end) {
      for (int i = tid; i < (blocks + 31) / 32; i += kThreads) bias_bits(s)[i] = 0;
      __syncthreads();
      for (int k = o.bias_begin + tid; k < o.bias_end; k += kThreads) {
        const int id = p.bias_ids[k], block = id / kBlockTokens;
        if (id >= 0 && id < p.V) atomicOr(&bias_bits(s)[block >> 5], 1u << (block & 31));
      }
    }
    top = block_max(top, s);
    if (top > -INFINITY) {
      filter(v, p.maxima + block0, stats, top);
      best = draw(v);
    }
  }
  const int id = best == kNoWord ? -1 : int(uint32_t(best));  // -1: nothing is allowed, or all is NaN
  if (tid == 0) p.ids[r] = id;
  if (!p.logprobs && p.K == 0) return;
  raw_top = block_max(raw_top, s);
  float lse = 0.0f;
  if (p.logprobs || p.top_logprobs) {
    float sum = 0.0f;
#pragma unroll 1
    for (int i = tid; i < p.slices; i += kThreads)
      sum = fmaf(stats[i].raw_sum, exp_exact(sub_rn(stats[i].raw_max, raw_top)), sum);
    sum = block_sum(sum, s);
    lse = sum > 0.0f ? add_rn(raw_top, log_exact(sum)) : -INFINITY;
  }
  if (tid == 0 && p.logprobs) p.logprobs[r] = id < 0 ? -INFINITY : sub_rn(clean(p.logits[r * p.stride + id]), lse);
  if (p.K > 0) best_raw(v, p.raw_maxima + block0, raw_top, lse, r);
}

__global__ void __launch_bounds__(kThreads, 3) sample_kernel(SampleParams p) {
  GPU_SHARED(memory);
  Arena& s = *reinterpret_cast<Arena*>(memory);
  dependency_wait();
  const int r = int(blockIdx.x / unsigned(p.slices)), slice = int(blockIdx.x % unsigned(p.slices));
  do_slice(p, r, slice, s);
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) s.last = atomicAdd(p.tickets + r, 1u) == unsigned(p.slices) - 1;
  __syncthreads();
  if (!s.last) return;
  __threadfence();
  if (threadIdx.x == 0) p.tickets[r] = 0;
  finish_row(p, r, s);
}

}  // namespace

void sample(const Call& call, Context& context) {
  const auto a = sample_args(call);
  if (a.R == 0) return;
  const int slices = int(div_up(a.V, kSlice)), blocks = int(div_up(a.V, kBlockTokens));
  if (blocks > kMaxBlocks)
    throw Error("EYRIE_UNSUPPORTED", "sample: V=" + std::to_string(a.V) + " on CUDA, expected at most " +
                                         std::to_string(kMaxBlocks * kBlockTokens));
  const auto data = [](const Tensor* t) { return t ? t->data : nullptr; };
  SampleParams p = {};
  p.logits = static_cast<const float*>(a.logits->data);
  p.stride = a.logits->stride[0];
  p.columns = static_cast<const float*>(a.columns->data);
  p.keys = static_cast<const uint32_t*>(a.keys->data);
  p.counts = static_cast<const uint16_t*>(data(a.counts));
  p.counts_row = static_cast<const int32_t*>(data(a.counts_row));
  p.bias_start = static_cast<const int32_t*>(data(a.bias_start));
  p.bias_ids = static_cast<const int32_t*>(data(a.bias_ids));
  p.bias_values = static_cast<const float*>(data(a.bias_values));
  p.mask = static_cast<const uint32_t*>(data(a.mask));
  p.ids = static_cast<int32_t*>(a.ids->data);
  p.logprobs = static_cast<float*>(data(a.logprobs));
  p.top_ids = static_cast<int32_t*>(data(a.top_ids));
  p.top_logprobs = static_cast<float*>(data(a.top_logprobs));
  p.V = int(a.V);
  p.U = int(a.U);
  p.L = a.bias_ids && a.bias_values ? int(a.L) : 0;
  p.W = int(a.W);
  p.K = a.top_ids || a.top_logprobs ? int(a.K) : 0;
  p.slices = slices;
  p.fault = fault_at(context);
  const size_t all = size_t(a.R) * size_t(slices), maxima = all * kSliceBlocks * sizeof(float);
  char* scratch = static_cast<char*>(context.workspace(all * sizeof(SliceStats) + maxima * (p.K > 0 ? 2 : 1)));
  p.stats = reinterpret_cast<SliceStats*>(scratch);
  p.maxima = reinterpret_cast<float*>(scratch + all * sizeof(SliceStats));
  p.raw_maxima = p.maxima + (p.K > 0 ? all * kSliceBlocks : 0);
  p.tickets = context.tickets(size_t(a.R));
  launch(context, sample_kernel, dim3(unsigned(all)), dim3(kThreads), arena_bytes(blocks), p);
}

}  // namespace eyrie::cuda
