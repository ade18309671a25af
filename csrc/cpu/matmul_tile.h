// The register tile: R rows x P panels of 16 outputs. The arithmetic, the same for every tile shape and level with FMA: for each block
// of 32 inputs, ascending,
//
//   e = x0 w0 + x2 w2 + … + x30 w30    a chain of fused multiply-adds from 0
//   o = x1 w1 + x3 w3 + … + x31 w31    likewise
//   acc = fma(d, e + o, acc)           acc + (e + o) for float weights
//   acc = fma(m, sum x, acc)           formats with a minimum; q4_0 is d q + m with m = -8 d
//
// Groups of four blocks (i4_g128): g = fma(-8, sum x, g + (e + o)) from 0, then acc = fma(d, g, acc). What a list of blocks begins with begins a
// group. A scale for each output (i8, f8_e4m3) is multiplied into the finished sum.
//
// which is what an AMX bf16 dot product computes, so one definition serves every matrix unit.
#pragma once
#include "cpu/matmul_rows.h"
#include "cpu/matmul_weights.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// The panels a tile reads, from its first block on.
struct Source {
  const uint8_t* values[2];
  const uint16_t* scales[2];
  const uint16_t* mins[2];
};

// Adds `blocks` blocks to acc [P][R][16]. x: a group's values; sums: its block sums.
using Tile = void (*)(const Source&, int64_t blocks, const float* x, const float* sums, float* acc);

#if EYRIE_LEVEL_AVX2 || EYRIE_LEVEL_AVX512

constexpr int kAhead = 2048;  // bytes between the weights in use and those fetched, one row

// Tiles: one row takes two panels, so that its chains hide the latency of the adder. More rows take one (AVX2: 4 x 2 ymm
// chains fill the pipeline with registers to spare; larger tiles spill) or two (AVX-512: a broadcast serves two zmm).
#if EYRIE_LEVEL_AVX512
constexpr bool kPairs = true;
constexpr int kTogether = 8;  // rows x panels up to which e and o run together; one after the other above
#else
constexpr bool kPairs = false;
constexpr int kTogether = 3;
#endif

// acc += a b in place. Left to itself GCC rotates the accumulators of a full tile through other registers; where few registers
// are free beside them (masks of nibbles), that freedom is needed.
EYRIE_INLINE void fma_in_place(V16& acc, V16 a, V16 b) {
#if EYRIE_LEVEL_AVX2
  asm("vfmadd231ps %2, %1, %0" : "+x"(acc.lo) : "x"(a.lo), "x"(b.lo));
  asm("vfmadd231ps %2, %1, %0" : "+x"(acc.hi) : "x"(a.hi), "x"(b.lo));
#else
  acc = v_fma(a, b, acc);
#endif
}

template <class W, int R, int P, int i>
EYRIE_INLINE void step(const uint8_t* const (&w)[P], const float* x, V16 (&chain)[P][R]) {
  V16 v[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) v[p] = W::template get<i>(w[p]);
#pragma GCC unroll 16
  for (int r = 0; r < R; r++) {
    const V16 b = v_set1(x[r * kBlock]);
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      if (R == 1 || (R == 3 && W::kSlice == 64)) chain[p][r] = v_fma(v[p], b, chain[p][r]);
      else fma_in_place(chain[p][r], v[p], b);
    }
  }
}

