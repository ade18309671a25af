// How keys, values and queries in shared memory become operands of the tensor cores. Pages of 16 bits are operands as they are. Those of 8
// bits become bf16 in registers, in which their numbers are exact; one ldmatrix brings twice as many of them, and a lane holds other
// columns:
//
//   keys    a register has bytes 4t..4t+3 of 16 inputs of token g. Widened it is bytes 0 and 2, 1 and 3, so that input c of the 16 meets
//           place 8 (c & 1) + 2 (c >> 2) + (c >> 1 & 1) of the queries, whose rows are stored in that order.
//   values  a transposed register has bytes 2g and 2g+1 of tokens 2t and 2t+1: two tiles of eight columns, even and odd ones, of 16.
//
// f8_e4m3 has a scale of a head, which joins the factors of scores and of results; i8 has one of a row, which joins the columns.
#pragma once
#include "cuda/attention.cuh"

namespace eyrie::cuda::attention {

template <class T>
struct OperandOf {
  using Type = T;
};
template <>
struct OperandOf<e4m3> {
  using Type = bf16;
};
template <>
struct OperandOf<int8_t> {
  using Type = bf16;
};
template <class T>
using Operand = typename OperandOf<T>::Type;

template <class T>
constexpr bool kRowScales = false;
template <>
inline constexpr bool kRowScales<int8_t> = true;

template <class T>
constexpr int kPad = 16 / sizeof(T);  // 16 bytes: the rows that one ldmatrix reads lie in different banks
template <class T>
constexpr int kKeyColumns = 32 / sizeof(T);  // inputs that one load of keys brings
template <class T>
constexpr int kKeyTiles = kKeyColumns<T> / 16;
template <class T>
constexpr int kValueTiles = 4 / sizeof(T);  // of eight columns, that one load of values brings

template <class T, int D>
struct Shape {
  // Of the values that a run works on: what registers can hold.
  static constexpr int columns = D < 128 || (D == 128 && !kRowScales<T>) ? D : sizeof(T) == 1 ? 64 : D / 2;
  static constexpr int parts = D / columns;
  // Of them at a time where a folded state is held too.
  static constexpr int pass = columns <= 64 ? columns : sizeof(T) == 1 && columns % 64 ? columns / 3 : columns / 2;
  static_assert(pass % (8 * kValueTiles<T>) == 0);
  static constexpr int q_pitch = D + 8, k_pitch = D + kPad<T>, v_pitch = columns + kPad<T>;
  static constexpr int state = columns + 4;  // floats of a partial result: values, maximum, sum
};

GPU_INLINE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], bf16) { mma_bf16(d, a, b); }
GPU_INLINE void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], f16) { mma_f16(d, a, b); }
GPU_INLINE uint32_t pack(float low, float high, bf16) { return pack_bf16(low, high); }
GPU_INLINE uint32_t pack(float low, float high, f16) {
  return uint32_t(to_f16(low).bits) | uint32_t(to_f16(high).bits) << 16;
}

GPU_INLINE void widen(const uint32_t (&w)[4], uint32_t (&even)[4], uint32_t (&odd)[4], int8_t) {
#pragma unroll
  for (int i = 0; i < 4; i++) widen_i8(w[i], even[i], odd[i]);
}
GPU_INLINE void widen(const uint32_t (&w)[4], uint32_t (&even)[4], uint32_t (&odd)[4], e4m3) {
#pragma unroll
  for (int i = 0; i < 4; i++) widen_e4m3(w[i], even[i], odd[i]);
  if (!__any_sync(~0u, (nan_bytes(w[0]) | nan_bytes(w[1]) | nan_bytes(w[2]) | nan_bytes(w[3])) != 0)) return;
#pragma unroll
  for (int i = 0; i < 4; i++) {
    even[i] = restore_nan(even[i]);
    odd[i] = restore_nan(odd[i]);
  }
}

// ---- keys, and the queries that meet them ----

template <class T>
GPU_INLINE int query_place(int column) {
  if (sizeof(T) == 2) return column;
  return (column & ~15) + (column & 1) * 8 + (column >> 2 & 3) * 2 + (column >> 1 & 1);
}
template <class T, int D>
GPU_INLINE const Operand<T>* query_at_lane(const Operand<T>* q) {
  const unsigned lane = opaque(threadIdx.x) & 31;
  return q + (lane & 15) * Shape<T, D>::q_pitch + (lane >> 4) * 8;
}
template <class T>
GPU_INLINE const T* key_at_lane(const T* row) {
  return row + (opaque(threadIdx.x) >> 3 & 1) * (16 / sizeof(T));
}
// The B operands of a step's first eight tokens (b0) and of its others, for kKeyColumns inputs.
template <class T>
GPU_INLINE void load_keys(uint32_t (&b0)[kKeyTiles<T>][2], uint32_t (&b1)[kKeyTiles<T>][2], const T* at) {
  uint32_t w[4];
  load_matrix4<false>(w, at);
  if constexpr (sizeof(T) == 2) {
    b0[0][0] = w[0], b0[0][1] = w[1], b1[0][0] = w[2], b1[0][1] = w[3];
  } else {
    uint32_t even[4], odd[4];
    widen(w, even, odd, T());
#pragma unroll
    for (int n = 0; n < 2; n++) {
      b0[n][0] = even[n], b0[n][1] = odd[n];
      b1[n][0] = even[2 + n], b1[n][1] = odd[2 + n];
    }
  }
}

// ---- values, and the columns of results ----

template <class T>
GPU_INLINE const T* value_at_lane(const T* row) {
  return row + (opaque(threadIdx.x) >> 4 & 1) * (16 / sizeof(T));
}
// The B operands of kValueTiles tiles of a step's values.
template <class T>
GPU_INLINE void load_values(uint32_t (&b)[kValueTiles<T>][2], const T* at) {
  uint32_t w[4];
  load_matrix4<true>(w, at);
  if constexpr (sizeof(T) == 2) {
    b[0][0] = w[0], b[0][1] = w[1], b[1][0] = w[2], b[1][1] = w[3];
  } else {
    uint32_t even[4], odd[4];
    widen(w, even, odd, T());
#pragma unroll
    for (int n = 0; n < 2; n++) {
      b[2 * n][0] = even[2 * n], b[2 * n][1] = even[2 * n + 1];
      b[2 * n + 1][0] = odd[2 * n], b[2 * n + 1][1] = odd[2 * n + 1];
    }
  }
}
// Element e (0, 1) of a row of tile n is column first_column + column_of(n, e).
template <class T>
GPU_INLINE int first_column() {
  return int(threadIdx.x & 3) * (sizeof(T) == 2 ? 2 : 4);
}
template <class T>
GPU_INLINE constexpr int column_of(int n, int e) {
  return sizeof(T) == 2 ? n * 8 + e : n / 2 * 16 + 2 * e + (n & 1);
}

}  // namespace eyrie::cuda::attention
