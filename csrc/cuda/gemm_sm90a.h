// Prefill matrix products on Hopper's warpgroup tensor cores. Plain C++: for host code of any other .cu.
#pragma once
#include "core/tensor.h"
#include "cuda/context.h"

namespace eyrie::cuda {

struct WeightView;

// out[m][n] = (sum + bias[n]) + residual[m][n]; strides in elements. `out` may be `residual`.
struct GemmEpilogue {
  const float* bias = nullptr;  // [N] or null
  const void* residual = nullptr;  // [M,N] or null
  DType residual_type = DType::f32;  // f32 or bf16
  int64_t residual_stride = 0;
  void* out = nullptr;  // [M,N]
  DType out_type = DType::f32;  // f32 or bf16
  int64_t out_stride = 0;
};

// How a sum over the inputs is cut. `ranges`: into at most 16 runs of inputs, each summed from zero in the tensor cores, then added
// up in fp32 in their order, as the kernels for few rows do. `chain`: one run.
enum class GemmOrder { ranges, chain };

// Blocks of 32 inputs in one range: even, so that ranges begin at multiples of 64 inputs.
inline int gemm_range_blocks(int blocks) { return 2 * ((blocks + 31) / 32); }

// out = x · wᵀ (+ bias) (+ residual), x[M,K] bf16 with rows x_stride apart. False when this device or these arguments are not
// for it (not sm_90, w not bf16, rows of x not at multiples of 16 bytes, other types): nothing was launched then.
bool gemm_sm90a(Context& context, const void* x, int64_t x_stride, int m, const WeightView& w,
                const GemmEpilogue& epilogue, GemmOrder order = GemmOrder::ranges);

}  // namespace eyrie::cuda
