// quantize_weight: matrices of floats into fragment order (tiles.cuh), with the bits of the CPU's (core/quantize.h). One launch finds the scales, another
// makes the codes. Host memory passes through an upload buffer in slices of rows, as for pack_weight.
#include <algorithm>

#include "core/quantize.h"
#include "cuda/kernels.h"
#include "cuda/tiles.cuh"

namespace eyrie::cuda {
namespace {

struct QuantizeArgs {
  const unsigned char* src;  // rows [first, first + rows)
  DType type;  // of src
  int first, rows, permute;
  WeightView out;
};

GPU_INLINE unsigned char* panel_of(const QuantizeArgs& a, int panel) {
  return const_cast<unsigned char*>(a.out.data) + panel * a.out.panel_bytes;
}
// Input k of output n, zero past the ends.
GPU_INLINE float input_at(const QuantizeArgs& a, int n, int k) {
  if (n >= a.out.n || k >= a.out.k) return 0.0f;
  const int64_t i = (source_row(n, a.permute) - a.first) * a.out.k + k;
  if (a.type == DType::f32) return flushed(reinterpret_cast<const float*>(a.src)[i]);
  const uint16_t bits = reinterpret_cast<const uint16_t*>(a.src)[i];
  return flushed(a.type == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits));
}

// A scale for each output: a warp a row.
__global__ void __launch_bounds__(256) row_scales_kernel(QuantizeArgs a) {
  dependency_wait();
  const int lane = int(threadIdx.x & 31), row = int(blockIdx.x) * 8 + int(threadIdx.x >> 5), n = a.first + row;
  if (row >= (a.rows + kPanel - 1) / kPanel * kPanel) return;
  uint32_t top = 0;
#pragma unroll 4
  for (int k = lane; k < a.out.k; k += 32) top = max(top, float_to_bits(input_at(a, n, k)) & 0x7fffffffu);
  top = __reduce_max_sync(~0u, top);
  if (lane == 0)
    reinterpret_cast<float*>(panel_of(a, n / kPanel) + a.out.scales)[n % kPanel] =
        row_scale(top, a.out.dtype == DType::i8 ? 127.0f : 448.0f).d;
}

// A scale for `size` inputs: a half warp an output and group, a lane a candidate.
__global__ void __launch_bounds__(256) group_scales_kernel(QuantizeArgs a, int size, int groups) {
  dependency_wait();
  GPU_SHARED(memory);
  const int local = int(threadIdx.x >> 4), lane = int(threadIdx.x & 15);
  const int64_t task = int64_t(blockIdx.x) * 16 + local;
  const int row = int(task / groups), group = int(task % groups), n = a.first + row;
  float* x = reinterpret_cast<float*>(memory) + local * (kGroupInputs + 1);
  if (row < a.rows)
    for (int k = lane; k < size; k += 16) x[k] = input_at(a, n, group * size + k);
  __syncthreads();
  if (row >= a.rows) return;
  const unsigned mask = 0xffffu << (threadIdx.x & 16);
  const float m = extreme_of(x, size);
  const uint16_t d = candidate_i4(m != m ? 0.0f : m, min(lane, kScaleCandidates - 1));
  double error = error_i4(x, size, d);
  int best = lane < kScaleCandidates ? lane : kScaleCandidates - 1;
#pragma unroll
  for (int step = 8; step; step >>= 1) {  // the least, of equal ones the first
    const double other = __shfl_xor_sync(mask, error, step);
    const int at = __shfl_xor_sync(mask, best, step);
    if (other < error || (other == error && at < best)) {
      error = other;
      best = at;
    }
  }
  if (lane == 0)
    reinterpret_cast<uint16_t*>(panel_of(a, n / kPanel) + a.out.scales)[group * kPanel + (n & 7) * 2 + (n >> 3 & 1)] =
        m != m ? kNanScale : candidate_i4(m, best);
}

// The codes: a warp a block of 16 outputs and 32 inputs.
__global__ void __launch_bounds__(256) codes_kernel(QuantizeArgs a) {
  dependency_wait();
  const int lane = int(threadIdx.x & 31), blocks = a.out.blocks;
  const int64_t task = int64_t(blockIdx.x) * 8 + (threadIdx.x >> 5);
  const int panel = a.first / kPanel + int(task / blocks), b = int(task % blocks);
  if (panel >= (a.first + a.rows + kPanel - 1) / kPanel) return;
  unsigned char* to = panel_of(a, panel);
  const bool bytes = has_row_scales(a.out.dtype);
  float inverse[2];
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int row = (lane >> 2) + 8 * i;
    if (bytes) {
      const float d = reinterpret_cast<const float*>(to + a.out.scales)[row];
      inverse[i] = d == 0 || d != d ? 0.0f : __fdiv_rn(1.0f, d);
    } else {
      inverse[i] = inverse_i4(reinterpret_cast<const uint16_t*>(
          to + a.out.scales)[a.out.group_of(b) * kPanel + (row & 7) * 2 + (row >> 3)]);
    }
  }
  const auto code = [&](int h, int r, int e) -> uint32_t {
    const int k = b * kBlock + 16 * h + 2 * (lane & 3) + e + 8 * (r >> 1);
    const float x = input_at(a, panel * kPanel + (lane >> 2) + 8 * (r & 1), k), by = r & 1 ? inverse[1] : inverse[0];
    if (a.out.dtype == DType::i8) return uint8_t(code_i8(x, by));
    if (a.out.dtype == DType::f8_e4m3) return code_e4m3(x, by);
    return uint32_t(code_i4(x, by));
  };
  if (bytes) {
#pragma unroll 1
    for (int i = 0; i < 4; i++) {  // h, r >> 1
      uint32_t word = 0;
      for (int byte = 0; byte < 4; byte++) word |= code(i >> 1, (i & 1) * 2 + (byte & 1), byte >> 1) << (8 * byte);
      reinterpret_cast<uint32_t*>(to + int64_t(b) * 512)[lane * 4 + i] = word;
    }
    return;
  }
#pragma unroll 1
  for (int h = 0; h < 2; h++) {
    uint32_t word = 0;
    for (int i = 0; i < 8; i++) word |= code(h, i & 3, i >> 2) << (4 * (i & 3) + 16 * (i >> 2));
    reinterpret_cast<uint32_t*>(to + q4_offset(b, blocks, lane))[h] = word;
  }
}

