// linear: out = x · wᵀ (+ bias) (+ residual)
#include "cpu/product.h"

namespace eyrie::cpu::EYRIE_LEVEL {

void linear(const Call& call, Team& team) {
  const auto a = linear_args(call);
  const PanelList list = list_of(*a.w);
  EYRIE_UNLESS_FIT(linear, list, a.activations, a.T);
  const Prepare how{nullptr, false, 0.0f, a.activations == 0, any_halves(list)};
  const Activations x = prepare(team, *a.x, a.T, a.K, how, !any_nibbles(list), any_nibbles(list));
  const float* bias = a.bias ? (const float*)a.bias->data : nullptr;
  const float* residual = a.residual ? (const float*)a.residual->data : nullptr;
  float* out = (float*)a.out->data;
  const int64_t out_row = a.out->stride[0];

  multiply(team, list, team_range(team, list.count), x,
           [&](int64_t i, int64_t r0, int R, const float* acc, const float*) {
             const int64_t n0 = i * kPanel;
             const int n = int(a.N - n0 < kPanel ? a.N - n0 : kPanel);
             const V16 b = bias ? v_load_n(bias + n0, n) : v_zero();
             for (int r = 0; r < R; r++) {
               V16 v = v_load(acc + r * kPanel);
               if (bias) v = v_add(v, b);
               if (residual) v = v_add(v, v_load_n(residual + (r0 + r) * a.N + n0, n));
               v_store_n(out + (r0 + r) * out_row + n0, v, n);
             }
           });
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
