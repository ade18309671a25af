// The noise of `sample` and the order of its keys: cpu/sample_noise.h, one lane, the same bits.
#pragma once
#include "core/philox.h"
#include "cuda/math.cuh"

namespace eyrie::cuda {

constexpr float kMost = 3.402823466e38f;

struct NoiseKey {
  uint32_t seed_low, seed_high, position;
};

// Word token % 4 of counter token / 4 belongs to the token.
GPU_INLINE void noise_words(const NoiseKey& key, uint32_t counter, uint32_t (&w)[4]) {
  uint32_t a = counter, b = key.position, c = 0, d = 0, k0 = key.seed_low, k1 = key.seed_high;
#pragma unroll
  for (int round = 0; round < kPhiloxRounds; round++) {
    const uint64_t x = uint64_t(kPhiloxM0) * a, y = uint64_t(kPhiloxM1) * c;
    a = uint32_t(y >> 32) ^ b ^ k0;
    b = uint32_t(y);
    c = uint32_t(x >> 32) ^ d ^ k1;
    d = uint32_t(x);
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  w[0] = a;
  w[1] = b;
  w[2] = c;
  w[3] = d;
}

// -log E of an exponential E = -log(1 - u), u = (w + 1/2) 2^-32; cpu/sample_noise.h says how.
GPU_INLINE float gumbel(uint32_t w) {
  const bool upper = int32_t(w) < 0;
  const float h = mul_rn(add_rn(float(int32_t(upper ? ~w : w)), 0.5f), 0x1p-32f);
  float e, f;
  if (upper) {
    f = sub_rn(split_exact(h, &e), 1.0f);
  } else {
    const bool small = h < 0.29289f;
    f = small ? sub_rn(0.0f, h) : fmaf(-2.0f, h, 1.0f);
    e = small ? 0.0f : -1.0f;
  }
  return sub_rn(0.0f, log_exact(sub_rn(0.0f, log_split_exact(f, e))));
}

GPU_INLINE float gumbel_of(const NoiseKey& key, uint32_t id) {
  uint32_t w[4];
  noise_words(key, id >> 2, w);
  const uint32_t low = id & 1 ? w[1] : w[0], high = id & 1 ? w[3] : w[2];
  return gumbel(id & 2 ? high : low);
}

// Floats as integers of the same order; -0 counts as 0. x is no NaN.
GPU_INLINE uint32_t key_of(float x) {
  const uint32_t u = __float_as_uint(add_rn(x, 0.0f));
  return u & 0x80000000u ? ~u : u | 0x80000000u;
}
GPU_INLINE float value_of(uint32_t key) { return __uint_as_float(key & 0x80000000u ? key & 0x7fffffffu : ~key); }

// A value and its token as one word: the smallest word has the largest value, then the lowest id.
GPU_INLINE uint64_t word_of(uint32_t key, uint32_t id) { return uint64_t(~key) << 32 | id; }
GPU_INLINE uint32_t word_key(uint64_t word) { return ~uint32_t(word >> 32); }
constexpr uint64_t kNoWord = ~uint64_t(0);

// How far below the best key a token may stand and still win: its word must be below this. It takes E < e^(z - bar), and
// E >= u; the slack is for the roundings.
GPU_INLINE uint32_t word_limit(float z, float bar) {
  if (bar == -INFINITY) return ~0u;
  const float e = exp_exact(z - bar + 1e-4f + 1e-6f * (fabsf(z) + fabsf(bar)));
  const float bound = e * 0x1p32f + 2.0f;
  return bound < 0x1p32f ? uint32_t(bound) : ~0u;
}

// Draws among the tokens first..first+3 (a multiple of 4): z + noise; -inf never. bar: a key that the best of the row reaches.
GPU_INLINE void draw4(const NoiseKey& key, uint32_t first, const float (&z)[4], float& bar, uint64_t& best) {
  const float high = fmaxf(fmaxf(z[0], z[1]), fmaxf(z[2], z[3]));
  if (high == -INFINITY || high + 23.0f < bar) return;  // the noise is below 22.9
  const uint32_t limit = word_limit(high, bar);
  uint32_t w[4];
  noise_words(key, first >> 2, w);
#pragma unroll
  for (int j = 0; j < 4; j++) {
    if (z[j] == -INFINITY || (w[j] >= limit && limit != ~0u)) continue;
    const float k = add_rn(z[j], gumbel(w[j]));
    const uint64_t word = word_of(key_of(k), first + uint32_t(j));
    best = word < best ? word : best;
    bar = fmaxf(bar, k);
  }
}

}  // namespace eyrie::cuda
