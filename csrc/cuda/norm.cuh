// The sum of squares of a row, in an order that depends on its length alone: 256 virtual lanes (lane i adds elements i, i + 256, …
// ascending), then a fixed tree. One warp computes it with eight virtual lanes a thread.
#pragma once
#include "cuda/gpu.cuh"

namespace eyrie::cuda {

// Every lane of the warp gets the sum; all 32 lanes must be there.
template <class T>
GPU_INLINE float row_sum_squares_warp(const T* row, int D) {
  const int lane = threadIdx.x & 31;
  float s[8] = {};
  for (int base = 0; base < D; base += 256) {
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const int i = base + j * 32 + lane;
      if (i < D) {
        const float v = to_float(row[i]);
        s[j] = fmaf(v, v, s[j]);
      }
    }
  }
  float sum = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
#pragma unroll
  for (int o = 16; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  return sum;
}

GPU_INLINE float rms_scale(float sum_squares, int D, float eps) { return 1.0f / sqrtf(sum_squares / float(D) + eps); }

}  // namespace eyrie::cuda
