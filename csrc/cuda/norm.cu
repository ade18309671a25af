// norm: rows (t, g) of x [T,G,D]. Short rows take a warp each, long ones a block: the sums are the same (norm.cuh).
#include "core/tiles.h"
#include "cuda/kernels.h"
#include "cuda/norm.cuh"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / 32;
constexpr int kShortRow = 512;

struct NormParams {
  const float *weight, *bias;  // null: none
  int64_t weight_stride, bias_stride;  // from group to group; 0: the same for all
  int64_t x_t, x_g, out_t, out_g;  // strides
  int64_t rows;
  int groups, D;
  float eps;
  bool layer, round_first;
};

template <class T, bool whole_block>
__global__ void __launch_bounds__(kThreads) norm_kernel(NormParams p, const T* x, T* out) {
  GPU_SHARED(memory);
  float* shared = reinterpret_cast<float*>(memory);
  dependency_wait();
  const int64_t r = whole_block ? int64_t(blockIdx.x) : int64_t(blockIdx.x) * kWarps + (threadIdx.x >> 5);
  if (r >= p.rows) return;  // a whole warp, and no barrier follows
  const int64_t t = r / p.groups, g = r % p.groups;
  x += t * p.x_t + g * p.x_g;
  out += t * p.out_t + g * p.out_g;
  const float* weight = p.weight ? p.weight + g * p.weight_stride : nullptr;
  const float* bias = p.bias ? p.bias + g * p.bias_stride : nullptr;
  const auto row_sum = [&](auto fold) {
    if constexpr (whole_block) return row_sum_block(x, p.D, shared, fold);
    else return row_sum_warp(x, p.D, fold);
  };
  const int first = whole_block ? int(threadIdx.x) : int(threadIdx.x) & 31, step = whole_block ? kThreads : 32;
  if (!p.layer) {
    const float scale = rms_scale(row_sum(Square()), p.D, p.eps);
#pragma unroll 4
    for (int i = first; i < p.D; i += step)
      out[i] = from_float<T>(rms_value<T>(to_float(x[i]), scale, weight ? weight[i] : 1.0f, p.round_first));
    return;
  }
  const float mean = row_sum(Plain()) / float(p.D);
  const float scale = rms_scale(row_sum(SquareFrom{mean}), p.D, p.eps);
#pragma unroll 4
  for (int i = first; i < p.D; i += step) {
    float y = mul_rn(sub_rn(to_float(x[i]), mean), scale);
    if (weight) y = mul_rn(y, weight[i]);
    if (bias) y = add_rn(y, bias[i]);
    out[i] = from_float<T>(y);
  }
}

template <class T>
void launch_norm(const NormArgs& a, const NormParams& p, Context& context) {
  const T* x = static_cast<const T*>(a.x->data);
  T* out = static_cast<T*>(a.out->data);
  if (a.D <= kShortRow)
    launch(context, norm_kernel<T, false>, dim3(unsigned(div_up(p.rows, kWarps))), dim3(kThreads), 0, p, x, out);
  else
    launch(context, norm_kernel<T, true>, dim3(unsigned(p.rows)), dim3(kThreads), kVirtualLanes * sizeof(float), p, x,
           out);
}

}  // namespace

void norm(const Call& call, Context& context) {
  const auto a = norm_args(call);
  if (a.T * a.G * a.D == 0) return;
  NormParams p = {};
  p.weight = a.weight ? static_cast<const float*>(a.weight->data) : nullptr;
  p.bias = a.bias ? static_cast<const float*>(a.bias->data) : nullptr;
  p.weight_stride = a.W == 1 ? 0 : a.D;
  p.bias_stride = a.V == 1 ? 0 : a.D;
  p.x_t = a.x->stride[0];
  p.x_g = a.x->stride[1];
  p.out_t = a.out->stride[0];
  p.out_g = a.out->stride[1];
  p.rows = a.T * a.G;
  p.groups = int(a.G);
  p.D = int(a.D);
  p.eps = a.eps;
  p.layer = a.kind == 1;
  p.round_first = a.rounding == 0;
  switch (a.out->dtype) {
    case DType::f32: return launch_norm<float>(a, p, context);
    case DType::bf16: return launch_norm<bf16>(a, p, context);
    default: return launch_norm<f16>(a, p, context);
  }
}

}  // namespace eyrie::cuda
