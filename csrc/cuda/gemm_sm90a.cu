// Which tile a matrix product on Hopper gets (gemm_sm90a.cuh has the kernel).
#include "cuda/gemm_sm90a.cuh"

namespace eyrie::cuda {
namespace {

// Rough time of a launch in rows of x: whole waves of blocks, each as long as its tile is wide, plus what a tile costs anyway.
int64_t gemm_cost(const Context& context, int m, const WeightView& w, int tokens, int overhead) {
  return div_up(div_up(m, tokens) * div_up(w.panels, 8), context.sms) * (tokens + overhead);
}

template <bool ranges, int widest>
bool gemm_pick(Context& context, const void* x, int64_t x_stride, int m, const WeightView& w, const GemmEpilogue& e) {
  // Narrow tiles read x and w more often: the shared memory is then busier than the tensor cores.
  const int64_t wide = gemm_cost(context, m, w, widest, 24), middle = gemm_cost(context, m, w, 128, 40),
                narrow = gemm_cost(context, m, w, 64, 56);
  if (narrow < wide && narrow < middle)
    return launch_gemm<GemmShape<64, 2, 7, 1, ranges>>(context, x, x_stride, m, w, e);
  if (middle < wide) return launch_gemm<GemmShape<128, 2, 6, 1, ranges>>(context, x, x_stride, m, w, e);
  return launch_gemm<GemmShape<widest, 2, 4, 1, ranges>>(context, x, x_stride, m, w, e);
}

}  // namespace

bool gemm_sm90a(Context& context, const void* x, int64_t x_stride, int m, const WeightView& w, const GemmEpilogue& e,
                GemmOrder order) {
  const auto known = [](DType t) { return t == DType::f32 || t == DType::bf16; };
  if (context.arch != 90 || context.shared_limit < 227 * 1024 || w.dtype != DType::bf16 || w.k < 1) return false;
  if (!known(e.out_type) || (e.residual && !known(e.residual_type))) return false;
  if (m <= 0 || w.n <= 0) return true;
  return order == GemmOrder::ranges ? gemm_pick<true, 192>(context, x, x_stride, m, w, e)
                                    : gemm_pick<false, 256>(context, x, x_stride, m, w, e);
}

}  // namespace eyrie::cuda
