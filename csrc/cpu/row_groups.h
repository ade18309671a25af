// Rows of activations in groups, the rows of a register tile, and what to do with them before a product: the same for products of single numbers and
// of pairs.
#pragma once
#include "core/tensor.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

#ifdef EYRIE_LEVEL_TILES
constexpr int kGroup = 16;
#else
constexpr int kGroup = 4;
#endif

// The first row of group g: groups are as even as possible. X: has rows and groups.
template <class X>
EYRIE_INLINE int64_t group_begin(const X& x, int64_t g) {
  const int64_t size = x.rows / x.groups, more = x.rows % x.groups;
  return g * size + (g < more ? g : more);
}

// The rows that group g and all groups before it take in memory.
#ifdef EYRIE_LEVEL_TILES
template <class X>
EYRIE_INLINE int64_t stored_rows(const X& x, int64_t) {  // alike, in fours: one shape of tiles for all groups
  return x.groups ? ((x.rows + x.groups - 1) / x.groups + 3) / 4 * 4 : 0;
}
template <class X>
EYRIE_INLINE int64_t stored_before(const X& x, int64_t g) {
  return g * stored_rows(x, g);
}
#else
template <class X>
EYRIE_INLINE int64_t stored_rows(const X& x, int64_t g) {
  return group_begin(x, g + 1) - group_begin(x, g);
}
template <class X>
EYRIE_INLINE int64_t stored_before(const X& x, int64_t g) {
  return g ? group_begin(x, g) : 0;  // no rows are no groups
}
#endif

// Inputs k to k + 31 of a row of K, zeros behind its end: rounded to bf16 on request, and flushed to zero below 2^-98, so that scaling one by 16^-6 is exact.
EYRIE_INLINE void load_block(const float* x, int64_t k, int64_t K, bool bf16, V16* a, V16* b) {
  const V16 tiny = v_set1(0x1p-98f), zero = v_zero();
  if (k + 32 <= K) {
    *a = v_load(x + k);
    *b = v_load(x + k + 16);
  } else {
    *a = v_load_n(x + k, int(K - k));
    *b = v_load_n(x + k + 16, int(K - k - 16));
  }
  if (bf16) {
    *a = v_round_bf16(*a);
    *b = v_round_bf16(*b);
  }
  *a = v_select_lt(v_max(*a, v_sub(zero, *a)), tiny, zero, *a);
  *b = v_select_lt(v_max(*b, v_sub(zero, *b)), tiny, zero, *b);
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