// dot[p][r] = e + o of one block; x: [R][16 even, 16 odd]
template <class W, int R, int P>
EYRIE_INLINE void block_dot(const uint8_t* const (&block)[P], const float* x, V16 (&dot)[P][R]) {
  V16 e[P][R], o[P][R];
  const uint8_t* w[P];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) e[p][r] = o[p][r] = v_zero();
  if (R * P <= kTogether) {
#pragma GCC unroll 4
    for (int s = 0; s < 4; s++) {
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) w[p] = block[p] + s * W::kSlice;
      const float* xs = x + 4 * s;
      step<W, R, P, 0>(w, xs, e);
      step<W, R, P, 1>(w, xs + 16, o);
      step<W, R, P, 2>(w, xs + 1, e);
      step<W, R, P, 3>(w, xs + 17, o);
      step<W, R, P, 4>(w, xs + 2, e);
      step<W, R, P, 5>(w, xs + 18, o);
      step<W, R, P, 6>(w, xs + 3, e);
      step<W, R, P, 7>(w, xs + 19, o);
    }
  } else {
    for (int s = 0; s < 4; s++) {
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) w[p] = block[p] + s * W::kSlice;
      const float* xs = x + 4 * s;
      step<W, R, P, 0>(w, xs, e);
      step<W, R, P, 2>(w, xs + 1, e);
      step<W, R, P, 4>(w, xs + 2, e);
      step<W, R, P, 6>(w, xs + 3, e);
    }
    for (int s = 0; s < 4; s++) {
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) w[p] = block[p] + s * W::kSlice;
      const float* xs = x + 16 + 4 * s;
      step<W, R, P, 1>(w, xs, o);
      step<W, R, P, 3>(w, xs + 1, o);
      step<W, R, P, 5>(w, xs + 2, o);
      step<W, R, P, 7>(w, xs + 3, o);
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) dot[p][r] = v_add(e[p][r], o[p][r]);
}

template <class W, int R, int P>
static void tile(const Source& s, int64_t blocks, const float* x, const float* sums, float* acc) {
  V16 a[P][R];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) a[p][r] = v_load(acc + (p * R + r) * kPanel);
  [[maybe_unused]] V16 g[P][R];
  for (int64_t b = 0; b < blocks; b++) {
    const uint8_t* block[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      block[p] = s.values[p] + b * 4 * W::kSlice;
#pragma GCC unroll 32  // panels follow each other: past the end there is the next one
      for (int i = 0; R == 1 && i < 4 * W::kSlice; i += 64) __builtin_prefetch(block[p] + kAhead + i);
    }
    V16 dot[P][R];
    block_dot<W, R, P>(block, x + b * R * kBlock, dot);
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      if constexpr (W::kFold == Fold::none) {
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) a[p][r] = v_add(a[p][r], dot[p][r]);
      } else if constexpr (W::kFold == Fold::group8) {
        const bool first = b % kGroupBlocks == 0, last = (b + 1) % kGroupBlocks == 0 || b + 1 == blocks;
        const V16 d = v_load_f16(s.scales[p] + b / kGroupBlocks * kPanel);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
          const V16 sum = first ? dot[p][r] : v_add(g[p][r], dot[p][r]);
          g[p][r] = v_fma(v_set1(-8.0f), v_set1(sums[b * R + r]), sum);
          if (last) a[p][r] = v_fma(d, g[p][r], a[p][r]);
        }
      } else {
        const V16 d = v_load_f16(s.scales[p] + b * kPanel);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) a[p][r] = v_fma(d, dot[p][r], a[p][r]);
        if constexpr (W::kFold != Fold::scale) {
          const V16 m = W::kFold == Fold::scale_min ? v_load_f16(s.mins[p] + b * kPanel) : v_mul(d, v_set1(-8.0f));
#pragma GCC unroll 16
          for (int r = 0; r < R; r++) a[p][r] = v_fma(m, v_set1(sums[b * R + r]), a[p][r]);
        }
      }
    }
  }
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) v_store(acc + (p * R + r) * kPanel, a[p][r]);
}

template <class W>
static Tile tile_of(int R, int P) {
#if EYRIE_LEVEL_AVX512
  constexpr Tile one[] = {tile<W, 1, 1>, tile<W, 2, 1>, tile<W, 3, 1>, tile<W, 4, 1>};
  constexpr Tile two[] = {tile<W, 1, 2>, tile<W, 2, 2>, tile<W, 3, 2>, tile<W, 4, 2>};
#else
  constexpr Tile one[] = {tile<W, 1, 1>, tile<W, 2, 1>, tile<W, 3, 1>, tile<W, 4, 1>};
  constexpr Tile two[] = {tile<W, 1, 2>};
#endif
  return P == 2 ? two[R - 1] : one[R - 1];
}

EYRIE_INLINE int panels_of_tile(int R) { return kPairs || R == 1 ? 2 : 1; }

#else

