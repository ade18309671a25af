// Call: one checked invocation of an op. Arguments are stored in the order of the signature.
#pragma once
#include "core/team.h"
#include "core/tensor.h"

namespace eyrie {

constexpr int kMaxArgs = 24;
constexpr int kMaxSymbols = 16;

struct Call {
  Tensor tensor[kMaxArgs];     // data == nullptr and rank == 0: an absent optional tensor
  double scalar[kMaxArgs];     // at the same index as in the signature
  int64_t size[kMaxSymbols];  // symbolic sizes in the order of first appearance; -1 when never bound (optional absent)
};

// A kernel is entered by every worker of the team. It must not throw.
using Kernel = void (*)(const Call&, Team&);
// A check looks at scalars and sizes and, where the host can read them, at values (ids, block tables, …) on the executor thread
// before the kernel runs; it throws eyrie::Error. Devices report bad values themselves.
using Check = void (*)(const Call&, bool values);

}  // namespace eyrie
