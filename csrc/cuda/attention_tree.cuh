// Chunks with rows of a tree. Behind the prefix each row has its ancestors one after the other for context, wherever in the
// cache they lie, so that its steps are those of the same text without a tree, bit for bit. The block copies the chunk's whole
// steps of prefix (shared by all rows) and the tail, that is the last prefix tokens that fill no step and all rows of the tree;
// a step behind the whole ones is done once for each token of a unit, its rows picked out of the tail by address.
#pragma once
#include "cuda/attention_runs.cuh"

namespace eyrie::cuda::attention {

constexpr int kTailBlocks = (kStep - 1 + kTreeTokens + kStep - 1) / kStep;  // 9, of 16 rows
static_assert(kSteps - 1 + kTailBlocks <= 2 * kSteps, "a chunk's whole steps and the tail fit two tiles");

// Where a chunk's rows lie in shared memory: whole steps of the prefix, then the tail.
struct TreeChunk {
  int start, tail, whole, blocks;  // first position; of the tail; whole steps; blocks of 16 rows in all

  GPU_INLINE int token(int row) const { return row < whole * kStep ? start + row : tail + row - whole * kStep; }
};

template <class T, int C, int pitch>
GPU_INLINE void copy_tree(T* to, const PageView& from, int64_t offset, const Args& a, const TreeChunk& t, int page,
                          int low, int length) {
  constexpr int piece = 16 / sizeof(T), per_row = C / piece;
  const int total = t.blocks * kStep * per_row;  // a multiple of 32: the warp stays together
#pragma unroll 1
  for (int i = int(opaque(threadIdx.x)); i < total; i += kThreads) {
    const int row = i / per_row, column = i % per_row * piece, token = t.token(row);
    const int where = __shfl_sync(~0u, page, row / kStep);
    const bool valid = where >= 0 && token >= low && token < length;
    const unsigned char* p = from.data + offset + column * int(sizeof(T));
    if (valid) p += where * from.page + token % int(opaque(unsigned(a.S))) * from.slot;
    copy_async16(to + row * pitch + column, p, valid);
  }
}

// Scales of the chunk's rows, by a warp: half a block of 16 rows a lane and turn.
GPU_INLINE void copy_tree_scales(f16* keys, f16* values, const Args& a, int j, const TreeChunk& t, int page, int low,
                                 int length) {
#pragma unroll 1
  for (int i0 = 0; i0 < 4 * t.blocks; i0 += 32) {
    const int i = i0 + int(threadIdx.x & 31), of_values = i >= 2 * t.blocks, half = of_values ? i - 2 * t.blocks : i;
    const int where = __shfl_sync(~0u, page, min(half / 2, 31)), token = t.token(half * 8);
    if (i >= 4 * t.blocks) continue;
    const bool valid = where >= 0 && token + 8 > low && token < length;
    const PageScales& from = of_values ? a.v_scales : a.k_scales;
    const void* p =
        valid ? static_cast<const void*>(from.row(where, j, token % int(opaque(unsigned(a.S))))) : from.rows;
    copy_async16((of_values ? values : keys) + half * 8, p, valid);
  }
}

template <class T, int D>
GPU_INLINE void tree_run(const Args& a, typename Memory<T, D>::Fixed& x, T* ring, const Run& run) {
  using S = Shape<T, D>;
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, b = a.first_request + run.b;
  const int j = run.jh / S::parts, part = run.jh % S::parts;
  if (threadIdx.x == 0) x.request = request_at(a, b, true);
  __syncthreads();
  const Request& r = x.request;  // read when needed: registers are short
  const int first_row = run.group * kGroupRows + warp * kRows, packed = r.tokens * a.G;
  const Unit u = unit_at(a, r, j, first_row, x.rows[warp]);
  // Packed rows of a token among this lane's two.
  const auto owns = [&](int token, int h) { return u.row(h) >= token * a.G && u.row(h) < (token + 1) * a.G; };
  const int first_token = first_row / a.G, end_token = min(r.tokens, (first_row + kRows - 1) / a.G + 1);
  const int low = first_seen(a, r.prefix);
  const bool apart = a.tiles >= 4;  // values have room of their own
  Operand<T>* q = x.q[warp];
  T *keys = ring, *values = apart ? ring + 2 * Memory<T, D>::tile : ring;
  load_queries<T, D>(a, r, j, first_row, q);
  bool bad = false;

  // This lane's row of a step for one token of the tree, or zeros where that token sees nothing.
  const auto row_of = [&](const TreeChunk& t, const Ancestors& tree, int position) {
    const int last = r.prefix + max(1, depth_of(tree)) - 1;
    if (position > last || position < first_seen(a, last)) return -1;
    const int token = position < r.prefix ? position : r.prefix + ancestor_at(tree, position - r.prefix);
    return t.whole * kStep + token - t.tail;
  };

  State<S::columns> state;
  if (!run.split) clear(state);
#pragma unroll 1
  for (int c = r.chunk0 + run.begin; c < r.chunk0 + run.end; c++) {
    TreeChunk t;
    t.start = c * kChunk;
    t.tail = r.prefix / kStep * kStep;
    t.whole = max(0, min(kSteps, (t.tail - t.start) / kStep));
    t.blocks = t.whole + (t.start + kChunk > t.tail ? (r.length - t.tail + kStep - 1) / kStep : 0);
    int page = -1;
    bool wrong = false;
    if (lane < t.blocks) {
      const int token = t.token(lane * kStep);
      if (token + kStep > low) wrong = (page = page_of(a, b, token)) < 0;
    }
    bad |= __any_sync(~0u, wrong) != 0;

    __syncthreads();  // the chunk before is done with
    copy_tree<T, D, S::k_pitch>(keys, a.k, j * a.k.head, a, t, page, low, r.length);
    if (kRowScales<T> && warp == 0) copy_tree_scales(x.tree_scales[0], x.tree_scales[1], a, j, t, page, low, r.length);
    copy_async_commit();
    if (apart) {
      copy_tree<T, S::columns, S::v_pitch>(values, a.v, j * a.v.head + part * S::columns * int(sizeof(T)), a, t, page,
                                           low, r.length);
      copy_async_commit();
      copy_async_wait<1>();
    } else {
      copy_async_wait<0>();
    }
    __syncthreads();
    int seen = 0;
#pragma unroll
    for (int i = 0; i < kSteps; i++)
      seen |= int(t.start + i * kStep + kStep > u.low && t.start + i * kStep < u.high) << i;
    float s[2 * kSteps][4] = {}, m[2] = {-kInfinity, -kInfinity}, l[2] = {};
#pragma unroll 1
    for (int i = 0; i < kSteps; i++) {
      rotate<2>(s);
      if (!(seen >> i & 1)) continue;
      float (&s0)[4] = s[2 * kSteps - 2], (&s1)[4] = s[2 * kSteps - 1];
      if (i < t.whole) {
        score_step<T, D>(s0, s1, q, keys + (i * kStep + key_row()) * S::k_pitch);
        if constexpr (kRowScales<T>) scale_step(s0, s1, x.tree_scales[0] + i * kStep);
        continue;
      }
#pragma unroll 1
      for (int token = first_token; token < end_token; token++) {
        const int row = row_of(t, ancestors_of(a, r, token), t.start + i * kStep + key_row());
        score_step_of<T, D>(s0, s1, q, row < 0 ? x.zeros : keys + row * S::k_pitch, x.tree_scales[0], row,
                            owns(token, 0), owns(token, 1));
      }
    }
    if (seen) softmax_chunk(a, u, t.start, s, m, l);
    if constexpr (kRowScales<T>) {
#pragma unroll
      for (int i = 0; i < kSteps; i++) {
        if (!(seen >> i & 1)) continue;
        float (&p0)[4] = s[2 * i], (&p1)[4] = s[2 * i + 1];
        if (i < t.whole) {
          weigh_step(p0, p1, x.tree_scales[1] + i * kStep);
          continue;
        }
#pragma unroll 1
        for (int token = first_token; token < end_token; token++) {
          float scales[4];
          scales_of_columns(scales, x.tree_scales[1],
                            row_of(t, ancestors_of(a, r, token), t.start + i * kStep + key_row()));
#pragma unroll
          for (int k = 0; k < 4; k++) {
            const bool mine = owns(token, k >> 1);
            p0[k] = mine ? scaled_weight(p0[k], scales[k & 1]) : p0[k];
            p1[k] = mine ? scaled_weight(p1[k], scales[2 + (k & 1)]) : p1[k];
          }
        }
      }
    }
    if (!apart) {
      __syncthreads();
      copy_tree<T, S::columns, S::v_pitch>(values, a.v, j * a.v.head + part * S::columns * int(sizeof(T)), a, t, page,
                                           low, r.length);
      copy_async_commit();
    }
    copy_async_wait<0>();
    __syncthreads();
    uint32_t p[kSteps][4];
    pack_chunk<T>(p, s);
    float* rows = run.split ? partial_rows<T, D>(a, x.plan, run, packed, c - r.chunk0) : nullptr;
    Fold f[2];
    if (run.split) store_sums<S::columns>(u, rows, m, l, bad);
    else fold_sums(state, f, m, l);
#pragma unroll
    for (int at = 0; at < S::columns; at += S::pass) {
      float o[S::pass / 8][4] = {};
#pragma unroll 1
      for (int i = 0; i < kSteps; i++, rotate<1>(p)) {
        if (!(seen >> i & 1)) continue;
        if (i < t.whole) {
          value_step<T, S::pass>(o, p[0], values + (i * kStep + value_row()) * S::v_pitch + at);
          continue;
        }
#pragma unroll 1
        for (int token = first_token; token < end_token; token++) {
          const int row = row_of(t, ancestors_of(a, r, token), t.start + i * kStep + value_row());
          value_step_of<T, S::pass>(o, p[0], (row < 0 ? x.zeros : values + row * S::v_pitch) + at, owns(token, 0),
                                    owns(token, 1));
        }
      }
      if (run.split) store_values<T, S::columns, S::pass>(u, rows, at, o);
      else fold_values<S::columns, S::pass>(state, f, at, o);
    }
  }
  if (run.split) close_block<T, D>(a, x, run, r);
  else write_state<T>(a, r, u, j, part, state, bad);
}

}  // namespace eyrie::cuda::attention
