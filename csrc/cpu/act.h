// Activations on 16 lanes. Kinds are those of the ops `act` and `glu`.
#pragma once
#include "cpu/math.h"

namespace eyrie {

enum ActKind { kSilu, kGeluTanh, kGeluErf, kRelu2, kSigmoid, kOai, kActKinds };

EYRIE_INLINE V16 act_v16(int kind, V16 g) {
  const V16 one = v_set1(1.0f);
  switch (kind) {
    case kSilu: return v_div(g, v_add(one, v_exp(v_sub(v_zero(), g))));
    case kGeluTanh: {  // g/2 (1 + tanh(sqrt(2/pi) (g + 0.044715 g^3)))
      const V16 cube = v_mul(v_mul(g, g), g);
      const V16 t = v_tanh(v_mul(v_set1(0.7978845608f), v_fma(v_set1(0.044715f), cube, g)));
      return v_mul(v_mul(v_set1(0.5f), g), v_add(one, t));
    }
    case kGeluErf: {  // g/2 (1 + erf(g / sqrt 2))
      const V16 t = v_erf(v_mul(v_set1(0.7071067812f), g));
      return v_mul(v_mul(v_set1(0.5f), g), v_add(one, t));
    }
    case kRelu2: {
      const V16 r = v_max(v_zero(), g);
      return v_mul(r, r);
    }
    default: return v_div(one, v_add(one, v_exp(v_sub(v_zero(), g))));  // kSigmoid
  }
}

// act(g) u; kOai (gpt-oss): g' sigmoid(alpha g') (u' + 1), g' = min(g, limit), u' = u within +-limit.
EYRIE_INLINE V16 glu_v16(int kind, V16 g, V16 u, float limit, float alpha) {
  if (kind != kOai) return v_mul(act_v16(kind, g), u);
  const V16 x = v_min(v_set1(limit), g);
  const V16 y = v_max(v_set1(-limit), v_min(v_set1(limit), u));
  const V16 gate = v_div(x, v_add(v_set1(1.0f), v_exp(v_mul(v_set1(-alpha), x))));
  return v_mul(v_add(y, v_set1(1.0f)), gate);
}

}  // namespace eyrie
