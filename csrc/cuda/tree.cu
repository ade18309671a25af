// tree_prepare: a thread per node climbs to the root. tree_accept: a thread per tree walks from the root to the child that was drafted as
// the target model then sampled; what lies behind the accepted nodes in `path` is -1.
#include "cuda/gpu.cuh"
#include "cuda/kernels.h"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 32;

constexpr int kMostNodes = 128;

struct Nodes {
  const int *parents, *num_nodes, *base, *block_table;
  int *rows, *slots, *seq_lens;
  uint4* anc;
  int width, pages, page_size;
};

// A block per tree.
__global__ void __launch_bounds__(kMostNodes) tree_prepare_kernel(Nodes t, FaultAt fault) {
  dependency_wait();
  const int b = int(blockIdx.x), i = int(threadIdx.x);
  if (i >= t.width) return;
  const int64_t row = int64_t(b) * t.width;
  const int* parents = t.parents + row;
  int nodes = t.num_nodes[b], base = t.base[b];
  if (!in_range(fault, 1, b, nodes, 1, int64_t(t.width) + 1)) nodes = 1;
  if (!in_range(fault, 2, b, base, 0, int64_t(t.pages) * t.page_size - t.width + 1)) base = 0;
  uint32_t w[4] = {0, 0, 0, 0};
  int depth = 0;
  for (int at = i;;) {
    // By comparison: an index that is not known when the kernel is compiled would put w into local memory.
#pragma unroll
    for (int k = 0; k < 4; k++) w[k] |= at / 32 == k ? 1u << (at % 32) : 0u;
    if (at == 0) break;
    const int parent = at < nodes ? parents[at] : 0;
    if (!in_range(fault, 0, row + at, parent, 0, at, t.width)) break;
    at = parent;
    depth++;
  }
  t.anc[row + i] = uint4{w[0], w[1], w[2], w[3]};
  t.rows[row + i] = base + depth;
  const int index = base + i;
  int page = 0;
  if (index / t.page_size < t.pages) page = t.block_table[int64_t(b) * t.pages + index / t.page_size];
  if (!in_range(fault, 3, int64_t(b) * t.pages + index / t.page_size, page, 0, 0x7fffffff / t.page_size, t.pages))
    page = 0;
  t.slots[row + i] = page * t.page_size + index % t.page_size;
  if (i == 0) t.seq_lens[b] = base + t.width;
}

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

void tree_prepare(const Call& call, Context& context) {
  const TreePrepareArgs a = tree_prepare_args(call);
  if (a.B == 0 || a.Q == 0) return;
  const auto ints = [](const Tensor* t) { return static_cast<int*>(t->data); };
  const Nodes nodes = {ints(a.parents), ints(a.num_nodes), ints(a.base),     ints(a.block_table),
                       ints(a.rows),    ints(a.slots),     ints(a.seq_lens), static_cast<uint4*>(a.anc->data),
                       int(a.Q),        int(a.M),          a.page_size};
  launch(context, tree_prepare_kernel, unsigned(a.B), kMostNodes, 0, nodes, fault_at(context));
}

void tree_accept(const Call& call, Context& context) {
  const TreeAcceptArgs a = tree_accept_args(call);
  if (a.B == 0 || a.Q == 0) return;
  const auto ints = [](const Tensor* t) { return static_cast<int*>(t->data); };
  const Trees trees = {ints(a.draft),        ints(a.parents), ints(a.num_nodes), ints(a.sampled), ints(a.path),
                       ints(a.num_accepted), ints(a.bonus),   int(a.B),          int(a.Q)};
  launch(context, tree_accept_kernel, unsigned((a.B + kThreads - 1) / kThreads), kThreads, 0, trees, fault_at(context));
}

}  // namespace eyrie::cuda
