// Runs: consecutive chunks of one request, kv head and set of packed rows, walked by a warp or by a block with copies to shared
// memory kept in flight. Keys and values of a chunk follow each other through a ring of slots.
#pragma once
#include "cuda/attention_plan.cuh"
#include "cuda/attention_unit.cuh"

namespace eyrie::cuda::attention {

struct Run {
  int b;  // counted from first_request
  int jh;  // kv head * parts + part of its values
  int group;  // of kGroupRows packed rows
  int begin, end;  // chunks, counted from the request's chunk0
  bool split;  // leaves partial results (a warp's always does)
};

constexpr int kClosed = 8;

template <class T, int D>
struct Memory {  // shared
  using S = Shape<D>;
  static constexpr int tile = kChunk * S::k_pitch, stage = kStep * S::k_pitch;  // elements
  struct Fixed {
    Plan plan;
    int closed[kWarps][kClosed], closed_count[kWarps];  // by warps, rows that wait to be folded: b * heads + jh
    int last;
    Run run;  // of the block, with what remains of its list: read when needed
    int item, end;
    alignas(16) RowInfo rows[kWarps][kRows];
    alignas(16) T zeros[S::k_pitch];
    alignas(16) T q[kWarps][kRows * S::k_pitch];
  };
  static constexpr size_t fixed = (sizeof(Fixed) + 127) / 128 * 128;
  static constexpr size_t least = fixed + 2 * tile * sizeof(T);
  static constexpr size_t bytes(int tiles) { return fixed + size_t(tiles) * tile * sizeof(T); }
};

// At most `pending` of this thread's groups on their way (or fewer, where there is no constant for it).
GPU_INLINE void wait_pending(int pending) {
  if (pending >= 14) copy_async_wait<14>();
  else if (pending >= 10) copy_async_wait<10>();
  else if (pending >= 7) copy_async_wait<7>();
  else if (pending == 6) copy_async_wait<6>();
  else if (pending == 5) copy_async_wait<5>();
  else if (pending == 4) copy_async_wait<4>();
  else if (pending == 3) copy_async_wait<3>();
  else if (pending == 2) copy_async_wait<2>();
  else if (pending == 1) copy_async_wait<1>();
  else copy_async_wait<0>();
}

// Where the steps of one chunk lie: lane i < kSteps knows step i. The table is read a chunk ahead and checked when it is used.
struct Steps {
  int raw = -1, page = -1, in_page = 0;
  bool bad = false;

