// tree_accept: a walk from the root to the child that was drafted as the target model then sampled. What lies behind the
// accepted nodes in `path` is -1.
#include "core/team.h"

namespace eyrie::cpu::EYRIE_LEVEL {

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
