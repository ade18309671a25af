// lora_shrink, lora_expand: low-rank updates of rows with adapters of their own. Which adapter a row has is read on the device, so a
// captured graph serves any of them; a result depends on its own row and adapter alone.
#include "core/tiles.h"
#include "cuda/kernels.h"
#include "cuda/math.cuh"
#include "cuda/types.cuh"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / 32;

template <class T>
struct alignas(16) Eight {
  T v[8];
};

// n of eight numbers, zeros behind them; `whole`: all of them, in loads of 16 bytes.
template <class T>
GPU_INLINE void load8(const T* p, int n, bool whole, float (&out)[8]) {
  Eight<T> x;
  if (whole) x = *reinterpret_cast<const Eight<T>*>(p);
#pragma unroll
  for (int i = 0; i < 8; i++) out[i] = whole ? to_float(x.v[i]) : i < n ? to_float(p[i]) : 0;
}

struct ShrinkParams {
  const int32_t* adapter;
  float* v;
  int64_t x_stride;
  int R, K, slots;
  int whole;  // rows of x and a begin at 16 bytes, and K is a multiple of 8
};

// A warp for each (row, rank): lane l takes the inputs 8 l … 8 l + 7 of each 256, in eight running sums, which are added up in order.
template <class T, class A>
__global__ void __launch_bounds__(kThreads) lora_shrink_kernel(ShrinkParams p, const T* x, const A* a, FaultAt f) {
  dependency_wait();
  const int pieces = (p.R + kWarps - 1) / kWarps;
  const int64_t t = blockIdx.x / unsigned(pieces);
  const int r = int(blockIdx.x % unsigned(pieces)) * kWarps + int(threadIdx.x >> 5), lane = int(threadIdx.x & 31);
  if (r >= p.R) return;  // a whole warp
  const int s = p.adapter[t];
  float sum = 0;
  if (in_range(f, 2, t, s, -1, p.slots) && s >= 0) {
    const A* row = a + (int64_t(s) * p.R + r) * p.K;
    x += t * p.x_stride;
    float part[8] = {};
#pragma unroll 4
    for (int k = 8 * lane; k < p.K; k += 256) {
      float w[8], v[8];
      load8(row + k, p.K - k, p.whole != 0, w);
      load8(x + k, p.K - k, p.whole != 0, v);
#pragma unroll
      for (int i = 0; i < 8; i++) part[i] = fmaf(w[i], v[i], part[i]);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) sum = add_rn(sum, part[i]);
  }
#pragma unroll
  for (int step = 16; step; step >>= 1) sum = add_rn(sum, __shfl_xor_sync(~0u, sum, step));
  if (lane == 0) p.v[t * p.R + r] = sum;
}

struct ExpandParams {
  const float *v, *scale;
  const int32_t* adapter;
  int64_t v_stride, out_stride;
  int R, N, slots;
};

// A thread for each (row, column): neighbouring threads read neighbouring columns of b.
template <class T, class B>
__global__ void __launch_bounds__(kThreads) lora_expand_kernel(ExpandParams p, const B* b, T* out, FaultAt f) {
  dependency_wait();
  const int pieces = (p.N + kThreads - 1) / kThreads;
  const int64_t t = blockIdx.x / unsigned(pieces);
  const int n = int(blockIdx.x % unsigned(pieces)) * kThreads + int(threadIdx.x);
  const int s = p.adapter[t];
  if (!in_range(f, 3, t, s, -1, p.slots) || s < 0 || n >= p.N) return;
  const float* v = p.v + t * p.v_stride;
  b += int64_t(s) * p.R * p.N + n;
  float sum = 0;
#pragma unroll 8
  for (int r = 0; r < p.R; r++) sum = fmaf(to_float(b[int64_t(r) * p.N]), v[r], sum);
  T* y = out + t * p.out_stride + n;
  *y = from_float<T>(fmaf(p.scale[s], sum, to_float(*y)));
}

// Whether rows begin at multiples of 16 bytes.
bool rows_aligned(const Tensor* t) {
  const uint64_t row = uint64_t(t->stride[t->rank - 2]) * uint64_t(dtype_info(t->dtype).block_bytes);
  return ((reinterpret_cast<uint64_t>(t->data) | row) & 15) == 0;
}

}  // namespace

void lora_shrink(const Call& call, Context& context) {
  const auto a = lora_shrink_args(call);
  if (a.T == 0 || a.R == 0) return;
  const ShrinkParams p = {static_cast<const int32_t*>(a.adapter->data),
                          static_cast<float*>(a.v->data),
                          a.x->stride[0],
                          int(a.R),
                          int(a.K),
                          int(a.S),
                          a.K % 8 == 0 && rows_aligned(a.x) && rows_aligned(a.a)};
  const dim3 blocks(unsigned(a.T * div_up(a.R, kWarps)));
  with_type(a.x->dtype, [&](auto x) {
    with_type(a.a->dtype, [&](auto w) {
      using T = decltype(x);
      using A = decltype(w);
      launch(context, lora_shrink_kernel<T, A>, blocks, dim3(kThreads), 0, p, static_cast<const T*>(a.x->data),
             static_cast<const A*>(a.a->data), fault_at(context));
    });
  });
}

void lora_expand(const Call& call, Context& context) {
  const auto a = lora_expand_args(call);
  if (a.T == 0 || a.N == 0) return;
  const ExpandParams p = {static_cast<const float*>(a.v->data),
                          static_cast<const float*>(a.scale->data),
                          static_cast<const int32_t*>(a.adapter->data),
                          a.v->stride[0],
                          a.out->stride[0],
                          int(a.R),
                          int(a.N),
                          int(a.S)};
  const dim3 blocks(unsigned(a.T * div_up(a.N, kThreads)));
  with_type(a.out->dtype, [&](auto y) {
    with_type(a.b->dtype, [&](auto w) {
      using T = decltype(y);
      using B = decltype(w);
      launch(context, lora_expand_kernel<T, B>, blocks, dim3(kThreads), 0, p, static_cast<const B*>(a.b->data),
             static_cast<T*>(a.out->data), fault_at(context));
    });
  });
}

}  // namespace eyrie::cuda
