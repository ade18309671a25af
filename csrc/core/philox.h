// Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): a counter and a key to four random words. The noise of `sample`: word
// token % 4 of counter (token / 4, position, 0, 0) under the key (seed low, seed high).
#pragma once
#include "core/tensor.h"

namespace eyrie {

constexpr uint32_t kPhiloxM0 = 0xD2511F53u, kPhiloxM1 = 0xCD9E8D57u;  // multipliers
constexpr uint32_t kPhiloxW0 = 0x9E3779B9u, kPhiloxW1 = 0xBB67AE85u;  // added to the key each round
constexpr int kPhiloxRounds = 10;

EYRIE_INLINE void philox(const uint32_t counter[4], uint32_t key0, uint32_t key1, uint32_t out[4]) {
  uint32_t a = counter[0], b = counter[1], c = counter[2], d = counter[3];
  for (int round = 0; round < kPhiloxRounds; round++) {
    const uint64_t x = uint64_t(kPhiloxM0) * a, y = uint64_t(kPhiloxM1) * c;
    a = uint32_t(y >> 32) ^ b ^ key0;
    b = uint32_t(y);
    c = uint32_t(x >> 32) ^ d ^ key1;
    d = uint32_t(x);
    key0 += kPhiloxW0;
    key1 += kPhiloxW1;
  }
  out[0] = a;
  out[1] = b;
  out[2] = c;
  out[3] = d;
}

}  // namespace eyrie
