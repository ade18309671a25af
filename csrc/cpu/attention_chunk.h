// Attention of a few rows over one chunk of 128 cached tokens: scores, softmax, weighted values.
//
// The arithmetic of a row, whichever path computes it:
//   q·k     16 lanes, lane i sums d = i, i + 16, … by fma; then the fixed tree (i with i + 8, i + 4, i + 2, i + 1)
//   softmax m = max, p = exp(s - m), l = sum p on 16 lanes (lane i sums tokens i, i + 16, …), then the tree
//   values  acc[e] = fma(p_j, v_j[e], acc[e]) for visible j ascending; p is exactly 0 elsewhere
// 8-bit pages: k_j and v_j are what is stored, the scores are multiplied with the scales of their keys before anything else, and p_j
// with those of the values once l is there.
// Two paths give these bits. *direct*: rows of pages are converted as they are read, dots are reduced 16 tokens at a time
// (few rows, bound by memory). *tiles*: the chunk is converted once into fp32 tiles, keys transposed so that a lane is a
// token, and many rows share it (prefill); the tree over i is then a tree of vectors.
#pragma once
#include "core/tiles.h"
#include "cpu/math.h"
#include "cpu/simd/trees.h"

namespace eyrie {

constexpr int kChunk = 128;  // tokens
constexpr int kGroups = kChunk / 16;  // of 16 tokens

// Rows of a register block over tiles and over pages: what the registers of a level hold (and no more code than needed).
#if defined(EYRIE_LEVEL_AVX512)
constexpr int kTileRows = 8, kDirectRows = 4;
#elif defined(EYRIE_LEVEL_AVX2)
constexpr int kTileRows = 6, kDirectRows = 4;
#elif defined(EYRIE_LEVEL_NEON)
constexpr int kTileRows = 4, kDirectRows = 4;
#else
constexpr int kTileRows = 2, kDirectRows = 2;
#endif

// The lane whose sums come n-th when the tree is walked depth first: the bits of n reversed.
EYRIE_INLINE int tree_leaf(int n) { return (n & 1) << 3 | (n & 2) << 1 | (n & 4) >> 1 | (n & 8) >> 3; }

__attribute__((noinline)) static void copy_tail(const uint16_t* p, int64_t n, uint16_t* out) {
  for (int k = 0; k < 16; k++) out[k] = k < n ? p[k] : uint16_t(0);
}

// 16 channels of a page row from channel i on.
template <DType kType>
EYRIE_INLINE V16 kv_load(const void* row, int64_t i) {
  if (kType == DType::f32) return v_load((const float*)row + i);
  if (kType == DType::i8) return v_load_i8((const int8_t*)row + i);
  if (kType == DType::f8_e4m3) return v_load_e4m3((const uint8_t*)row + i);
  const uint16_t* p = (const uint16_t*)row + i;
  return kType == DType::f16 ? v_load_f16(p) : v_load_bf16(p);
}

// The last channels: those from D on read as 0.
template <DType kType>
EYRIE_INLINE V16 kv_load_tail(const void* row, int64_t i, int64_t D) {
  if (kType == DType::f32) return v_load_n((const float*)row + i, int(D - i));
  if (kType == DType::i8 || kType == DType::f8_e4m3) {
    uint8_t bytes[16] = {};
    memcpy(bytes, (const uint8_t*)row + i, size_t(D - i));
    return kv_load<kType>(bytes, 0);
  }
  uint16_t tail[16];
  copy_tail((const uint16_t*)row + i, D - i, tail);
  return kv_load<kType>(tail, 0);
}

template <DType kType>
EYRIE_INLINE V16 kv_load(const void* row, int64_t i, int64_t D) {
  return i + 16 <= D ? kv_load<kType>(row, i) : kv_load_tail<kType>(row, i, D);
}

// Rows that are needed soon: pages are short runs, which hardware does not foresee across.
template <DType kType>
EYRIE_INLINE void prefetch_row(const void* row, int64_t D) {
  const int64_t bytes = D * dtype_info(kType).block_bytes;
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch((const char*)row + i, 0, 2);
}

// Scores of kRows rows (q: stride ld floats, padded with zeros to a multiple of 16) with the tokens [begin, end) of the
// group whose 16 page rows are k; other tokens score 0. Writes s[row * kChunk + 0..16). ahead: rows of E channels to
// prefetch, one for each token, or null.
template <DType kType, int kRows>
EYRIE_INLINE void scores_direct(const float* q, int64_t ld, const void* const* k, int begin, int end, int64_t D,
                                float* s, const void* const* ahead, int64_t E) {
  alignas(64) float half[kRows][16][8];
  if (begin > 0 || end < 16) memset(half, 0, sizeof half);
  if (ahead)
    for (int j = begin; j < end; j++) prefetch_row<kType>(ahead[j], E);
  int j = begin;
  if (kRows <= 3) {  // two tokens at a time share the loads of q
    for (; j + 2 <= end; j += 2) {
      V16 acc0[kRows], acc1[kRows];
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) acc0[r] = acc1[r] = v_zero();
      const auto step = [&](V16 k0, V16 k1, int64_t d) __attribute__((always_inline)) {
#pragma GCC unroll 8
        for (int r = 0; r < kRows; r++) {
          const V16 x = v_load(q + r * ld + d);
          acc0[r] = v_fma(x, k0, acc0[r]);
          acc1[r] = v_fma(x, k1, acc1[r]);
        }
      };
      int64_t d = 0;
      for (; d + 16 <= D; d += 16) step(kv_load<kType>(k[j], d), kv_load<kType>(k[j + 1], d), d);
      if (d < D) step(kv_load_tail<kType>(k[j], d, D), kv_load_tail<kType>(k[j + 1], d, D), d);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) {
        v_store_half_sums(half[r][j], acc0[r]);
        v_store_half_sums(half[r][j + 1], acc1[r]);
      }
    }
  }
  for (; j < end; j++) {
    V16 acc[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) acc[r] = v_zero();
    const auto step = [&](V16 x, int64_t d) __attribute__((always_inline)) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) acc[r] = v_fma(v_load(q + r * ld + d), x, acc[r]);
    };
    int64_t d = 0;
    for (; d + 16 <= D; d += 16) step(kv_load<kType>(k[j], d), d);
    if (d < D) step(kv_load_tail<kType>(k[j], d, D), d);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) v_store_half_sums(half[r][j], acc[r]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) v_store(s + r * kChunk, v_finish_sums(half[r][0]));
}

