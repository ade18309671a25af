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

  GPU_INLINE int row(int h) const { return first_row + int(threadIdx.x & 31) / 4 + 8 * h; }
};

// Packed rows [first_row, first_row + 16) of kv head j; `info` is the warp's.
GPU_INLINE Unit unit_at(const Args& a, const Request& r, int j, int first_row, RowInfo* info) {
  const int lane = threadIdx.x & 31;
  Unit u = {info + lane / 4, first_row, r.tokens * a.G, 0, 0};
  int low = 0x7fffffff, high = 0;
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
      low = x.first;
      high = x.position + 1;
    }
    info[lane] = x;
  }
  __syncwarp();
  u.low = __reduce_min_sync(~0u, low);
  u.high = __reduce_max_sync(~0u, high);
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

// Scores of one step: k is this lane's row for ldmatrix, that of token (lane / 16) * 8 + lane % 8 of the step.
template <class T, int D>
GPU_INLINE void score_step(float (&s0)[4], float (&s1)[4], const Operand<T>* q, const T* k) {
  const Operand<T>* a_at = query_at_lane<T, D>(q);
  const T* b_at = key_at_lane(k);
#pragma unroll
  for (int i = 0; i < D / kKeyColumns<T>; i++) {
    uint32_t b0[kKeyTiles<T>][2], b1[kKeyTiles<T>][2];
    load_keys(b0, b1, b_at + i * kKeyColumns<T>);
#pragma unroll
    for (int n = 0; n < kKeyTiles<T>; n++) {
      uint32_t a[4];
      load_matrix4<false>(a, a_at + (i * kKeyTiles<T> + n) * 16);
      mma(s0, a, b0[n], Operand<T>());
      mma(s1, a, b1[n], Operand<T>());
    }
  }
}
GPU_INLINE int key_row() {
  const unsigned thread = opaque(threadIdx.x);
  return int(thread >> 1 & 8) + int(thread & 7);
}
GPU_INLINE int value_row() { return int(opaque(threadIdx.x) & 15); }

// Scores -> probabilities of the chunk at `start`, in place, with each row's maximum and sum. The maximum is kept finite where
// the row sees something, so that scores of -inf weigh 0 and NaN stays NaN. Without `upper` the rows from 8 on are none.
GPU_INLINE void softmax_chunk(const Args& a, const Unit& u, int start, float (&s)[2 * kSteps][4], float (&m)[2],
                              float (&l)[2], bool upper = true) {
  const int column = int(threadIdx.x & 3) * 2;
  const RowInfo row[2] = {u.rows[0], u.rows[8]};
#pragma unroll
  for (int n = 0; n < 2 * kSteps; n++)
#pragma unroll
    for (int i = 0; i < 4; i++) s[n][i] = __fmul_rn(s[n][i], row[i >> 1].factor);
  if (a.softcap != 0) {
    const float cap = a.softcap * kLog2e;
#pragma unroll
    for (int n = 0; n < 2 * kSteps; n++)
#pragma unroll
      for (int i = 0; i < 4; i++) s[n][i] = __fmul_rn(cap, tanh_approximate(s[n][i]));
  }
  if (a.alibi) {  // slope (j - position): the same softmax as slope j, but the rounding stays small where weights are large
#pragma unroll
    for (int n = 0; n < 2 * kSteps; n++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        s[n][i] = fmaf(row[i >> 1].slope, float(start + n * 8 + column + (i & 1) - row[i >> 1].position), s[n][i]);
  }
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (h == 1 && !upper) {
#pragma unroll
      for (int n = 0; n < 2 * kSteps; n++) s[n][2] = s[n][3] = 0;
      m[1] = -kInfinity;
      l[1] = 0;
      continue;
    }
    const int first = row[h].first - start - column, last = row[h].position - start - column;  // of n * 8 + e
    float high = kLowest;
#pragma unroll
    for (int n = 0; n < 2 * kSteps; n++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float& x = s[n][2 * h + e];
        x = n * 8 + e >= first && n * 8 + e <= last ? x : -kInfinity;
        high = fmaxf(high, x);
      }
    high = fmaxf(high, __shfl_xor_sync(~0u, high, 1));
    high = fmaxf(high, __shfl_xor_sync(~0u, high, 2));
    float sum = 0;
#pragma unroll
    for (int n = 0; n < 2 * kSteps; n++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        float& x = s[n][2 * h + e];
        x = exp2_approximate(__fsub_rn(x, high));
        sum += x;
      }
    sum += __shfl_xor_sync(~0u, sum, 1);
    sum += __shfl_xor_sync(~0u, sum, 2);
    const bool sees = row[h].position >= start && row[h].first < start + kChunk;
    m[h] = sees ? high : -kInfinity;
    l[h] = sees ? sum : 0;
  }
}

