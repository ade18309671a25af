// csrc/core/fp8.h against a search among all values: every byte, and every float that differs in more than its rounding.
#include "core/fp8.h"

#include <cmath>
#include <cstdio>
#include <initializer_list>

using namespace eyrie;

namespace {

int failures = 0;

void expect(bool ok, const char* what, double got, double want) {
  if (!ok && failures++ < 20) printf("%s: got %.9g, expected %.9g\n", what, got, want);
}

float as_float(uint32_t bits) {
  float f;
  memcpy(&f, &bits, 4);
  return f;
}

double value_of(int byte) {  // by its definition
  const int e = byte >> 3 & 15, m = byte & 7;
  if ((byte & 0x7f) == 0x7f) return NAN;
  const double mag = e ? std::ldexp(8 + m, e - 10) : std::ldexp(m, -9);
  return byte & 0x80 ? -mag : mag;
}

// The nearest byte of a positive number; at a tie the one that is even.
int nearest(double x) {
  if (x >= 448) return 0x7e;
  int low = 0;
  while (value_of(low + 1) <= x) low++;
  const double below = x - value_of(low), above = value_of(low + 1) - x;
  return below < above || (below == above && low % 2 == 0) ? low : low + 1;
}

}  // namespace

int main() {
  for (int byte = 0; byte < 256; byte++) {
    const float got = e4m3_to_float(uint8_t(byte));
    const double want = value_of(byte);
    expect(std::isnan(want) ? std::isnan(got) : got == want, "e4m3_to_float", got, want);
    expect(std::signbit(got) == (byte >= 128), "sign of e4m3_to_float", byte, byte);
    expect(float_to_e4m3(got) == byte, "there and back", float_to_e4m3(got), byte);
  }
  // The result depends on the upper half of the bits and on whether the lower half is zero, so these are all floats there are.
  for (uint32_t high = 0; high < 0x8000; high++)
    for (uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0xffffu}) {
      const uint32_t bits = high << 16 | low;
      const float x = as_float(bits);
      const int want = std::isnan(x) ? 0x7f : nearest(x);
      expect(float_to_e4m3(x) == want, "float_to_e4m3", float_to_e4m3(x), want);
      expect(float_to_e4m3(as_float(bits | 0x80000000u)) == (want | 0x80), "float_to_e4m3, negative", x, want | 0x80);
    }
  printf("%d failures\n", failures);
  return failures != 0;
}
