// Products in fp32 arithmetic: for f32 and f16 weights, and for every format when the inputs are not to be rounded. The same
// fragments, ranges and epilogue as decode_product.cu; lanes multiply what they hold and four of them add up.
#include <algorithm>

#include "cuda/product.cuh"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 256, kWarps = 8, kRows = 8, kStride = 20;

struct Partials {
  float part[kRanges][kRows * kStride];
};

// The eight weights that a lane holds of half h of block b, as w[r][e] of the fragment.
GPU_INLINE void weights_of(const WeightView& w, const unsigned char* panel, int b, int h, int lane, float (&v)[4][2]) {
  if (w.dtype == DType::f32) {
    const float4* p = reinterpret_cast<const float4*>(panel + int64_t(b) * 2048) + h * 64 + lane;
    const float4 x = p[0], y = p[32];
    v[0][0] = x.x, v[0][1] = x.y, v[1][0] = x.z, v[1][1] = x.w;
    v[2][0] = y.x, v[2][1] = y.y, v[3][0] = y.z, v[3][1] = y.w;
    return;
  }
  if (w.dtype == DType::f16 || w.dtype == DType::bf16) {
    const uint4 x = reinterpret_cast<const uint4*>(panel + int64_t(b) * 1024)[h * 32 + lane];
    const uint32_t words[4] = {x.x, x.y, x.z, x.w};
#pragma unroll
    for (int r = 0; r < 4; r++) {
      v[r][0] = w.dtype == DType::f16 ? low_f16(words[r]) : low_bf16(words[r]);
      v[r][1] = w.dtype == DType::f16 ? high_f16(words[r]) : high_bf16(words[r]);
    }
    return;
  }
  if (has_row_scales(w.dtype)) {
    const uint32_t* p = reinterpret_cast<const uint32_t*>(panel + int64_t(b) * 512) + lane * 4 + h * 2;
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
      for (int e = 0; e < 2; e++) {
        const uint8_t q = uint8_t(load_word(p + (r >> 1)) >> (8 * ((r & 1) + 2 * e)));
        v[r][e] = w.dtype == DType::i8 ? float(int8_t(q)) : e4m3_to_float(q);
      }
    return;
  }
  const uint32_t ds = load_word(panel + w.scales + int64_t(w.group_of(b)) * 32 + (lane >> 2) * 4);
  const float d[2] = {low_f16(ds), high_f16(ds)};
  float m[2] = {0.0f, 0.0f};
  if (w.dtype == DType::q4_1) {
    const uint32_t ms = load_word(panel + w.mins + int64_t(b) * 32 + (lane >> 2) * 4);
    m[0] = low_f16(ms);
    m[1] = high_f16(ms);
  }
  if (w.dtype == DType::q8_0) {
    const uint32_t* p = reinterpret_cast<const uint32_t*>(panel + int64_t(b) * 512) + lane * 4 + h * 2;
#pragma unroll
    for (int r = 0; r < 4; r++)
#pragma unroll
      for (int e = 0; e < 2; e++)
        v[r][e] = d[r & 1] * float(int(int8_t(load_word(p + (r >> 1)) >> (8 * ((r & 1) + 2 * e)) & 0xffu)));
    return;
  }
  const uint32_t word = load_word(panel + q4_offset(b, w.blocks, lane) + h * 4);
  const float zero = w.dtype == DType::q4_1 ? 0.0f : 8.0f;
#pragma unroll
  for (int r = 0; r < 4; r++)
#pragma unroll
    for (int e = 0; e < 2; e++) v[r][e] = fmaf(d[r & 1], float(word >> (4 * r + 16 * e) & 15u) - zero, m[r & 1]);
}

