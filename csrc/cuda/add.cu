// out = x + alpha * y, element by element, in f32 and rounded once to the activation type.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "cuda/kernels.h"

namespace eyrie::cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(256) add_kernel(const T* x, const T* y, float alpha, T* out, int64_t n) {
  const int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x;
  if (i < n) out[i] = T(fmaf(alpha, float(y[i]), float(x[i])));
}

template <class T>
void launch(const AddArgs& a, cudaStream_t stream) {
  const int64_t n = a.T * a.D;
  if (n == 0) return;
  add_kernel<T><<<unsigned((n + 255) / 256), 256, 0, stream>>>(
      static_cast<const T*>(a.x->data), static_cast<const T*>(a.y->data), a.alpha, static_cast<T*>(a.out->data), n);
}

}  // namespace

void add(const Call& call, cudaStream_t stream) {
  const AddArgs a = add_args(call);
  switch (a.x->dtype) {
    case DType::f16: return launch<__half>(a, stream);
    case DType::bf16: return launch<__nv_bfloat16>(a, stream);
    default: return launch<float>(a, stream);
  }
}

}  // namespace eyrie::cuda