// Without fused multiply-add nothing is gained by a tile in registers: each block becomes floats, then plain loops.
EYRIE_INLINE V16 chain(const float* x, const float* w) {  // w: every second row of [32][16]
  V16 sum = v_zero();
#pragma GCC unroll 1
  for (int k = 0; k < kBlock / 2; k++) sum = v_fma(v_set1(x[k]), v_load(w + 2 * k * kPanel), sum);
  return sum;
}

template <class W>
__attribute__((noinline)) static void tile(const Source& s, int64_t blocks, const float* x, const float* sums,
                                           float* acc, int R) {
  float groups[kGroup * kPanel];
  for (int64_t b = 0; b < blocks; b++) {
    float w[kBlock * kPanel];
    unpack_block<W>(s.values[0] + b * 4 * W::kSlice, w);
    V16 d = v_zero(), m = d;
    if (W::kFold == Fold::group8) d = v_load_f16(s.scales[0] + b / kGroupBlocks * kPanel);
    else if (W::kFold != Fold::none) d = v_load_f16(s.scales[0] + b * kPanel);
    if (W::kFold == Fold::scale_min) m = v_load_f16(s.mins[0] + b * kPanel);
    if (W::kFold == Fold::scale_min8) m = v_mul(v_set1(-8.0f), d);
#pragma GCC unroll 1
    for (int r = 0; r < R; r++) {
      const V16 dot = v_add(chain(x + (b * R + r) * kBlock, w), chain(x + (b * R + r) * kBlock + 16, w + kPanel));
      V16 a = v_load(acc + r * kPanel);
      if (W::kFold == Fold::group8) {
        float* g = groups + r * kPanel;
        const V16 sum = b % kGroupBlocks == 0 ? dot : v_add(v_load(g), dot);
        const V16 shifted = v_fma(v_set1(-8.0f), v_set1(sums[b * R + r]), sum);
        v_store(g, shifted);
        if ((b + 1) % kGroupBlocks == 0 || b + 1 == blocks) v_store(acc + r * kPanel, v_fma(d, shifted, a));
        continue;
      }
      a = W::kFold == Fold::none ? v_add(a, dot) : v_fma(d, dot, a);
      if (W::kFold == Fold::scale_min || W::kFold == Fold::scale_min8) a = v_fma(m, v_set1(sums[b * R + r]), a);
      v_store(acc + r * kPanel, a);
    }
  }
}

template <class W, int R>
static void tile_rows(const Source& s, int64_t blocks, const float* x, const float* sums, float* acc) {
  tile<W>(s, blocks, x, sums, acc, R);
}

template <class W>
static Tile tile_of(int R, int) {
  constexpr Tile tiles[] = {tile_rows<W, 1>, tile_rows<W, 2>, tile_rows<W, 3>, tile_rows<W, 4>};
  return tiles[R - 1];
}

EYRIE_INLINE int panels_of_tile(int) { return 1; }

#endif

// The tile of R rows and P = 1 or panels_of_tile(R) panels of a format, packed or unpacked by unpack().
static Tile tile_of(DType t, bool unpacked, int R, int P) {
  switch (t) {
    case DType::f32: return tile_of<WeightsF32>(R, P);
    case DType::f16: return unpacked ? tile_of<WeightsF32>(R, P) : tile_of<WeightsF16>(R, P);
    case DType::bf16: return unpacked ? tile_of<WeightsF32>(R, P) : tile_of<WeightsBf16>(R, P);
    case DType::q8_0: return unpacked ? tile_of<Unpacked<Fold::scale>>(R, P) : tile_of<WeightsQ8>(R, P);
    case DType::i8: return unpacked ? tile_of<WeightsF32>(R, P) : tile_of<WeightsI8<Fold::none>>(R, P);
    case DType::f8_e4m3: return unpacked ? tile_of<WeightsF32>(R, P) : tile_of<WeightsF8>(R, P);
    case DType::i4_g128:
      return unpacked ? tile_of<Unpacked<Fold::group8>>(R, P) : tile_of<WeightsQ4<Fold::group8>>(R, P);
    case DType::q4_0:
      return unpacked ? tile_of<Unpacked<Fold::scale_min8>>(R, P) : tile_of<WeightsQ4<Fold::scale_min8>>(R, P);
    default: return unpacked ? tile_of<Unpacked<Fold::scale_min>>(R, P) : tile_of<WeightsQ4<Fold::scale_min>>(R, P);
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
