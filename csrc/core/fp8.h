// Numbers of one byte: e4m3fn, a sign, four bits of exponent (bias 7) and three of mantissa. Exponent 0 is subnormal (m 2^-9); there are no
// infinities, 0x7f and 0xff are NaN, the largest is 448 (Micikevicius et al. 2022). Every value is exact in bf16 and in f16.
//
// Written so that only normal floats are touched on the way: FTZ|DAZ changes nothing.
#pragma once
#include <stdint.h>
#include <string.h>

#include "core/tensor.h"

namespace eyrie {

EYRIE_BOTH float e4m3_to_float(uint8_t byte) {
  const uint32_t sign = uint32_t(byte & 0x80u) << 24, mag = byte & 0x7fu;
  uint32_t bits;
  if (mag == 0x7fu) {
    bits = 0x7fc00000u;
  } else if (mag >= 8) {
    bits = (mag << 20) + 0x3c000000u;  // the bias from 7 to 127
  } else {
    const float v = float(int(mag)) * 0x1p-9f;
    memcpy(&bits, &v, 4);
  }
  bits |= sign;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

// Round to nearest even; what is too large, infinities too, becomes +-448; a NaN stays one with its sign.
EYRIE_BOTH uint8_t float_to_e4m3(float f) {
  uint32_t bits;
  memcpy(&bits, &f, 4);
  const uint32_t sign = bits >> 24 & 0x80u, mag = bits & 0x7fffffffu;
  if (mag > 0x7f800000u) return uint8_t(sign | 0x7fu);
  if (mag >= 0x43e00000u) return uint8_t(sign | 0x7eu);  // 448 and more
  if (mag < 0x3c800000u) {  // below 2^-6: adding 2^14 rounds at 2^-9
    float v;
    memcpy(&v, &mag, 4);
    v += 0x1p14f;
    memcpy(&bits, &v, 4);
    return uint8_t(sign | (bits - 0x46800000u));
  }
  const uint32_t rounded = mag + 0x7ffffu + (mag >> 20 & 1u);
  return uint8_t(sign | ((rounded - 0x3c000000u) >> 20));
}

}  // namespace eyrie
