// From the dtype of a tensor to the C++ type of its elements.
#pragma once
#include "core/tensor.h"
#include "cuda/gpu.cuh"

namespace eyrie::cuda {

// Calls f with a value of the C++ type of an activation.
template <class F>
void with_type(DType t, F f) {
  if (t == DType::f32) f(float());
  else if (t == DType::bf16) f(bf16());
  else f(f16());
}

}  // namespace eyrie::cuda
