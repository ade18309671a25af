// CUDA C++ on the CPU: what a kernel sees when the C++ compiler compiles it (EYRIE_EMULATED). One fiber per thread, one OS thread
// per running block; barriers and warp collectives are where threads meet. Several schedules (config.h) take the place of the
// hardware's; what they show is a missing barrier or wait, a wrong mask, divergence, a bad address. Not shown: missing fences and
// missing dependency_wait() (blocks see each other's writes in order here), spinning, bank conflicts, speed.
#pragma once
#include "emulation/collectives.h"
#include "emulation/intrinsics.h"
#include "emulation/launch.h"
#include "emulation/tensor_cores.h"
#include "emulation/types.h"

#define threadIdx (static_cast<const uint3&>(::eyrie::emulation::running->index))
#define blockIdx (static_cast<const uint3&>(::eyrie::emulation::running->block->index))
#define blockDim (static_cast<const dim3&>(::eyrie::emulation::running->block->dim))
#define gridDim (static_cast<const dim3&>(::eyrie::emulation::running->block->grid))
constexpr int warpSize = 32;

namespace eyrie::emulation {

inline unsigned char* shared_memory() { return running->block->shared; }

}  // namespace eyrie::emulation
