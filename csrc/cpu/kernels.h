// The kernels of one instruction-set level. Every file of csrc/cpu (one kernel family each) is compiled once per level with the
// level's csrc/cpu/simd/<level>.h included by force; kernels live in namespace eyrie::cpu::<level>. Such a file uses V16, C types
// and static functions only: an inline function or template shared between levels would be one weak symbol, and the linker
// could keep the AVX-512 copy for everybody (a test looks for weak symbols).
#pragma once
#include "core/call.h"
#include "core/ops.gen.h"
#include "core/tiles.h"

#ifdef EYRIE_LEVEL
namespace eyrie::cpu::EYRIE_LEVEL {
#define OP(name, signature) void name(const Call& call, Team& team);
#include "ops.def"
#undef OP
}  // namespace eyrie::cpu::EYRIE_LEVEL
#if defined(EYRIE_LEVEL_PAIRS) || defined(EYRIE_LEVEL_TILES)
namespace eyrie::cpu::avx512 {  // does what is not done in pairs or tiles
#define OP(name, signature) void name(const Call& call, Team& team);
#include "ops.def"
#undef OP
}  // namespace eyrie::cpu::avx512
#endif
#endif
