// Exact selection of the largest values of a row by the block that finishes it. Values and tokens are words (sample_noise.cuh):
// ascending words are descending values, then ascending ids. Candidates lie in shared memory if they fit; else they are read
// again, block of 64 by block of 64, as far as the maxima of the blocks reach the floor. No result depends on which.
#pragma once
#include "cuda/sample_block.cuh"

namespace eyrie::cuda {

constexpr int kChunkBlocks = 2 * kThreads / 16;  // blocks of 64 between two flushes of the bins: 2048 tokens

struct RowView {
  const SampleParams& p;
  const Row& o;
  Arena& s;
  int r, blocks;  // of 64 tokens

  // The values of 4 tokens.
  GPU_INLINE void values(bool raw, int block, int first, float (&y)[4]) const {
    load_raw(p, r, first, y);
    if (!raw) adjust(p, o, first, o.bias_begin < o.bias_end && (bias_bits(s)[block >> 5] >> (block & 31) & 1), y);
  }
  GPU_INLINE int chunks() const { return s.source.in_list ? 1 : (s.live + kChunkBlocks - 1) / kChunkBlocks; }
  // f(word) for this thread's candidates of a chunk.
  template <class F>
  GPU_INLINE void each(int chunk, F f) const {
    const Source& c = s.source;
    if (c.in_list) {
#pragma unroll 1
      for (int i = int(threadIdx.x); i < s.listed; i += kThreads) {
        const uint64_t word = s.list[i];
        if (word >= c.from && word <= c.upto) f(word);
      }
      return;
    }
    const int end = min(s.live, (chunk + 1) * kChunkBlocks);
#pragma unroll 1
    for (int i = chunk * kChunkBlocks + int(threadIdx.x) / 16; i < end; i += kThreads / 16) {
      const int block = live_blocks(s, blocks)[i], first = block * kBlockTokens + int(threadIdx.x & 15) * 4;
      float y[4];
      values(c.raw, block, first, y);
#pragma unroll
      for (int j = 0; j < 4; j++) {
        const uint64_t word = word_of(key_of(y[j]), uint32_t(first + j));
        if (first + j < p.V && word >= c.from && word <= c.upto) f(word);
      }
    }
  }

  // Leaves the words from..upto as candidates.
  GPU_INLINE void narrow(uint64_t from, uint64_t upto) const {
    __syncthreads();
    if (threadIdx.x == 0) {
      s.source.from = from;
      s.source.upto = upto;
    }
    __syncthreads();
  }

  // The candidates that reach `floor`; list: into shared memory if they fit.
  GPU_INLINE void build(const float* maxima, float floor, bool raw, bool list) const {
    __syncthreads();
    if (threadIdx.x == 0) {
      s.live = s.listed = 0;
      s.source = {0, word_of(key_of(floor), ~0u), raw, false};
    }
    __syncthreads();
#pragma unroll 2
    for (int b = int(threadIdx.x); b < blocks; b += kThreads)
      if (maxima[b] >= floor) live_blocks(s, blocks)[atomicAdd(&s.live, 1)] = uint16_t(b);
    __syncthreads();
    if (!list) return;
    for (int k = 0; k < chunks(); k++)
      each(k, [&](uint64_t word) {
        const int at = atomicAdd(&s.listed, 1);
        if (at < kList) s.list[at] = word;
      });
    __syncthreads();
    if (threadIdx.x == 0) s.source.in_list = s.listed <= kList;
    __syncthreads();
  }

