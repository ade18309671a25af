// The register tile: R rows x P panels of 16 outputs. The arithmetic, the same for every tile shape and level with FMA: for each block
// of 32 inputs, ascending,
//
//   e = x0 w0 + x2 w2 + … + x30 w30    a chain of fused multiply-adds from 0
//   o = x1 w1 + x3 w3 + … + x31 w31    likewise
//   acc = fma(d, e + o, acc)           acc + (e + o) for float weights
//   acc = fma(m, sum x, acc)           formats with a minimum; q4_0 is d q + m with m = -8 d
//
// which is what an AMX bf16 dot product computes, so one definition serves every matrix unit.
#pragma once
#include "cpu/matmul_rows.h"
#include "cpu/matmul_weights.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

#if EYRIE_LEVEL_AVX2 || EYRIE_LEVEL_AVX512

constexpr bool kPairs = true;  // a single row takes two panels at once

// Chains that stay in registers beside the weights: e and o run together up to here, one after the other above.
#if EYRIE_LEVEL_AVX512
constexpr int kTogether = 12;
#else
constexpr int kTogether = 3;
#endif

template <class W, int R, int P, int i>
EYRIE_INLINE void step(const uint8_t* const (&w)[P], const float* x, V16 (&chain)[P][R]) {
  V16 v[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) v[p] = W::template get<i>(w[p]);
#pragma GCC unroll 16
  for (int r = 0; r < R; r++) {
    const V16 b = v_set1(x[r * kBlock]);
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) chain[p][r] = v_fma(v[p], b, chain[p][r]);
  }
}

// dot[p][r] = e + o of one block; w: the block in each panel, x: [R][16 even, 16 odd]
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

// Adds blocks [b0,b1) to acc [P][R][16]. x: a group's values; sums: its block sums.
template <class W, int R, int P>
static void tile(const uint8_t* const* panels, const TileShape& shape, int64_t b0, int64_t b1, const float* x, const float* sums,
                 float* acc) {
  V16 a[P][R];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++)
