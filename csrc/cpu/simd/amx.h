// Level `amx`: AVX-512 with products on the tiles of Intel's AMX (TDPBF16PS), whose arithmetic is the one all levels share (cpu/matmul_tile.h). Only matrix
// families are compiled for it (cpu/amx.h); the other kernels, and few rows, are those of `avx512`.
#pragma once
#define EYRIE_LEVEL amx
#define EYRIE_LEVEL_TILES 1
#include "cpu/simd/avx512.h"
