// What a kernel reported through its Fault (context.h), as an error of the host.
#pragma once
#include "core/backend.h"
#include "core/error.h"
#include "cuda/context.h"

namespace eyrie::cuda {

// Throws EYRIE_EXECUTION when a fault is there, and clears it. The stream must be idle.
void throw_fault(Fault& fault);
// Throws EYRIE_UNSUPPORTED when the op has no CUDA kernel, or none for the format of a weight.
void require_kernel(const Launch& launch);

}  // namespace eyrie::cuda
