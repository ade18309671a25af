// The arithmetic of a unit (attention.cuh) on the tensor cores: 16 packed rows with keys and values that lie in shared memory as
// rows of `columns + kPad` elements (attention_operands.cuh). Row g and row g + 8 of the unit belong to lanes 4g..4g+3 (gpu.cuh).
#pragma once
#include "cuda/attention_operands.cuh"

namespace eyrie::cuda::attention {

struct RowInfo {  // in shared memory, to be read when needed: registers are short
  int position, first;  // sees [first, position]
  float factor, slope;  // of scores, of ALiBi
};

struct Unit {
  const RowInfo* rows;  // this lane's first; the other is 8 behind it
  int first_row, packed;  // the unit's first row, and rows of the request in all
  int low, high;  // positions that some row of the warp's sees: [low, high)

  // Whether every row sees the whole chunk at `start`: what they all see stands behind the rows.
  GPU_INLINE bool inside(int start) const {
    const RowInfo all = rows[kRows - int(threadIdx.x & 31) / 4];
    return start >= all.first && start + kChunk <= all.position;
  }
  GPU_INLINE int row(int h) const { return first_row + int(threadIdx.x & 31) / 4 + 8 * h; }
};

// Packed rows [first_row, first_row + 16) of kv head j; `info` is the warp's.
GPU_INLINE Unit unit_at(const Args& a, const Request& r, int j, int first_row, RowInfo* info) {
  const int lane = int(opaque(threadIdx.x) & 31);
  Unit u = {info + lane / 4, first_row, r.tokens * a.G, 0, 0};
  int low = 0x7fffffff, high = 0, last_low = 0, first_high = 0x7fffffff;
  __syncwarp();
  if (lane < kRows) {
    RowInfo x = {-1, 0, 0, 0};  // no row: sees nothing
    const int row = first_row + lane;
    if (row < u.packed) {
      const int token = row / a.G;
      float scale = a.q_scale ? a.scale * a.q_scale[r.row + token] : a.scale;
      if (a.k_scales.head) scale *= a.k_scales.head[j];
      x.position = position_of(a, r, token);
      x.first = first_seen(a, x.position);
      x.factor = a.softcap != 0 ? scale / a.softcap : scale * kLog2e;
      x.slope = a.alibi ? a.alibi[j * a.G + row % a.G] * kLog2e : 0;
      low = last_low = x.first;
      high = first_high = x.position + 1;
    }
    info[lane] = x;
  }
  __syncwarp();
  u.low = __reduce_min_sync(~0u, low);
  u.high = __reduce_max_sync(~0u, high);
  const RowInfo all = {__reduce_min_sync(~0u, first_high), __reduce_max_sync(~0u, last_low), 0, 0};
  if (lane == 0) info[kRows] = all;
  __syncwarp();
  return u;
}

// The unit's queries, rounded to what their operand is, as rows in shared memory. The warp's own tile.
template <class T, int D>
GPU_INLINE void load_queries(const Args& a, const Request& r, int j, int first_row, Operand<T>* tile) {
  const int lane = threadIdx.x & 31;
  with_type(a, [&](auto type) {
    using In = decltype(type);
#pragma unroll 4
    for (int i = 0; i < kRows; i++) {
      const int row = first_row + i;
      const bool live = row < r.tokens * a.G;
      const In* q = static_cast<const In*>(a.q);
      if (live) q += int64_t(r.row + row / a.G) * a.q_row + int64_t(j * a.G + row % a.G) * a.q_head;
#pragma unroll
      for (int k = 0; k < D / 32; k++)
        tile[i * Shape<T, D>::q_pitch + query_place<T>(k * 32 + lane)] =
            from_float<Operand<T>>(live ? to_float(q[k * 32 + lane]) : 0.0f);
    }
  });
  __syncwarp();
}

// Scores of one step: k is this lane's row for ldmatrix, that of token (lane / 16) * 8 + lane % 8 of the step; query(a, i) gives the A operand
// of inputs 16 i.
template <class T, int D, class Query>
GPU_INLINE void score_step_by(float (&s0)[4], float (&s1)[4], const T* k, const Query& query) {
  const T* b_at = key_at_lane(k);
#pragma unroll
  for (int i = 0; i < D / kKeyColumns<T>; i++) {
    uint32_t b0[kKeyTiles<T>][2], b1[kKeyTiles<T>][2];
    load_keys(b0, b1, b_at + i * kKeyColumns<T>);
#pragma unroll
    for (int n = 0; n < kKeyTiles<T>; n++) {
      uint32_t a[4];
      query(a, i * kKeyTiles<T> + n);
      mma(s0, a, b0[n], Operand<T>());
      mma(s1, a, b1[n], Operand<T>());
    }
  }
}
template <class T, int D>
GPU_INLINE void score_step(float (&s0)[4], float (&s1)[4], const Operand<T>* q, const T* k) {
  const Operand<T>* at = query_at_lane<T, D>(q);
  score_step_by<T, D>(s0, s1, k, [&](uint32_t (&a)[4], int i) { load_matrix4<false>(a, at + i * 16); });
}
GPU_INLINE int key_row() {
  const unsigned thread = opaque(threadIdx.x);
  return int(thread >> 1 & 8) + int(thread & 7);
}
GPU_INLINE int value_row() { return int(opaque(threadIdx.x) & 15); }

// ---- the softmax of a chunk, for all its steps or for N of them: step_of(n) is the n-th of these ----

// Scores become logits in base 2: scaled, capped, biased, and -inf where a row does not see. start: of the chunk.
template <int N, class StepOf>
GPU_INLINE void make_logits(const Args& a, const Unit& u, int start, float (&s)[2 * N][4], const StepOf& step_of) {
  const int column = int(threadIdx.x & 3) * 2;
  const RowInfo row[2] = {u.rows[0], u.rows[8]};
  const auto column_of = [&](int n) { return step_of(n / 2) * kStep + n % 2 * 8; };
#pragma unroll
  for (int n = 0; n < 2 * N; n++)
#pragma unroll
    for (int i = 0; i < 4; i++) s[n][i] = __fmul_rn(s[n][i], row[i >> 1].factor);
  if (a.softcap != 0) {
    const float cap = a.softcap * kLog2e;
#pragma unroll
    for (int n = 0; n < 2 * N; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) s[n][i] = __fmul_rn(cap, tanh_approximate(s[n][i]));
  }
  if (a.alibi) {  // slope (j - position): the same softmax as slope j, but the rounding stays small where weights are large
#pragma unroll
    for (int n = 0; n < 2 * N; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        s[n][i] =
            fmaf(row[i >> 1].slope, float(start + column_of(n) + column + (i & 1) - row[i >> 1].position), s[n][i]);
  }
  if (u.inside(start)) return;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int first = row[i >> 1].first - start - column - (i & 1),
              last = row[i >> 1].position - start - column - (i & 1);
#pragma unroll
    for (int n = 0; n < 2 * N; n++) s[n][i] = column_of(n) >= first && column_of(n) <= last ? s[n][i] : -kInfinity;
  }
}

// The largest logit of each row among the steps, kept finite: scores of -inf then weigh 0, and NaN stays NaN. Without `upper` the rows
// from 8 on are none.
template <int N>
GPU_INLINE void row_maxima(const float (&s)[2 * N][4], float (&high)[2], bool upper) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    high[h] = kLowest;
    if (h == 1 && !upper) continue;
#pragma unroll
    for (int n = 0; n < 2 * N; n++) high[h] = fmaxf(high[h], fmaxf(s[n][2 * h], s[n][2 * h + 1]));
    high[h] = fmaxf(high[h], __shfl_xor_sync(~0u, high[h], 1));
    high[h] = fmaxf(high[h], __shfl_xor_sync(~0u, high[h], 2));
  }
}
// Logits of a step become probabilities; their sum over this lane's columns.
GPU_INLINE void exponentiate_step(float (&s0)[4], float (&s1)[4], const float (&high)[2], float (&sum)[2], bool upper) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (h == 1 && !upper) {
      s0[2] = s0[3] = s1[2] = s1[3] = sum[1] = 0;
      continue;
    }
    float (&x)[4] = s0, (&y)[4] = s1;