__global__ void __launch_bounds__(kThreads, 2) exact_kernel(Product p, int rows_at_once, bool round) {
  GPU_SHARED(raw_shared);
  Partials& s = *reinterpret_cast<Partials*>(raw_shared);
  float* const xs = reinterpret_cast<float*>(raw_shared + sizeof(Partials));
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, panel_index = blockIdx.x;
  const WeightView& w = p.w[0];
  const int per = range_blocks(w.blocks), used = (w.blocks + per - 1) / per;
  dependency_wait();
  const int first_row = blockIdx.y * rows_at_once, rows = min(rows_at_once, p.x.count - first_row);
  const int width = w.blocks * 32, stride = width + 8;
  for (int r = warp; r < rows; r += kWarps) {
    const float scale = row_scale(p.x, first_row + r);
    for (int k = lane; k < width; k += 32) {
      const float v = k < p.x.k ? row_value(p.x, first_row + r, k, scale) : 0.0f;
      xs[r * stride + k] = round ? to_float(to_bf16(v)) : v;
    }
  }
  __syncthreads();

  const unsigned char* panel = w.data + panel_index * w.panel_bytes;
  for (int range = 2 * warp; range < 2 * warp + 2; range++) {
    float acc[2][kRows] = {};
    for (int b = range * per; b < min((range + 1) * per, w.blocks); b++) {
#pragma unroll
      for (int h = 0; h < 2; h++) {
        float v[4][2];
        weights_of(w, panel, b, h, lane, v);
        const float* x = xs + b * 32 + h * 16 + 2 * (lane & 3);
#pragma unroll
        for (int c = 0; c < kRows; c++) {
          if (c >= rows) continue;
          const float* at = x + c * stride;
          const float2 low = *reinterpret_cast<const float2*>(at), high = *reinterpret_cast<const float2*>(at + 8);
#pragma unroll
          for (int g = 0; g < 2; g++) {
            acc[g][c] = fmaf(v[g][0], low.x, acc[g][c]);
            acc[g][c] = fmaf(v[g][1], low.y, acc[g][c]);
            acc[g][c] = fmaf(v[2 + g][0], high.x, acc[g][c]);
            acc[g][c] = fmaf(v[2 + g][1], high.y, acc[g][c]);
          }
        }
      }
    }
    const int g = lane >> 2, q = lane & 3;
#pragma unroll
    for (int half = 0; half < 2; half++)
#pragma unroll
      for (int c = 0; c < kRows; c++) {
        float y = acc[half][c];
        y += __shfl_xor_sync(0xffffffffu, y, 1);
        y += __shfl_xor_sync(0xffffffffu, y, 2);
        if (c >> 1 == q) s.part[range][c * kStride + g + 8 * half] = y;
      }
  }
  dependency_release();
  __syncthreads();
  for (int i = threadIdx.x; i < rows * 16; i += kThreads) {
    const int n = i & 15, c = i >> 4;
    float y = 0.0f;
    for (int r = 0; r < used; r++) y += s.part[r][c * kStride + n];
    if (has_row_scales(w.dtype)) y = __fmul_rn(output_scale(w, panel_index * 16 + n), y);
    if (panel_index * 16 + n < w.n) finish_linear(p.out, first_row + c, panel_index * 16 + n, y);
  }
}

}  // namespace

void product_exact(Context& context, const Product& p, bool round) {
  const size_t row_bytes = (size_t(p.w[0].blocks) * 32 + 8) * 4;
  const size_t room = context.shared_limit - sizeof(Partials);
  if (row_bytes > room)
    throw Error("EYRIE_UNSUPPORTED", "linear: K is " + std::to_string(p.x.k) + ", at most " +
                                         std::to_string(room / 4 - 8) + " without rounding activations on CUDA");
  const int rows = int(std::max<size_t>(1, std::min<size_t>({size_t(kRows), size_t(p.x.count), room / row_bytes})));
  const int groups = (p.x.count + rows - 1) / rows;
  for (int g = 0; g < groups; g += 65535) {  // of the grid's second dimension
    Product part = p;
    const int first = g * rows;
    part.x.count = std::min(p.x.count - first, 65535 * rows);
    const int64_t size = p.x.dtype == DType::f32 ? 4 : 2, out = p.out.dtype == DType::f32 ? 4 : 2;
    part.x.x = static_cast<const char*>(p.x.x) + first * p.x.stride * size;
    part.out.out = static_cast<char*>(p.out.out) + first * p.out.out_stride * out;
    if (p.out.residual)
      part.out.residual = static_cast<const char*>(p.out.residual) + first * p.out.residual_stride * out;
    launch(context, exact_kernel, dim3(unsigned(p.w[0].panels), unsigned((part.x.count + rows - 1) / rows)),
           dim3(kThreads), sizeof(Partials) + rows * row_bytes, part, rows, round);
  }
}

}  // namespace eyrie::cuda
