// Paged attention for few rows a request (decoding, short drafts): nothing is planned. A block belongs to a request, a kv head and
// a unit of 16 packed rows; the unit's chunks are dealt out to as many blocks as keep the device busy, and within a block to groups
// of warps. One block folds what it has computed in registers; of several the last to arrive folds the partial results.
// For a type of pages; compiled once for each.
#pragma once
#include <algorithm>

#include "cuda/attention_decode.cuh"

namespace eyrie::cuda::attention {
namespace {

constexpr size_t kPartialBytes = size_t(64) << 20;
constexpr int kLongest = 32;  // chunks that a block takes before there are more blocks than fill the device
constexpr int kMostSplits = 16;

// Folds the partial results of the unit's rows.
template <class T, int D>
GPU_INLINE void fold_unit(const Args& a, const Request& r, int j, int first_row, const float* partials, int64_t step,
                          int chunks) {
  constexpr int wide = D < 128 ? 1 : 2, columns = 32 * wide, parts = D / columns;
  const int rows = min(kRows, r.tokens * a.G - first_row);
#pragma unroll 1
  for (int i = int(threadIdx.x >> 5); i < rows * parts; i += int(blockDim.x >> 5)) {
    const int row = first_row + i / parts, at = i % parts * columns;
    const float* from = partials + int64_t(row) * Decode<T, D>::state;
    fold_columns<columns, wide, 16>(a, r, j, row, at, from + at, from + D, step, chunks);
  }
}

template <class T, int D>
__global__ void __launch_bounds__(Decode<T, D>::most_groups* Decode<T, D>::team * 32, 1)
    attention_decode_kernel(const __grid_constant__ Args a, const Split p) {
  dependency_wait();
  using M = Decode<T, D>;
  constexpr int C = M::columns;
  GPU_SHARED(memory);
  auto& x = *reinterpret_cast<typename M::Fixed*>(memory);
  auto* area = reinterpret_cast<typename M::Group*>(memory + M::fixed);
  const int b = int(blockIdx.z), j = int(blockIdx.y), slot = int(blockIdx.x) % p.slots,
            split = int(blockIdx.x) / p.slots;
  const int warp = int(threadIdx.x >> 5), lane = int(threadIdx.x & 31), group = warp / M::team, member = warp % M::team;

  // What decides about everything else is read at once, the block table for the case that nothing is out of sight.
  const int begin_row = a.q_start[b], end_row = a.q_start[b + 1], length = a.seq_lens[b];
  const int first_row = a.q_start[0], last_row = a.q_start[a.requests];
  const int guess = split * p.groups + group;
  int raw = -1;
  if (lane < kSteps && (int64_t(guess) * kSteps + lane) * kStep < int64_t(a.M) * a.S)
    raw = a.block_table[int64_t(b) * a.M + (unsigned(guess) * kSteps + unsigned(lane)) * kStep / unsigned(a.S)];
  const bool valid = valid_request(a, b, begin_row, end_row, length);
  if (blockIdx.x == 0 && j == 0) {
    if (b == 0) clear_rows(a, 0, first_row);
    if (b == a.requests - 1) clear_rows(a, last_row, a.T);
    if (!valid) clear_rows(a, begin_row, end_row);
  }
  if (!valid) return;
  const Request r = request_from(a, begin_row, end_row, length, false);
  if (threadIdx.x == 0) x.request = r;
  const int units = (r.tokens * a.G + kRows - 1) / kRows;

#pragma unroll 1
  for (int unit = slot; unit < units; unit += p.slots) {
    const Unit u = unit_at(a, r, j, unit * kRows, x.rows[warp]);
    const int chunk0 = u.low / kChunk, chunks = (u.high + kChunk - 1) / kChunk - chunk0;
    int active = max(min(p.fill, (chunks + p.groups - 1) / p.groups), (chunks + kLongest - 1) / kLongest);
    active = chunks > p.most_chunks ? 1 : min(p.splits, active);
    if (split >= active) continue;
    const int stride = active * p.groups, rounds = (chunks - split * p.groups + stride - 1) / stride;
    const int begin = chunk0 + guess, end = chunk0 + chunks;

    T* ring = reinterpret_cast<T*>(reinterpret_cast<unsigned char*>(area + p.groups) +
                                   warp * (p.ring * M::per_chunk + M::per_warp));
    f16* scales = reinterpret_cast<f16*>(ring + p.ring * M::chunk);
    Feed<T, D> feed = {b, j, u.low, u.high, end};
    if (unit == slot && chunk0 == 0) feed.steps.raw = raw;
    else if (begin < end) feed.steps.fetch(a, b, begin * kChunk, u.low, u.high);
    if (unit != slot) __syncthreads();  // the unit before is done with
#pragma unroll 1
    for (int i = 0; i < p.ring; i++) {
      const int c = begin + i * stride;
      feed.enter(a, c, stride);
#pragma unroll 1
      for (int half = 0; half < 2; half++) feed.issue_keys(a, ring + i * M::chunk, scales + i * M::scales, c, half);
#pragma unroll 1
      for (int half = 0; half < 2; half++) feed.issue_values(a, ring + i * M::chunk, c, half);
    }
    dependency_release();
    load_queries_together<T, D>(a, r, j, unit * kRows, x.q);
    __syncthreads();

    // The queries stay in registers where those suffice.
    constexpr bool kHeld = D <= 128;
    uint32_t queries[kHeld ? D / 16 : 1][4];
    if constexpr (kHeld) {
#pragma unroll
      for (int i = 0; i < D / 16; i++) load_matrix4<false>(queries[i], query_at_lane<T, D>(x.q) + i * 16);
    }

    // Partial results: of a chunk, a head, a packed row of the call.
    const auto partials = [&](int chunk) {
      return a.partials + ((int64_t(chunk) * a.J + int(blockIdx.y)) * a.T + x.request.row) * a.G * M::state;
    };
    State<C> state;
    clear(state);
    int out = 0, scale_out = 0, scale_in = p.ring;
#pragma unroll 1
    for (int k = 0; k < rounds; k++) {
      const int c = begin + k * stride, start = c * kChunk, later = c + p.ring * stride;
      const bool live = c < end;
      T* at = ring + out * M::chunk;
      out = out + 1 == p.ring ? 0 : out + 1;
      const f16* of_chunk = scales + scale_out * M::scales;
      f16* of_later = scales + scale_in * M::scales;
      if (kRowScales<T>) {
        scale_out = scale_out == p.ring ? 0 : scale_out + 1;
        scale_in = scale_in == p.ring ? 0 : scale_in + 1;
      }
      const auto seen = [&](int i) { return start + i * kStep + kStep > u.low && start + i * kStep < u.high; };
      feed.enter(a, later, stride);
      // The warp's own steps: scores, logits, maxima; then, with the chunk's maxima, probabilities for all warps of the group.
      const bool upper = u.packed - u.first_row > 8;
      constexpr int kOwn = 2 * M::steps;
      const auto step_of = [&](int n) { return n / M::steps * kHalfSteps + member * M::steps + n % M::steps; };
      auto& shared = area[group];
      float s[2 * kOwn][4] = {}, high[2];
#pragma unroll
      for (int half = 0; half < 2; half++) {
        wait_pending(4 * p.ring - 1);
        __syncwarp();
#pragma unroll
        for (int n = half * M::steps; n < (half + 1) * M::steps; n++) {
          const T* keys = at + feed.keys(half) + (n % M::steps * kStep + key_row()) * M::k_pitch;
          if (live && seen(step_of(n))) {
            if constexpr (kHeld)
              score_step_by<T, D>(s[2 * n], s[2 * n + 1], keys, [&](uint32_t (&q)[4], int at) {
#pragma unroll
                for (int r = 0; r < 4; r++) q[r] = queries[at][r];
              });
            else score_step<T, D>(s[2 * n], s[2 * n + 1], x.q, keys);
          }
          if constexpr (kRowScales<T>) {
            if (live) scale_step(s[2 * n], s[2 * n + 1], of_chunk + step_of(n) * kStep);
          }
        }
        __syncwarp();
        feed.issue_keys(a, at, of_later, later, half);
      }
      if (live) make_logits<kOwn>(a, u, start, s, step_of);
      row_maxima<kOwn>(s, high, upper);
      if ((lane & 3) == 0) {
        shared.maxima[member][lane >> 2] = high[0];
        shared.maxima[member][8 + (lane >> 2)] = high[1];
      }
      __syncthreads();
#pragma unroll
      for (int w = 0; w < M::team; w++) {
        high[0] = fmaxf(high[0], shared.maxima[w][lane >> 2]);
        high[1] = fmaxf(high[1], shared.maxima[w][8 + (lane >> 2)]);
      }
#pragma unroll
      for (int n = 0; n < kOwn; n++) {
        float part[2];
        uint32_t packed[4];
        exponentiate_step(s[2 * n], s[2 * n + 1], high, part, upper);
        if constexpr (kRowScales<T>) {
          if (live) weigh_step(s[2 * n], s[2 * n + 1], of_chunk + kChunk + step_of(n) * kStep);
        }
        pack_step<T>(packed, s[2 * n], s[2 * n + 1]);
        shared.parts[step_of(n)][lane] = make_float2(part[0], part[1]);
        shared.probabilities[step_of(n)][lane] = uint4{packed[0], packed[1], packed[2], packed[3]};
      }
      __syncthreads();
      float m[2] = {-kInfinity, -kInfinity}, l[2] = {}, o[C / 8][4] = {};
      if (live) {
        float sum[2] = {};
#pragma unroll
        for (int i = 0; i < kSteps; i++) {
          const float2 part = shared.parts[i][lane];
          sum[0] += part.x;
          sum[1] += part.y;
        }
        close_rows(u, start, high, sum, m, l);
      }
#pragma unroll 1
      for (int half = 0; half < 2; half++) {
        wait_pending(4 * p.ring - 1);
        __syncwarp();
        if (live && member < M::column_warps) {
          const T* v = at + feed.values(half) + value_row() * M::v_pitch;
#pragma unroll
          for (int i = 0; i < kHalfSteps; i++) {
            if (!seen(half * kHalfSteps + i)) continue;
            const uint4 w = shared.probabilities[half * kHalfSteps + i][lane];
            const uint32_t weights[4] = {w.x, w.y, w.z, w.w};
            value_step<T, C>(o, weights, v + i * kStep * M::v_pitch);
          }
        }
        __syncwarp();
        feed.issue_values(a, at, later, half);
      }
      if (active > 1) {
        if (live) {
          float* rows = partials(c - chunk0);
          if (member < M::column_warps) store_values<T, D, C>(u, rows, member * C, o);
          if (member == 0) store_sums<D>(u, rows, m, l, feed.steps.bad);
        }
        __syncthreads();  // the probabilities are read
        continue;
      }
      if (feed.steps.bad) m[0] = m[1] = __uint_as_float(0x7fc00000u);
      Fold f[2];
      if (group == 0) {
        fold_sums(state, f, m, l);
        fold_values<C, C>(state, f, 0, o);
      }
      __syncthreads();
      if constexpr (M::most_groups > 1) {
        if (p.groups == 1) continue;
        if (group > 0) {
#pragma unroll
          for (int n = 0; n < C / 8; n++)
            area[group].values[member * (C / 8) + n][lane] = make_float4(o[n][0], o[n][1], o[n][2], o[n][3]);
          if (member == 0) area[group].sums[lane] = make_float4(m[0], m[1], l[0], l[1]);
        }
        __syncthreads();
        if (group == 0) {
#pragma unroll 1
          for (int g = 1; g < p.groups; g++) {
            const float4 sums = area[g].sums[lane];
            const float gm[2] = {sums.x, sums.y}, gl[2] = {sums.z, sums.w};
#pragma unroll
            for (int n = 0; n < C / 8; n++)
              load_floats<4>(o[n], &area[g].values[(member * (C / 8) + n) % M::kept][lane].x);
            fold_sums(state, f, gm, gl);
            fold_values<C, C>(state, f, 0, o);
          }
        }
        __syncthreads();
      }
    }
    copy_async_wait<0>();

    if (active == 1) {
      if (group == 0 && member < M::column_warps) write_state<T>(a, x.request, u, j, member, state, feed.steps.bad);
      continue;
    }
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
      const int most = (a.T * a.G + kRows - 1) / kRows;
      uint32_t* ticket = a.tickets + (int64_t(b) * a.J + j) * most + unit;
      x.last = atomicAdd(ticket, 1u) + 1 == uint32_t(active);
      if (x.last) *ticket = 0;
    }
    __syncthreads();
    if (!x.last) continue;
    __threadfence();
    fold_unit<T, D>(a, x.request, j, unit * kRows, partials(0), int64_t(a.J) * a.T * a.G * M::state, chunks);
  }
}

// How many blocks of a unit use the device best when all have the same length: they run in waves of `room` blocks.
int splits_for(int64_t units, int64_t room) {
  int best = 1;
  double least = 1e30;
  for (int s = 1; s <= std::max<int64_t>(8, room / units); s++) {
    const double cost = double((units * s + room - 1) / room) / s * (1 + 0.01 * s);
    if (cost < least) {
      least = cost;
      best = s;
    }
  }
  return best;
}

template <class T, int D>
bool run_decode(Args a, Context& context) {
  using M = Decode<T, D>;
  const int64_t all_units = (int64_t(a.T) * a.G + kRows - 1) / kRows;
  const int64_t tickets = int64_t(a.requests) * a.J * all_units;
  if (tickets > int64_t(kTickets) || a.requests > 65535 || a.J > 65535) return false;
  Split p = {};
  p.slots = int((all_units + a.requests - 1) / a.requests);
  const int64_t units = int64_t(a.requests) * a.J * p.slots, chunks = (int64_t(a.M) * a.S + kChunk - 1) / kChunk;
  // With work for every multiprocessor two small blocks share it; else a block has it for itself, with more groups.
  const bool busy = units >= context.sms;
  const size_t half = (context.shared_limit + 1024) / 2 - 1024;
  p.groups = busy ? std::max(1, M::most_groups / 2) : M::most_groups;
  while (p.groups > 1 && M::bytes(p.groups, 1) > context.shared_limit) p.groups /= 2;
  if (M::bytes(p.groups, 1) > context.shared_limit) return false;
  const bool pair = busy && M::bytes(p.groups, 1) <= half;
  const size_t limit = pair ? half : context.shared_limit;
  p.ring = 1;
  while (p.ring < 4 && p.ring < chunks && M::bytes(p.groups, p.ring + 1) <= limit) p.ring++;
  const int64_t most = (chunks + p.groups - 1) / p.groups;
  p.fill = int(std::min<int64_t>(most, splits_for(units, int64_t(context.sms) * (pair ? 2 : 1))));
  const int64_t longest = std::min<int64_t>(kMostSplits, (chunks + kLongest - 1) / kLongest);
  p.splits = int(std::max<int64_t>(p.fill, longest));
  if (p.splits > 1) {
    const int64_t row = int64_t(a.T) * a.H * M::state * int64_t(sizeof(float));
    p.most_chunks = int(std::min<int64_t>(chunks, int64_t(kPartialBytes) / row));
    if (p.most_chunks < 2) p.splits = p.fill = 1;
    else a.partials = static_cast<float*>(context.workspace(size_t(p.most_chunks * row)));
    a.tickets = context.tickets(size_t(tickets));
  }
  launch(context, attention_decode_kernel<T, D>,
         dim3(unsigned(p.slots * p.splits), unsigned(a.J), unsigned(a.requests)),
         dim3(unsigned(p.groups * M::team * 32)), M::bytes(p.groups, p.ring), a, p);
  return true;
}

}  // namespace

template <class T>
bool attend_decode(const Args& a, Context& context) {
  // Few units: they read what they share one beside the other. Decided from shapes alone: a captured call serves any lengths.
  const bool few = int64_t(a.T) * a.G <= std::max<int64_t>(128, int64_t(a.requests) * 2 * kRows);
  if (a.anc || a.D != a.E || !few || int64_t(a.T) > int64_t(4) * a.requests + 60) return false;
  switch (a.D) {
    case 64: return run_decode<T, 64>(a, context);
    case 96: return run_decode<T, 96>(a, context);
    case 128: return run_decode<T, 128>(a, context);
    case 256: return run_decode<T, 256>(a, context);
    default: return false;
  }
}

}  // namespace eyrie::cuda::attention
