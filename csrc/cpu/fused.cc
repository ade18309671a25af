// fused_qkv and fused_glu: the projections that share their (normalised) input, in one launch. Each step is the one of the
// primitive ops, so the bits are theirs.
#include "cpu/act.h"
#include "cpu/kv.h"
#include "cpu/product.h"
#include "cpu/rope.h"

namespace eyrie::cpu::EYRIE_LEVEL {

void fused_glu(const Call& call, Team& team) {
  const auto a = fused_glu_args(call);
  const PanelList list = in_turn(*a.w_gate, *a.w_up);
  EYRIE_UNLESS_FIT(fused_glu, list, a.activations, a.T);
  const Prepare how{a.norm ? (const float*)a.norm->data : nullptr, a.norm != nullptr, a.eps, a.activations == 0,
                    any_halves(list)};
  const Activations x = prepare(team, *a.x, a.T, a.C, how, !all_nibbles(list), any_nibbles(list));
  float* out = (float*)a.out->data;

  multiply(team, list, team_range(team, list.count, 2), x,
           [&](int64_t i, int64_t r0, int R, const float* acc, const float* before) {
             if (i % 2 == 0) return;
             const int64_t n0 = i / 2 * kPanel;
             const int n = int(a.I - n0 < kPanel ? a.I - n0 : kPanel);
             for (int r = 0; r < R; r++) {
               const V16 up = v_load(acc + r * kPanel), gate = v_load(before + r * kPanel);
               v_store_n(out + (r0 + r) * a.I + n0, glu_v16(a.kind, gate, up, 0.0f, 1.0f), n);
             }
           });
}

void fused_qkv(const Call& call, Team& team) {
  const auto a = fused_qkv_args(call);
  const PanelList list = one_after_the_other(*a.wq, *a.wk, *a.wv);
  EYRIE_UNLESS_FIT(fused_qkv, list, a.activations, a.T);
  const Prepare how{a.norm ? (const float*)a.norm->data : nullptr, a.norm != nullptr, a.eps, a.activations == 0,
                    any_halves(list)};
  const Activations x = prepare(team, *a.x, a.T, a.C, how, !all_nibbles(list), any_nibbles(list));

  float* const kv = (float*)team.shared(size_t(a.T * (a.KD + a.VD)) * 4);
  float* const to[3] = {(float*)a.q->data, kv, kv + a.T * a.KD};  // [T,Q], [T,KD], [T,VD]
  const Tensor* const bias[3] = {a.bq, a.bk, a.bv};
  multiply(team, list, team_range(team, list.count), x,
           [&](int64_t i, int64_t r0, int R, const float* acc, const float*) {
             const PanelAt at = panel_at(list, i);
             const int64_t N = list.m[at.matrix].N, n0 = at.panel * kPanel;
             const int n = int(N - n0 < kPanel ? N - n0 : kPanel);
             const Tensor* t = bias[at.matrix];
             const V16 b = t ? v_load_n((const float*)t->data + n0, n) : v_zero();
             for (int r = 0; r < R; r++) {
               V16 v = v_load(acc + r * kPanel);
               if (t) v = v_add(v, b);
               v_store_n(to[at.matrix] + (r0 + r) * N + n0, v, n);
             }
           });
  team.barrier();

  // Heads of q, then of k, then of v, of each token: norm and rotation in place, then to the pages.
  const int64_t heads = a.H + 2 * a.J;
  const int32_t *rows = (const int32_t*)a.rows->data, *slots = (const int32_t*)a.slots->data;
  const Range mine = team_range(team, a.T * heads);
  for (int64_t i = mine.begin; i < mine.end; i++) {
    const int64_t t = i / heads, h = i % heads, j = h - a.H;
    if (j >= a.J) {
      kv_store_row({a.v_pages, a.v_scale, a.v_scales}, slots[t], j - a.J, to[2] + t * a.VD + (j - a.J) * a.E);
      continue;
    }
    float* head = j < 0 ? to[0] + t * a.Q + h * a.D : to[1] + t * a.KD + j * a.D;
    const Tensor* norm = j < 0 ? a.q_norm : a.k_norm;
    if (norm) rms_norm_row(head, (const float*)norm->data, a.eps, a.D, head);
    if (a.rope) rope_row(head, (const float*)a.rope->data + rows[t] * a.R, int(a.R), 0);
    if (j >= 0) kv_store_row({a.k_pages, a.k_scale, a.k_scales}, slots[t], j, head);
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