// What of the scales belongs to no output or no block becomes zero, like the CPU's: a block a panel.
__global__ void __launch_bounds__(256) clear_scales_kernel(QuantizeArgs a) {
  dependency_wait();
  unsigned char* to = panel_of(a, int(blockIdx.x)) + a.out.scales;
  for (int i = int(threadIdx.x); i < int(a.out.panel_bytes - a.out.scales) / 4; i += 256)
    reinterpret_cast<uint32_t*>(to)[i] = 0;
}

constexpr int64_t kSlice = int64_t(64) << 20;  // bytes uploaded at once

}  // namespace

void quantize_weight(const Call& call, Context& context) {
  const QuantizeWeightArgs a = quantize_weight_args(call);
  if (a.N == 0 || a.K == 0) return;
  QuantizeArgs p{};
  p.type = a.src->dtype;
  p.permute = a.permute;
  p.out = weight_view(*a.out);
  const int64_t row_bytes = a.K * dtype_info(a.src->dtype).block_bytes;
  const int size = a.out->dtype == DType::i4_g128 ? kGroupInputs : kBlock, groups = int(div_up(a.K, size));
  launch(context, clear_scales_kernel, dim3(unsigned(p.out.panels)), dim3(256), 0, p);
  // Slices end between heads and between panels.
  int64_t unit = kPanel;
  while (a.permute && unit % a.permute) unit += kPanel;
  const bool host = a.src->device == DeviceKind::cpu;
  const int64_t step = host ? std::max(unit, kSlice / row_bytes / unit * unit) : a.N;
  for (int64_t n = 0; n < a.N; n += step) {
    p.first = int(n);
    p.rows = int(std::min(step, a.N - n));
    p.src = static_cast<const unsigned char*>(a.src->data) + n * row_bytes;
    if (host) p.src = static_cast<const unsigned char*>(context.upload(p.src, size_t(p.rows * row_bytes)));
    const int64_t panels = div_up(p.rows, kPanel), tasks = panels * p.out.blocks;
    if (has_row_scales(a.out->dtype)) launch(context, row_scales_kernel, dim3(unsigned(panels * 2)), dim3(256), 0, p);
    else
      launch(context, group_scales_kernel, dim3(unsigned(div_up(int64_t(p.rows) * groups, 16))), dim3(256),
             16 * (kGroupInputs + 1) * sizeof(float), p, size, groups);
    launch(context, codes_kernel, dim3(unsigned((tasks + 7) / 8)), dim3(256), 0, p);
  }
}

}  // namespace eyrie::cuda
