// What gemm_test.cu checks with: values that are functions of their position, the packing of w, references, comparisons.
#pragma once
#include <algorithm>
#include <cstdio>
#include <cstdlib>

#include "cuda/gemm_sm90a.h"
#include "cuda/gpu.cuh"
#include "cuda/tiles.cuh"

namespace eyrie::cuda {

#define MUST(call)                                                                        \
  do {                                                                                    \
    const cudaError_t e_ = (call);                                                        \
    if (e_ != cudaSuccess) {                                                              \
      printf("FAILED %s:%d %s: %s\n", __FILE__, __LINE__, #call, cudaGetErrorString(e_)); \
      eyrie::cuda::explain_hang();                                                        \
      fflush(stdout);                                                                     \
      exit(3);                                                                            \
    }                                                                                     \
  } while (0)

inline uint32_t* hang_words = nullptr;  // pinned: survives a trap
inline void explain_hang() {
  if (!hang_words || !hang_words[0]) {
    printf("  no barrier reported a timeout\n");
    return;
  }
  const uint32_t code = hang_words[0];
  printf("  HANG: %s waited in vain: step %u, stage %u, parity %u, block %u, thread %u\n",
         code >> 24 == 1 ? "producer (stage never freed)" : "consumer (stage never filled: bytes or barrier)",
         code >> 8 & 0xffff, code & 0xff, hang_words[3], hang_words[1], hang_words[2]);
}

enum class Fill { random, output_number, input_number, ones };

__host__ __device__ inline uint32_t mix(uint64_t i) {
  i ^= i >> 31, i *= 0x7fb5d329728ea185ull, i ^= i >> 27, i *= 0x81dadef4bc2dd44dull, i ^= i >> 33;
  return uint32_t(i);
}
// bf16 bits: a sign, a full mantissa, magnitudes from 1/8 to 4.
__host__ __device__ inline uint16_t random_bits(uint64_t seed, uint64_t i) {
  const uint32_t h = mix(i + seed * 0x9e3779b97f4a7c15ull);
  return uint16_t((h & 0x8000u) | ((124 + (h >> 16) % 5) << 7) | (h & 0x7fu));
}
__device__ inline uint16_t w_bits(Fill fill, uint64_t seed, int n, int k, int columns) {
  if (fill == Fill::random) return random_bits(seed, uint64_t(n) * columns + k);
  if (fill == Fill::ones) return 0x3f80;
  return to_bf16(float(fill == Fill::output_number ? n % 256 : k % 256)).bits;
}

__global__ void fill_x(uint16_t* x, int rows, int columns, int64_t stride, uint64_t seed, bool one_hot) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < rows * stride;
       i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t m = i / stride, k = i % stride;
    uint16_t v = 0x7fc0;  // NaN between the rows
    if (k < columns) v = one_hot ? (k == m % columns ? 0x3f80 : 0) : random_bits(seed, m * columns + k);
    x[i] = v;
  }
}
__global__ void fill_floats(float* p, int64_t count, uint64_t seed) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x)
    p[i] = to_float(bf16{random_bits(seed, i)}) * 16;
}
__global__ void fill_words(uint32_t* p, int64_t count, uint32_t word) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x)
    p[i] = word;
}
// The packing of tiles.cuh, written from its comment: [panel][block][h][lane][r][e].
__global__ void fill_w(uint16_t* w, int n, int k, int panels, int blocks, Fill fill, uint64_t seed) {
  const int64_t count = int64_t(panels) * blocks * 512;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x) {
    const int e = i & 1, r = i >> 1 & 3, lane = i >> 3 & 31, h = i >> 8 & 1;
    const int64_t block = i >> 9;
    const int row = int(block / blocks) * 16 + lane / 4 + 8 * (r & 1);
    const int column = int(block % blocks) * 32 + 16 * h + 2 * (lane % 4) + e + 8 * (r >> 1);
    w[i] = row < n && column < k ? w_bits(fill, seed, row, column, k) : 0;
  }
}

// Sums with mma.sync, one warp for 16 outputs x 8 rows: the arithmetic of the kernels for few rows.
template <bool ranges>
__global__ void __launch_bounds__(128)
    mma_reference(const uint16_t* x, int64_t stride, int m, int k, WeightView w, int per, float* out) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
  const int panel = blockIdx.x, first = (blockIdx.y * 4 + warp) * 8;
  if (first >= m) return;
  const unsigned char* p = w.data + panel * w.panel_bytes;
  float total[4] = {};
  for (int b = 0; b < w.blocks; b += per) {
    float part[4] = {};
    for (int c = b; c < min(b + per, w.blocks); c++)
      for (int h = 0; h < 2; h++) {
        const uint4 v = *reinterpret_cast<const uint4*>(p + int64_t(c) * 1024 + h * 512 + lane * 16);
        const uint32_t a[4] = {v.x, v.y, v.z, v.w};
        uint32_t f[2] = {};
        for (int i = 0; i < 2; i++) {
          const int at = c * 32 + h * 16 + 2 * t + 8 * i;
          const uint16_t* row = x + (first + g) * stride;
          if (first + g < m && at < k) f[i] = row[at] | uint32_t(at + 1 < k ? row[at + 1] : 0) << 16;
        }
        mma_bf16(part, a, f);
      }
    for (int i = 0; i < 4; i++) total[i] = ranges ? total[i] + part[i] : part[i];
  }
  for (int i = 0; i < 4; i++) {
    const int row = first + 2 * t + (i & 1), n = panel * 16 + g + 8 * (i >> 1);
    if (row < m && n < w.n) out[int64_t(row) * w.n + n] = total[i];
  }
}

