// prepare() and multiply() of this level: products of single numbers, or of pairs. EYRIE_IN_PAIRS(op, list, activations): hands a launch that
// cannot be done in pairs to the level below.
#pragma once
#ifdef EYRIE_LEVEL_PAIRS
#include "cpu/pairs.h"
#define EYRIE_IN_PAIRS(op, list, activations) \
  if (!in_pairs(list, activations)) return avx512::op(call, team)
#else
#include "cpu/matmul.h"
#define EYRIE_IN_PAIRS(op, list, activations)
#endif
