// Level `avx512_bf16`: AVX-512 with products of pairs of bf16 (VDPBF16PS). Only matrix families are compiled for it (cpu/pairs.h); the
// other kernels are those of `avx512`.
#pragma once
#define EYRIE_LEVEL avx512_bf16
#define EYRIE_LEVEL_PAIRS 1
#include "cpu/simd/avx512.h"
