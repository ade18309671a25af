// Activations, the formulas of cpu/act.h. Kinds are those of the ops `act` and `glu`; a constant kind leaves one branch.
#pragma once
#include "cuda/math.cuh"

namespace eyrie::cuda {

enum ActKind { kSilu, kGeluTanh, kGeluErf, kRelu2, kSigmoid, kOai, kActKinds };

GPU_INLINE float act_value(int kind, float g) {
  switch (kind) {
    case kSilu: return g / add_rn(1.0f, exp_exact(sub_rn(0.0f, g)));
    case kGeluTanh: {
      const float cube = mul_rn(mul_rn(g, g), g);
      return mul_rn(mul_rn(0.5f, g), add_rn(1.0f, tanh_exact(mul_rn(0.7978845608f, fmaf(0.044715f, cube, g)))));
    }
    case kGeluErf: return mul_rn(mul_rn(0.5f, g), add_rn(1.0f, erf_exact(mul_rn(0.7071067812f, g))));
    case kRelu2: {
      const float r = max_of(0.0f, g);
      return mul_rn(r, r);
    }
    default: return 1.0f / add_rn(1.0f, exp_exact(sub_rn(0.0f, g)));  // kSigmoid
  }
}

GPU_INLINE float glu_value(int kind, float g, float u, float limit, float alpha) {
  if (kind != kOai) return mul_rn(act_value(kind, g), u);
  const float x = min_of(limit, g);
  const float y = max_of(-limit, min_of(limit, u));
  const float gate = x / add_rn(1.0f, exp_exact(mul_rn(-alpha, x)));
  return mul_rn(add_rn(y, 1.0f), gate);
}

}  // namespace eyrie::cuda
