// What becomes of a chunk's result (attention_unit.cuh): folded into a state in registers, stored as a partial result, written out.
#pragma once
#include "cuda/attention_unit.cuh"

namespace eyrie::cuda::attention {

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
