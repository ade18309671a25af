// Paged attention of prompts and trees: one launch of persistent blocks that plan the work for themselves (attention_plan.cuh) and walk
// runs of chunks (attention_runs.cuh, attention_tree.cuh). For a type of pages; compiled once for each.
#pragma once
#include <algorithm>

#include "cuda/attention_tree.cuh"
#include "cuda/kernels.h"

namespace eyrie::cuda::attention {
namespace {

// Partial results take up to this much of the workspace: what a call of its shape could need, if that is less. Requests that do
// not fit are walked whole.
constexpr size_t kPartialBytes = size_t(64) << 20;
constexpr int kMinDepth = 4;  // steps of a warp's ring

// What a block does for an item of a list; of split rows as many chunks as follow each other before `end`.
GPU_INLINE Run next_run(const Args& a, const Plan& plan, int heads, int list, int item, int end) {
  const int b = request_of(plan, list, item), local = item - plan.start[list][b];
  const Request r = request_at(a, a.first_request + b, plan.tree[b]);
  // Of whole rows the last see most: they go first.
  if (list == kBlockWhole) return {b, local % heads, r.groups - 1 - local / heads, 0, r.chunks, false};
  const bool split = is_split(a, plan, b);
  if (list == kTail && !split) return {b, local / r.groups, local % r.groups, 0, r.chunks, false};
  const int count = list == kTail ? r.chunks - r.regular : r.regular, rows = local / count, chunk = local % count;
  const int base = list == kTail ? r.regular : 0, stop = list == kTail ? chunk + 1 : min(count, chunk + end - item);
  return {b, rows / r.groups, rows % r.groups, base + chunk, base + stop, true};
}

template <class T, int D>
__global__ void __launch_bounds__(kThreads, 1) attention_kernel(const __grid_constant__ Args a) {
  dependency_wait();
  using M = Memory<T, D>;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  if (M::least > 163 * 1024) return;  // no such device has the room: never launched (run, below)
#endif
  GPU_SHARED(memory);
  auto& x = *reinterpret_cast<typename M::Fixed*>(memory);
  T* ring = reinterpret_cast<T*>(memory + M::fixed);
  Plan& plan = x.plan;
  const int grid = int(gridDim.x), warp = int(threadIdx.x >> 5), heads = a.J * Shape<T, D>::parts;
  for (int i = int(threadIdx.x); i < Shape<T, D>::k_pitch; i += kThreads) x.zeros[i] = T{0};
  if (threadIdx.x < kWarps) x.closed_count[threadIdx.x] = 0;
  const bool bad = make_plan(a, plan, heads);
  if (bad)
    for (int b = int(blockIdx.x); b < a.requests; b += grid)
      if (!valid_request(a, a.first_request + b))
        clear_rows(a, a.q_start[a.first_request + b], a.q_start[a.first_request + b + 1]);
  if (blockIdx.x == 0) {
    if (a.first_request == 0) clear_rows(a, 0, a.q_start[0]);
    if (a.last) clear_rows(a, a.q_start[a.first_request + a.requests], a.T);
  }

  // Each list begins at the block behind the one where the list before it ended.
  const auto turn = [&](int list) {
    int before = 0;
    for (int i = 0; i < list; i++) before += plan.start[i][kRequests];
    return int((blockIdx.x + unsigned(grid) - unsigned(before) % unsigned(grid)) % unsigned(grid));
  };

  // What is kept in shared memory here would take registers from the runs. Whole rows and tails are dealt out in turn, the chunks of split rows as one piece for each block.
  if (threadIdx.x == 0) x.list = kBlockWhole;
#pragma unroll 1
  do {
    __syncthreads();
    if (threadIdx.x == 0) {
      const int list = x.list;
      const int total = plan.start[list][kRequests], block = turn(list);
      x.item = list == kBlockSplit ? int(int64_t(total) * block / grid) : block;
      x.end = list == kBlockSplit ? int(int64_t(total) * (block + 1) / grid) : total;
    }
    __syncthreads();
#pragma unroll 1
    while (x.item < x.end) {
      __syncthreads();
      if (threadIdx.x == 0) {
        x.run = next_run(a, plan, heads, x.list, x.item, x.end);
        x.item += x.list == kBlockSplit ? x.run.end - x.run.begin : grid;
      }
      __syncthreads();
      if (x.list == kTail) tree_run<T, D>(a, x, ring, x.run);
      else block_run<T, D>(a, x, ring, x.run);
      __syncthreads();
    }
    __syncthreads();
    if (threadIdx.x == 0) x.list++;
    __syncthreads();
  } while (x.list <= kTail);

  // The ring becomes one for each warp, as deep as the number of warps with work allows.
  __syncthreads();
  const int stages = a.tiles * kSteps, most = min(kWarps, stages / kMinDepth);
  const int total = plan.start[kWarp][kRequests], block = turn(kWarp);
  const int warps = min(most, (total + grid - 1) / grid), depth = warps > 0 ? min(16, stages / warps) : 0;
  const int worker = block * warps + warp, workers = grid * warps;
  int item = warp < warps ? int(int64_t(total) * worker / workers) : 0;
  const int end = warp < warps ? int(int64_t(total) * (worker + 1) / workers) : 0;
  do {  // the block folds together what its warps have closed: at the end, or when a list is full
#pragma unroll 1
    while (item < end && x.closed_count[warp] < kClosed) {
      const int b = request_of(plan, kWarp, item), local = item - plan.start[kWarp][b];
      const Request r = request_at(a, a.first_request + b, false);
      const int chunk = local % r.chunks, stop = min(r.chunks, chunk + end - item);
      warp_run<T, D>(a, x, ring + warp * depth * M::warp_stage, depth, {b, local / r.chunks, 0, chunk, stop, true});
      item += stop - chunk;
    }
    __syncthreads();
    __threadfence();
    int turns = 0;
#pragma unroll 1
    for (int w = 0; w < kWarps; w++)
#pragma unroll 1
      for (int i = 0; i < x.closed_count[w]; i++) {
        const int b = x.closed[w][i] / heads;
        const Run run = {b, x.closed[w][i] % heads, 0, 0, 0, true};
        const Request r = request_at(a, a.first_request + b, false);
#pragma unroll 1
        for (int row = 0; row < r.tokens * a.G; row++, turns++)
          if (turns % kWarps == warp) fold_row<T, D>(a, plan, run, r, row);
      }
    __syncthreads();
    x.closed_count[warp] = 0;
  } while (__syncthreads_or(item < end));
}

// Folds the partial results of blocks. A tree has many rows of one context: the last block to arrive would be long alone with them.
template <class T, int D>
__global__ void __launch_bounds__(kThreads, 2) attention_fold_kernel(const __grid_constant__ Args a) {
  dependency_wait();
  GPU_SHARED(memory);
  Plan& plan = *reinterpret_cast<Plan*>(memory);
  const int heads = a.J * Shape<T, D>::parts, worker = int(blockIdx.x) * kWarps + int(threadIdx.x >> 5);
  make_plan(a, plan, heads);
  int before = 0;  // rows of the requests before
#pragma unroll 1
  for (int b = 0; b < a.requests; b++) {
    const bool blocks =
        plan.start[kBlockSplit][b + 1] > plan.start[kBlockSplit][b] || plan.start[kTail][b + 1] > plan.start[kTail][b];
    if (!blocks || !is_split(a, plan, b)) continue;
    const Request r = request_at(a, a.first_request + b, plan.tree[b]);
    const int rows = r.tokens * a.G * heads, workers = int(gridDim.x) * kWarps;
#pragma unroll 1
    for (int i = (worker + workers - before % workers) % workers; i < rows; i += workers)
      fold_row<T, D>(a, plan, {b, i % heads, 0, 0, 0, true}, r, i / heads);
    before += rows % workers;
  }
}

template <class T, int D>
bool run(Args a, const PagedAttentionArgs& p, Context& context) {
  using M = Memory<T, D>;
  using S = Shape<T, D>;
  int tiles = 4;
  while (tiles >= 2 && M::bytes(tiles) > context.shared_limit) tiles--;
  if (tiles < 2) return false;
  // Steps of decoding have the bits of prompts, so they go the fast way only where prompts do.
  if (attend_decode<T>(a, context)) return true;
  a.tiles = tiles;
  const int64_t chunks = (p.M * p.S + kChunk - 1) / kChunk;
  const int64_t rows = std::min<int64_t>(p.T * p.H * S::parts * chunks, kPartialBytes / (S::state * sizeof(float)));
  a.partial_rows = int(rows);
  a.partials = static_cast<float*>(context.workspace(size_t(rows) * S::state * sizeof(float)));
  a.ticket_count = int(std::min<int64_t>(int64_t(kTickets), p.J * S::parts * (p.B + p.T * a.G / kGroupRows + 1)));
  a.tickets = context.tickets(size_t(a.ticket_count));
  // No more blocks than there can be items.
  const int64_t items = p.J * S::parts * (chunks * p.B + (p.T * a.G / kGroupRows + 1) * std::min<int64_t>(chunks, 64));
  const unsigned grid = unsigned(std::max<int64_t>(1, std::min<int64_t>(context.sms, items)));
  a.grid = int(grid);
  a.fold_apart = a.anc != nullptr;
  for (int64_t b = 0; b < p.B; b += kRequests) {
    a.first_request = int(b);
    a.requests = int(std::min<int64_t>(kRequests, p.B - b));
    a.last = b + kRequests >= p.B;
    launch(context, attention_kernel<T, D>, dim3(grid), dim3(kThreads), M::bytes(tiles), a);
    if (!a.fold_apart) continue;
    const int64_t folds = (p.T * p.H * S::parts + kWarps - 1) / kWarps;
    launch(context, attention_fold_kernel<T, D>, dim3(unsigned(std::min<int64_t>(2 * context.sms, folds))),
           dim3(kThreads), sizeof(Plan), a);
  }
  return true;
}

}  // namespace

template <class T>
bool attend_blocks(const Args& a, const PagedAttentionArgs& p, Context& context) {
  if (a.D != a.E) return false;
  switch (a.D) {
    case 64: return run<T, 64>(a, p, context);
    case 96: return run<T, 96>(a, p, context);
    case 128: return run<T, 128>(a, p, context);
    case 256: return run<T, 256>(a, p, context);
    default: return false;
  }
}

}  // namespace eyrie::cuda::attention
