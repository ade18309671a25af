// prepare() and multiply() of this level: products of single numbers, of pairs, or of tiles. EYRIE_UNLESS_FIT(op, list, activations, rows): hands a launch
// that this level's products are not for to the level below.
#pragma once
#if defined(EYRIE_LEVEL_TILES)
#include "cpu/amx.h"
#elif defined(EYRIE_LEVEL_PAIRS)
#include "cpu/pairs.h"
#else
#include "cpu/matmul.h"
#endif

#if defined(EYRIE_LEVEL_TILES) || defined(EYRIE_LEVEL_PAIRS)
#define EYRIE_UNLESS_FIT(op, list, activations, rows) \
  if (!fits(list, activations, rows)) return avx512::op(call, team)
#else
#define EYRIE_UNLESS_FIT(op, list, activations, rows)
#endif