#pragma unroll
    for (int i = 2 * h; i < 2 * h + 2; i++) {
      x[i] = exp2_approximate(__fsub_rn(x[i], high[h]));
      y[i] = exp2_approximate(__fsub_rn(y[i], high[h]));
    }
    sum[h] = (x[2 * h] + x[2 * h + 1]) + (y[2 * h] + y[2 * h + 1]);
  }
}
// Maximum and sum of each row, out of the sums of this lane's columns over all steps, which were added in the order of the steps.
GPU_INLINE void close_rows(const Unit& u, int start, const float (&high)[2], const float (&sum)[2], float (&m)[2],
                           float (&l)[2]) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    const RowInfo row = u.rows[8 * h];
    float all = sum[h] + __shfl_xor_sync(~0u, sum[h], 1);
    all += __shfl_xor_sync(~0u, all, 2);
    const bool sees = row.position >= start && row.first < start + kChunk;
    m[h] = sees ? high[h] : -kInfinity;
    l[h] = sees ? all : 0;
  }
}

// Scores -> probabilities of the chunk at `start`, in place, with each row's maximum and sum.
GPU_INLINE void softmax_chunk(const Args& a, const Unit& u, int start, float (&s)[2 * kSteps][4], float (&m)[2],
                              float (&l)[2]) {
  make_logits<kSteps>(a, u, start, s, [](int n) { return n; });
  float high[2], sum[2] = {};
  row_maxima<kSteps>(s, high, true);
#pragma unroll
  for (int i = 0; i < kSteps; i++) {
    float part[2];
    exponentiate_step(s[2 * i], s[2 * i + 1], high, part, true);
    sum[0] += part[0];
    sum[1] += part[1];
  }
  close_rows(u, start, high, sum, m, l);
}

