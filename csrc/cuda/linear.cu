// linear: out = x · wᵀ (+ bias) (+ residual), and the choice between the ways of running a product.
#include "cuda/kernels.h"
#include "cuda/product.cuh"

namespace eyrie::cuda {

void require_activations(const char* op, const char* argument, DType t) {
  if (t != DType::f32 && t != DType::bf16)
    throw Error("EYRIE_UNSUPPORTED", std::string(op) + ": " + argument + " is " + dtype_info(t).name +
                                         "; on CUDA activations are f32 or bf16");
}

bool exact_product(DType weights, bool round) { return !round || weights == DType::f32 || weights == DType::f16; }

void run_product(Context& context, Mode mode, const Product& p, bool round) {
  if (p.x.count == 0 || p.w[0].n == 0) return;
  if (exact_product(p.w[0].dtype, round)) return product_exact(context, p, round);
  if (few_rows(p.x.count)) return product_decode(context, mode, p);
  product_gemm(context, mode, p);
}

void linear(const Call& call, Context& context) {
  const LinearArgs a = linear_args(call);
  require_activations("linear", "x", a.x->dtype);
  Product p{};
  p.w[0] = weight_view(*a.w);
  p.x = rows_of(*a.x, nullptr, 0.0f);
  p.out.bias = a.bias ? static_cast<const float*>(a.bias->data) : nullptr;
  p.out.residual = a.residual ? a.residual->data : nullptr;
  p.out.residual_stride = a.N;
  p.out.out = a.out->data;
  p.out.out_stride = a.out->stride[0];
  p.out.dtype = a.out->dtype;
  run_product(context, Mode::linear, p, a.activations == 0);
}

}  // namespace eyrie::cuda
