// The work of a call, planned by every block for itself from what lies on the device, so that a captured launch serves any
// lengths. A request is one of
//   warp   at most 16 packed rows, no tree: warps take runs of chunks by themselves (decoding)
//   block  more rows: eight warps with 16 rows each share every chunk that the block loads (prefill; a tree's prefix)
//   tail   chunks with rows of a tree, each of which has a context of its own
// and is either split, its chunks leaving partial results that the last to arrive folds, or walked by one warp or block. That
// choice rests on the room for partials and on how many blocks there are; it does not show in the bits.
#pragma once
#include "cuda/attention.cuh"

namespace eyrie::cuda::attention {

enum List { kBlockWhole, kBlockSplit, kTail, kWarp, kLists };

struct Plan {  // in shared memory
  int start[kLists][kRequests + 1];  // items of the requests before
  int partial[kRequests + 1], ticket[kRequests + 1];
  bool tree[kRequests];
  int warp_total[kWarps][kLists];
};

// Exclusive sums of n values a thread over the block; out[i][kThreads] is the total.
template <int n>
GPU_INLINE void scan(Plan& plan, const int (&value)[n], int* const (&out)[n]) {
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  int sum[n];
#pragma unroll
  for (int i = 0; i < n; i++) {
    sum[i] = value[i];
#pragma unroll
    for (int d = 1; d < 32; d *= 2) {
      const int x = __shfl_up_sync(~0u, sum[i], unsigned(d));
      if (lane >= d) sum[i] += x;
    }
    if (lane == 31) plan.warp_total[warp][i] = sum[i];
  }
  __syncthreads();
#pragma unroll
  for (int i = 0; i < n; i++) {
    int before = 0;
#pragma unroll
    for (int w = 0; w < kWarps; w++)
      if (w < warp) before += plan.warp_total[w][i];
    out[i][threadIdx.x] = before + sum[i] - value[i];
    if (threadIdx.x == kThreads - 1) out[i][kThreads] = before + sum[i];
  }
  __syncthreads();
}

// heads: kv heads times the parts in which a head's values are done.
// Returns whether some request is bad.
GPU_INLINE bool make_plan(const Args& a, Plan& plan, int heads) {
  const int me = int(threadIdx.x), b = a.first_request + me, lane = me & 31;
  // A request has a tree when any of its rows has ancestor bits.
  if (a.anc) {
    for (int i = me >> 5; i < a.requests; i += kWarps) {
      const int row = max(0, a.q_start[a.first_request + i]), end = min(a.T, a.q_start[a.first_request + i + 1]);
      bool any = false;
      if (end - row > 1 && end - row <= kTreeTokens)
        for (int t = row + lane; t < end; t += 32) {
          const uint4 w = *reinterpret_cast<const uint4*>(a.anc + int64_t(t) * 4);
          any |= (w.x | w.y | w.z | w.w) != 0;
          check_ancestors(a, row, t - row);
        }
      any = __any_sync(~0u, any);
      if (lane == 0) plan.tree[i] = any;
    }
  } else if (me < a.requests) plan.tree[me] = false;
  __syncthreads();

  bool live = me < a.requests && valid_request(a, b), warp = false, split = false;
  const bool bad = me < a.requests && !live;
  Request r = {};
  if (live) {
    r = request_at(a, b, plan.tree[me]);
    live = r.tokens > 0;
  }
  int rows = 0, need = 0, tickets = 0;
  if (live) {
    rows = r.tokens * a.G;
    warp = rows <= kRows && !r.tree;
    const int tasks = heads * r.groups;
    split = warp || (r.chunks > 1 && (r.tree || tasks * 2 <= a.grid));
    if (split) {
      const int64_t n = int64_t(rows) * heads * r.chunks;
      need = n > a.partial_rows ? a.partial_rows + 1 : int(n);
      tickets = tasks > a.ticket_count ? a.ticket_count + 1 : tasks;
    }
  }
  scan<2>(plan, {need, tickets}, {plan.partial, plan.ticket});
  if (plan.partial[me + 1] > a.partial_rows || plan.ticket[me + 1] > a.ticket_count) split = false;
  int count[kLists] = {};
  if (live) {
    const int tasks = heads * r.groups;
    if (warp && split) {
      count[kWarp] = heads * r.chunks;
    } else {
      count[kBlockSplit] = split ? tasks * r.regular : 0;
      count[kTail] = !r.tree ? 0 : split ? tasks * (r.chunks - r.regular) : tasks;
      count[kBlockWhole] = split || r.tree ? 0 : tasks;
    }
  }
  scan<kLists>(plan, count, {plan.start[0], plan.start[1], plan.start[2], plan.start[3]});
  return __syncthreads_or(bad);
}

// Whether chunks of request b (counted from first_request) leave partial results.
GPU_INLINE bool is_split(const Args& a, const Plan& plan, int b) {
  return plan.partial[b + 1] > plan.partial[b] && plan.partial[b + 1] <= a.partial_rows &&
         plan.ticket[b + 1] <= a.ticket_count;
}

// The request (counted from first_request) of an item of a list.
GPU_INLINE int request_of(const Plan& plan, int list, int item) {
  int low = 0, high = kRequests;  // start[low] <= item < start[high]
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (plan.start[list][middle] <= item) low = middle;
    else high = middle;
  }
  return low;
}

}  // namespace eyrie::cuda::attention
