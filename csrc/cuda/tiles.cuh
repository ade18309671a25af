// Where a packed weight [N,K] keeps its values on a CUDA device. Panels, sizes and planes are those of core/tiles.h; inside a
// block of 16 outputs x 32 inputs the values lie in the order in which the tensor cores want their A operand (gpu.cuh), so that
// each lane's 16-byte loads are its fragments and a warp's are contiguous. With register r of lane l and element e covering row
// l/4 + 8(r&1) and column 2(l%4) + e + 8(r>>1) of half h (inputs 16h..16h+15):
//
//   f32         block 2048 B: [h][r>>1][l][r&1][e] floats
//   f16, bf16   block 1024 B: [h][l][r][e]
//   q8_0        block  512 B: [l][h][r>>1] words; byte (r&1) + 2e, two's complement
//   i8          as q8_0
//   f8_e4m3     as q8_0, bytes of core/fp8.h
//   i4_g128     as q4_0
//   q4_0, q4_1  two blocks 512 B: [l][block][h] words; nibble r + 4e. A last block without a pair: [l][h], 256 B
//   d, m        [block][i] of two halves: rows i and i + 8; i4_g128: [group of four blocks][i]; i8, f8_e4m3: [row] floats
#pragma once
#include "core/fp8.h"
#include "core/tiles.h"
#include "cuda/gpu.cuh"

namespace eyrie::cuda {

struct WeightView {  // passed by value to kernels
  const unsigned char* data;
  DType dtype;
  int n, k;  // outputs, inputs
  int blocks;  // of 32 inputs
  int panels;  // of 16 outputs
  int64_t panel_bytes, scales, mins;

  // Of a panel's scales, that of block b.
  GPU_INLINE int group_of(int b) const { return dtype == DType::i4_g128 ? b / kGroupBlocks : b; }
};

inline WeightView weight_view(const Tensor& w) {
  const TileShape s = tile_shape(w.dtype, w.shape[0], w.shape[1]);
  return {static_cast<const unsigned char*>(w.data),
          w.dtype,
          int(w.shape[0]),
          int(w.shape[1]),
          int(s.blocks),
          int(s.panels),
          s.panel_bytes,
          s.scales,
          s.mins};
}

// What a finished sum of output n is multiplied with, where a format has a scale for each output.
GPU_INLINE float output_scale(const WeightView& w, int n) {
  return reinterpret_cast<const float*>(w.data + int64_t(n >> 4) * w.panel_bytes + w.scales)[n & 15];
}

// Byte offset inside a panel of the value words of block b for lane l: q4 formats (two words).
GPU_INLINE int64_t q4_offset(int b, int blocks, int lane) {
  const bool alone = b == blocks - 1 && (blocks & 1);
  return int64_t(b >> 1) * 512 + (alone ? lane * 8 : lane * 16 + (b & 1) * 8);
}

// One value, for gathers and the exact path's tests: w[row n][column k] in fp32.
GPU_INLINE float weight_at(const WeightView& w, int n, int k) {
  const unsigned char* panel = w.data + int64_t(n >> 4) * w.panel_bytes;
  const int row = n & 15, b = k >> 5, h = k >> 4 & 1, c = k & 15;
  const int r = (row >> 3) + 2 * (c >> 3), e = c & 1, lane = (row & 7) * 4 + ((c & 7) >> 1);
  if (w.dtype == DType::f32)
    return reinterpret_cast<const float*>(panel +
                                          int64_t(b) * 2048)[((h * 2 + (r >> 1)) * 32 + lane) * 4 + (r & 1) * 2 + e];
  if (w.dtype == DType::f16 || w.dtype == DType::bf16) {
    const uint16_t bits = reinterpret_cast<const uint16_t*>(panel + int64_t(b) * 1024)[(h * 32 + lane) * 8 + r * 2 + e];
    return w.dtype == DType::f16 ? to_float(f16{bits}) : to_float(bf16{bits});
  }
  const int pair = (row & 7) * 2 + (row >> 3);
  if (has_row_scales(w.dtype)) {
    const unsigned char q = panel[int64_t(b) * 512 + lane * 16 + (h * 2 + (r >> 1)) * 4 + (r & 1) + 2 * e];
    const float d = reinterpret_cast<const float*>(panel + w.scales)[row];
    return __fmul_rn(d, w.dtype == DType::i8 ? float(int8_t(q)) : e4m3_to_float(q));
  }
  const float d = to_float(reinterpret_cast<const f16*>(panel + w.scales)[w.group_of(b) * 16 + pair]);
  if (w.dtype == DType::q8_0) {
    const int8_t q =
        reinterpret_cast<const int8_t*>(panel + int64_t(b) * 512)[lane * 16 + (h * 2 + (r >> 1)) * 4 + (r & 1) + 2 * e];
    return d * float(q);
  }
  const uint32_t word = reinterpret_cast<const uint32_t*>(panel + q4_offset(b, w.blocks, lane))[h];
  const float q = float(word >> (4 * r + 16 * e) & 15u);
  if (w.dtype != DType::q4_1) return d * (q - 8.0f);
  const float m = to_float(reinterpret_cast<const f16*>(panel + w.mins)[b * 16 + pair]);
  return fmaf(d, q, m);
}

}  // namespace eyrie::cuda
