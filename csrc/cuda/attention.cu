// paged_attention: which of its kernels a call goes to.
#include "cuda/attention.cuh"
#include "cuda/kernels.h"

namespace eyrie::cuda {
namespace attention {
namespace {

inline PageView view_of(const Tensor& t) {
  const int64_t bytes = dtype_info(t.dtype).block_bytes;
  const int64_t page = t.stride[0] * bytes, slot = t.stride[2] * bytes;
  return {static_cast<const unsigned char*>(t.data),
          page,
          t.stride[1] * bytes,
          slot,
          unsigned(page / 16),
          unsigned(slot / 16)};
}
inline bool aligned(const PageView& v) {
  return !((reinterpret_cast<uintptr_t>(v.data) | uintptr_t(v.page) | uintptr_t(v.head) | uintptr_t(v.slot)) & 15);
}
// Whether every place of a pool of `pages` has 32 bits in units of 16 bytes.
inline bool in_reach(const PageView& v, int64_t pages) {
  return v.page >= 0 && v.slot >= 0 && v.page / 16 * pages < (int64_t(1) << 32);
}

// Scales of rows, where there are any, are copied eight at a time.
inline bool aligned(const PageScales& s) {
  return !s.rows ||
         (s.slot == 2 && !((reinterpret_cast<uintptr_t>(s.rows) | uintptr_t(s.page) | uintptr_t(s.head_stride)) & 15));
}

bool attend_tensor_cores(Args a, DType pages, const BothScales& scales, const PagedAttentionArgs& p, Context& context) {
  a.k_scales = scales.k;
  a.v_scales = scales.v;
  switch (pages) {
    case DType::f16: return attend_blocks<f16>(a, p, context);
    case DType::bf16: return attend_blocks<bf16>(a, p, context);
    case DType::f8_e4m3: return attend_blocks<e4m3>(a, p, context);
    case DType::i8: return attend_blocks<int8_t>(a, p, context);
    default: return false;
  }
}

}  // namespace
}  // namespace attention

void paged_attention(const Call& call, Context& context) {
  using namespace attention;
  const PagedAttentionArgs p = paged_attention_args(call);
  if (p.T * p.H * p.E == 0) return;
  const auto ints = [](const Tensor* t) { return t ? static_cast<const int*>(t->data) : nullptr; };
  const auto floats = [](const Tensor* t) { return t ? static_cast<const float*>(t->data) : nullptr; };
  Args a = {};
  a.q = p.q->data;
  a.q_row = p.q->stride[0];
  a.q_head = p.q->stride[1];
  a.q_type = p.q->dtype;
  a.out = p.out->data;
  a.k = view_of(*p.k_pages);
  a.v = view_of(*p.v_pages);
  a.block_table = ints(p.block_table);
  a.seq_lens = ints(p.seq_lens);
  a.q_start = ints(p.q_start);
  a.anc = reinterpret_cast<const uint32_t*>(ints(p.anc));
  a.sinks = floats(p.sinks);
  a.alibi = floats(p.alibi);
  a.q_scale = floats(p.q_scale);
  a.scale = p.scale;
  a.softcap = p.softcap;
  a.window = p.window;
  a.chunk = p.chunk;
  a.T = int(p.T);
  a.H = int(p.H);
  a.J = int(p.J);
  a.G = int(p.H / p.J);
  a.N = int(p.N);
  a.S = int(p.S);
  a.M = int(p.M);
  a.D = int(p.D);
  a.E = int(p.E);
  a.requests = int(p.B);
  a.fault = fault_at(context);
  const DType type = p.k_pages->dtype;
  const BothScales scales = {scales_of(p.k_scale, p.k_scales), scales_of(p.v_scale, p.v_scales)};
  if (p.S % kStep == 0 && aligned(a.k) && aligned(a.v) && in_reach(a.k, p.N) && in_reach(a.v, p.N) &&
      aligned(scales.k) && aligned(scales.v) && p.B > 0 && p.M > 0 && attend_tensor_cores(a, type, scales, p, context))
    return;
  attend_general(a, type, scales, context);
}

}  // namespace eyrie::cuda
