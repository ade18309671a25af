// rope: heads (t, h) of x [T,H,D], split over the workers.
#include "cpu/rope.h"

namespace eyrie::cpu::EYRIE_LEVEL {

void rope(const Call& call, Team& team) {
  const auto a = rope_args(call);
  const int32_t* rows = (const int32_t*)a.rows->data;
  const Range range = team_range(team, a.T * a.H);
  for (int64_t i = range.begin; i < range.end; i++) {
    const int64_t t = i / a.H, h = i % a.H;
    float* x = (float*)a.x->data + t * a.x->stride[0] + h * a.x->stride[1] + a.offset;
    rope_row(x, (const float*)a.table->data + rows[t] * a.R, int(a.R), a.interleaved);
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