// acc[r][e..e+16*kWidth) += p[r][j] * v[j][e..) for j in [begin, end). kTail: the last channels (kWidth 1).
template <DType kType, int kRows, int kWidth, bool kTail>
EYRIE_INLINE void values_direct(const float* p, const void* const* v, int begin, int end, int64_t e, int64_t E,
                                float* acc, int64_t ld, const void* const* ahead, int64_t D) {
  V16 a[kRows][kWidth];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 8
    for (int w = 0; w < kWidth; w++) a[r][w] = v_load(acc + r * ld + e + 16 * w);
  for (int j = begin; j < end; j++) {
    if (ahead) prefetch_row<kType>(ahead[j], D);
    V16 x[kWidth];
#pragma GCC unroll 8
    for (int w = 0; w < kWidth; w++) x[w] = kTail ? kv_load_tail<kType>(v[j], e, E) : kv_load<kType>(v[j], e + 16 * w);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) {
      const V16 b = v_set1(p[r * kChunk + j]);
#pragma GCC unroll 8
      for (int w = 0; w < kWidth; w++) a[r][w] = v_fma(b, x[w], a[r][w]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++)
#pragma GCC unroll 8
    for (int w = 0; w < kWidth; w++) v_store(acc + r * ld + e + 16 * w, a[r][w]);
}

// Keys of one group of 16 tokens as a tile [16 leaves][D/16][16 tokens]; tokens outside [begin, end) become 0.
// rows: scratch of [16][D rounded up to 16].
template <DType kType>
EYRIE_INLINE void key_tile(const void* const* k, int begin, int end, int64_t D, float* rows, float* tile) {
  const int64_t padded = div_up(D, 16) * 16, steps = padded / 16;
  for (int j = 0; j < 16; j++)
    for (int64_t d = 0; d < D; d += 16)
      v_store(rows + j * padded + d, j >= begin && j < end ? kv_load<kType>(k[j], d, D) : v_zero());
  for (int64_t step = 0; step < steps; step++) {
    float* out[16];
    for (int n = 0; n < 16; n++) out[tree_leaf(n)] = tile + (n * steps + step) * 16;
    v_transpose16(rows + step * 16, padded, out);
  }
}

// Scores of kRows rows with the 16 tokens of a key tile. q is in the tile's order: [leaf][D/16].
template <int kRows>
EYRIE_INLINE void scores_tile(const float* q, int64_t ld, const float* tile, int64_t steps, float* s) {
  V16 stack[4][kRows];  // subtrees that wait for their right-hand neighbour
  for (int n = 0; n < 16; n++) {
    V16 acc[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) acc[r] = v_zero();
    for (int64_t i = 0; i < steps; i++, tile += 16, q++) {
      const V16 x = v_load(tile);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) acc[r] = v_fma(v_set1(q[r * ld]), x, acc[r]);
    }
    int level = 0;
    for (; n >> level & 1; level++) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) acc[r] = v_add(stack[level][r], acc[r]);
    }
    if (level < 4) {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) stack[level][r] = acc[r];
    } else {
#pragma GCC unroll 8
      for (int r = 0; r < kRows; r++) v_store(s + r * kChunk, acc[r]);
    }
  }
}