  GPU_INLINE bool seen(int start, int low, int high) const {
    const int at = start + int(threadIdx.x & 31) * kStep;
    return (threadIdx.x & 31) < kSteps && at + kStep > low && at < high;
  }
  GPU_INLINE void fetch(const Args& a, int b, int start, int low, int high) {
    if (seen(start, low, high))
      raw = a.block_table[int64_t(b) * a.M + (unsigned(start) + (threadIdx.x & 31) * kStep) / opaque(unsigned(a.S))];
  }
  GPU_INLINE void use(const Args& a, int b, int start, int low, int high) {
    page = -1;
    bool wrong = false;
    if (seen(start, low, high)) {
      const unsigned at = unsigned(start) + (threadIdx.x & 31) * kStep, size = opaque(unsigned(a.S));
      in_page = int(at % size);
      wrong = !in_range(a.fault, 3, int64_t(b) * a.M + at / size, raw, 0, a.N, a.M);
      if (!wrong) page = raw;
    }
    bad |= __any_sync(~0u, wrong) != 0;
  }
};

// Copies `rows` token rows of C elements, steps first_step.. of the chunk, by `threads` threads; what nobody sees becomes zeros.
template <class T, int C, int pitch, int threads, int rows>
GPU_INLINE void copy_rows(T* to, const PageView& from, int64_t offset, const Steps& steps, int first_step, int start,
                          int low, int high) {
  constexpr unsigned per_row = C / 8;
  static_assert(rows * per_row % threads == 0);
  const unsigned thread = opaque(threads == 32 ? threadIdx.x & 31 : threadIdx.x);
#pragma unroll
  for (int k = 0; k < int(rows * per_row) / threads; k++) {
    // Where rows divide the threads, only the row changes from turn to turn, by a constant.
    constexpr bool even = threads % per_row == 0;
    const unsigned i = thread + k * threads;
    const unsigned row = even ? thread / per_row + k * (threads / per_row) : i / per_row;
    const unsigned column = (even ? thread : i) % per_row * 8;
    const int step = first_step + int(row / kStep);
    const int page = __shfl_sync(~0u, steps.page, step), in_page = __shfl_sync(~0u, steps.in_page, step);
    const int at = start + first_step * kStep + int(row);
    const bool valid = page >= 0 && at >= low && at < high;
    const unsigned char* p = from.data + (offset + column * sizeof(T));
    if (valid) p += page * from.page + int64_t(in_page + int(row % kStep)) * from.slot;
    copy_async16(to + row * pitch + column, p, valid);
  }
}

// Keys, or the run's part of the values.
template <class T, int D, int threads, int rows>
GPU_INLINE void copy_rows_of(bool values, T* to, const Args& a, const Run& run, const Steps& steps, int first_step,
                             int start, int low, int high) {
  using S = Shape<D>;
  const int j = run.jh / S::parts;
  if constexpr (S::parts == 1) {
    const PageView from = values ? a.v : a.k;
    copy_rows<T, D, S::k_pitch, threads, rows>(to, from, j * from.head, steps, first_step, start, low, high);
  } else if (values) {
    const int64_t offset = j * a.v.head + run.jh % S::parts * S::columns * int(sizeof(T));
    copy_rows<T, S::columns, S::v_pitch, threads, rows>(to, a.v, offset, steps, first_step, start, low, high);
  } else {
    copy_rows<T, D, S::k_pitch, threads, rows>(to, a.k, j * a.k.head, steps, first_step, start, low, high);
  }
}

template <class T, int D>
GPU_INLINE float* partial_rows(const Args& a, const Plan& plan, const Run& run, int packed, int chunk) {
  const int heads = a.J * Shape<D>::parts;
  return a.partials + (plan.partial[run.b] + (int64_t(chunk) * heads + run.jh) * packed) * int64_t(Shape<D>::state);
}

template <int V>
GPU_INLINE void load_floats(float (&x)[V], const float* from) {
  if constexpr (V == 4) {
    const float4 v = *reinterpret_cast<const float4*>(from);
    x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
  } else if constexpr (V == 2) {
    const float2 v = *reinterpret_cast<const float2*>(from);
    x[0] = v.x, x[1] = v.y;
  } else {
    x[0] = *from;
  }
}

// Folds the chunks of one packed row of kv head j by a warp and writes its result: columns [at, at + C), V a lane. The partial
// results are `step` floats apart, the values from `values`, maximum and sum from `sums`.
template <int C, int V, int kBatch>
GPU_INLINE void fold_columns(const Args& a, const Request& r, int j, int row, int at, const float* values,
                             const float* sums, int64_t step, int chunks) {
  const int lane = threadIdx.x & 31;
  const bool active = lane * V < C;
  float m0 = -kInfinity, l0 = 0, o[V] = {};
#pragma unroll 1
  for (int c0 = 0; c0 < chunks; c0 += 32) {
    float2 ml = make_float2(-kInfinity, 0);
    if (c0 + lane < chunks) ml = *reinterpret_cast<const float2*>(sums + (c0 + lane) * step);
    const int count = min(32, chunks - c0);
#pragma unroll 1
    for (int c1 = 0; c1 < count; c1 += kBatch) {
      float x[kBatch][V];
#pragma unroll
      for (int i = 0; i < kBatch; i++)
        if (active && c1 + i < count) load_floats<V>(x[i], values + (c0 + c1 + i) * step + lane * V);
#pragma unroll
      for (int i = 0; i < kBatch; i++) {
        const float m = __shfl_sync(~0u, ml.x, c1 + i), l = __shfl_sync(~0u, ml.y, c1 + i);
        if (c1 + i >= count) continue;
        const Fold f = fold(m0, l0, m, l);
        if (f.skip) continue;
#pragma unroll
        for (int k = 0; k < V; k++) o[k] = fmaf(o[k], f.old, f.add * x[i][k]);
      }
    }
  }
  const int token = row / a.G, head = j * a.G + row % a.G;
  const float f = finish(a, head, position_of(a, r, token), m0, l0);
  if (!active) return;
  const int64_t out = (int64_t(r.row + token) * a.H + head) * a.E + at + lane * V;
#pragma unroll
  for (int i = 0; i < V; i++) write_out(a, out + i, m0 != m0 ? 0 : __fmul_rn(o[i], f));
}
template <class T, int D>
GPU_INLINE void fold_row(const Args& a, const Plan& plan, const Run& run, const Request& r, int row) {
  using S = Shape<D>;
  const int packed = r.tokens * a.G;
  const float* first = partial_rows<T, D>(a, plan, run, packed, 0) + int64_t(row) * S::state;
  fold_columns<S::columns, 4, 8>(a, r, run.jh / S::parts, row, run.jh % S::parts * S::columns, first,
                                 first + S::columns, int64_t(a.J) * S::parts * packed * S::state, r.chunks);
}

// Counts `chunks` of the run's rows as done; whether those were the last. By one thread, after the fence of all that wrote.
GPU_INLINE bool arrive(const Args& a, const Plan& plan, const Run& run, const Request& r, int chunks) {
  uint32_t* ticket = a.tickets + plan.ticket[run.b] + run.jh * r.groups + run.group;
  const bool last = atomicAdd(ticket, uint32_t(chunks)) + uint32_t(chunks) == uint32_t(r.chunks);
  if (last) *ticket = 0;
  return last;
}

// The block's rows of the run are stored: the last to arrive folds them.
template <class T, int D>
GPU_INLINE void close_block(const Args& a, typename Memory<T, D>::Fixed& x, const Run& run, const Request& r) {
  if (a.fold_apart) return;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) x.last = arrive(a, x.plan, run, r, run.end - run.begin);
  __syncthreads();
  if (!x.last) return;
  __threadfence();
  const int end = min(r.tokens * a.G, (run.group + 1) * kGroupRows);
#pragma unroll 1
  for (int row = run.group * kGroupRows + int(threadIdx.x >> 5); row < end; row += kWarps)
    fold_row<T, D>(a, x.plan, run, r, row);
}

