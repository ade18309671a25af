// Sums over one row with a tree that is the same whoever computes it: virtual lane i of 256 takes the elements i, i + 256, ...
// in ascending order; lane l of a warp then adds the virtual lanes l, l + 32, ..., l + 224 pairwise, and the warp its lanes by
// halves. One warp, or a block of any number of threads, gets the same bits.
#pragma once
#include "cuda/math.cuh"

namespace eyrie::cuda {

constexpr int kVirtualLanes = 256;

// Of the 8 virtual lanes that each lane of a full warp holds; every lane gets the sum.
GPU_INLINE float virtual_lanes_sum(const float (&s)[8]) {
  float sum = add_rn(add_rn(add_rn(s[0], s[1]), add_rn(s[2], s[3])), add_rn(add_rn(s[4], s[5]), add_rn(s[6], s[7])));
#pragma unroll
  for (int o = 16; o; o >>= 1) sum = add_rn(sum, __shfl_xor_sync(0xffffffffu, sum, o));
  return sum;
}

// fold(sum, x[i], i) over the row, by a full warp.
template <class T, class F>
GPU_INLINE float row_sum_warp(const T* row, int D, F fold) {
  const int lane = int(threadIdx.x) & 31;
  float s[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  int i = lane;
  for (; i + 224 < D; i += kVirtualLanes) {
#pragma unroll
    for (int k = 0; k < 8; k++) s[k] = fold(s[k], to_float(row[i + 32 * k]));
  }
#pragma unroll
  for (int k = 0; k < 8; k++)
    if (i + 32 * k < D) s[k] = fold(s[k], to_float(row[i + 32 * k]));
  return virtual_lanes_sum(s);
}

// The same by a whole block; shared: 256 floats that nobody else uses. All threads must call it, all get the sum.
template <class T, class F>
GPU_INLINE float row_sum_block(const T* row, int D, float* shared, F fold) {
  for (int v = int(threadIdx.x); v < kVirtualLanes; v += int(blockDim.x)) {
    float s = 0.0f;
#pragma unroll 8
    for (int i = v; i < D; i += kVirtualLanes) s = fold(s, to_float(row[i]));
    shared[v] = s;
  }
  __syncthreads();
  float s[8];
#pragma unroll
  for (int k = 0; k < 8; k++) s[k] = shared[(threadIdx.x & 31) + 32 * k];
  const float sum = virtual_lanes_sum(s);  // every warp for itself
  __syncthreads();  // shared is free again
  return sum;
}

struct Square {
  GPU_INLINE float operator()(float s, float x) const { return fmaf(x, x, s); }
};
struct Plain {
  GPU_INLINE float operator()(float s, float x) const { return add_rn(s, x); }
};
struct SquareFrom {
  float mean;
  GPU_INLINE float operator()(float s, float x) const {
    const float d = sub_rn(x, mean);
    return fmaf(d, d, s);
  }
};

template <class T>
GPU_INLINE float row_sum_squares_warp(const T* row, int D) {
  return row_sum_warp(row, D, Square());
}
template <class T>
GPU_INLINE float row_sum_squares_block(const T* row, int D, float* shared) {
  return row_sum_block(row, D, shared, Square());
}

// 1 / sqrt(mean of squares + eps)
GPU_INLINE float rms_scale(float sum_squares, int D, float eps) {
  return 1.0f / sqrtf(add_rn(sum_squares / float(D), eps));
}

// One element of an RMSNorm: x * scale, rounded to T before the weight (Llama) or only after it (Gemma); the same in f32.
template <class T>
GPU_INLINE float rms_value(float x, float scale, float weight, bool round_first) {
  float y = mul_rn(x, scale);
  if (round_first) y = to_float(from_float<T>(y));
  return mul_rn(y, weight);
}

}  // namespace eyrie::cuda