// Probabilities as the A operand of each step.
template <class T>
GPU_INLINE void pack_chunk(uint32_t (&p)[kSteps][4], const float (&s)[2 * kSteps][4]) {
#pragma unroll
  for (int i = 0; i < kSteps; i++)
#pragma unroll
    for (int k = 0; k < 4; k++)
      p[i][k] = pack(s[2 * i + (k >> 1)][k % 2 * 2], s[2 * i + (k >> 1)][k % 2 * 2 + 1], Operand<T>());
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

// ---- what becomes of a chunk's result ----

template <int C>
struct State {  // of the rows of a unit, folded; unused where chunks leave partial results
  float o[C / 8][4], m[2], l[2];
};

template <int C>
GPU_INLINE void clear(State<C>& s) {
#pragma unroll
  for (int n = 0; n < C / 8; n++)
#pragma unroll
    for (int i = 0; i < 4; i++) s.o[n][i] = 0;
  s.m[0] = s.m[1] = -kInfinity;
  s.l[0] = s.l[1] = 0;
}

template <int C>
GPU_INLINE void fold_sums(State<C>& s, Fold (&f)[2], const float (&m)[2], const float (&l)[2]) {
#pragma unroll
  for (int h = 0; h < 2; h++) f[h] = fold(s.m[h], s.l[h], m[h], l[h]);
}
// Columns [at, at + P) of a chunk's values.
template <int C, int P>
GPU_INLINE void fold_values(State<C>& s, const Fold (&f)[2], int at, const float (&o)[P / 8][4]) {
#pragma unroll
  for (int n = 0; n < P / 8; n++)
#pragma unroll
    for (int i = 0; i < 4; i++) {
      float& x = s.o[at / 8 + n][i];
      x = f[i >> 1].skip ? x : fmaf(x, f[i >> 1].old, f[i >> 1].add * o[n][i]);
    }
}

// Partial results: `rows` are those of the chunk, one for each packed row of (request, head, part), of C columns.
template <class T, int C, int P>
GPU_INLINE void store_values(const Unit& u, float* rows, int at, const float (&o)[P / 8][4]) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (u.row(h) >= u.packed) continue;
    float* row = rows + int64_t(u.row(h)) * (C + 4) + at + first_column<T>();
    if constexpr (sizeof(T) == 1) {
#pragma unroll
      for (int n = 0; n < P / 8; n += 2)
        *reinterpret_cast<float4*>(row + column_of<T>(n, 0)) =
            make_float4(o[n][2 * h], o[n + 1][2 * h], o[n][2 * h + 1], o[n + 1][2 * h + 1]);
    } else {
#pragma unroll
      for (int n = 0; n < P / 8; n++)
        *reinterpret_cast<float2*>(row + column_of<T>(n, 0)) = make_float2(o[n][2 * h], o[n][2 * h + 1]);
    }
  }
}
template <int C>
GPU_INLINE void store_sums(const Unit& u, float* rows, const float (&m)[2], const float (&l)[2], bool bad) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int h = 0; h < 2; h++)
    if (u.row(h) < u.packed && (lane & 3) == 0)
      *reinterpret_cast<float2*>(rows + int64_t(u.row(h)) * (C + 4) + C) =
          make_float2(bad ? __uint_as_float(0x7fc00000u) : m[h], l[h]);
}

template <class T, int C>
GPU_INLINE void write_state(const Args& a, const Request& r, const Unit& u, int j, int part, const State<C>& s,
                            bool bad) {
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (u.row(h) >= u.packed) continue;
    const bool none = bad || s.m[h] != s.m[h];
    const int head = j * a.G + u.row(h) % a.G;
    const float f = finish(a, head, u.rows[8 * h].position, s.m[h], s.l[h]);
    const int64_t at = (int64_t(r.row + u.row(h) / a.G) * a.H + head) * a.E + part * C + first_column<T>();
    with_type(a, [&](auto type) {
      using Out = decltype(type);
      Out* out = static_cast<Out*>(a.out) + at;
#pragma unroll
      for (int n = 0; n < C / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++)
          out[column_of<T>(n, e)] = from_float<Out>(none ? 0.0f : __fmul_rn(s.o[n][2 * h + e], f));
    });
  }
}

}  // namespace eyrie::cuda::attention
