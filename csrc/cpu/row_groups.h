// Rows of activations in groups, the rows of a register tile, and what to do with them before a product: the same for products of single numbers and
// of pairs.
#pragma once
#include "core/tensor.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

constexpr int kGroup = 4;

// The first row of group g: groups are as even as possible. X: has rows and groups.
template <class X>
EYRIE_INLINE int64_t group_begin(const X& x, int64_t g) {
  const int64_t size = x.rows / x.groups, more = x.rows % x.groups;
  return g * size + (g < more ? g : more);
}

// What to do with the rows of x before the product.
struct Prepare {
  const float* norm;  // RMSNorm weight, or null
  bool normalise;
  float eps;
  bool bf16;  // always, where products are of pairs
  bool halves;  // whether sums of halves are wanted
};

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
