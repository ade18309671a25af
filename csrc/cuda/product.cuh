// What the matrix products share: their input rows, their epilogues, and how they are reached from the ops.
#pragma once
#include "cuda/act.cuh"
#include "cuda/fragments.cuh"
#include "cuda/norm.cuh"

namespace eyrie::cuda {

struct Rows {  // of the input: f32 or bf16 [count, k]
  const void* x;
  DType dtype;
  int64_t stride;
  int count, k;
  const float* norm;  // RMSNorm before the product, or null
  bool normed;
  float eps;
};

inline Rows rows_of(const Tensor& x, const Tensor* norm, float eps) {
  return {x.data,          x.dtype,
          x.stride[0],     int(x.shape[0]),
          int(x.shape[1]), norm ? static_cast<const float*>(norm->data) : nullptr,
          norm != nullptr, eps};
}

GPU_INLINE float load_activation(const void* p, DType t, int64_t i) {
  return t == DType::f32 ? static_cast<const float*>(p)[i] : to_float(static_cast<const bf16*>(p)[i]);
}
GPU_INLINE void store_activation(void* p, DType t, int64_t i, float v) {
  if (t == DType::f32) static_cast<float*>(p)[i] = v;
  else static_cast<bf16*>(p)[i] = to_bf16(v);
}

// 1 / rms of row r, or 1. All lanes of the warp.
GPU_INLINE float row_scale(const Rows& x, int r) {
  if (!x.normed) return 1.0f;
  const float sum = x.dtype == DType::f32 ? row_sum_squares_warp(static_cast<const float*>(x.x) + r * x.stride, x.k)
                                          : row_sum_squares_warp(static_cast<const bf16*>(x.x) + r * x.stride, x.k);
  return rms_scale(sum, x.k, x.eps);
}

// Element k of row r as the product sees it before rounding.
GPU_INLINE float row_value(const Rows& x, int r, int k, float scale) {
  const float v = load_activation(x.x, x.dtype, r * x.stride + k);
  return x.normed ? rms_value<float>(v, scale, x.norm[k], false) : v;
}

enum class Mode { linear, glu, qkv };

struct Epilogue {
  // linear: out = y (+ bias) (+ residual); glu: out = act(y0) * y1
  const float* bias;
  const void* residual;
  int64_t residual_stride;
  void* out;
  int64_t out_stride;
  DType dtype;
  int kind;
};

GPU_INLINE void finish_linear(const Epilogue& e, int row, int n, float v) {
  if (e.bias) v += e.bias[n];
  if (e.residual) v += load_activation(e.residual, e.dtype, row * e.residual_stride + n);
  store_activation(e.out, e.dtype, row * e.out_stride + n, v);
}
GPU_INLINE void finish_glu(const Epilogue& e, int row, int n, float gate, float up) {
  store_activation(e.out, e.dtype, row * e.out_stride + n, glu_value(e.kind, gate, up, 0.0f, 1.0f));
}

// What fused_qkv does with a projection's row in one pass: bias, rotation, pages.
struct Pages {
  void* data;
  DType dtype;
  int64_t stride_page, stride_head, stride_slot;
  int slots;   // of a page
  int64_t count;  // pages
};
inline Pages pages_of(const Tensor& t) {
  return {t.data, t.dtype, t.stride[0], t.stride[1], t.stride[2], int(t.shape[2]), t.shape[0]};
}
GPU_INLINE void store_page(const Pages& p, int slot, int head, int d, float v) {
  const int64_t i = slot / p.slots * p.stride_page + head * p.stride_head + slot % p.slots * p.stride_slot + d;
  if (p.dtype == DType::f32) static_cast<float*>(p.data)[i] = v;
  else if (p.dtype == DType::f16) static_cast<f16*>(p.data)[i] = to_f16(v);
  else static_cast<bf16*>(p.data)[i] = to_bf16(v);
}

struct Heads {
  int d, e;                // sizes of key and value heads
  int q_panels, k_panels;  // panels of wq, wk
  const float *bq, *bk, *bv;
  const float* rope;  // [P, D], or null
  const int* rows;
  int rope_rows;
  const int* slots;
  Pages k, v;
  void* q;  // [T, H, D]
  DType q_dtype;
  FaultAt fault;
};

// The rotation of one pair; the op `rope` has the same.
GPU_INLINE void rotate(float& a, float& b, float c, float s) {
  const float x = fmaf(a, c, mul_rn(-b, s));
  b = fmaf(b, c, mul_rn(a, s));
  a = x;
}

struct Product {
  WeightView w[3];
  Rows x;
  Epilogue out;
  Heads heads;
};

// Runs the product in the way that suits its sizes; all ways give the same bits. `round`: inputs become bf16.
void run_product(Context& context, Mode mode, const Product& p, bool round);

// The parts (internal): few rows, many rows, fp32 arithmetic.
void product_decode(Context& context, Mode mode, const Product& p);
void product_gemm(Context& context, Mode mode, const Product& p);
void product_exact(Context& context, const Product& p, bool round);

// Whether fp32 arithmetic is what the product asks for.
bool exact_product(DType weights, bool round);
// Rows up to which a product is bound by reading the weights once: one launch of decode_product.cu.
inline bool few_rows(int64_t rows) { return rows <= 16; }
// Throws EYRIE_UNSUPPORTED unless the activations are f32 or bf16.
void require_activations(const char* op, const char* argument, DType t);

}  // namespace eyrie::cuda
