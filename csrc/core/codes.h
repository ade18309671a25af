// The numbers that codes of 4 bits stand for in formats with a table.
#pragma once
#include "core/tensor.h"

namespace eyrie {

// IQ4_NL, IQ4_XS (ggml): integers, exact in bf16.
alignas(64) static constexpr float kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                                     1,    13,   25,  38,  53,  69,  89,  113};
// E2M1 (OCP Microscaling Formats 1.0, 5.3.3), whose second zero has no sign, as in ggml
alignas(64) static constexpr float kFp4Values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6};

}  // namespace eyrie
