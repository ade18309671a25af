// Ops without a reduction: add, cast, clamp, take_rows, glu, act, logits. A block takes a piece of a row; its threads walk the
// piece side by side, kUnroll elements in flight each. Rows are at grid.x, which has no limit that matters.
#include "core/tiles.h"
#include "cuda/act.cuh"
#include "cuda/kernels.h"
#include "cuda/types.cuh"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 256, kUnroll = 4, kPiece = kThreads * kUnroll;

unsigned blocks_of(int64_t rows, int64_t columns) { return unsigned(rows * div_up(columns, kPiece)); }

// Calls f(row, column) for this thread's elements of a [rows, columns] shape.
template <class F>
GPU_INLINE void each_element(int64_t columns, F f) {
  const unsigned pieces = unsigned((columns + kPiece - 1) / kPiece);
  const int64_t row = blockIdx.x / pieces, first = int64_t(blockIdx.x % pieces) * kPiece + threadIdx.x;
#pragma unroll
  for (int k = 0; k < kUnroll; k++)
    if (first + k * kThreads < columns) f(row, first + k * kThreads);
}

template <class T>
__global__ void __launch_bounds__(kThreads) add_kernel(const T* x, const T* y, float alpha, T* out, int64_t n) {
  dependency_wait();
  each_element(n, [&](int64_t, int64_t i) { out[i] = from_float<T>(fmaf(alpha, to_float(y[i]), to_float(x[i]))); });
}

template <class T>
__global__ void __launch_bounds__(kThreads) clamp_kernel(const T* x, float low, float high, T* out, int64_t n) {
  dependency_wait();
  each_element(n, [&](int64_t, int64_t i) { out[i] = from_float<T>(min_of(max_of(to_float(x[i]), low), high)); });
}

template <class S, class T>
__global__ void __launch_bounds__(kThreads) cast_kernel(const S* x, T* out, int64_t n) {
  dependency_wait();
  each_element(n, [&](int64_t, int64_t i) { out[i] = from_float<T>(to_float(x[i])); });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    take_rows_kernel(const T* x, int64_t stride, int64_t rows, const int32_t* ids, T* out, int64_t columns, FaultAt f) {
  dependency_wait();
  each_element(columns, [&](int64_t r, int64_t i) {
    const int32_t row = ids[r];
    out[r * columns + i] = in_range(f, 1, r, row, 0, rows) ? x[row * stride + i] : T();
  });
}

template <class T, int kind>
__global__ void __launch_bounds__(kThreads)
    glu_kernel(const T* gate, int64_t gate_stride, const T* up, int64_t up_stride, float limit, float alpha, T* out,
               int64_t columns) {
  dependency_wait();
  each_element(columns, [&](int64_t r, int64_t i) {
    const float g = to_float(gate[r * gate_stride + i]), u = to_float(up[r * up_stride + i]);
    out[r * columns + i] = from_float<T>(glu_value(kind, g, u, limit, alpha));
  });
}

template <class T, int kind>
__global__ void __launch_bounds__(kThreads) act_kernel(const T* x, int64_t stride, T* out, int64_t columns) {
  dependency_wait();
  each_element(columns, [&](int64_t r, int64_t i) {
    out[r * columns + i] = from_float<T>(act_value(kind, to_float(x[r * stride + i])));
  });
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    logits_kernel(T* x, float scale, float softcap, int64_t valid, int64_t columns) {
  dependency_wait();
  each_element(columns, [&](int64_t r, int64_t i) {
    float y = mul_rn(to_float(x[r * columns + i]), scale);
    if (softcap != 0.0f) y = mul_rn(softcap, tanh_exact(y / softcap));
    x[r * columns + i] = from_float<T>(i < valid ? y : -INFINITY);
  });
}

template <class T>
const T* in(const Tensor* t) {
  return static_cast<const T*>(t->data);
}
template <class T>
T* to(const Tensor* t) {
  return static_cast<T*>(t->data);
}

// Calls f with the kind as a constant.
template <int kind = 0, class F>
void with_kind(int k, F f) {
  if constexpr (kind + 1 < kActKinds) {
    if (k != kind) return with_kind<kind + 1>(k, f);
  }
  f(std::integral_constant<int, kind>());
}

}  // namespace

void add(const Call& call, Context& context) {
  const auto a = add_args(call);
  with_type(a.out->dtype, [&](auto type) {
    using T = decltype(type);
    launch(context, add_kernel<T>, dim3(blocks_of(1, a.T * a.D)), dim3(kThreads), 0, in<T>(a.x), in<T>(a.y), a.alpha,
           to<T>(a.out), a.T * a.D);
  });
}

void clamp(const Call& call, Context& context) {
  const auto a = clamp_args(call);
  with_type(a.out->dtype, [&](auto type) {
    using T = decltype(type);
    launch(context, clamp_kernel<T>, dim3(blocks_of(1, a.T * a.D)), dim3(kThreads), 0, in<T>(a.x), a.low, a.high,
           to<T>(a.out), a.T * a.D);
  });
}

void cast(const Call& call, Context& context) {
  const auto a = cast_args(call);
  if (a.L == 0) return;
  const void* src = a.src->data;
  if (a.src->device == DeviceKind::cpu)
    src = context.upload(src, size_t(a.L) * size_t(dtype_info(a.src->dtype).block_bytes));
  with_type(a.src->dtype, [&](auto source) {
    with_type(a.out->dtype, [&](auto type) {
      using S = decltype(source);
      using T = decltype(type);
      launch(context, cast_kernel<S, T>, dim3(blocks_of(1, a.L)), dim3(kThreads), 0, static_cast<const S*>(src),
             to<T>(a.out), a.L);
    });
  });
}

void take_rows(const Call& call, Context& context) {
  const auto a = take_rows_args(call);
  with_type(a.out->dtype, [&](auto type) {
    using T = decltype(type);
    launch(context, take_rows_kernel<T>, dim3(blocks_of(a.R, a.D)), dim3(kThreads), 0, in<T>(a.x), a.x->stride[0], a.T,
           in<int32_t>(a.rows), to<T>(a.out), a.D, fault_at(context));
  });
}

void glu(const Call& call, Context& context) {
  const auto a = glu_args(call);
  with_type(a.out->dtype, [&](auto type) {
    with_kind(a.kind, [&](auto kind) {
      using T = decltype(type);
      launch(context, glu_kernel<T, decltype(kind)::value>, dim3(blocks_of(a.T, a.I)), dim3(kThreads), 0, in<T>(a.gate),
             a.gate->stride[0], in<T>(a.up), a.up->stride[0], a.limit, a.alpha, to<T>(a.out), a.I);
    });
  });
}

void act(const Call& call, Context& context) {
  const auto a = act_args(call);
  with_type(a.out->dtype, [&](auto type) {
    with_kind(a.kind, [&](auto kind) {
      using T = decltype(type);
      launch(context, act_kernel<T, decltype(kind)::value>, dim3(blocks_of(a.T, a.I)), dim3(kThreads), 0, in<T>(a.x),
             a.x->stride[0], to<T>(a.out), a.I);
    });
  });
}

void logits(const Call& call, Context& context) {
  const auto a = logits_args(call);
  with_type(a.x->dtype, [&](auto type) {
    using T = decltype(type);
    launch(context, logits_kernel<T>, dim3(blocks_of(a.R, a.V)), dim3(kThreads), 0, to<T>(a.x), a.scale, a.softcap,
           int64_t(a.valid), a.V);
  });
}

}  // namespace eyrie::cuda