// Values of the tokens [begin, end) as tiles [E/16][128 tokens][16].
template <DType kType>
EYRIE_INLINE void value_tiles(const void* const* v, int begin, int end, int64_t E, float* tiles) {
  for (int j = begin; j < end; j++)
    for (int64_t e = 0; e < E; e += 16) v_store(tiles + e * kChunk + j * 16, kv_load<kType>(v[j], e, E));
}

// acc[r][0..16) += p[r][j] * tile[j] for j in [begin, end).
template <int kRows>
EYRIE_INLINE void values_tile(const float* p, const float* tile, int begin, int end, float* acc, int64_t ld) {
  V16 a[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) a[r] = v_load(acc + r * ld);
  for (int j = begin; j < end; j++) {
    const V16 x = v_load(tile + j * 16);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; r++) a[r] = v_fma(v_set1(p[r * kChunk + j]), x, a[r]);
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; r++) v_store(acc + r * ld, a[r]);
}

// The kernels above for a type and a number of rows that are known at run time, as functions of their own.
#define EYRIE_FOR_ROWS(max, call) \
  switch (rows) {                 \
    case 1: {                     \
      constexpr int kRows = 1;    \
      call;                       \
      break;                      \
    }                             \
    case 2: {                     \
      constexpr int kRows = 2;    \
      call;                       \
      break;                      \
    }                             \
    case 3:                       \
      if constexpr ((max) >= 3) { \
        constexpr int kRows = 3;  \
        call;                     \
      }                           \
      break;                      \
    case 4:                       \
      if constexpr ((max) >= 4) { \
        constexpr int kRows = 4;  \
        call;                     \
      }                           \
      break;                      \
    case 5:                       \
      if constexpr ((max) >= 5) { \
        constexpr int kRows = 5;  \
        call;                     \
      }                           \
      break;                      \
    case 6:                       \
      if constexpr ((max) >= 6) { \
        constexpr int kRows = 6;  \
        call;                     \
      }                           \
      break;                      \
    case 7:                       \
      if constexpr ((max) >= 7) { \
        constexpr int kRows = 7;  \
        call;                     \
      }                           \
      break;                      \
    default:                      \
      if constexpr ((max) >= 8) { \
        constexpr int kRows = 8;  \
        call;                     \
      }                           \
      break;                      \
  }
