// What the threads of a block of `sample` do together: reductions and scans with a fixed order, and the shared memory.
#pragma once
#include "cuda/sample_row.cuh"

namespace eyrie::cuda {

constexpr int kWarps = kThreads / 32;
constexpr int kList = 2048;  // candidates that fit into shared memory
constexpr int kBins = 1024;

// Where the candidates of a row are.
struct Source {
  uint64_t from, upto;  // words outside are no candidates
  bool raw, in_list;  // raw: the logits themselves, else z. in_list: in shared memory, else read again
};

struct Arena {
  uint64_t list[kList];
  uint64_t warp_words[kWarps];
  uint64_t pick_before, pick_value;
  Row row;  // these two are here because registers are dear
  Source source;
  uint32_t bins[kBins];
  float warp_floats[kWarps];
  int pick, live, listed, last;  // live: blocks of 64 tokens; listed: words in list, if they fit
  // Behind it: a bit for each block of 64 tokens that a bias hits, then the numbers of the blocks that are live.
};

inline size_t arena_bytes(int blocks) { return sizeof(Arena) + size_t((blocks + 31) / 32) * 4 + size_t(blocks) * 2; }
GPU_INLINE uint32_t* bias_bits(Arena& s) { return reinterpret_cast<uint32_t*>(&s + 1); }
GPU_INLINE uint16_t* live_blocks(Arena& s, int blocks) {
  return reinterpret_cast<uint16_t*>(bias_bits(s) + (blocks + 31) / 32);
}

template <class T, class F>
GPU_INLINE T block_reduce(T v, T* slots, F op) {
#pragma unroll
  for (int o = 16; o; o >>= 1) v = op(v, __shfl_xor_sync(0xffffffffu, v, o));
  __syncthreads();
  if ((threadIdx.x & 31) == 0) slots[threadIdx.x >> 5] = v;
  __syncthreads();
  T r = slots[0];
#pragma unroll
  for (int i = 1; i < kWarps; i++) r = op(r, slots[i]);
  return r;
}
GPU_INLINE float block_max(float v, Arena& s) {
  return block_reduce(v, s.warp_floats, [](float a, float b) { return fmaxf(a, b); });
}
GPU_INLINE float block_sum(float v, Arena& s) {
  return block_reduce(v, s.warp_floats, [](float a, float b) { return add_rn(a, b); });
}
GPU_INLINE uint64_t block_min(uint64_t v, Arena& s) {
  return block_reduce(v, s.warp_words, [](uint64_t a, uint64_t b) { return a < b ? a : b; });
}
GPU_INLINE uint64_t block_sum(uint64_t v, Arena& s) {
  return block_reduce(v, s.warp_words, [](uint64_t a, uint64_t b) { return a + b; });
}

// The sum over the threads up to this one, and over all.
GPU_INLINE uint64_t block_scan(uint64_t v, Arena& s, uint64_t* total) {
  const int lane = int(threadIdx.x) & 31, warp = int(threadIdx.x) >> 5;
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const uint64_t left = __shfl_up_sync(0xffffffffu, v, unsigned(o));
    if (lane >= o) v += left;
  }
  __syncthreads();
  if (lane == 31) s.warp_words[warp] = v;
  __syncthreads();
  uint64_t sum = 0;
#pragma unroll
  for (int i = 0; i < kWarps; i++) {
    if (i == warp) v += sum;
    sum += s.warp_words[i];
  }
  *total = sum;
  return v;
}

}  // namespace eyrie::cuda
