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

// Logits as the kernels see them: NaN is -inf, +inf the largest float, so that differences are numbers.
constexpr float kMost = 3.402823466e38f;
EYRIE_INLINE V16 clean(V16 x) { return v_min(v_set1(kMost), v_max(x, v_set1(-__builtin_inff()))); }
EYRIE_INLINE float clean_logit(float x) { return x != x ? -__builtin_inff() : x > kMost ? kMost : x; }

EYRIE_INLINE V16 load_logits(const float* x, int64_t n) {  // the first n; behind the end: -inf
  if (n >= 16) return clean(v_load(x));
  if (n <= 0) return v_set1(-__builtin_inff());
  return v_select_bits((1u << n) - 1, clean(v_load_n(x, int(n))), v_set1(-__builtin_inff()));
}

// Packs the values that reach `floor`, in the order of their indices; returns how many.
EYRIE_INLINE int64_t gather_above(const float* x, int64_t V, const float* maxima, float floor, uint64_t* out) {
  int64_t n = 0;
  for (int64_t i = 0; i < V; i += 16) {
    if (maxima[i / 64] < floor) {
      i += 48 - i % 64;
      continue;
    }
    uint32_t bits = ~v_bits_lt(load_logits(x + i, V - i), v_set1(floor)) & (V - i < 16 ? (1u << (V - i)) - 1 : 0xffffu);
    for (; bits; bits &= bits - 1) {
      const int64_t k = i + __builtin_ctz(bits);
      out[n++] = pack_descending(clean_logit(x[k]), uint32_t(k));
    }
  }
  return n;
}

// Integer weights floor(e^(z - top) 2^40) of up to 16 packed values: their sums do not depend on the order.
EYRIE_INLINE void weights16(const uint64_t* words, int64_t n, float top, uint64_t* out) {
  float w[16];
  for (int i = 0; i < 16; i++) w[i] = i < n ? unpack_value(words[i]) : -__builtin_inff();
  v_store(w, v_exp(v_sub(v_load(w), v_set1(top))));
  for (int i = 0; i < 16; i++) out[i] = uint64_t(int64_t(w[i] * 0x1p40f));
}

// How many of the sorted words it takes for their weight to reach `need`: one at least, n at most.
EYRIE_INLINE int64_t count_to_weight(const uint64_t* sorted, int64_t n, float top, uint64_t need) {
  uint64_t sum = 0, w[16];
  int64_t kept = 0;
  for (int64_t i = 0; i < n && (kept == 0 || sum < need); i += 16) {
    weights16(sorted + i, n - i, top, w);
    for (int k = 0; k < 16 && i + k < n && (kept == 0 || sum < need); k++) {
      sum += w[k];
      kept = i + k + 1;
    }
  }
  return kept;
}

// The same for words in the order of their indices (n from 1), without sorting them all: the last word of those that it
// takes. Buckets of 11 bits of the value are weighed; only the one in which `need` is reached goes on.
__attribute__((noinline)) static uint64_t last_to_weight(uint64_t* words, uint64_t* more, int64_t n, float top,
                                                         uint64_t need) {
  if (need == 0) need = 1;  // one word at least
  for (int shift = 53; n > 512 && shift >= 32; shift -= 11) {  // the value is in the bits from 32 on
    uint64_t weight[2048], w[16];
    memset(weight, 0, sizeof weight);
    for (int64_t i = 0; i < n; i += 16) {
      weights16(words + i, n - i, top, w);
      for (int k = 0; k < 16 && i + k < n; k++) weight[words[i + k] >> shift & 2047] += w[k];
    }
    // The last bucket that holds a word takes what rounding may leave of `need`.
    uint64_t bucket = words[0] >> shift & 2047;
    for (int64_t i = 1; i < n; i++) bucket = (words[i] >> shift & 2047) > bucket ? words[i] >> shift & 2047 : bucket;
    const uint64_t last = bucket;
    for (bucket = 0; bucket < last && weight[bucket] < need; bucket++) need -= weight[bucket];
    int64_t kept = 0;
    for (int64_t i = 0; i < n; i++)
      if ((words[i] >> shift & 2047) == bucket) more[kept++] = words[i];
    uint64_t* const t = words;
    words = more;
    more = t;
    n = kept;
  }
  const uint64_t* sorted = radix_sort(words, more, n);
  return sorted[count_to_weight(sorted, n, top, need) - 1];
}

}  // namespace eyrie
