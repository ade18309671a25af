// tree_accept: a thread per tree walks from the root to the child that was drafted as the target model then sampled. What lies
// behind the accepted nodes in `path` is -1.
#include "cuda/gpu.cuh"
#include "cuda/kernels.h"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 32;

struct Trees {
  const int *draft, *parents, *num_nodes, *sampled;
  int *path, *num_accepted, *bonus;
  int trees, width;
};

__global__ void __launch_bounds__(kThreads) tree_accept_kernel(Trees t, FaultAt fault) {
  dependency_wait();
  const int b = blockIdx.x * kThreads + threadIdx.x;
  if (b >= t.trees) return;
  const int64_t row = int64_t(b) * t.width;
  const int *draft = t.draft + row, *parents = t.parents + row, *sampled = t.sampled + row;
  int* path = t.path + row;
  int nodes = t.num_nodes[b], at = 0, accepted = 0;
  if (!in_range(fault, 2, b, nodes, 1, int64_t(t.width) + 1)) nodes = 1;
  path[accepted++] = 0;
  int want = sampled[0];
  for (int c = 1; c < nodes; c++) {  // parents come first: one sweep sees every child after its parent
    const int parent = parents[c];
    if (!in_range(fault, 1, row + c, parent, 0, c, t.width)) break;
    if (parent != at || draft[c] != want) continue;
    at = c;
    want = sampled[c];
    path[accepted++] = c;
  }
  for (int d = accepted; d < t.width; d++) path[d] = -1;
  t.num_accepted[b] = accepted;
  t.bonus[b] = want;
}

}  // namespace

void tree_accept(const Call& call, Context& context) {
  const TreeAcceptArgs a = tree_accept_args(call);
  if (a.B == 0 || a.Q == 0) return;
  const auto ints = [](const Tensor* t) { return static_cast<int*>(t->data); };
  const Trees trees = {ints(a.draft),        ints(a.parents), ints(a.num_nodes), ints(a.sampled), ints(a.path),
                       ints(a.num_accepted), ints(a.bonus),   int(a.B),          int(a.Q)};
  launch(context, tree_accept_kernel, unsigned((a.B + kThreads - 1) / kThreads), kThreads, 0, trees, fault_at(context));
}

}  // namespace eyrie::cuda