  // The sum of the candidates' weights.
  GPU_INLINE uint64_t weigh(float top) const {
    uint64_t sum = 0;
#pragma unroll 1
    for (int k = 0; k < chunks(); k++) each(k, [&](uint64_t word) { sum += weight_of(value_of(word_key(word)), top); });
    return block_sum(sum, s);
  }
};

// A bin for the distance of a key from the top one: 32 bins for each power of two.
GPU_INLINE int distance_bin(uint32_t d) {
  const int e = 31 - __clz(int(d | 1));
  return e < 5 ? int(d) : (e - 4) * 32 + int(d >> (e - 5) & 31);
}
GPU_INLINE uint32_t bin_end(int bin) {  // the largest distance in it
  if (bin < 32) return uint32_t(bin);
  return uint32_t((uint64_t(32 + bin % 32 + 1) << (bin / 32 - 1)) - 1);
}

// A value that at least `want` of the block maxima, hence as many tokens, reach; not much below the best such value.
GPU_INLINE float maxima_floor(const RowView& v, const float* maxima, float top, int want) {
  if (want > v.blocks) return -INFINITY;
  Arena& s = v.s;
  const uint32_t top_key = key_of(top), least = key_of(-INFINITY);
  __syncthreads();
  for (int i = int(threadIdx.x); i < kBins; i += kThreads) s.bins[i] = 0;
  __syncthreads();
#pragma unroll 2
  for (int b = int(threadIdx.x); b < v.blocks; b += kThreads)
    atomicAdd(&s.bins[distance_bin(top_key - key_of(maxima[b]))], 1u);
  __syncthreads();
  uint32_t mine = 0;
#pragma unroll
  for (int i = 0; i < kBins / kThreads; i++) mine += s.bins[int(threadIdx.x) * (kBins / kThreads) + i];
  uint64_t total;
  const uint64_t upto = block_scan(mine, s, &total);
  uint32_t before = uint32_t(upto) - mine;
  if (before < uint32_t(want) && uint32_t(want) <= uint32_t(upto)) {
    int bin = int(threadIdx.x) * (kBins / kThreads);
    for (; before + s.bins[bin] < uint32_t(want); bin++) before += s.bins[bin];
    s.pick = bin;
  }
  __syncthreads();
  const uint32_t d = bin_end(s.pick);
  return d >= top_key - least ? -INFINITY : value_of(top_key - d);
}

GPU_INLINE uint64_t min_word(uint64_t a, uint64_t b) { return a < b ? a : b; }

struct Selected {
  uint64_t upto;  // the words up to it are the selection
  uint64_t before, after;  // mass: the weight without its last word, and with it
};

// The first `need` candidates in the order of the words, or (mass) as many as it takes for their weight to reach `need`.
// All of them if that is too few. first: the high half of the smallest word. A radix select, 8 bits a pass.
GPU_INLINE Selected select(const RowView& v, bool mass, uint64_t need, uint32_t first, float top) {
  Arena& s = v.s;
  const uint32_t last = uint32_t(s.source.upto >> 32);
  int bits = max(1, 32 - __clz(int(first ^ last)));
  uint32_t prefix = bits == 32 ? 0 : first >> bits << bits, value = 0;
  uint64_t before = 0, after = 0;
  for (int ids = 0; ids < 2; ids++) {  // the values, then, among equal ones, the ids
    uint64_t bucket = 0;
    while (bits > 0) {
      const int d = min(8, bits);
      bits -= d;
      __syncthreads();
      s.bins[threadIdx.x] = s.bins[kThreads + threadIdx.x] = 0;
      __syncthreads();
      uint64_t bin = 0;  // of this thread
#pragma unroll 1
      for (int k = 0; k < v.chunks(); k++) {
        v.each(k, [&](uint64_t word) {
          const uint32_t high = uint32_t(word >> 32), part = ids ? uint32_t(word) : high;
          if ((ids && high != value) || (part ^ prefix) >> bits >> d) return;
          const uint32_t digit = part >> bits & ((1u << d) - 1);
          if (!mass || ids) {
            atomicAdd(&s.bins[digit], 1u);
            return;
          }
          const uint64_t w = weight_of(value_of(~high), top);  // in halves: 2048 of them fit
          atomicAdd(&s.bins[digit], uint32_t(w) & 0xfffffu);
          atomicAdd(&s.bins[kThreads + digit], uint32_t(w >> 20));
        });
        __syncthreads();
        bin += s.bins[threadIdx.x] + (uint64_t(s.bins[kThreads + threadIdx.x]) << 20);
        s.bins[threadIdx.x] = s.bins[kThreads + threadIdx.x] = 0;
        __syncthreads();
      }
      uint64_t total;
      const uint64_t upto = block_scan(bin, s, &total);
      if (total < need || (total == need && (!mass || ids))) {
        const uint32_t edge = prefix | uint32_t((uint64_t(1) << (bits + d)) - 1);
        const uint64_t word = ids ? uint64_t(value) << 32 | edge : uint64_t(edge) << 32 | 0xffffffffu;
        return {min_word(word, s.source.upto), before, ids ? after : before + total};
      }
      if (upto - bin < need && need <= upto) {
        s.pick = int(threadIdx.x);
        s.pick_before = upto - bin;
        s.pick_value = bin;
      }
      __syncthreads();
      prefix |= uint32_t(s.pick) << bits;
      need -= s.pick_before;
      if (!ids) before += s.pick_before;
      bucket = s.pick_value;
    }
    if (ids) break;
    value = prefix;
    if (mass) {  // of equal values, so many
      const uint64_t w = weight_of(value_of(~value), top), n = (need + w - 1) / w;
      after = before + n * w;
      before = after - w;
      bucket /= w;
      need = n;
    }
    if (need >= bucket) return {min_word(uint64_t(value) << 32 | 0xffffffffu, s.source.upto), before, after};
    bits = 32 - __clz(v.p.V);
    prefix = 0;
  }
  return {uint64_t(value) << 32 | prefix, before, after};
}

}  // namespace eyrie::cuda
