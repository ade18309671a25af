// The register tile: R rows x P panels of 16 outputs. The arithmetic, the same for every tile shape and level with FMA: for each block
// of 32 inputs, ascending,
//
//   e = x0 w0 + x2 w2 + … + x30 w30    a chain of fused multiply-adds from 0
//   o = x1 w1 + x3 w3 + … + x31 w31    likewise
//   acc = fma(d, e + o, acc)           acc + (e + o) for float weights
//   acc = fma(m, sum x, acc)           formats with a minimum; q4_0 is d q + m with m = -8 d, q5_0 with -16 d
//
// Formats with two scales a block (q2_k, q3_k, q6_k) do this for its first 16 inputs, then for the others; q6_k is d q + m with m = -32 d, q3_k
// with -4 d. d and m are exact products where they come from codes (matmul_scales.h).
//
// Groups of four blocks (i4_g128): g = fma(-8, sum x, g + (e + o)) from 0, then acc = fma(d, g, acc). What a list of blocks begins with begins a
// group. A scale for each output (i8, f8_e4m3) is multiplied into the finished sum.
//
// which is what an AMX bf16 dot product computes, so one definition serves every matrix unit.
#pragma once
#include "cpu/matmul_rows.h"
#include "cpu/matmul_scales.h"
#include "cpu/matmul_weights.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// The panels a tile reads, from its first block on.
struct Source {
  const uint8_t* values[2];
  const uint8_t* next[2];  // the values of the panels that follow, `left` blocks from here
  int64_t left;
  const float* d[2];  // prepare_scales', or of group8 the halves
  const float* m[2];
};

// Adds `blocks` blocks to acc [P][R][16]. x: a group's values; sums: its block sums, or those of halves.
using Tile = void (*)(const Source&, int64_t blocks, const float* x, const float* sums, float* acc);

#if EYRIE_LEVEL_AVX2 || EYRIE_LEVEL_AVX512 || EYRIE_LEVEL_NEON

// Bytes, about, between the weights in use and those fetched into L2. Blocks of 1 KiB and more are left to the hardware (Zen 4, a thread: f32
// 27.0 GB/s, with fetches 20.5).
constexpr int kAhead = 4096;

// Tiles: one row takes two panels, so that its chains hide the latency of the adder. More rows take one (AVX2: 4 x 2 ymm
// chains fill the pipeline with registers to spare; larger tiles spill) or two (AVX-512: a broadcast serves two zmm).
#if EYRIE_LEVEL_AVX512
constexpr bool kPairs = true;
constexpr int kTogether = 8;  // rows x panels up to which e and o run together; one after the other above
#else
constexpr bool kPairs = false;
#if EYRIE_LEVEL_NEON
constexpr int kTogether = 2;  // 16 registers of chains and 4 of sums of 32
#else
constexpr int kTogether = 3;
#endif
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

template <class W, int R, int P, int i, int s>
EYRIE_INLINE void step(const uint8_t* const (&block)[P], const float* x, V16 (&chain)[P][R]) {
  V16 v[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) v[p] = W::template get<i, s>(block[p]);
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

// Slice s: both chains in turn, or one of them. x: the block's.
template <class W, int R, int P, int s>
EYRIE_INLINE void slice(const uint8_t* const (&block)[P], const float* x, V16 (&e)[P][R], V16 (&o)[P][R]) {
  x += 4 * s;
  step<W, R, P, 0, s>(block, x, e);
  step<W, R, P, 1, s>(block, x + 16, o);
  step<W, R, P, 2, s>(block, x + 1, e);
  step<W, R, P, 3, s>(block, x + 17, o);
  step<W, R, P, 4, s>(block, x + 2, e);
  step<W, R, P, 5, s>(block, x + 18, o);
  step<W, R, P, 6, s>(block, x + 3, e);
  step<W, R, P, 7, s>(block, x + 19, o);
}
template <class W, int R, int P, int s, int odd>
EYRIE_INLINE void slice_of(const uint8_t* const (&block)[P], const float* x, V16 (&chain)[P][R]) {
  x += 4 * s + 16 * odd;
  step<W, R, P, 0 + odd, s>(block, x, chain);
  step<W, R, P, 2 + odd, s>(block, x + 1, chain);
  step<W, R, P, 4 + odd, s>(block, x + 2, chain);
  step<W, R, P, 6 + odd, s>(block, x + 3, chain);
}
template <class W, int R, int P, int odd, int from, int to>
EYRIE_INLINE void slices_of(const uint8_t* const (&block)[P], const float* x, V16 (&chain)[P][R]) {
  if constexpr (W::kSlice > 0) {
    for (int s = from; s < to; s++) {
      const uint8_t* w[P];
#pragma GCC unroll 4
      for (int p = 0; p < P; p++) w[p] = block[p] + s * W::kSlice;
      slice_of<W, R, P, 0, odd>(w, x + 4 * s, chain);
    }
  } else {
    slice_of<W, R, P, from, odd>(block, x, chain);
    slice_of<W, R, P, from + 1, odd>(block, x, chain);
    if constexpr (to - from == 4) {
      slice_of<W, R, P, 2, odd>(block, x, chain);
      slice_of<W, R, P, 3, odd>(block, x, chain);
    }
  }
}

// dot[p][r] = e + o of a block, or of the half that slices [from, to) are; x: [R][16 even, 16 odd]
template <class W, int R, int P, int from = 0, int to = 4>
EYRIE_INLINE void block_dot(const uint8_t* const (&block)[P], const float* x, V16 (&dot)[P][R]) {
  V16 e[P][R], o[P][R];
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) e[p][r] = o[p][r] = v_zero();
  if constexpr (R * P <= kTogether) {
    slice<W, R, P, from>(block, x, e, o);
    slice<W, R, P, from + 1>(block, x, e, o);
    if constexpr (to - from == 4) {
      slice<W, R, P, 2>(block, x, e, o);
      slice<W, R, P, 3>(block, x, e, o);
    }
  } else {
    slices_of<W, R, P, 0, from, to>(block, x, e);
    slices_of<W, R, P, 1, from, to>(block, x, o);
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) dot[p][r] = v_add(e[p][r], o[p][r]);
}

