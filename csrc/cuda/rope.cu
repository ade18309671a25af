// rope: a thread per pair of x [T,H,D], in place.
#include "cuda/kernels.h"
#include "cuda/rope.cuh"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 256;

struct RopeShape {
  int64_t pairs, row, head;  // T * H * R/2; strides of x
  int heads, half, positions, offset, interleaved;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    rope_kernel(T* x, const float* table, const int* rows, RopeShape s, FaultAt fault) {
  dependency_wait();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= s.pairs) return;
  const int pair = int(i % s.half);
  const int64_t head = i / s.half % s.heads, t = i / s.half / s.heads;
  const int row = rows[t];
  if (!in_range(fault, 2, t, row, 0, s.positions)) return;
  const float* angles = table + int64_t(row) * 2 * s.half;
  T* at = x + t * s.row + head * s.head + s.offset;
  T& first = at[s.interleaved ? 2 * pair : pair];
  T& second = at[s.interleaved ? 2 * pair + 1 : pair + s.half];
  float a = to_float(first), b = to_float(second);
  rope_pair(a, b, angles[pair], angles[s.half + pair]);
  first = from_float<T>(a);
  second = from_float<T>(b);
}

template <class T>
void run(const RopeArgs& a, Context& context) {
  const int half = int(a.R / 2);
  const RopeShape s = {a.T * a.H * half, a.x->stride[0], a.x->stride[1], int(a.H), half,
                       int(a.P),         a.offset,       a.interleaved};
  launch(context, rope_kernel<T>, unsigned((s.pairs + kThreads - 1) / kThreads), kThreads, 0,
         static_cast<T*>(a.x->data), static_cast<const float*>(a.table->data), static_cast<const int*>(a.rows->data), s,
         fault_at(context));
}

}  // namespace

void rope(const Call& call, Context& context) {
  const RopeArgs a = rope_args(call);
  if (a.T * a.H * a.R == 0) return;
  if (a.x->dtype == DType::f32) run<float>(a, context);
  else if (a.x->dtype == DType::f16) run<f16>(a, context);
  else run<bf16>(a, context);
}

}  // namespace eyrie::cuda
