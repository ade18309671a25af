// Activations. Kinds are those of the ops `act` and `glu`.
#pragma once
#include "cuda/gpu.cuh"

namespace eyrie::cuda {

enum ActKind { kSilu, kGeluTanh, kGeluErf, kRelu2, kSigmoid, kOai };

GPU_INLINE float act_value(int kind, float g) {
  switch (kind) {
    case kSilu: return g / (1.0f + expf(-g));
    case kGeluTanh: return 0.5f * g * (1.0f + tanhf(0.7978845608f * fmaf(0.044715f, g * g * g, g)));
    case kGeluErf: return 0.5f * g * (1.0f + erff(0.7071067812f * g));
    case kRelu2: {
      const float r = g > 0.0f || g != g ? g : 0.0f;
      return r * r;
    }
    default: return 1.0f / (1.0f + expf(-g));  // kSigmoid
  }
}

// act(g) u; kOai (gpt-oss): g' sigmoid(alpha g') (u' + 1), g' = min(g, limit), u' = u within +-limit. NaN stays NaN.
GPU_INLINE float glu_value(int kind, float g, float u, float limit, float alpha) {
  if (kind != kOai) return act_value(kind, g) * u;
  const float x = g > limit ? limit : g;
  const float y = u > limit ? limit : u < -limit ? -limit : u;
  return (y + 1.0f) * (x / (1.0f + expf(-alpha * x)));
}

}  // namespace eyrie::cuda
