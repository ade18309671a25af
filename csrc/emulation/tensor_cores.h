// The instructions behind gpu.cuh: asynchronous copies to shared memory, matrix loads and matrix products of a warp.
#pragma once
#include <cstdint>

#include "emulation/block.h"

namespace eyrie::emulation {

// cp.async: `source_bytes` of `bytes` (4, 8 or 16) are copied, the rest is zeroed, at once or at the wait (Config::eager).
void copy_async(void* shared, const void* global, int bytes, int source_bytes);
void copy_async_commit();
// Waits until at most `pending` of the thread's groups have not landed.
void copy_async_wait(int pending);

// mma.m16n8k16, row.col, fp32 sums in the order of k; fragments as gpu.cuh describes them. All 32 lanes.
void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site = Site::current());
void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site = Site::current());

// ldmatrix.x4. All 32 lanes.
void load_matrix4(uint32_t (&r)[4], const void* row, bool transposed, const Site& site = Site::current());

}  // namespace eyrie::emulation