struct Tally {
  unsigned long long differ;  // bits unlike the reference of mma.sync
  unsigned long long wrong;  // too far from it: more than rounding
  unsigned long long first;  // flat index m * n + n of the first wrong element
  unsigned long long poison;  // never written
  unsigned long long outside;  // written where nothing should be
  unsigned int worst;  // largest |out - double| / sum of |products|, float bits
  unsigned int ulps;  // largest distance to mma.sync in units of the last place (f32)
};

struct Expected {
  const float* sums;  // of mma.sync
  GemmEpilogue e;
  const void* residual;  // e.residual may have been overwritten
  int m, n, rows;  // rows: allocated
  float slack;
};
constexpr uint32_t kPoison = 0xffcdffcdu;  // a NaN in f32, two in bf16

__device__ inline float element(const void* p, DType type, int64_t at) {
  return type == DType::f32 ? static_cast<const float*>(p)[at] : to_float(static_cast<const bf16*>(p)[at]);
}
__device__ inline bool poisoned(const void* p, DType type, int64_t at) {
  return type == DType::f32 ? static_cast<const uint32_t*>(p)[at] == kPoison
                            : static_cast<const uint16_t*>(p)[at] == uint16_t(kPoison);
}

__global__ void compare(Expected x, Tally* tally) {
  const int64_t count = int64_t(x.rows) * x.e.out_stride;
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x) {
    const int64_t m = i / x.e.out_stride, n = i % x.e.out_stride;
    const bool untouched = poisoned(x.e.out, x.e.out_type, i);
    if (m >= x.m || n >= x.n) {
      if (!untouched) atomicAdd(&tally->outside, 1ull);
      continue;
    }
    if (untouched) atomicAdd(&tally->poison, 1ull);
    float want = x.sums[m * x.n + n];
    if (x.e.bias) want += x.e.bias[n];
    if (x.residual) want += element(x.residual, x.e.residual_type, m * x.e.residual_stride + n);
    if (x.e.out_type == DType::bf16) want = to_float(to_bf16(want));
    const float got = element(x.e.out, x.e.out_type, i);
    const uint32_t a = __float_as_uint(want), b = __float_as_uint(got);
    if (a != b) {
      atomicAdd(&tally->differ, 1ull);
      if (a >> 31 == b >> 31) atomicMax(&tally->ulps, a > b ? a - b : b - a);
    }
    if (!(fabsf(got - want) <= x.slack + fabsf(want) * (x.e.out_type == DType::bf16 ? 1.0f / 64 : 0))) {
      atomicAdd(&tally->wrong, 1ull);
      atomicMin(&tally->first, (unsigned long long)(m * x.n + n));
    }
  }
}

__global__ void count_unlike(const uint32_t* a, const uint32_t* b, int64_t count, Tally* tally) {
  for (int64_t i = blockIdx.x * int64_t(blockDim.x) + threadIdx.x; i < count; i += int64_t(gridDim.x) * blockDim.x)
    if (a[i] != b[i]) {
      atomicAdd(&tally->differ, 1ull);
      atomicMin(&tally->first, (unsigned long long)i);
    }
}

// A warp an element, every `every`-th: sums in double, straight from the functions that filled x and w.
__global__ void check_double(const uint16_t* x, int64_t stride, int k, Fill fill, uint64_t seed, Expected want,
                             int64_t every, Tally* tally) {
  const int64_t count = int64_t(want.m) * want.n;
  const int64_t warp = (blockIdx.x * int64_t(blockDim.x) + threadIdx.x) / 32,
                warps = int64_t(gridDim.x) * blockDim.x / 32;
  for (int64_t i = warp * every; i < count; i += warps * every) {
    const int64_t m = i / want.n, n = i % want.n;
    double sum = 0, size = 0;
    for (int c = threadIdx.x % 32; c < k; c += 32) {
      const double v = double(to_float(bf16{x[m * stride + c]})) * to_float(bf16{w_bits(fill, seed, int(n), c, k)});
      sum += v, size += fabs(v);
    }
    for (int d = 16; d; d /= 2) sum += __shfl_xor_sync(~0u, sum, d), size += __shfl_xor_sync(~0u, size, d);
    if (want.e.bias) sum += want.e.bias[n], size += fabs(want.e.bias[n]);
    if (want.residual) {
      const double r = element(want.residual, want.e.residual_type, m * want.e.residual_stride + n);
      sum += r, size += fabs(r);
    }
    const double error = fabs(element(want.e.out, want.e.out_type, m * want.e.out_stride + n) - sum);
    const float ratio = float(error / size);
    if (threadIdx.x % 32 == 0) atomicMax(&tally->worst, __float_as_uint(ratio == ratio ? ratio : 1e30f));
  }
}

template <class T>
struct Device {  // device memory
  T* at = nullptr;
  explicit Device(int64_t count) {
    MUST(cudaMalloc(reinterpret_cast<void**>(&at), std::max<int64_t>(count, 1) * sizeof(T)));
  }
  Device(const Device&) = delete;
  Device(Device&& o) : at(o.at) { o.at = nullptr; }
  ~Device() { cudaFree(at); }
};

inline WeightView view(const void* data, int n, int k) {
  Tensor w;
  w.data = const_cast<void*>(data), w.dtype = DType::bf16, w.rank = 2, w.shape[0] = n, w.shape[1] = k;
  return weight_view(w);
}
inline int64_t packed(int n, int k) { return tile_bytes(DType::bf16, n, k) / 2; }
inline void pack(uint16_t* w, int n, int k, Fill fill, uint64_t seed) {
  const WeightView v = view(w, n, k);
  fill_w<<<1024, 256>>>(w, n, k, v.panels, v.blocks, fill, seed);
  MUST(cudaGetLastError());
}
inline void finish() {
  MUST(cudaGetLastError());
  MUST(cudaDeviceSynchronize());
}
}  // namespace eyrie::cuda
