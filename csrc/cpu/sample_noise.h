// Gumbel noise of 64 tokens at a time, and the argmax of z + noise over a block of 64.
#pragma once
#include "core/philox.h"
#include "cpu/math.h"

namespace eyrie {

constexpr int kBlock64 = 64;  // tokens: 16 Philox counters

struct NoiseKey {
  uint32_t seed_low, seed_high, position;
};

// Words of the tokens [64 block, 64 block + 64), in order. The counters sit in the lanes such that transposing 4 x 4 words
// inside each 128-bit lane puts 16 successive tokens into each w[i].
EYRIE_INLINE void noise_words(NoiseKey key, uint32_t block, I16* w) {
  static const uint32_t order[16] = {0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15};
  I16 a = i_add(i_set1(block * 16), i_load(order)), b = i_set1(key.position), c = i_set1(0), d = i_set1(0);
  uint32_t k0 = key.seed_low, k1 = key.seed_high;
#pragma GCC unroll 10
  for (int round = 0; round < kPhiloxRounds; round++) {
    I16 x_high, y_high;
    const I16 x = i_mul_wide(a, kPhiloxM0, &x_high), y = i_mul_wide(c, kPhiloxM1, &y_high);
    a = i_xor(i_xor(y_high, b), i_set1(k0));
    b = y;
    c = i_xor(i_xor(x_high, d), i_set1(k1));
    d = x;
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  w[0] = a;
  w[1] = b;
  w[2] = c;
  w[3] = d;
  i_transpose4(w);
}

// -log E, E = -log(1 - u) exponential, u = (w + 1/2) 2^-32. Below 1/2, log(1 - u) is a series in u, so the upper tail of the
// noise is as fine as the words are; above, 1 - u is exact as well. h = min(u, 1 - u).
EYRIE_INLINE V16 gumbel(I16 w) {
  const V16 signed_word = v_from_int(w);
  const V16 h = v_mul(v_add(v_from_int(i_min(w, i_xor(w, i_set1(~0u)))), v_set1(0.5f)), v_set1(0x1p-32f));
  V16 e;
  const V16 f = v_sub(v_split(h, &e), v_set1(1.0f));  // u > 1/2: log h
  const V16 split = v_set1(0.29289f);  // u < 1/2: log(1 - h), from here on as log(2 - 2h) - log 2
  const V16 f_low = v_select_lt(h, split, v_sub(v_zero(), h), v_fma(v_set1(-2.0f), h, v_set1(1.0f)));
  const V16 e_low = v_select_lt(h, split, v_zero(), v_set1(-1.0f));
  const V16 log1mu =
      v_log_split(v_select_lt(signed_word, v_zero(), f, f_low), v_select_lt(signed_word, v_zero(), e, e_low));
  return v_sub(v_zero(), v_log(v_sub(v_zero(), log1mu)));
}

struct Best {
  float key;
  int32_t id;  // -1: none yet
};

EYRIE_INLINE bool better(float key, int32_t id, Best b) { return key > b.key || (key == b.key && id < b.id); }

// Tokens behind the cut are out: z below cut_z, or equal to it with an id above cut_id.
struct Cut {
  float z;
  int32_t id;
};

// Updates `best` with the block's tokens. z: 64 values whose maximum is `high`. Logarithms are taken only if some token may
// win: that takes E < e^(z - best), and E >= u.
EYRIE_INLINE void draw_block(NoiseKey key, uint32_t block, const float* z, float high, Cut cut, Best* best) {
  const float infinity = __builtin_inff();
  if (high == -infinity || high < cut.z) return;
  uint32_t limit = ~0u;
  if (best->id >= 0) {
    if (high + 23.0f < best->key) return;  // the noise is below 22.9
    const float a = high < 0 ? -high : high, b = best->key < 0 ? -best->key : best->key;
    float e[16];
    v_store(e, v_exp(v_set1(high - best->key + 1e-4f + 1e-6f * (a + b))));
    const float bound = e[0] * 0x1p32f + 2.0f;
    limit = bound < 0x1p32f ? uint32_t(bound) : ~0u;
  }
  I16 w[4];
  noise_words(key, block, w);
  if (limit != ~0u && !i_any_below(i_min(i_min(w[0], w[1]), i_min(w[2], w[3])), limit)) return;
  float keys[kBlock64];
  V16 top = v_set1(-infinity);
  for (int i = 0; i < 4; i++) {
    const V16 x = v_load(z + 16 * i);
    const V16 k = v_select_lt(x, v_set1(cut.z), v_set1(-infinity), v_add(x, gumbel(w[i])));
    v_store(keys + 16 * i, k);
    top = v_max(top, k);
  }
  if (v_reduce_max(top) < best->key) return;
  for (int i = 0; i < kBlock64; i++) {
    const int32_t id = int32_t(block) * kBlock64 + i;
    if (keys[i] == -infinity || (z[i] == cut.z && id > cut.id)) continue;
    if (best->id < 0 || better(keys[i], id, *best)) *best = {keys[i], id};
  }
}

}  // namespace eyrie
