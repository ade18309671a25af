// The numbers that codes of 4 bits stand for in formats with a table.
#pragma once
#include "core/tensor.h"

namespace eyrie {

// IQ4_NL, IQ4_XS (ggml): integers, exact in bf16.
alignas(64) static constexpr float kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                     1,    13,   25,  38,  53,  69,  89,  113};
// E2M1 (OCP Microscaling Formats 1.0, 5.3.3), whose second zero has no sign, as in ggml
alignas(64) static constexpr float kFp4Values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6};

// Tables of bf16 numbers for codes of up to six bits: what a code of `bits` bits stands for, at every place that ends in these bits.
enum class Codes : uint8_t { q2, q3, q4, q5, q6, iq4, fp4, count };
struct CodeTable {
  alignas(64) uint16_t value[64];
};
struct CodeTables {
  CodeTable of[int(Codes::count)];
};
constexpr uint16_t exact_bf16(float f) { return uint16_t(__builtin_bit_cast(uint32_t, f) >> 16); }
constexpr CodeTables make_code_tables() {
  CodeTables t{};
  for (int i = 0; i < 64; i++) {
    for (int bits = 2; bits <= 6; bits++) t.of[bits - 2].value[i] = exact_bf16(float(i & ((1 << bits) - 1)));
    t.of[int(Codes::iq4)].value[i] = exact_bf16(kIq4Values[i & 15]);
    t.of[int(Codes::fp4)].value[i] = exact_bf16(kFp4Values[i & 15]);
  }
  return t;
}
static constexpr CodeTables kCodeTables = make_code_tables();

}  // namespace eyrie
