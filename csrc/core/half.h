// Numbers of two bytes, bf16 and IEEE 754 binary16, to and from fp32, with the bits that vector instructions give. Only normal floats are touched on
// the way, so FTZ|DAZ changes nothing.
#pragma once
#include <string.h>

#include "core/tensor.h"

namespace eyrie {

EYRIE_BOTH float bits_to_float(uint32_t u) {
  float f;
  memcpy(&f, &u, 4);
  return f;
}
EYRIE_BOTH uint32_t float_to_bits(float f) {
  uint32_t u;
  memcpy(&u, &f, 4);
  return u;
}

EYRIE_BOTH float bf16_to_float(uint16_t h) { return bits_to_float(uint32_t(h) << 16); }

// Round to nearest even; a NaN stays a (quiet) NaN.
EYRIE_BOTH uint16_t float_to_bf16(float f) {
  const uint32_t u = float_to_bits(f);
  if ((u & 0x7fffffff) > 0x7f800000) return uint16_t((u >> 16) | 0x40);
  return uint16_t((u + 0x7fff + ((u >> 16) & 1)) >> 16);
}

// Subnormal halves are kept whatever FTZ|DAZ says: only normal floats are touched on the way.
EYRIE_BOTH float f16_to_float(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, mag = h & 0x7fff;
  if (mag >= 0x7c00) return bits_to_float(sign | 0x7f800000 | ((mag & 0x3ff) << 13) | (mag > 0x7c00 ? 0x400000 : 0));
  if (mag >= 0x400) return bits_to_float(sign | ((mag << 13) + 0x38000000));
  // mag * 2^-24, computed as (1.m * 2^-14) - 2^-14, both normal
  const float v = bits_to_float(0x38800000 | (mag << 13)) - bits_to_float(0x38800000);
  return bits_to_float(sign | float_to_bits(v));
}

// Round to nearest even, overflow to infinity.
EYRIE_BOTH uint16_t float_to_f16(float f) {
  const uint32_t u = float_to_bits(f), sign = (u >> 16) & 0x8000;
  uint32_t mag = u & 0x7fffffff;
  if (mag > 0x7f800000) return uint16_t(sign | 0x7e00 | ((mag >> 13) & 0x1ff));
  if (mag >= 0x47800000) return uint16_t(sign | 0x7c00);
  if (mag < 0x38800000) {  // subnormal or zero: adding 0.5 rounds at 2^-24
    const float v = bits_to_float(mag) + 0.5f;
    return uint16_t(sign | (float_to_bits(v) - 0x3f000000));
  }
  mag += 0xfff + ((mag >> 13) & 1);
  return uint16_t(sign | ((mag - 0x38000000) >> 13));
}

}  // namespace eyrie
