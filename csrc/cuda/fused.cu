// fused_qkv and fused_glu. Few rows in one format: one launch. Else the products go to scratch memory and a second kernel does
// the rest; each step is that of the primitive ops, so the bits are theirs.
#include "cuda/bytes.cuh"
#include "cuda/kernels.h"
#include "cuda/product.cuh"

namespace eyrie::cuda {
namespace {

size_t aligned(size_t n) { return (n + 255) / 256 * 256; }

__global__ void __launch_bounds__(256)
    glu_rows(const float* gate, const float* up, int64_t n, int kind, void* out, DType t) {
  dependency_wait();
  const int64_t i = int64_t(blockIdx.x) * 256 + threadIdx.x;
  if (i < n) store_activation(out, t, i, glu_value(kind, gate[i], up[i], 0.0f, 1.0f));
}

struct HeadRows {  // projections with their biases, [T, H * D], [T, J * D], [T, J * E]
  const float *q, *k, *v;
  int tokens, heads, kv_heads, r;
  const float *q_norm, *k_norm;
  float eps;
  Heads to;
  PageScales k_scales, v_scales;
};

// A warp stores a row of `size` values, value(d), in pages of 8 bits.
template <class Value>
GPU_INLINE void store_row_bytes(const Pages& p, const PageScales& scales, int slot, int j, int size, Value value) {
  const int64_t at = slot / p.slots * p.stride_page + j * p.stride_head + slot % p.slots * p.stride_slot;
  if (scales.rows) {
    store_row_i8(static_cast<int8_t*>(p.data) + at, scales.row(slot / p.slots, j, slot % p.slots), size, value);
    return;
  }
  const float inverse = __fdiv_rn(1.0f, scales.head[j]);
  for (int d = int(threadIdx.x & 31); d < size; d += 32)
    static_cast<uint8_t*>(p.data)[at + d] = float_to_e4m3(__fmul_rn(value(d), inverse));
}

// A warp a head of a token: norm, rotation, then to q or to the pages (of 8 bits: `bytes`).
template <bool bytes>
__global__ void __launch_bounds__(256) head_rows(HeadRows a) {
  dependency_wait();
  const int all = a.heads + 2 * a.kv_heads, lane = threadIdx.x & 31;
  const int64_t task = int64_t(blockIdx.x) * 8 + (threadIdx.x >> 5);
  const int t = int(task / all), h = int(task % all), j = h - a.heads;
  if (t >= a.tokens) return;
  const Heads& to = a.to;
  const int slot = j >= 0 ? to.slots[t] : 0;
  const Pages& pages = j < a.kv_heads ? to.k : to.v;
  if (j >= 0 && (slot < 0 || !in_range(to.fault, 13, t, slot, 0, pages.count * pages.slots))) return;
  if (j >= a.kv_heads) {
    const float* v = a.v + (int64_t(t) * a.kv_heads + (j - a.kv_heads)) * to.e;
    if constexpr (bytes) {
      store_row_bytes(to.v, a.v_scales, slot, j - a.kv_heads, to.e, [&](int d) { return v[d]; });
    } else {
      for (int d = lane; d < to.e; d += 32) store_page(to.v, slot, j - a.kv_heads, d, v[d]);
    }
    return;
  }
  const float* x = j < 0 ? a.q + (int64_t(t) * a.heads + h) * to.d : a.k + (int64_t(t) * a.kv_heads + j) * to.d;
  const float* weight = j < 0 ? a.q_norm : a.k_norm;
  const float scale = weight ? rms_scale(row_sum_squares_warp(x, to.d), to.d, a.eps) : 1.0f;
  auto value = [&](int d) { return weight ? rms_value<float>(x[d], scale, weight[d], false) : x[d]; };
  auto store = [&](int d, float v) {
    if (j < 0) store_activation(to.q, to.q_dtype, (int64_t(t) * a.heads + h) * to.d + d, v);
    else store_page(to.k, slot, j, d, v);
  };
  const float* table = nullptr;
  if (to.rope) {
    const int row = to.rows[t];
    if (in_range(to.fault, 12, t, row, 0, to.rope_rows)) table = to.rope + int64_t(row) * a.r;
  }
  const int half = table ? a.r / 2 : 0;
  __syncwarp();
  if constexpr (bytes) {
    if (j >= 0) {
      store_row_bytes(to.k, a.k_scales, slot, j, to.d, [&](int d) {
        if (d >= 2 * half) return value(d);
        const int i = d < half ? d : d - half;
        float u = value(i), v = value(i + half);
        rotate(u, v, table[i], table[half + i]);
        return d < half ? u : v;
      });
      return;
    }
  }
  for (int i = lane; i < half; i += 32) {
    float u = value(i), v = value(i + half);
    rotate(u, v, table[i], table[half + i]);
    store(i, u);
    store(i + half, v);
  }
  for (int d = 2 * half + lane; d < to.d; d += 32) store(d, value(d));
}

// One projection into fp32 scratch rows.
void project(Context& context, const Rows& x, const Tensor& w, const Tensor* bias, float* out, bool round) {
  Product p{};
  p.w[0] = weight_view(w);
  p.x = x;
  p.out.bias = bias ? static_cast<const float*>(bias->data) : nullptr;
  p.out.out = out;
  p.out.out_stride = w.shape[0];
  p.out.dtype = DType::f32;
  run_product(context, Mode::linear, p, round);
}

const float* floats(const Tensor* t) { return t ? static_cast<const float*>(t->data) : nullptr; }

}  // namespace

void fused_glu(const Call& call, Context& context) {
  const FusedGluArgs a = fused_glu_args(call);
  require_activations("fused_glu", "x", a.x->dtype);
  if (a.T == 0 || a.I == 0) return;
  const bool round = a.activations == 0, same = a.w_gate->dtype == a.w_up->dtype;
  const Rows x = rows_of(*a.x, a.norm, a.eps);
  if (same && !exact_product(a.w_gate->dtype, round)) {
    Product p{};
    p.w[0] = weight_view(*a.w_gate);
    p.w[1] = weight_view(*a.w_up);
    p.x = x;
    p.out.out = a.out->data;
    p.out.out_stride = a.I;
    p.out.dtype = a.out->dtype;
    p.out.kind = a.kind;
    return run_product(context, Mode::glu, p, round);
  }
  const int64_t n = a.T * a.I;
  float* scratch = static_cast<float*>(context.scratch(aligned(size_t(n) * 4) * 2));
  float* up = scratch + aligned(size_t(n) * 4) / 4;
  project(context, x, *a.w_gate, nullptr, scratch, round);
  project(context, x, *a.w_up, nullptr, up, round);
  launch(context, glu_rows, dim3(unsigned((n + 255) / 256)), dim3(256), 0, scratch, up, n, a.kind, a.out->data,
         a.out->dtype);
}

void fused_qkv(const Call& call, Context& context) {
  const FusedQkvArgs a = fused_qkv_args(call);
  require_activations("fused_qkv", "x", a.x->dtype);
  if (a.T == 0) return;
  const bool round = a.activations == 0;
  const DType type = a.wq->dtype;
  const bool same = type == a.wk->dtype && type == a.wv->dtype;
  const Rows x = rows_of(*a.x, a.norm, a.eps);
  Heads h{};
  h.d = int(a.D);
  h.e = int(a.E);
  h.bq = floats(a.bq);
  h.bk = floats(a.bk);
  h.bv = floats(a.bv);
  h.rope = floats(a.rope);
  h.rope_rows = int(a.P);
  h.rows = static_cast<const int*>(a.rows->data);
  h.slots = static_cast<const int*>(a.slots->data);
  h.k = pages_of(*a.k_pages);
  h.v = pages_of(*a.v_pages);
  h.q = a.q->data;
  h.q_dtype = a.q->dtype;
  h.fault = fault_at(context);

  const bool bytes = a.k_scale || a.k_scales;
  const bool whole = !bytes && a.D % 32 == 0 && a.E % 16 == 0 && (!a.rope || a.R == a.D) && !a.q_norm && !a.k_norm;
  if (same && whole && few_rows(a.T) && !exact_product(type, round)) {
    Product p{};
    p.w[0] = weight_view(*a.wq);
    p.w[1] = weight_view(*a.wk);
    p.w[2] = weight_view(*a.wv);
    p.x = x;
    h.q_panels = p.w[0].panels;
    h.k_panels = p.w[1].panels;
    p.heads = h;
    return run_product(context, Mode::qkv, p, round);
  }
  const size_t q = aligned(size_t(a.T * a.Q) * 4), k = aligned(size_t(a.T * a.KD) * 4);
  const size_t v = aligned(size_t(a.T * a.VD) * 4);
  char* scratch = static_cast<char*>(context.scratch(q + k + v));
  HeadRows rows{};
  rows.q = reinterpret_cast<float*>(scratch);
  rows.k = reinterpret_cast<float*>(scratch + q);
  rows.v = reinterpret_cast<float*>(scratch + q + k);
  project(context, x, *a.wq, a.bq, const_cast<float*>(rows.q), round);
  project(context, x, *a.wk, a.bk, const_cast<float*>(rows.k), round);
  project(context, x, *a.wv, a.bv, const_cast<float*>(rows.v), round);
  rows.tokens = int(a.T);
  rows.heads = int(a.H);
  rows.kv_heads = int(a.J);
  rows.r = int(a.R);
  rows.q_norm = floats(a.q_norm);
  rows.k_norm = floats(a.k_norm);
  rows.eps = a.eps;
  rows.to = h;
  const int64_t tasks = a.T * (a.H + 2 * a.J);
  rows.k_scales = scales_of(a.k_scale, a.k_scales);
  rows.v_scales = scales_of(a.v_scale, a.v_scales);
  launch(context, bytes ? head_rows<true> : head_rows<false>, dim3(unsigned((tasks + 7) / 8)), dim3(256), 0, rows);
}

}  // namespace eyrie::cuda