// acc = fma(d, dot, acc), then fma(m, sum, acc) with a minimum; d, m: prepare_scales'.
template <int R, int P, bool min>
EYRIE_INLINE void fold_scales(const Source& s, int64_t at, const V16 (&dot)[P][R], const float* sums, V16 (&a)[P][R]) {
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) {
    const V16 d = v_load(s.d[p] + at * kPanel);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) a[p][r] = v_fma(d, dot[p][r], a[p][r]);
    if constexpr (min) {
      const V16 m = v_load(s.m[p] + at * kPanel);
#pragma GCC unroll 16
      for (int r = 0; r < R; r++) a[p][r] = v_fma(m, v_set1(sums[at * R + r]), a[p][r]);
    }
  }
}

template <class W, int R, int P>
static void tile(const Source& s, int64_t blocks, const float* x, const float* sums, float* acc) {
  V16 a[P][R];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) a[p][r] = v_load(acc + (p * R + r) * kPanel);
  [[maybe_unused]] V16 g[P][R];
  constexpr int kBytes = block_bytes<W>(), kAheadBlocks = kAhead / kBytes + 1;
  const int64_t turn = s.left - kAheadBlocks;
  for (int64_t b = 0; b < blocks; b++) {
    const uint8_t* block[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      block[p] = s.values[p] + b * kBytes;
      const uint8_t* ahead = b < turn ? block[p] + kAheadBlocks * kBytes : s.next[p] + (b - turn) * kBytes;
#pragma GCC unroll 32
      for (int i = 0; kBytes < 1024 && i < kBytes; i += 64) __builtin_prefetch(ahead + i, 0, 2);
    }
    V16 dot[P][R];
    if constexpr (W::kFold == Fold::halves_min) {
      block_dot<W, R, P, 0, 2>(block, x + b * R * kBlock, dot);
      fold_scales<R, P, true>(s, 2 * b, dot, sums, a);
      block_dot<W, R, P, 2, 4>(block, x + b * R * kBlock, dot);
      fold_scales<R, P, true>(s, 2 * b + 1, dot, sums, a);
      continue;
    }
    block_dot<W, R, P>(block, x + b * R * kBlock, dot);
    if constexpr (W::kFold == Fold::scale || W::kFold == Fold::scale_min) {
      fold_scales<R, P, W::kFold == Fold::scale_min>(s, b, dot, sums, a);
      continue;
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      if constexpr (W::kFold == Fold::none) {
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) a[p][r] = v_add(a[p][r], dot[p][r]);
      } else {
        const bool first = b % kGroupBlocks == 0, last = (b + 1) % kGroupBlocks == 0 || b + 1 == blocks;
        const V16 d = v_load_f16((const uint16_t*)s.d[p] + b / kGroupBlocks * kPanel);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) {
          const V16 sum = first ? dot[p][r] : v_add(g[p][r], dot[p][r]);
          g[p][r] = v_fma(v_set1(-8.0f), v_set1(sums[b * R + r]), sum);
          if (last) a[p][r] = v_fma(d, g[p][r], a[p][r]);
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
EYRIE_INLINE V16 chain(const float* x, const float* w, int count) {  // w: every second row of [32][16]
  V16 sum = v_zero();
#pragma GCC unroll 1
  for (int k = 0; k < count; k++) sum = v_fma(v_set1(x[k]), v_load(w + 2 * k * kPanel), sum);
  return sum;
}
// e + o of `count` inputs from the pair `pair` on.
EYRIE_INLINE V16 dot_of(const float* x, const float* w, int pair, int count) {
  const float *xp = x + pair, *wp = w + 2 * pair * kPanel;
  return v_add(chain(xp, wp, count), chain(xp + 16, wp + kPanel, count));
}

template <class W>
__attribute__((noinline)) static void tile(const Source& s, int64_t blocks, const float* x, const float* sums,
                                           float* acc, int R) {
  float groups[kGroup * kPanel];
  for (int64_t b = 0; b < blocks; b++) {
    float w[kBlock * kPanel];
    unpack_block<W>(s.values[0] + b * block_bytes<W>(), w);
    V16 d = v_zero(), m = d;
    if (W::kFold == Fold::group8) d = v_load_f16((const uint16_t*)s.d[0] + b / kGroupBlocks * kPanel);
    if (W::kFold == Fold::scale || W::kFold == Fold::scale_min) d = v_load(s.d[0] + b * kPanel);
    if (W::kFold == Fold::scale_min) m = v_load(s.m[0] + b * kPanel);
#pragma GCC unroll 1
    for (int r = 0; r < R; r++) {
      const float* xr = x + (b * R + r) * kBlock;
      V16 a = v_load(acc + r * kPanel);
      if (W::kFold == Fold::halves_min) {
        for (int64_t h = 0; h < 2; h++) {
          const int64_t at = 2 * b + h;
          a = v_fma(v_load(s.d[0] + at * kPanel), dot_of(xr, w, int(h) * 8, 8), a);
          a = v_fma(v_load(s.m[0] + at * kPanel), v_set1(sums[at * R + r]), a);
        }
        v_store(acc + r * kPanel, a);
        continue;
      }
      const V16 dot = dot_of(xr, w, 0, 16);
      if (W::kFold == Fold::group8) {
        float* g = groups + r * kPanel;
        const V16 sum = b % kGroupBlocks == 0 ? dot : v_add(v_load(g), dot);
        const V16 shifted = v_fma(v_set1(-8.0f), v_set1(sums[b * R + r]), sum);
        v_store(g, shifted);
        if ((b + 1) % kGroupBlocks == 0 || b + 1 == blocks) v_store(acc + r * kPanel, v_fma(d, shifted, a));
        continue;
      }
      a = W::kFold == Fold::none ? v_add(a, dot) : v_fma(d, dot, a);
      if (W::kFold == Fold::scale_min) a = v_fma(m, v_set1(sums[b * R + r]), a);
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
  if (unpacked) {
    if (t == DType::i4_g128) return tile_of<Unpacked<Fold::group8>>(R, P);
    if (!has_prepared_scales(t)) return tile_of<WeightsF32>(R, P);
    if (has_halves(t)) return tile_of<Unpacked<Fold::halves_min>>(R, P);
    return has_nibbles(t) ? tile_of<Unpacked<Fold::scale_min>>(R, P) : tile_of<Unpacked<Fold::scale>>(R, P);
  }
  switch (t) {
    case DType::f32: return tile_of<WeightsF32>(R, P);
    case DType::f16: return tile_of<WeightsF16>(R, P);
    case DType::bf16: return tile_of<WeightsBf16>(R, P);
    case DType::q8_0: return tile_of<WeightsQ8>(R, P);
    case DType::i8: return tile_of<WeightsI8<Fold::none>>(R, P);
    case DType::f8_e4m3: return tile_of<WeightsF8>(R, P);
    case DType::i4_g128: return tile_of<WeightsQ4<Fold::group8>>(R, P);
    case DType::q4_0:
    case DType::q4_1:
    case DType::q4_k: return tile_of<WeightsQ4<Fold::scale_min>>(R, P);
    case DType::q5_0:
    case DType::q5_1:
    case DType::q5_k: return tile_of<WeightsCodes<Fold::scale_min, 5>>(R, P);
    case DType::q6_k: return tile_of<WeightsCodes<Fold::halves_min, 6>>(R, P);
    case DType::q2_k: return tile_of<WeightsCodes<Fold::halves_min, 2>>(R, P);
    case DType::q3_k: return tile_of<WeightsCodes<Fold::halves_min, 3>>(R, P);
    case DType::mxfp4: return tile_of<WeightsTable<true>>(R, P);
    default: return tile_of<WeightsTable<false>>(R, P);  // iq4_nl, iq4_xs
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
