// Weights as operands of the tensor cores: what one lane loads of a unit (64 inputs of a panel) and how it becomes A fragments.
// Products with quantised weights run block by block (32 inputs): the integers are exact in bf16, their fp32 dot product is
// folded with the block's scale: acc = fma(d, dot, acc), and with a min, acc = fma(m, sum of x, acc).
#pragma once
#include "cuda/bytes.cuh"
#include "cuda/tiles.cuh"

namespace eyrie::cuda {

constexpr int kUnit = 64;  // inputs of a unit: two blocks
constexpr int kRanges = 16;  // K is cut into this many ranges, each summed from zero; results are added in their order

// Blocks of 32 inputs in a range: a multiple of two, so that ranges consist of units.
GPU_INLINE int range_blocks(int blocks) { return 2 * ((blocks + 2 * kRanges - 1) / (2 * kRanges)); }
inline int range_blocks_host(int blocks) { return 2 * ((blocks + 2 * kRanges - 1) / (2 * kRanges)); }

GPU_INLINE float (&acc_of(float (*acc)[4], int c))[4] { return acc[c]; }

struct WeightsBf16 {
  static constexpr DType kType = DType::bf16;
  static constexpr int kWords = 4;  // 16-byte loads of a unit
  struct Raw {
    uint4 v[4];
  };
  // From a panel in global memory; blocks past the end are zero.
  GPU_INLINE static void load(Raw& raw, const WeightView& w, const unsigned char* panel, int b, int lane) {
    const unsigned char* p = panel + int64_t(b) * 1024 + lane * 16;
    const bool second = b + 1 < w.blocks;
    raw.v[0] = load_stream(p);
    raw.v[1] = load_stream(p + 512);
    raw.v[2] = second ? load_stream(p + 1024) : uint4{0, 0, 0, 0};
    raw.v[3] = second ? load_stream(p + 1536) : uint4{0, 0, 0, 0};
  }
  // The same from a unit's copy in shared memory.
  static constexpr int kUnitBytes = 2048, kScaleBytes = 0;
  GPU_INLINE static void load_shared(Raw& raw, const unsigned char* unit, const unsigned char*, bool, int lane) {
#pragma unroll
    for (int s = 0; s < 4; s++) raw.v[s] = *reinterpret_cast<const uint4*>(unit + s * 512 + lane * 16);
  }
  // Half h of block J as an A fragment.
  template <int J>
  GPU_INLINE static void fragment(const Raw& raw, int h, uint32_t (&a)[4]) {
    const uint4& v = raw.v[2 * J + h];
    a[0] = v.x;
    a[1] = v.y;
    a[2] = v.z;
    a[3] = v.w;
  }
  // acc += block · b for columns of eight rows; a and b: both halves.
  template <int J, int C>
  GPU_INLINE static void accumulate(float (*acc)[4], const Raw&, const uint32_t (&a)[2][4], const uint32_t (*b)[2][2]) {
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
      for (int c = 0; c < C; c++) mma_bf16(acc_of(acc, c), a[h], b[c][h]);
  }
};

// Nibbles of register r: 128 + q, then minus 128 or 136.
GPU_INLINE uint32_t q4_register(uint32_t word, int r, uint32_t minus) {
  return fma_bf16x2((word >> (4 * r) & 0x000f000fu) | opaque(0x43004300u), 0x3f803f80u, minus);
}

template <int C>
GPU_INLINE void fold_scale(float (*acc)[4], const float (&dot)[C][4], uint32_t d) {
  const float d0 = low_f16(d), d1 = high_f16(d);
#pragma unroll
  for (int c = 0; c < C; c++) {
    acc[c][0] = fmaf(d0, dot[c][0], acc[c][0]);
    acc[c][1] = fmaf(d0, dot[c][1], acc[c][1]);
    acc[c][2] = fmaf(d1, dot[c][2], acc[c][2]);
    acc[c][3] = fmaf(d1, dot[c][3], acc[c][3]);
  }
}

// A word of q8_0 is registers r and r + 1 of one half.
struct WeightsQ8 {
  static constexpr DType kType = DType::q8_0;
  static constexpr int kWords = 2;
  struct Raw {
    uint4 v[2];
    uint32_t d[2];
  };
  GPU_INLINE static void load(Raw& raw, const WeightView& w, const unsigned char* panel, int b, int lane) {
    const unsigned char* p = panel + int64_t(b) * 512 + lane * 16;
    const unsigned char* d = panel + w.scales + int64_t(b) * 32 + (lane >> 2) * 4;
    const bool second = b + 1 < w.blocks;
    raw.v[0] = load_stream(p);
    raw.v[1] = second ? load_stream(p + 512) : uint4{0, 0, 0, 0};
    raw.d[0] = load_word(d);
    raw.d[1] = second ? load_word(d + 32) : 0;
  }
  static constexpr int kUnitBytes = 1024, kScaleBytes = 64;
  GPU_INLINE static void load_shared(Raw& raw, const unsigned char* unit, const unsigned char* scales, bool, int lane) {
#pragma unroll
    for (int j = 0; j < 2; j++) {
      raw.v[j] = *reinterpret_cast<const uint4*>(unit + j * 512 + lane * 16);
      raw.d[j] = reinterpret_cast<const uint32_t*>(scales)[j * 8 + (lane >> 2)];
    }
  }
  template <int J>
  GPU_INLINE static void fragment(const Raw& raw, int h, uint32_t (&a)[4]) {
    widen_i8(h ? raw.v[J].z : raw.v[J].x, a[0], a[1]);
    widen_i8(h ? raw.v[J].w : raw.v[J].y, a[2], a[3]);
  }
  template <int J, int C>
  GPU_INLINE static void accumulate(float (*acc)[4], const Raw& raw, const uint32_t (&a)[2][4],
                                    const uint32_t (*b)[2][2]) {
    float dot[C][4] = {};
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
      for (int c = 0; c < C; c++) mma_bf16(dot[c], a[h], b[c][h]);
    fold_scale<C>(acc, dot, raw.d[J]);
  }
};

// i8, f8_e4m3: words as in q8_0; the scale of an output is multiplied into the finished sum (product.cuh).
template <DType type>
struct WeightsBytes {
  static constexpr DType kType = type;
  static constexpr int kWords = 2;
  struct Raw {
    uint4 v[2];
  };
  GPU_INLINE static void load(Raw& raw, const WeightView& w, const unsigned char* panel, int b, int lane) {
    const unsigned char* p = panel + int64_t(b) * 512 + lane * 16;
    raw.v[0] = load_stream(p);
    raw.v[1] = b + 1 < w.blocks ? load_stream(p + 512) : uint4{0, 0, 0, 0};
  }
  static constexpr int kUnitBytes = 1024, kScaleBytes = 0;
  GPU_INLINE static void load_shared(Raw& raw, const unsigned char* unit, const unsigned char*, bool, int lane) {
#pragma unroll
    for (int j = 0; j < 2; j++) raw.v[j] = *reinterpret_cast<const uint4*>(unit + j * 512 + lane * 16);
  }
  GPU_INLINE static void widen(uint32_t word, uint32_t& even, uint32_t& odd) {
    if constexpr (type == DType::i8) widen_i8(word, even, odd);
    else widen_e4m3(word, even, odd);
  }
  template <int J>
  GPU_INLINE static void fragment(const Raw& raw, int h, uint32_t (&a)[4]) {
    widen(h ? raw.v[J].z : raw.v[J].x, a[0], a[1]);
    widen(h ? raw.v[J].w : raw.v[J].y, a[2], a[3]);
  }
  template <int J, int C>
  GPU_INLINE static void accumulate(float (*acc)[4], const Raw&, const uint32_t (&a)[2][4], const uint32_t (*b)[2][2]) {
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
      for (int c = 0; c < C; c++) mma_bf16(acc_of(acc, c), a[h], b[c][h]);
  }
};

template <DType type>
struct WeightsQ4 {
  static constexpr DType kType = type;
  static constexpr bool kMin = type == DType::q4_1,
                        kGroups = type == DType::i4_g128;  // kGroups: both blocks have one scale
  static constexpr int kWords = 1;
  struct Raw {
    uint4 v;  // block, half
    uint32_t d[2], m[2];
  };
  GPU_INLINE static void load(Raw& raw, const WeightView& w, const unsigned char* panel, int b, int lane) {
    const unsigned char* d = panel + w.scales + int64_t(kGroups ? b / kGroupBlocks : b) * 32 + (lane >> 2) * 4;
    const bool second = b + 1 < w.blocks;
    if (second) {
      raw.v = load_stream(panel + int64_t(b >> 1) * 512 + lane * 16);
    } else {
      const unsigned char* p = panel + q4_offset(b, w.blocks, lane);
      raw.v = uint4{load_word(p), load_word(p + 4), 0, 0};
    }
    raw.d[0] = load_word(d);
    raw.d[1] = kGroups ? raw.d[0] : second ? load_word(d + 32) : 0;
    if (kMin) {
      const unsigned char* m = panel + w.mins + int64_t(b) * 32 + (lane >> 2) * 4;
      raw.m[0] = load_word(m);
      raw.m[1] = second ? load_word(m + 32) : 0;
    }
  }
  static constexpr int kUnitBytes = 512, kScaleBytes = kMin ? 128 : kGroups ? 32 : 64;
  // alone: the unit has one block only.
  GPU_INLINE static void load_shared(Raw& raw, const unsigned char* unit, const unsigned char* scales, bool alone,
                                     int lane) {
    raw.v = *reinterpret_cast<const uint4*>(unit + (alone ? lane / 2 : lane) * 16);
    if (alone) raw.v = lane & 1 ? uint4{raw.v.z, raw.v.w, 0, 0} : uint4{raw.v.x, raw.v.y, 0, 0};
#pragma unroll
    for (int j = 0; j < 2; j++) {
      raw.d[j] = reinterpret_cast<const uint32_t*>(scales)[(kGroups ? 0 : j * 8) + (lane >> 2)];
      if (kMin) raw.m[j] = reinterpret_cast<const uint32_t*>(scales + 64)[j * 8 + (lane >> 2)];
    }
  }
  template <int J>
  GPU_INLINE static void fragment(const Raw& raw, int h, uint32_t (&a)[4]) {
    constexpr uint32_t minus = kMin ? 0xc300c300u : 0xc308c308u;  // -128, -136
    const uint32_t word = J ? (h ? raw.v.w : raw.v.z) : (h ? raw.v.y : raw.v.x);
#pragma unroll
    for (int r = 0; r < 4; r++) a[r] = q4_register(word, r, minus);
  }
  template <int J, int C>
  GPU_INLINE static void accumulate(float (*acc)[4], const Raw& raw, const uint32_t (&a)[2][4],
                                    const uint32_t (*b)[2][2]) {
    float dot[C][4] = {};
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
      for (int c = 0; c < C; c++) mma_bf16(dot[c], a[h], b[c][h]);
    fold_scale<C>(acc, dot, raw.d[J]);
    if (!kMin) return;
    const uint32_t ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    float sum[C][4] = {};
#pragma unroll
    for (int h = 0; h < 2; h++)
#pragma unroll
      for (int c = 0; c < C; c++) mma_bf16(sum[c], ones, b[c][h]);
    fold_scale<C>(acc, sum, raw.m[J]);
  }
};

}  // namespace eyrie::cuda
