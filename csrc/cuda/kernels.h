// The CUDA kernels: one host function per op that launches it. They are declared weak: an op whose kernel is not written yet
// is a null pointer, and that null is the support query.
#pragma once
#include "core/call.h"
#include "core/ops.gen.h"
#include "cuda/context.h"

namespace eyrie::cuda {

using CudaKernel = void (*)(const Call&, Context&);
#define OP(name, signature) __attribute__((weak)) void name(const Call& call, Context& context);
#include "ops.def"
#undef OP
extern const CudaKernel kKernels[];  // in the order of ops.def

}  // namespace eyrie::cuda
