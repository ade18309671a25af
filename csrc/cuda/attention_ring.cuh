// What walks over chunks have in common: a block's shared memory, copies of keys, values and scales into it, and partial results with their
// folding.
#pragma once
#include "cuda/attention_plan.cuh"
#include "cuda/attention_state.cuh"

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
  using S = Shape<T, D>;
  static constexpr int stage = kStep * S::k_pitch, rows = kChunk * S::k_pitch;  // elements
  // Scales of rows follow the keys, those of keys first: of a step in a warp's ring, of the chunk in a block's.
  static constexpr int warp_stage = stage + (kRowScales<T> ? 2 * kStep * int(sizeof(f16)) : 0),
                       tile = kSteps * warp_stage;
  struct Fixed {
    Plan plan;
    int closed[kWarps][kClosed], closed_count[kWarps];  // by warps, rows that wait to be folded: b * heads + jh
    int last;
    Run run;  // of the block, with what remains of its list: read when needed
    Request request;  // of a tree's run
    int list, item, end;
    alignas(16) RowInfo rows[kWarps][kRows + 1];
    alignas(16) f16 value_scales[kWarps][kRowScales<T> ? kChunk : 8];  // of a warp's chunk
    alignas(16) f16 tree_scales[2][kRowScales<T> ? 2 * kChunk : 8];  // of the rows of a tree's chunk (keys, values)
    alignas(16) T zeros[S::k_pitch];
    alignas(16) Operand<T> q[kWarps][kRows * S::q_pitch];
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
  constexpr unsigned piece = 16 / sizeof(T), per_row = C / piece;
  static_assert(rows * per_row % threads == 0);
  // A warp's steps that are seen whole: their rows lie one behind the other, so that one address serves a step.
  if constexpr (threads == 32 && 32 % per_row == 0) {
    constexpr int together = 32 / per_row;  // rows of one instruction
    const unsigned lane = opaque(threadIdx.x) & 31;
    T* const lane_to = to + lane / per_row * pitch + lane % per_row * piece;
    const unsigned char* const lane_from = from.data + offset + lane / per_row * from.slot + lane % per_row * 16;
#pragma unroll
    for (int s = 0; s < rows / kStep; s++) {
      const int step = first_step + s, at = start + step * kStep;
      const int page = __shfl_sync(~0u, steps.page, step), in_page = __shfl_sync(~0u, steps.in_page, step);
      if (page >= 0 && at >= low && at + kStep <= high) {
        const unsigned place = unsigned(page) * from.page16 + unsigned(in_page) * from.slot16;
        const unsigned char* p = lane_from + uint64_t(place) * 16;
#pragma unroll
        for (int k = 0; k < kStep / together; k++)
          copy_async16_of_line(lane_to + (s * kStep + k * together) * pitch, p + k * together * from.slot, true);
        continue;
      }
#pragma unroll 1
      for (int k = 0; k < kStep / together; k++) {
        const int row = k * together + int(lane / per_row);
        const bool valid = page >= 0 && at + row >= low && at + row < high;
        const unsigned char* p = from.data;
        if (valid) p = lane_from + page * from.page + int64_t(in_page + k * together) * from.slot;
        copy_async16_of_line(lane_to + (s * kStep + k * together) * pitch, p, valid);
      }
    }
    return;
  }
  const unsigned thread = opaque(threads == 32 ? threadIdx.x & 31 : threadIdx.x);
#pragma unroll
  for (int k = 0; k < int(rows * per_row) / threads; k++) {
    // Where rows divide the threads, only the row changes from turn to turn, by a constant.
    constexpr bool even = threads % per_row == 0;
    const unsigned i = thread + k * threads;
    const unsigned row = even ? thread / per_row + k * (threads / per_row) : i / per_row;
    const unsigned column = (even ? thread : i) % per_row * piece;
    const int step = first_step + int(row / kStep);
    const int page = __shfl_sync(~0u, steps.page, step), in_page = __shfl_sync(~0u, steps.in_page, step);
    const int at = start + first_step * kStep + int(row);
    const bool valid = page >= 0 && at >= low && at < high;
    const unsigned char* p = from.data + (offset + column * sizeof(T));
    if (valid) p += page * from.page + int64_t(in_page + int(row % kStep)) * from.slot;
    copy_async16_of_line(to + row * pitch + column, p, valid);
  }
}

// Copies the scales of `count` steps of the chunk's keys and values, first_step on, by a warp; half a step a lane. The keys' come
// first, `apart` elements before the values'.
GPU_INLINE void copy_scales(f16* to, const Args& a, int j, const Steps& steps, int first_step, int count, int apart,
                            int start, int low, int high) {
#pragma unroll 1
  for (int i0 = 0; i0 < 4 * count; i0 += 32) {
    const int i = i0 + int(opaque(threadIdx.x) & 31), values = i >= 2 * count, half = values ? i - 2 * count : i;
    const int step = min(first_step + half / 2, kSteps - 1), at = start + step * kStep + half % 2 * 8;
    const int page = __shfl_sync(~0u, steps.page, step), in_page = __shfl_sync(~0u, steps.in_page, step);
    if (i >= 4 * count) continue;
    // What lies beside what is seen may be anything; it is masked, or weighs nothing.
    const bool valid = page >= 0 && at + 8 > low && at < high;
    const PageScales& from = values ? a.v_scales : a.k_scales;
    const void* p = valid ? static_cast<const void*>(from.row(page, j, in_page + half % 2 * 8)) : from.rows;
    copy_async16(to + values * apart + half * 8, p, valid);
  }
}

// Keys, or the run's part of the values.
template <class T, int D, int threads, int rows>
GPU_INLINE void copy_rows_of(bool values, T* to, const Args& a, const Run& run, const Steps& steps, int first_step,
                             int start, int low, int high) {
  using S = Shape<T, D>;
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
  const int heads = a.J * Shape<T, D>::parts;
  return a.partials + (plan.partial[run.b] + (int64_t(chunk) * heads + run.jh) * packed) * int64_t(Shape<T, D>::state);
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
  using S = Shape<T, D>;
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

}  // namespace eyrie::cuda::attention