// Probabilities as the A operand of a step, of each step.
template <class T>
GPU_INLINE void pack_step(uint32_t (&p)[4], const float (&s0)[4], const float (&s1)[4]) {
  p[0] = pack(s0[0], s0[1], Operand<T>());
  p[1] = pack(s0[2], s0[3], Operand<T>());
  p[2] = pack(s1[0], s1[1], Operand<T>());
  p[3] = pack(s1[2], s1[3], Operand<T>());
}
template <class T>
GPU_INLINE void pack_chunk(uint32_t (&p)[kSteps][4], const float (&s)[2 * kSteps][4]) {
#pragma unroll
  for (int i = 0; i < kSteps; i++) pack_step<T>(p[i], s[2 * i], s[2 * i + 1]);
}

// Where rows have scales: those of a chunk's keys on the columns of its scores, before anything else; those of its values on the
// columns of its probabilities. `scales`: of a step's 16 tokens, in shared memory.
GPU_INLINE void scale_step(float (&s0)[4], float (&s1)[4], const f16* scales) {
  const uint32_t* at = reinterpret_cast<const uint32_t*>(scales) + (threadIdx.x & 3);
  const uint32_t x[2] = {at[0], at[4]};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    s0[i] = __fmul_rn(s0[i], i & 1 ? high_f16(x[0]) : low_f16(x[0]));
    s1[i] = __fmul_rn(s1[i], i & 1 ? high_f16(x[1]) : low_f16(x[1]));
  }
}
// What weighs nothing stays so, whatever its scale.
GPU_INLINE float scaled_weight(float p, float scale) { return p == 0 ? 0.0f : __fmul_rn(p, scale); }
GPU_INLINE void weigh_step(float (&p0)[4], float (&p1)[4], const float (&scales)[4]) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    p0[i] = scaled_weight(p0[i], scales[i & 1]);
    p1[i] = scaled_weight(p1[i], scales[2 + (i & 1)]);
  }
}
GPU_INLINE void weigh_step(float (&p0)[4], float (&p1)[4], const f16* scales) {
  const uint32_t* at = reinterpret_cast<const uint32_t*>(scales) + (threadIdx.x & 3);
  const uint32_t x0 = at[0], x1 = at[4];
  weigh_step(p0, p1, {low_f16(x0), high_f16(x0), low_f16(x1), high_f16(x1)});
}

