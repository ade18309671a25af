// embed: rows of a packed table, scaled, plus learned positions. Neighbouring threads take neighbouring inputs of a row: four
// lanes' fragments hold a row's half of a block, so that the bytes a warp touches are whole sectors.
#include "cuda/kernels.h"
#include "cuda/math.cuh"
#include "cuda/tiles.cuh"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 256, kUnroll = 2, kPiece = kThreads * kUnroll;

struct EmbedParams {
  WeightView table;
  const int32_t* ids;
  const float* pos;  // null: none
  const int32_t* positions;
  float scale;
  int max_position;
};

template <class T>
__global__ void __launch_bounds__(kThreads) embed_kernel(EmbedParams p, T* out, FaultAt f) {
  dependency_wait();
  const int D = p.table.k, pieces = (D + kPiece - 1) / kPiece;
  const int64_t t = blockIdx.x / unsigned(pieces);
  const int first = int(blockIdx.x % unsigned(pieces)) * kPiece + int(threadIdx.x);
  const int id = p.ids[t], position = p.pos ? p.positions[t] : 0;
  const bool fine = in_range(f, 1, t, id, 0, p.table.n) && (!p.pos || in_range(f, 3, t, position, 0, p.max_position));
#pragma unroll
  for (int k = 0; k < kUnroll; k++) {
    const int column = first + k * kThreads;
    if (column >= D) break;
    float y = 0.0f;
    if (fine) {
      y = mul_rn(p.scale, weight_at(p.table, id, column));
      if (p.pos) y = add_rn(y, p.pos[int64_t(position) * D + column]);
    }
    out[t * D + column] = from_float<T>(y);
  }
}

template <class T>
void launch_embed(const EmbedArgs& a, const EmbedParams& p, Context& context) {
  launch(context, embed_kernel<T>, dim3(unsigned(a.T * div_up(a.D, kPiece))), dim3(kThreads), 0, p,
         static_cast<T*>(a.out->data), fault_at(context));
}

}  // namespace

void embed(const Call& call, Context& context) {
  const auto a = embed_args(call);
  if (a.T == 0 || a.D == 0) return;
  EmbedParams p = {};
  p.table = weight_view(*a.table);
  p.ids = static_cast<const int32_t*>(a.ids->data);
  p.pos = a.pos ? static_cast<const float*>(a.pos->data) : nullptr;
  p.positions = a.positions ? static_cast<const int32_t*>(a.positions->data) : nullptr;
  p.scale = a.scale;
  p.max_position = int(a.P);
  switch (a.out->dtype) {
    case DType::f32: return launch_embed<float>(a, p, context);
    case DType::bf16: return launch_embed<bf16>(a, p, context);
    default: return launch_embed<f16>(a, p, context);
  }
}

}  // namespace eyrie::cuda
