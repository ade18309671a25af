// The arithmetic of a unit (attention.cuh) on the tensor cores: 16 packed rows with keys and values that lie in shared memory as
// rows of `columns + kPad` elements of 16 bits. Row g and row g + 8 of the unit belong to lanes 4g..4g+3 (gpu.cuh).
#pragma once
#include "cuda/attention.cuh"

namespace eyrie::cuda::attention {

constexpr int kPad = 8;  // 16 bytes: the rows that one ldmatrix reads lie in different banks

template <int D>
struct Shape {
  static constexpr int columns = D > 128 ? D / 2 : D;  // of the values that a run works on: what registers can hold
  static constexpr int parts = D / columns;
  static constexpr int pass =
      columns > 64 ? columns / 2 : columns;  // of them at a time where a folded state is held too
  static constexpr int k_pitch = D + kPad, v_pitch = columns + kPad;
  static constexpr int state = columns + 4;  // floats of a partial result: values, maximum, sum
};

GPU_INLINE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bf16) { mma_bf16(d, a, b); }
GPU_INLINE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], f16) { mma_f16(d, a, b); }
GPU_INLINE uint32_t pack(float low, float high, bf16) { return pack_bf16(low, high); }
GPU_INLINE uint32_t pack(float low, float high, f16) {
  return uint32_t(to_f16(low).bits) | uint32_t(to_f16(high).bits) << 16;
}

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
      const float scale = a.q_scale ? a.scale * a.q_scale[r.row + token] : a.scale;
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

// The unit's queries, rounded to the pages' type, as rows in shared memory. The warp's own tile.
template <class T, int D>
GPU_INLINE void load_queries(const Args& a, const Request& r, int j, int first_row, T* tile) {
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
        tile[i * (D + kPad) + k * 32 + lane] = from_float<T>(live ? to_float(q[k * 32 + lane]) : 0.0f);
    }
  });
  __syncwarp();
}

// Scores of one step: k is this lane's row for ldmatrix, that of token (lane / 16) * 8 + lane % 8 of the step.
template <class T, int D>
GPU_INLINE void score_step(float (&s0)[4], float (&s1)[4], const T* q, const T* k) {
  const unsigned lane = opaque(threadIdx.x) & 31;
  const T *a_at = q + (lane & 15) * (D + kPad) + (lane >> 4) * 8, *b_at = k + (lane >> 3 & 1) * 8;
#pragma unroll
  for (int i = 0; i < D / 16; i++) {
    uint32_t a[4], b[4];
    load_matrix4<false>(a, a_at + i * 16);
    load_matrix4<false>(b, b_at + i * 16);
    const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
    mma(s0, a, b0, T());
    mma(s1, a, b1, T());
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
    for (int k = 0; k < 4; k++) p[i][k] = pack(s[2 * i + (k >> 1)][k % 2 * 2], s[2 * i + (k >> 1)][k % 2 * 2 + 1], T());
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
  const T* at = v + (opaque(threadIdx.x) >> 1 & 8);
#pragma unroll
  for (int n = 0; n < C / 16; n++) {
    uint32_t b[4];
    load_matrix4<true>(b, at + n * 16);
    const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
    mma(o[2 * n], p, b0, T());
    mma(o[2 * n + 1], p, b1, T());
  }
}

// The same for the rows of one token: the others' sums stay as they are.
template <class T, int D>
GPU_INLINE void score_step_of(float (&s0)[4], float (&s1)[4], const T* q, const T* k, bool low, bool high) {
  float t0[4] = {}, t1[4] = {};
  score_step<T, D>(t0, t1, q, k);
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const bool mine = i < 2 ? low : high;
    s0[i] = mine ? t0[i] : s0[i];
    s1[i] = mine ? t1[i] : s1[i];
  }
}
template <class T, int C>
GPU_INLINE void value_step_of(float (&o)[C / 8][4], const uint32_t (&p)[4], const T* v, bool low, bool high) {
  const T* at = v + (opaque(threadIdx.x) >> 1 & 8);
#pragma unroll
  for (int n = 0; n < C / 16; n++) {
    uint32_t b[4];
    load_matrix4<true>(b, at + n * 16);
#pragma unroll
    for (int k = 0; k < 2; k++) {
      float (&d)[4] = o[2 * n + k];
      float t[4] = {d[0], d[1], d[2], d[3]};
      const uint32_t pair[2] = {b[2 * k], b[2 * k + 1]};
      mma(t, p, pair, T());
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
template <int C, int P>
GPU_INLINE void store_values(const Unit& u, float* rows, int at, const float (&o)[P / 8][4]) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (u.row(h) >= u.packed) continue;
    float* row = rows + int64_t(u.row(h)) * (C + 4) + at + (lane & 3) * 2;
#pragma unroll
    for (int n = 0; n < P / 8; n++) *reinterpret_cast<float2*>(row + n * 8) = make_float2(o[n][2 * h], o[n][2 * h + 1]);
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

template <int C>
GPU_INLINE void write_state(const Args& a, const Request& r, const Unit& u, int j, int part, const State<C>& s,
                            bool bad) {
  const int lane = threadIdx.x & 31;
#pragma unroll
  for (int h = 0; h < 2; h++) {
    if (u.row(h) >= u.packed) continue;
    const bool none = bad || s.m[h] != s.m[h];
    const int head = j * a.G + u.row(h) % a.G;
    const float f = finish(a, head, u.rows[8 * h].position, s.m[h], s.l[h]);
    const int64_t at = (int64_t(r.row + u.row(h) / a.G) * a.H + head) * a.E + part * C + (lane & 3) * 2;
    with_type(a, [&](auto type) {
      using Out = decltype(type);
      Out* out = static_cast<Out*>(a.out) + at;
#pragma unroll
      for (int n = 0; n < C / 8; n++)
#pragma unroll
        for (int e = 0; e < 2; e++) out[n * 8 + e] = from_float<Out>(none ? 0.0f : __fmul_rn(s.o[n][2 * h + e], f));
    });
  }
}

}  // namespace eyrie::cuda::attention
