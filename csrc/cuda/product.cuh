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
  bool fours;  // four neighbours can be loaded at once
};

inline Rows rows_of(const Tensor& x, const Tensor* norm, float eps) {
  Rows r{};
  r.x = x.data;
  r.dtype = x.dtype;
  r.stride = x.stride[0];
  r.count = int(x.shape[0]);
  r.k = int(x.shape[1]);
  r.norm = norm ? static_cast<const float*>(norm->data) : nullptr;
  r.normed = norm != nullptr;
  r.eps = eps;
  r.fours = r.k % 4 == 0 && (r.stride % 4 == 0 || r.count == 1) &&
            !((reinterpret_cast<uintptr_t>(r.x) | reinterpret_cast<uintptr_t>(r.norm)) & 15);
  return r;
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

// Four elements from k on, zeros past the end.
GPU_INLINE float4 load_four(const Rows& x, int r, int k) {
  const int64_t at = r * x.stride + k;
  if (x.fours) {
    if (k >= x.k) return float4{0, 0, 0, 0};
    if (x.dtype == DType::f32) return *reinterpret_cast<const float4*>(static_cast<const float*>(x.x) + at);
    const uint2 v = *reinterpret_cast<const uint2*>(static_cast<const bf16*>(x.x) + at);
    return float4{low_bf16(v.x), high_bf16(v.x), low_bf16(v.y), high_bf16(v.y)};
  }
  float4 v;
  v.x = k < x.k ? load_activation(x.x, x.dtype, at) : 0.0f;
  v.y = k + 1 < x.k ? load_activation(x.x, x.dtype, at + 1) : 0.0f;
  v.z = k + 2 < x.k ? load_activation(x.x, x.dtype, at + 2) : 0.0f;
  v.w = k + 3 < x.k ? load_activation(x.x, x.dtype, at + 3) : 0.0f;
  return v;
}
GPU_INLINE float4 load_four_weights(const Rows& x, int k) {
  if (x.fours && k < x.k) return *reinterpret_cast<const float4*>(x.norm + k);
  float4 v;
  v.x = k < x.k ? x.norm[k] : 0.0f;
  v.y = k + 1 < x.k ? x.norm[k + 1] : 0.0f;
  v.z = k + 2 < x.k ? x.norm[k + 2] : 0.0f;
  v.w = k + 3 < x.k ? x.norm[k + 3] : 0.0f;
  return v;
}
// Four elements as the product sees them, in bf16.
GPU_INLINE uint2 round_four(const Rows& x, float4 v, float4 weight, float scale) {
  if (x.normed) {
    v.x = rms_value<float>(v.x, scale, weight.x, false);
    v.y = rms_value<float>(v.y, scale, weight.y, false);
    v.z = rms_value<float>(v.z, scale, weight.z, false);
    v.w = rms_value<float>(v.w, scale, weight.w, false);
  }
  return uint2{pack_bf16(v.x, v.y), pack_bf16(v.z, v.w)};
}

// Elements of a row that a thread keeps between its norm and its rounding, where `hold` says so.
constexpr int kHeld = 8;

// Rows first.. of x in bf16 to shared memory, `pitch` words apart, zeros up to `words`, by a block of 256 threads. `sums`: 256 floats
// for each of two rows; scales: one a row; both free again afterwards. A row's latency is what a decode step pays
// for it, so all loads of a pass are independent.
template <bool hold>
GPU_INLINE void stage_rows(const Rows& x, int first, int rows, uint32_t* to, int words, int pitch, float* sums,
                           float* scales) {
  const int thread = int(threadIdx.x), lane = thread & 31, warp = thread >> 5;
  if (hold && x.normed && rows == 1 && x.k <= 256 * kHeld) {  // a row that is read once
    float v[kHeld], w[kHeld], s = 0.0f;
#pragma unroll
    for (int j = 0; j < kHeld; j++) {
      const int k = thread + 256 * j;
      v[j] = k < x.k ? load_activation(x.x, x.dtype, first * x.stride + k) : 0.0f;
      w[j] = k < x.k ? x.norm[k] : 0.0f;
    }
#pragma unroll
    for (int j = 0; j < kHeld; j++)
      if (thread + 256 * j < x.k) s = fmaf(v[j], v[j], s);
    sums[thread] = s;
    __syncthreads();
    float p[8];
#pragma unroll
    for (int k = 0; k < 8; k++) p[k] = sums[lane + 32 * k];
    const float scale = rms_scale(virtual_lanes_sum(p), x.k, x.eps);
#pragma unroll
    for (int j = 0; j < kHeld; j++) {
      const int k = thread + 256 * j;
      if (k < 2 * words)
        reinterpret_cast<uint16_t*>(to)[k] = uint16_t(pack_bf16(rms_value<float>(v[j], scale, w[j], false), 0.0f));
    }
  } else if (x.normed) {
    for (int r0 = 0; r0 < rows; r0 += 2) {
      float s[2] = {0, 0};
      for (int i = thread; i < x.k; i += 2048) {
        float v[2][8];
#pragma unroll
        for (int r = 0; r < 2; r++)
#pragma unroll
          for (int j = 0; j < 8; j++)
            v[r][j] = r0 + r < rows && i + 256 * j < x.k
                          ? load_activation(x.x, x.dtype, (first + r0 + r) * x.stride + i + 256 * j)
                          : 0.0f;
#pragma unroll
        for (int j = 0; j < 8; j++)
#pragma unroll
          for (int r = 0; r < 2; r++)
            if (i + 256 * j < x.k) s[r] = fmaf(v[r][j], v[r][j], s[r]);
      }
      sums[thread] = s[0];
      if (r0 + 1 < rows) sums[256 + thread] = s[1];
      __syncthreads();
      if (warp < 2 && r0 + warp < rows) {
        float p[8];
#pragma unroll
        for (int k = 0; k < 8; k++) p[k] = sums[warp * 256 + lane + 32 * k];
        const float scale = rms_scale(virtual_lanes_sum(p), x.k, x.eps);
        if (lane == 0) scales[r0 + warp] = scale;
      }
      __syncthreads();
    }
    for (int k = 4 * thread; k < 2 * words; k += 2048) {
      const float4 w0 = load_four_weights(x, k), w1 = load_four_weights(x, k + 1024);
      for (int r = 0; r < rows; r++) {
        const float4 v0 = load_four(x, first + r, k), v1 = load_four(x, first + r, k + 1024);
        uint32_t* at = to + r * pitch + k / 2;
        *reinterpret_cast<uint2*>(at) = round_four(x, v0, w0, scales[r]);
        if (k + 1024 < 2 * words) *reinterpret_cast<uint2*>(at + 512) = round_four(x, v1, w1, scales[r]);
      }
    }
  } else {
    for (int k = 4 * thread; k < 2 * words; k += 4096)
      for (int r = 0; r < rows; r++) {
        float4 v[4];
#pragma unroll
        for (int j = 0; j < 4; j++) v[j] = load_four(x, first + r, k + 1024 * j);
#pragma unroll
        for (int j = 0; j < 4; j++)
          if (k + 1024 * j < 2 * words)
            *reinterpret_cast<uint2*>(to + r * pitch + k / 2 + 512 * j) = round_four(x, v[j], float4{1, 1, 1, 1}, 1.0f);
      }
  }
  __syncthreads();
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
  int slots;  // of a page
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
  int d, e;  // sizes of key and value heads
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