#define EYRIE_FOR_TYPES(type, call)           \
  switch (type) {                             \
    case DType::f32: {                        \
      constexpr DType kType = DType::f32;     \
      call;                                   \
      break;                                  \
    }                                         \
    case DType::f16: {                        \
      constexpr DType kType = DType::f16;     \
      call;                                   \
      break;                                  \
    }                                         \
    case DType::f8_e4m3: {                    \
      constexpr DType kType = DType::f8_e4m3; \
      call;                                   \
      break;                                  \
    }                                         \
    case DType::i8: {                         \
      constexpr DType kType = DType::i8;      \
      call;                                   \
      break;                                  \
    }                                         \
    default: {                                \
      constexpr DType kType = DType::bf16;    \
      call;                                   \
      break;                                  \
    }                                         \
  }

__attribute__((noinline)) static void scores_direct_rows(DType type, int rows, const float* q, int64_t ld,
                                                         const void* const* k, int begin, int end, int64_t D, float* s,
                                                         const void* const* ahead, int64_t E) {
  EYRIE_FOR_TYPES(type,
                  EYRIE_FOR_ROWS(kDirectRows, (scores_direct<kType, kRows>(q, ld, k, begin, end, D, s, ahead, E))))
}

// ahead: as in scores_direct, rows of D channels.
__attribute__((noinline)) static void values_direct_rows(DType type, int rows, const float* p, const void* const* v,
                                                         int begin, int end, int64_t E, float* acc, int64_t ld,
                                                         const void* const* ahead, int64_t D) {
  constexpr int kWide = kDirectRows < 3 ? kDirectRows : 3;
  int64_t e = 0;
  if (rows <= kWide)
    for (; e + 32 <= E; e += 32, ahead = nullptr)
      EYRIE_FOR_TYPES(
          type,
          EYRIE_FOR_ROWS(kWide, (values_direct<kType, kRows, 2, false>(p, v, begin, end, e, E, acc, ld, ahead, D))))
  for (; e + 16 <= E; e += 16, ahead = nullptr)
    EYRIE_FOR_TYPES(
        type,
        EYRIE_FOR_ROWS(kDirectRows, (values_direct<kType, kRows, 1, false>(p, v, begin, end, e, E, acc, ld, ahead, D))))
  if (e < E)
    EYRIE_FOR_TYPES(
        type,
        EYRIE_FOR_ROWS(kDirectRows, (values_direct<kType, kRows, 1, true>(p, v, begin, end, e, E, acc, ld, ahead, D))))
}

__attribute__((noinline)) static void key_tile_of(DType type, const void* const* k, int begin, int end, int64_t D,
                                                  float* rows, float* tile) {
  EYRIE_FOR_TYPES(type, key_tile<kType>(k, begin, end, D, rows, tile))
}

__attribute__((noinline)) static void value_tiles_of(DType type, const void* const* v, int begin, int end, int64_t E,
                                                     float* tiles) {
  EYRIE_FOR_TYPES(type, value_tiles<kType>(v, begin, end, E, tiles))
}

__attribute__((noinline)) static void scores_tile_rows(int rows, const float* q, int64_t ld, const float* tile,
                                                       int64_t steps, float* s) {
  EYRIE_FOR_ROWS(kTileRows, (scores_tile<kRows>(q, ld, tile, steps, s)))
}

__attribute__((noinline)) static void values_tile_rows(int rows, const float* p, const float* tile, int begin, int end,
                                                       float* acc, int64_t ld){
    EYRIE_FOR_ROWS(kTileRows, (values_tile<kRows>(p, tile, begin, end, acc, ld)))}
#undef EYRIE_FOR_ROWS
#undef EYRIE_FOR_TYPES

// s -> p over groups [g0, g1), all masked scores being -inf. m is kept finite, so that a chunk whose visible scores are all
// -inf weighs 0 instead of NaN.
EYRIE_INLINE void softmax_chunk(float* s, int g0, int g1, float* m, float* l) {
  V16 high = v_set1(-3.402823466e38f);
  for (int g = g0; g < g1; g++) high = v_max(high, v_load(s + 16 * g));
  *m = v_reduce_max(high);
  const V16 max = v_set1(*m);
  V16 sum = v_zero();
  for (int g = g0; g < g1; g++) {
    const V16 p = v_exp(v_sub(v_load(s + 16 * g), max));
    v_store(s + 16 * g, p);
    sum = v_add(sum, p);
  }
  *l = v_reduce_add(sum);
}

}  // namespace eyrie
