// tree_prepare: masks, positions and slots of the nodes of draft trees. tree_accept: a walk from the root to the child that was drafted as
// the target model then sampled; what lies behind the accepted nodes in `path` is -1.
#include "core/team.h"

namespace eyrie::cpu::EYRIE_LEVEL {

void tree_prepare(const Call& call, Team& team) {
  const auto a = tree_prepare_args(call);
  const Range range = team_range(team, a.B);
  for (int64_t b = range.begin; b < range.end; b++) {
    const int32_t* parents = (const int32_t*)a.parents->data + b * a.Q;
    const int32_t* pages = (const int32_t*)a.block_table->data + b * a.M;
    const int32_t nodes = ((const int32_t*)a.num_nodes->data)[b], base = ((const int32_t*)a.base->data)[b];
    uint32_t* anc = (uint32_t*)a.anc->data + b * a.Q * 4;
    int32_t *rows = (int32_t*)a.rows->data + b * a.Q, *slots = (int32_t*)a.slots->data + b * a.Q;
    for (int32_t i = 0; i < a.Q; i++) {
      const int32_t parent = i == 0 ? -1 : i < nodes ? parents[i] : 0;
      for (int w = 0; w < 4; w++) anc[4 * i + w] = parent < 0 ? 0 : anc[4 * parent + w];
      anc[4 * i + i / 32] |= 1u << (i % 32);
      rows[i] = parent < 0 ? base : rows[parent] + 1;
      slots[i] = pages[(base + i) / a.page_size] * a.page_size + (base + i) % a.page_size;
    }
    ((int32_t*)a.seq_lens->data)[b] = base + int32_t(a.Q);
  }
}

void tree_accept(const Call& call, Team& team) {
  const auto a = tree_accept_args(call);
  const Range range = team_range(team, a.B);
  for (int64_t b = range.begin; b < range.end; b++) {
    const int32_t* draft = (const int32_t*)a.draft->data + b * a.Q;
    const int32_t* parents = (const int32_t*)a.parents->data + b * a.Q;
    const int32_t* sampled = (const int32_t*)a.sampled->data + b * a.Q;
    const int32_t nodes = ((const int32_t*)a.num_nodes->data)[b];
    int32_t* path = (int32_t*)a.path->data + b * a.Q;
    int32_t at = 0, accepted = 0;
    path[accepted++] = at;
    for (int32_t c = 1; c < nodes; c++) {  // parents come first: one sweep sees every child after its parent
      if (parents[c] != at || draft[c] != sampled[at]) continue;
      at = c;
      path[accepted++] = at;
    }
    for (int64_t d = accepted; d < a.Q; d++) path[d] = -1;
    ((int32_t*)a.num_accepted->data)[b] = accepted;
    ((int32_t*)a.bonus->data)[b] = sampled[at];
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