// Registers have no index at run time: loops over steps that are not unrolled pass them through one place instead. The first
// `by` go to the end.
template <int by, class V, int n>
GPU_INLINE void rotate(V (&x)[n][4]) {
  V first[by][4];
#pragma unroll
  for (int i = 0; i < n; i++)
#pragma unroll
    for (int k = 0; k < 4; k++) {
      if (i < by) first[i < by ? i : 0][k] = x[i][k];
      x[i][k] = i + by < n ? x[i + by < n ? i + by : i][k] : first[i + by < n ? 0 : i + by - n][k];
    }
}

// Values of one step: v is this lane's row for ldmatrix, that of token lane % 16 of the step.
template <class T, int C>
GPU_INLINE void value_step(float (&o)[C / 8][4], const uint32_t (&p)[4], const T* v) {
  constexpr int tiles = kValueTiles<T>;
  const T* at = value_at_lane(v);
#pragma unroll
  for (int n = 0; n < C / 8; n += tiles) {
    uint32_t b[tiles][2];
    load_values(b, at + n * 8);
#pragma unroll
    for (int k = 0; k < tiles; k++) mma(o[n + k], p, b[k], Operand<T>());
  }
}

// This lane's columns of a step (2t, 2t+1, 8 + 2t, 9 + 2t) from rows by lane (key_row).
GPU_INLINE void scales_of_columns(float (&x)[4], const f16* scales, int row) {
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const int at = __shfl_sync(~0u, row, (i >> 1) * 16 + int(threadIdx.x & 3) * 2 + (i & 1));
    x[i] = at < 0 ? 0.0f : to_float(scales[at]);
  }
}

// The same for the rows of one token: the others' sums stay as they are. Where rows have scales, they are `of_rows`, of which this
// lane's of the step is `row`.
template <class T, int D>
GPU_INLINE void score_step_of(float (&s0)[4], float (&s1)[4], const Operand<T>* q, const T* k, const f16* of_rows,
                              int row, bool low, bool high) {
  float t0[4] = {}, t1[4] = {}, scales[4] = {};
  score_step<T, D>(t0, t1, q, k);
  if constexpr (kRowScales<T>) scales_of_columns(scales, of_rows, row);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const bool mine = i < 2 ? low : high;
    const float x0 = kRowScales<T> ? __fmul_rn(t0[i], scales[i & 1]) : t0[i];
    const float x1 = kRowScales<T> ? __fmul_rn(t1[i], scales[2 + (i & 1)]) : t1[i];
    s0[i] = mine ? x0 : s0[i];
    s1[i] = mine ? x1 : s1[i];
  }
}
template <class T, int C>
GPU_INLINE void value_step_of(float (&o)[C / 8][4], const uint32_t (&p)[4], const T* v, bool low, bool high) {
  constexpr int tiles = kValueTiles<T>;
  const T* at = value_at_lane(v);
#pragma unroll
  for (int n = 0; n < C / 8; n += tiles) {
    uint32_t b[tiles][2];
    load_values(b, at + n * 8);
#pragma unroll
    for (int k = 0; k < tiles; k++) {
      float (&d)[4] = o[n + k];
      float t[4] = {d[0], d[1], d[2], d[3]};
      mma(t, p, b[k], Operand<T>());
#pragma unroll
      for (int i = 0; i < 4; i++) d[i] = (i < 2 ? low : high) ? t[i] : d[i];
    }
  }
}

}  // namespace eyrie::cuda::attention
