// The CUDA kernels: one host function per op that launches it on a stream. They are declared weak: an op whose kernel is not
// written yet is a null pointer, and that null is the support query.
#pragma once
#include <cuda_runtime.h>

#include "core/call.h"
#include "core/ops.gen.h"

namespace eyrie::cuda {

using CudaKernel = void (*)(const Call&, cudaStream_t);
#define OP(name, signature) __attribute__((weak)) void name(const Call& call, cudaStream_t stream);
#include "ops.def"
#undef OP

}  // namespace eyrie::cuda