// ---- a warp alone: one unit, copies by steps ----

template <class T, int D>
GPU_INLINE void warp_run(const Args& a, typename Memory<T, D>::Fixed& x, T* ring, int depth, const Run& run) {
  using S = Shape<D>;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, b = a.first_request + run.b;
  const int j = run.jh / S::parts;
  const Request r = request_at(a, b, false);
  const Unit u = unit_at(a, r, j, 0, x.rows[warp]);
  const int begin = r.chunk0 + run.begin, end = r.chunk0 + run.end;

  // What to copy next: steps [from, to) of chunk, keys and then values.
  Steps steps;
  int chunk = begin, step = 0, from = 0, to = 0, slot_in = 0;
  bool values = false;
  const auto enter = [&] {
    const int start = chunk * kChunk;
    from = step = max(0, u.low - start) / kStep;
    to = (min(kChunk, u.high - start) + kStep - 1) / kStep;
    steps.use(a, b, start, u.low, u.high);
    if (chunk + 1 < end) steps.fetch(a, b, start + kChunk, u.low, u.high);
    values = false;
  };
  const auto issue = [&] {
    if (chunk < end) {
      T* slot = ring + slot_in * Memory<T, D>::stage;
      copy_rows_of<T, D, 32, kStep>(values, slot, a, run, steps, step, chunk * kChunk, u.low, u.high);
      slot_in = slot_in + 1 == depth ? 0 : slot_in + 1;
      if (++step >= to) {
        step = from;
        if (values) {
          chunk++;
          if (chunk < end) enter();
        } else {
          values = true;
        }
      }
    }
    copy_async_commit();
  };

  steps.fetch(a, b, begin * kChunk, u.low, u.high);
  enter();
#pragma unroll 1
  for (int i = 0; i < depth - 1; i++) issue();
  T* q = x.q[warp];
  load_queries<T, D>(a, r, j, 0, q);

  int slot_out = 0;
  const auto next = [&] {  // the next stage has arrived; the one before it is free
    wait_pending(depth - 2);
    __syncwarp();
    issue();
    const T* slot = ring + slot_out * Memory<T, D>::stage;
    slot_out = slot_out + 1 == depth ? 0 : slot_out + 1;
    return slot;
  };
#pragma unroll 1
  for (int c = begin; c < end; c++) {
    const int start = c * kChunk;
    float s[2 * kSteps][4] = {}, m[2], l[2];
#pragma unroll 1
    for (int i = 0; i < kSteps; i++) {
      rotate<2>(s);
      if (start + i * kStep + kStep > u.low && start + i * kStep < u.high)
        score_step<T, D>(s[2 * kSteps - 2], s[2 * kSteps - 1], q, next() + key_row() * S::k_pitch);
    }
    softmax_chunk(a, u, start, s, m, l);
    uint32_t p[kSteps][4];
    pack_chunk<T>(p, s);
    float o[S::columns / 8][4] = {};
#pragma unroll 1
    for (int i = 0; i < kSteps; i++) {
      if (start + i * kStep + kStep > u.low && start + i * kStep < u.high)
        value_step<T, S::columns>(o, p[0], next() + value_row() * S::v_pitch);
      rotate<1>(p);
    }
    float* rows = partial_rows<T, D>(a, x.plan, run, r.tokens * a.G, c - r.chunk0);
    store_values<S::columns, S::columns>(u, rows, 0, o);
    store_sums<S::columns>(u, rows, m, l, steps.bad);
  }
  copy_async_wait<0>();
  __threadfence();
  __syncwarp();
  bool last = false;
  if (lane == 0) last = arrive(a, x.plan, run, r, run.end - run.begin);
  if (!__shfl_sync(~0u, int(last), 0)) return;
  __syncwarp();
  if (lane == 0) x.closed[warp][x.closed_count[warp]++] = run.b * a.J * S::parts + run.jh;
  __syncwarp();
}

