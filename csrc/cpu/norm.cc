// norm: rows (t, g) of x [T,G,D], split over the workers. The weight has one row, or one for each group.
#include "cpu/norm.h"

namespace eyrie::cpu::EYRIE_LEVEL {

void norm(const Call& call, Team& team) {
  const auto a = norm_args(call);
  const Range range = team_range(team, a.T * a.G);
  for (int64_t r = range.begin; r < range.end; r++) {
    const int64_t t = r / a.G, g = r % a.G;
    const float* x = (const float*)a.x->data + t * a.x->stride[0] + g * a.x->stride[1];
    float* out = (float*)a.out->data + t * a.out->stride[0] + g * a.out->stride[1];
    const float* w = a.weight ? (const float*)a.weight->data + (a.W == 1 ? 0 : g * a.D) : nullptr;
    const float* b = a.bias ? (const float*)a.bias->data + (a.V == 1 ? 0 : g * a.D) : nullptr;
    if (a.kind == 0) {
      rms_norm_row(x, w, a.eps, a.D, out);
    } else {
      layer_norm_row(x, w, b, a.eps, a.D, out);
    }
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
