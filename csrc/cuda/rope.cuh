// Rotary embedding of one pair: (a, b) -> (a cos - b sin, b cos + a sin) in fp32, in the order of csrc/cpu/rope.h. Row p of a
// table is cos(R/2) then sin(R/2) of position p.
#pragma once
#include "cuda/gpu.cuh"

namespace eyrie::cuda {

GPU_INLINE void rope_pair(float& a, float& b, float cosine, float sine) {
  const float x = a, y = b;
  a = fmaf(x, cosine, -__fmul_rn(y, sine));
  b = fmaf(y, cosine, __fmul_rn(x, sine));
}

}  // namespace eyrie::cuda
