// A few blocks of weights as bf16 tiles against groups of rows. Tiles: 0 to 3 sums, 4 and 5 rows, 6 and 7 weights.
#pragma once
#include "cpu/matmul_scales.h"
#include "cpu/simd/amx_unit.h"

#define EYRIE_LAMBDA __attribute__((always_inline))

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

struct TileWeights {
  const uint8_t* values;  // [blocks][16 pairs][16 n] pairs of bf16
  const float* d;  // prepare_scales'; null without scales
  const float* m;
};

// The shapes of the tiles, of this thread, for as long as this lives: all rows of a group by a block, or by half a block.
class TileShapes {
 public:
  explicit TileShapes(int rows) : rows_(rows) {}
  ~TileShapes() {
    if (pairs_) tile_release();
  }
  TileShapes(const TileShapes&) = delete;
  void whole() { set(16); }
  void halves() { set(8); }

 private:
  void set(int pairs) {
    if (pairs == pairs_) return;
    pairs_ = pairs;
    TileConfig c = {};
    c.palette = 1;
    for (int t = 0; t < 8; t++) {
      c.rows[t] = uint8_t(t < 6 ? rows_ : pairs);
      c.row_bytes[t] = uint16_t(t == 4 || t == 5 ? pairs * 4 : 64);
    }
    tile_configure(c);
  }
  int rows_, pairs_ = 0;
};

template <class T>
struct Two {
  T of[2];
};

// c[g][p] += the products of blocks, or = on `first`: G groups of rows by P panels. c: [2][2] of [rows][16].
template <int G, int P>
static void add_blocks(Two<const uint8_t*> w, Two<const uint32_t*> a, int64_t a_block, int64_t blocks,
                       float* const (&c)[4], bool first) {
  if (first) {
    tile_zero<0>();
    if constexpr (P == 2) tile_zero<1>();
    if constexpr (G == 2) tile_zero<2>();
    if constexpr (G == 2 && P == 2) tile_zero<3>();
  } else {
    tile_load<0>(c[0], 64);
    if constexpr (P == 2) tile_load<1>(c[1], 64);
    if constexpr (G == 2) tile_load<2>(c[2], 64);
    if constexpr (G == 2 && P == 2) tile_load<3>(c[3], 64);
  }
  for (int64_t b = 0; b < blocks; b++) {
    tile_load<6>(w.of[0] + b * 1024, 64);
    if constexpr (P == 2) tile_load<7>(w.of[1] + b * 1024, 64);
    tile_load<4>((const char*)a.of[0] + b * a_block, 64);
    tile_multiply<0, 4, 6>();
    if constexpr (P == 2) tile_multiply<1, 4, 7>();
    if constexpr (G == 2) {
      tile_load<5>((const char*)a.of[1] + b * a_block, 64);
      tile_multiply<2, 5, 6>();
      if constexpr (P == 2) tile_multiply<3, 5, 7>();
    }
  }
  tile_store<0>(c[0], 64);
  if constexpr (P == 2) tile_store<1>(c[1], 64);
  if constexpr (G == 2) tile_store<2>(c[2], 64);
  if constexpr (G == 2 && P == 2) tile_store<3>(c[3], 64);
}

// f.operator()<0>() … <N - 1>(): indices are constants, or arrays of registers would lie in memory.
template <int N, int i = 0, class F>
EYRIE_INLINE void unrolled(const F& f) {
  if constexpr (i < N) {
    f.template operator()<i>();
    unrolled<N, i + 1>(f);
  }
}

// Products of blocks, or of their halves, that are scaled before they are added: acc = fma(d, dot, acc), and with a minimum fma(m, sum x, acc). The dots go
// round through four tiles and memory, so that three of them are on their way while one is folded (one after the other takes four times as long).
template <int R, bool min, bool halves>
static void fold_blocks(const TileWeights& w, const uint32_t* a, int64_t a_block, int64_t blocks, const float* sums,
                        float* acc, bool first) {
  alignas(64) float dots[8][R][16];
  __m512 s[R];
  unrolled<R>([&]<int r>() EYRIE_LAMBDA { s[r] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(acc + r * 16); });
  const int64_t n = halves ? 2 * blocks : blocks;
  const auto dot = [&]<int C>(int64_t i) EYRIE_LAMBDA {
    constexpr int A = 4 + C % 2, B = 6 + C % 2;
    tile_zero<C>();
    tile_load<B>(w.values + i * (halves ? 512 : 1024), 64);
    tile_load<A>((const char*)a + (halves ? i / 2 * a_block + i % 2 * 32 : i * a_block), 64);
    tile_multiply<C, A, B>();
  };
  const auto store = [&]<int C>(int64_t i) EYRIE_LAMBDA { tile_store<C>(dots[i & 7], 64); };
  const auto fold = [&](int64_t i) EYRIE_LAMBDA {
    const float (*v)[16] = dots[i & 7];
    const __m512 d = _mm512_loadu_ps(w.d + i * 16);
    unrolled<R>([&]<int r>() EYRIE_LAMBDA { s[r] = _mm512_fmadd_ps(d, _mm512_load_ps(v[r]), s[r]); });
    if constexpr (min) {
      const __m512 m = _mm512_loadu_ps(w.m + i * 16);
      unrolled<R>([&]<int r>() EYRIE_LAMBDA { s[r] = _mm512_fmadd_ps(m, _mm512_set1_ps(sums[i * R + r]), s[r]); });
    }
  };
  int64_t i = 0;
  if (n >= 4) {
    dot.template operator()<0>(0);
    dot.template operator()<1>(1);
    dot.template operator()<2>(2);
    store.template operator()<0>(0);
    dot.template operator()<3>(3);
    store.template operator()<1>(1);
    for (i = 4; i + 4 <= n; i += 4)
      unrolled<4>([&]<int j>() EYRIE_LAMBDA {
        dot.template operator()<j>(i + j);
        store.template operator()<(j + 2) % 4>(i + j - 2);
        fold(i + j - 4);
      });
  }
  for (; i < n + 4; i += 4)
    unrolled<4>([&]<int j>() EYRIE_LAMBDA {
      const int64_t k = i + j;
      if (k < n) dot.template operator()<j>(k);
      if (k >= 2 && k - 2 < n) store.template operator()<(j + 2) % 4>(k - 2);
      if (k >= 4 && k - 4 < n) fold(k - 4);
    });
  unrolled<R>([&]<int r>() EYRIE_LAMBDA { _mm512_storeu_ps(acc + r * 16, s[r]); });
}

using FoldBlocks = void (*)(const TileWeights&, const uint32_t*, int64_t, int64_t, const float*, float*, bool);

template <bool min, bool halves>
static FoldBlocks fold_blocks_of(int rows) {
  constexpr FoldBlocks of[] = {fold_blocks<4, min, halves>, fold_blocks<8, min, halves>, fold_blocks<12, min, halves>,
                               fold_blocks<16, min, halves>};
  return of[rows / 4 - 1];
}
static FoldBlocks fold_blocks_of(bool min, bool halves, int rows) {
  if (halves) return fold_blocks_of<true, true>(rows);
  return min ? fold_blocks_of<true, false>(rows) : fold_blocks_of<false, false>(rows);
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