// ---- a block: eight units share the chunks that it copies ----

template <class T, int D>
GPU_INLINE void block_run(const Args& a, typename Memory<T, D>::Fixed& x, T* ring, const Run& run) {
  using S = Shape<D>;
  const int warp = threadIdx.x >> 5, thread = int(threadIdx.x), b = a.first_request + run.b;
  const int j = run.jh / S::parts, part = run.jh % S::parts, tiles = a.tiles;
  const Request r = request_at(a, b, x.plan.tree[run.b]);
  const int first_row = run.group * kGroupRows + warp * kRows, packed = r.tokens * a.G;
  const Unit u = unit_at(a, r, j, first_row, x.rows[warp]);
  // Positions that the block's rows see.
  const int last_token = min(packed - 1, run.group * kGroupRows + kGroupRows - 1) / a.G;
  const int low = first_seen(a, r.prefix + (r.tree ? 0 : run.group * kGroupRows / a.G));
  const int high = r.tree ? r.prefix : r.prefix + last_token + 1;
  const int begin = max(r.chunk0 + run.begin, low / kChunk);
  const int end = min(r.chunk0 + run.end, (high + kChunk - 1) / kChunk);

  Steps steps;
  int chunk = begin, slot_in = 0;
  bool values = false;
  const auto issue = [&] {
    if (chunk < end) {
      T* slot = ring + slot_in * Memory<T, D>::tile;
      slot_in = slot_in + 1 == tiles ? 0 : slot_in + 1;
      const int start = chunk * kChunk;
      if (!values) {
        steps.use(a, b, start, low, high);
        if (chunk + 1 < end) steps.fetch(a, b, start + kChunk, low, high);
      }
      copy_rows_of<T, D, kThreads, kChunk>(values, slot, a, run, steps, 0, start, low, high);
      chunk += values;
      values = !values;
    }
    copy_async_commit();
  };
  __syncthreads();  // the ring is free
  if (begin < end) steps.fetch(a, b, begin * kChunk, low, high);
  T* q = x.q[warp];
  load_queries<T, D>(a, r, j, first_row, q);

  State<S::columns> state;
  if (!run.split) clear(state);
  uint32_t p[kSteps][4];
  Fold f[2];
  int slot_out = 0, seen = 0;
  // Turns before 0 only fill the ring; then keys and values alternate.
#pragma unroll 1
  for (int turn = 1 - tiles; turn < 2 * (end - begin); turn++) {
    if (turn >= 0) {
      wait_pending(tiles - 2);
      __syncthreads();  // this tile has arrived, the one before it is free
    }
    issue();
    if (turn < 0) continue;
    const T* tile = ring + slot_out * Memory<T, D>::tile;
    slot_out = slot_out + 1 == tiles ? 0 : slot_out + 1;
    const int c = begin + turn / 2, start = c * kChunk;
    float* rows = run.split ? partial_rows<T, D>(a, x.plan, run, packed, c - r.chunk0) : nullptr;
    if (!(turn & 1)) {
      seen = 0;  // steps; all scores are computed, as the block waits for its slowest warp anyway
#pragma unroll
      for (int i = 0; i < kSteps; i++)
        seen |= int(start + i * kStep + kStep > u.low && start + i * kStep < u.high) << i;
      float s[2 * kSteps][4] = {}, m[2] = {-kInfinity, -kInfinity}, l[2] = {};
      if (seen) {
        const int lane = threadIdx.x & 31;
        const T* a_at = q + (lane & 15) * S::k_pitch + (lane >> 4) * 8;
        const T* b_at = tile + key_row() * S::k_pitch + (lane >> 3 & 1) * 8;
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
          uint32_t fa[4];
          load_matrix4<false>(fa, a_at + k * 16);
#pragma unroll
          for (int i = 0; i < kSteps; i++) {
            uint32_t fb[4];
            load_matrix4<false>(fb, b_at + i * Memory<T, D>::stage + k * 16);
            const uint32_t b0[2] = {fb[0], fb[1]}, b1[2] = {fb[2], fb[3]};
            mma(s[2 * i], fa, b0, T());
            mma(s[2 * i + 1], fa, b1, T());
          }
        }
        softmax_chunk(a, u, start, s, m, l);
      }
      pack_chunk<T>(p, s);
      if (run.split) store_sums<S::columns>(u, rows, m, l, steps.bad);
      else fold_sums(state, f, m, l);
      continue;
    }
#pragma unroll
    for (int at = 0; at < S::columns; at += S::pass) {
      float o[S::pass / 8][4] = {};
#pragma unroll
      for (int i = 0; i < kSteps; i++)
        if (seen >> i & 1) value_step<T, S::pass>(o, p[i], tile + (i * kStep + value_row()) * S::v_pitch + at);
      if (run.split) store_values<S::columns, S::pass>(u, rows, at, o);
      else fold_values<S::columns, S::pass>(state, f, at, o);
    }
  }
  copy_async_wait<0>();
  const Request again = request_at(a, b, x.plan.tree[run.b]);  // not kept in registers meanwhile
  if (!run.split) {
    write_state(a, again, u, j, part, state, steps.bad);
    return;
  }
#pragma unroll 1
  for (int c = again.chunk0 + run.begin; c < again.chunk0 + run.end;
       c++) {  // chunks that none of the block's rows sees
    if (c >= begin && c < end) continue;
    const int row = run.group * kGroupRows + thread;
    if (thread < kGroupRows && row < packed)
      *reinterpret_cast<float2*>(partial_rows<T, D>(a, x.plan, run, packed, c - again.chunk0) +
                                 int64_t(row) * S::state + S::columns) = make_float2(-kInfinity, 0);
  }
  close_block<T, D>(a, x, run, again);
}

}  // namespace eyrie::cuda::attention
