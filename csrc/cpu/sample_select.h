// Exact selection of the largest values of a row. Maxima of blocks of 64 give a floor: the n-th largest block maximum, since
// n values at least are not below it. Only what reaches the floor is gathered and sorted.
#pragma once
#include "cpu/math.h"

namespace eyrie {

// Sorts ascending by (high word, low word) for a sequence whose low words ascend: a stable radix sort of the high words.
// Returns where the result lies: a or b.
EYRIE_INLINE uint64_t* radix_sort(uint64_t* a, uint64_t* b, int64_t n) {
  if (n <= 24) {
    for (int64_t i = 1; i < n; i++) {
      const uint64_t x = a[i];
      int64_t j = i;
      for (; j > 0 && a[j - 1] > x; j--) a[j] = a[j - 1];
      a[j] = x;
    }
    return a;
  }
  uint32_t count[4][256];
  memset(count, 0, sizeof count);
  for (int64_t i = 0; i < n; i++)
    for (int d = 0; d < 4; d++) count[d][a[i] >> (32 + 8 * d) & 255]++;
  for (int d = 0; d < 4; d++) {
    const int shift = 32 + 8 * d;
    if (count[d][a[0] >> shift & 255] == n) continue;  // one digit for all
    uint32_t at = 0;
    for (int k = 0; k < 256; k++) {
      const uint32_t c = count[d][k];
      count[d][k] = at;
      at += c;
    }
    for (int64_t i = 0; i < n; i++) b[count[d][a[i] >> shift & 255]++] = a[i];
    uint64_t* t = a;
    a = b;
    b = t;
  }
  return a;
}

// A value and its index as one word: ascending words are descending values, then ascending indices. x is no NaN.
EYRIE_INLINE uint64_t pack_descending(float x, uint32_t i) {
  const uint32_t u = float_to_bits(x + 0.0f);  // -0 counts as 0
  const uint32_t ascending = u & 0x80000000u ? ~u : u | 0x80000000u;
  return uint64_t(~ascending) << 32 | i;
}
EYRIE_INLINE float unpack_value(uint64_t w) {
  const uint32_t ascending = ~uint32_t(w >> 32);
  return bits_to_float(ascending & 0x80000000u ? ascending & 0x7fffffffu : ~ascending);
}
EYRIE_INLINE int32_t unpack_index(uint64_t w) { return int32_t(uint32_t(w)); }

// The n-th largest of `blocks` block maxima (n from 1), or -inf if there are fewer. a, b: scratch of `blocks` words.
EYRIE_INLINE float selection_floor(const float* maxima, int64_t blocks, int64_t n, uint64_t* a, uint64_t* b) {
  if (n > blocks) return -__builtin_inff();
  for (int64_t i = 0; i < blocks; i++) a[i] = pack_descending(maxima[i], uint32_t(i));
  return unpack_value(radix_sort(a, b, blocks)[n - 1]);
}

EYRIE_INLINE float clean_logit(float x) {  // as the vectors do it: NaN is the least, infinity is finite
  const float most = 3.402823466e38f;
  return x != x ? -__builtin_inff() : x > most ? most : x;
}

// Packs the values that reach `floor`, in the order of their indices; returns how many. out: room for V + 1.
EYRIE_INLINE int64_t gather_above(const float* x, int64_t V, const float* maxima, float floor, uint64_t* out) {
  int64_t n = 0;
  for (int64_t begin = 0; begin < V; begin += 64) {
    if (maxima[begin / 64] < floor) continue;
    const int64_t end = begin + 64 < V ? begin + 64 : V;
    for (int64_t i = begin; i < end; i++) {
      const float value = clean_logit(x[i]);
      out[n] = pack_descending(value, uint32_t(i));
      n += value >= floor;
    }
  }
  return n;
}

// floor(e^(z - top) 2^40): integer weights, whose sums do not depend on the order.
EYRIE_INLINE void weights16(V16 z, float top, uint64_t* out) {
  float w[16];
  v_store(w, v_exp(v_sub(z, v_set1(top))));
  for (int i = 0; i < 16; i++) out[i] = uint64_t(w[i] * 0x1p40f);
}

}  // namespace eyrie
