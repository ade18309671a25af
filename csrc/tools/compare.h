// How far a device's results may be from the CPU's, and how far they are.
#pragma once
#include "tools/records.h"

namespace eyrie {

struct Difference {
  double relative = 0;  // norm of the difference over the norm of what was expected
  double largest = 0;
  std::string problem;  // empty: within the tolerance
};

// Relative tolerance of what `op` writes into argument `i`; 0 means equal bits. `narrow`: the activations are bf16.
double tolerance(const Op& op, const Record& record, size_t i, bool narrow);

// Compares the elements of tensor argument `i` in `got` (the device's bytes of its region) with what the CPU made of it.
Difference compare(const Op& op, const Record& record, size_t i, const std::vector<char>& got, double allowed);

// The first byte of a region that no written tensor covers and that is not as before; -1 when there is none.
int64_t stray_write(const Op& op, const Record& record, size_t region, const std::vector<char>& got);

float to_float(DType dtype, const char* element);

// Calls f(byte offset in the region) for every element of a tensor argument.
template <class F>
void for_elements(const RecordArgument& a, F f) {
  const Tensor& t = a.tensor;
  const int64_t n = numel(t), size = dtype_info(t.dtype).block_bytes;
  int64_t index[kMaxRank] = {};
  for (int64_t i = 0; i < n; i++) {
    int64_t at = 0;
    for (int d = 0; d < t.rank; d++) at += index[d] * t.stride[d];
    f(int64_t(a.offset) + at * size);
    for (int d = t.rank - 1; d >= 0 && ++index[d] == t.shape[d]; d--) index[d] = 0;
  }
}

}  // namespace eyrie