#pragma GCC unroll 16
    for (int r = 0; r < R; r++) a[p][r] = v_load(acc + (p * R + r) * kPanel);
  const uint8_t* panel[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; p++) panel[p] = panels[p];
  for (int64_t b = b0; b < b1; b++) {
    const uint8_t* block[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) block[p] = panel[p] + b * 4 * W::kSlice;
    V16 dot[P][R];
    block_dot<W, R, P>(block, x + b * R * kBlock, dot);
#pragma GCC unroll 4
    for (int p = 0; p < P; p++) {
      if constexpr (W::kFold == Fold::none) {
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) a[p][r] = v_add(a[p][r], dot[p][r]);
      } else {
        const V16 d = v_load_f16((const uint16_t*)(panel[p] + shape.scales) + b * kPanel);
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) a[p][r] = v_fma(d, dot[p][r], a[p][r]);
        if constexpr (W::kFold != Fold::scale) {
          const V16 m = W::kFold == Fold::scale_min ? v_load_f16((const uint16_t*)(panel[p] + shape.mins) + b * kPanel)
                                                    : v_mul(d, v_set1(-8.0f));
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

using Tile = void (*)(const uint8_t* const*, const TileShape&, int64_t, int64_t, const float*, const float*, float*);

template <class W>
static Tile tile_of(int R, int P) {
  if (P == 2) return tile<W, 1, 2>;
  switch (R) {
    case 1: return tile<W, 1, 1>;
    case 2: return tile<W, 2, 1>;
    case 3: return tile<W, 3, 1>;
    case 4: return tile<W, 4, 1>;
    case 5: return tile<W, 5, 1>;
    case 6: return tile<W, 6, 1>;
#if EYRIE_LEVEL_AVX512
    case 7: return tile<W, 7, 1>;
    case 8: return tile<W, 8, 1>;
    case 9: return tile<W, 9, 1>;
    case 10: return tile<W, 10, 1>;
    case 11: return tile<W, 11, 1>;
    case 12: return tile<W, 12, 1>;
#endif
    default: return nullptr;
  }
}

#else

// Without fused multiply-add nothing is gained by a tile in registers: each block becomes floats, then plain loops.
constexpr bool kPairs = false;

template <class W>
EYRIE_INLINE void block_floats(const uint8_t* block, float (&w)[2][kBlock / 2][kPanel]) {
  for (int s = 0; s < 4; s++, block += W::kSlice) {
    v_store(w[0][4 * s], W::template get<0>(block));
    v_store(w[1][4 * s], W::template get<1>(block));
    v_store(w[0][4 * s + 1], W::template get<2>(block));
    v_store(w[1][4 * s + 1], W::template get<3>(block));
    v_store(w[0][4 * s + 2], W::template get<4>(block));
    v_store(w[1][4 * s + 2], W::template get<5>(block));
    v_store(w[0][4 * s + 3], W::template get<6>(block));
    v_store(w[1][4 * s + 3], W::template get<7>(block));
  }
}

EYRIE_INLINE void chain(const float* x, const float (&w)[kBlock / 2][kPanel], float* sum) {
  for (int n = 0; n < kPanel; n++) sum[n] = 0.0f;
  for (int k = 0; k < kBlock / 2; k++)
    for (int n = 0; n < kPanel; n++) sum[n] += x[k] * w[k][n];
}

template <class W, int R>
static void tile(const uint8_t* const* panels, const TileShape& shape, int64_t b0, int64_t b1, const float* x, const float* sums,
                 float* acc) {
  const uint8_t* panel = *panels;
  for (int64_t b = b0; b < b1; b++) {
    float w[2][kBlock / 2][kPanel], e[kPanel], o[kPanel], d[kPanel], m[kPanel];
    block_floats<W>(panel + b * 4 * W::kSlice, w);
    if (W::kFold != Fold::none) v_store(d, v_load_f16((const uint16_t*)(panel + shape.scales) + b * kPanel));
    if (W::kFold == Fold::scale_min) v_store(m, v_load_f16((const uint16_t*)(panel + shape.mins) + b * kPanel));
    if (W::kFold == Fold::scale_min8)
      for (int n = 0; n < kPanel; n++) m[n] = -8.0f * d[n];
    for (int r = 0; r < R; r++) {
      chain(x + (b * R + r) * kBlock, w[0], e);
      chain(x + (b * R + r) * kBlock + 16, w[1], o);
      float* a = acc + r * kPanel;
      for (int n = 0; n < kPanel; n++) a[n] += W::kFold == Fold::none ? e[n] + o[n] : d[n] * (e[n] + o[n]);
      if (W::kFold == Fold::scale_min || W::kFold == Fold::scale_min8)
        for (int n = 0; n < kPanel; n++) a[n] += m[n] * sums[b * R + r];
    }
  }
}

using Tile = void (*)(const uint8_t* const*, const TileShape&, int64_t, int64_t, const float*, const float*, float*);

template <class W>
static Tile tile_of(int R, int) {
  constexpr Tile tiles[] = {tile<W, 1>, tile<W, 2>, tile<W, 3>, tile<W, 4>};
  return tiles[R - 1];
}

#endif

// P is 1, or 2 for a single row.
static Tile tile_of(DType t, int R, int P) {
  switch (t) {
    case DType::f32: return tile_of<WeightsF32>(R, P);
    case DType::f16: return tile_of<WeightsF16>(R, P);
    case DType::bf16: return tile_of<WeightsBf16>(R, P);
    case DType::q8_0: return tile_of<WeightsQ8>(R, P);
    case DType::q4_0: return tile_of<WeightsQ4<Fold::scale_min8>>(R, P);
    default: return tile_of<WeightsQ4<Fold::scale_min>>(R, P);
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
