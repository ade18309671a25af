// Runs: consecutive chunks of one request, kv head and set of packed rows, walked by a warp or by a block with copies to shared
// memory kept in flight. Keys and values of a chunk follow each other through a ring of slots.
#pragma once
#include "cuda/attention_ring.cuh"

namespace eyrie::cuda::attention {

// ---- a warp alone: one unit, copies by steps ----

template <class T, int D>
GPU_INLINE void warp_run(const Args& a, typename Memory<T, D>::Fixed& x, T* ring, int depth, const Run& run) {
  using S = Shape<T, D>;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, b = a.first_request + run.b;
  const int j = run.jh / S::parts;
  const Request r = request_at(a, b, false);
  const Unit u = unit_at(a, r, j, 0, x.rows[warp]);
  const int begin = r.chunk0 + run.begin, end = r.chunk0 + run.end;

  const auto scales_of_stage = [](auto* slot) { return (f16*)(slot + Memory<T, D>::stage); };

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
      T* slot = ring + slot_in * Memory<T, D>::warp_stage;
      copy_rows_of<T, D, 32, kStep>(values, slot, a, run, steps, step, chunk * kChunk, u.low, u.high);
      if (kRowScales<T> && !values)
        copy_scales(scales_of_stage(slot), a, j, steps, step, 1, kStep, chunk * kChunk, u.low, u.high);
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
  Operand<T>* q = x.q[warp];
  load_queries<T, D>(a, r, j, 0, q);

  int slot_out = 0;
  const auto next = [&] {  // the next stage has arrived; the one before it is free
    wait_pending(depth - 2);
    __syncwarp();
    issue();
    const T* slot = ring + slot_out * Memory<T, D>::warp_stage;
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
      if (start + i * kStep + kStep <= u.low || start + i * kStep >= u.high) {
        if (kRowScales<T> && lane < kStep / 2)
          reinterpret_cast<uint32_t*>(x.value_scales[warp])[i * kStep / 2 + lane] = 0;
        continue;
      }
      const T* slot = next();
      score_step<T, D>(s[2 * kSteps - 2], s[2 * kSteps - 1], q, slot + key_row() * S::k_pitch);
      if constexpr (kRowScales<T>) {
        const f16* scales = scales_of_stage(slot);
        scale_step(s[2 * kSteps - 2], s[2 * kSteps - 1], scales);
        if (lane < kStep / 2)  // kept until the chunk's probabilities are there
          reinterpret_cast<uint32_t*>(x.value_scales[warp])[i * kStep / 2 + lane] =
              reinterpret_cast<const uint32_t*>(scales + kStep)[lane];
      }
    }
    softmax_chunk(a, u, start, s, m, l);
    if constexpr (kRowScales<T>) {
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kSteps; i++) weigh_step(s[2 * i], s[2 * i + 1], x.value_scales[warp] + i * kStep);
      __syncwarp();
    }
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
    store_values<T, S::columns, S::columns>(u, rows, 0, o);
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
  using S = Shape<T, D>;
  const int warp = threadIdx.x >> 5, thread = int(threadIdx.x), b = a.first_request + run.b;
  const int j = run.jh / S::parts, part = run.jh % S::parts, tiles = a.tiles;
  __syncthreads();
  if (threadIdx.x == 0) x.request = request_at(a, b, x.plan.tree[run.b]);
  __syncthreads();
  const Request& r = x.request;  // read when needed: registers are short
  const int first_row = run.group * kGroupRows + warp * kRows, packed = r.tokens * a.G;
  const Unit u = unit_at(a, r, j, first_row, x.rows[warp]);
  // Positions that the block's rows see.
  const int last_token = min(packed - 1, run.group * kGroupRows + kGroupRows - 1) / a.G;
  const int low = first_seen(a, r.prefix + (r.tree ? 0 : run.group * kGroupRows / a.G));
  const int high = r.tree ? r.prefix : r.prefix + last_token + 1;
  const int begin = max(r.chunk0 + run.begin, low / kChunk);
  const int end = min(r.chunk0 + run.end, (high + kChunk - 1) / kChunk);

  const auto scales_of_tile = [](auto* tile) { return (f16*)(tile + Memory<T, D>::rows); };
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
      if (kRowScales<T> && !values && warp == 0)
        copy_scales(scales_of_tile(slot), a, j, steps, 0, kSteps, kChunk, start, low, high);
      chunk += values;
      values = !values;
    }
    copy_async_commit();
  };
  __syncthreads();  // the ring is free
  if (begin < end) steps.fetch(a, b, begin * kChunk, low, high);
  Operand<T>* q = x.q[warp];
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
        const Operand<T>* a_at = query_at_lane<T, D>(q);
        const T* b_at = key_at_lane(tile + key_row() * S::k_pitch);
#pragma unroll(sizeof(T) == 1 ? 1 : D / kKeyColumns<T>)
        for (int k = 0; k < D / kKeyColumns<T>; k++) {
          uint32_t fa[kKeyTiles<T>][4];
#pragma unroll
          for (int n = 0; n < kKeyTiles<T>; n++) load_matrix4<false>(fa[n], a_at + (k * kKeyTiles<T> + n) * 16);
#pragma unroll
          for (int i = 0; i < kSteps; i++) {
            uint32_t b0[kKeyTiles<T>][2], b1[kKeyTiles<T>][2];
            load_keys(b0, b1, b_at + i * Memory<T, D>::stage + k * kKeyColumns<T>);
#pragma unroll
            for (int n = 0; n < kKeyTiles<T>; n++) {
              mma(s[2 * i], fa[n], b0[n], Operand<T>());
              mma(s[2 * i + 1], fa[n], b1[n], Operand<T>());
            }
            if (sizeof(T) == 1 && i % 4 == 3) __syncwarp();  // loads stay behind it: registers are short
          }
        }
        const f16* scales = scales_of_tile(tile);
        if constexpr (kRowScales<T>) {
#pragma unroll
          for (int i = 0; i < kSteps; i++) scale_step(s[2 * i], s[2 * i + 1], scales + i * kStep);
        }
        softmax_chunk(a, u, start, s, m, l);
        if constexpr (kRowScales<T>) {
#pragma unroll
          for (int i = 0; i < kSteps; i++) weigh_step(s[2 * i], s[2 * i + 1], scales + kChunk + i * kStep);
        }
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
      if (run.split) store_values<T, S::columns, S::pass>(u, rows, at, o);
      else fold_values<S::columns, S::pass>(state, f, at, o);
    }
  }
  copy_async_wait<0>();
  if (!run.split) {
    write_state<T>(a, r, u, j, part, state, steps.bad);
    return;
  }
#pragma unroll 1
  for (int c = r.chunk0 + run.begin; c < r.chunk0 + run.end; c++) {  // chunks that none of the block's rows sees
    if (c >= begin && c < end) continue;
    const int row = run.group * kGroupRows + thread;
    if (thread < kGroupRows && row < packed)
      *reinterpret_cast<float2*>(partial_rows<T, D>(a, x.plan, run, packed, c - r.chunk0) + int64_t(row) * S::state +
                                 S::columns) = make_float2(-kInfinity, 0);
  }
  close_block<T, D>(a, x, run, r);
}

}  // namespace eyrie::cuda::attention
