// quantize_weight: matrices of floats into fragment tiles of 8 or 4 bits (core/tiles.h), panel by panel. CUDA's has the same bits
// (cuda/quantize.cu): scales and codes come from single operations of IEEE 754 in a given order.
#include "core/quantize.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// Inputs [k0, k0 + 128) of a source row in fp32, zeros past its end. row: null past the last output.
EYRIE_INLINE void load_inputs(const Tensor& src, const uint8_t* row, int64_t k0, int64_t K, float* x) {
  const int n = row ? int(K - k0 < kGroupInputs ? K - k0 : kGroupInputs) : 0;
  for (int k = 0; k < n; k++) {
    if (src.dtype == DType::f32) {
      memcpy(x + k, row + (k0 + k) * 4, 4);
    } else {
      uint16_t bits;
      memcpy(&bits, row + (k0 + k) * 2, 2);
      x[k] = src.dtype == DType::f16 ? f16_to_float(bits) : bf16_to_float(bits);
    }
    x[k] = flushed(x[k]);
  }
  for (int k = n; k < kGroupInputs; k++) x[k] = 0;
}

// The 32 codes of each of 16 outputs as a block of nibbles.
EYRIE_INLINE void store_nibbles(const uint8_t (&q)[kPanel][kGroupInputs], int at, uint8_t* out) {
  for (int j = 0; j < 4; j++)
    for (int n = 0; n < kPanel; n++) {
      uint32_t dword = 0;
      for (int p = 0; p < 8; p++) dword |= uint32_t(q[n][at + 8 * j + 2 * (p % 4) + p / 4]) << (4 * p);
      memcpy(out + (j * kPanel + n) * 4, &dword, 4);
    }
}

}  // namespace

void quantize_weight(const Call& call, Team& team) {
  const auto a = quantize_weight_args(call);
  const DType dtype = a.out->dtype;
  const TileShape s = tile_shape(dtype, a.N, a.K);
  const int64_t row_bytes = a.K * dtype_info(a.src->dtype).block_bytes, groups = div_up(s.blocks, kGroupBlocks);
  const Range panels = team_range(team, s.panels);
  for (int64_t p = panels.begin; p < panels.end; p++) {
    const uint8_t* row[kPanel];
    for (int n = 0; n < kPanel; n++) {
      const int64_t i = p * kPanel + n;
      row[n] = i < a.N ? (const uint8_t*)a.src->data + source_row(i, a.permute) * row_bytes : nullptr;
    }
    uint8_t* panel = (uint8_t*)a.out->data + p * s.panel_bytes;
    if (s.scales) memset(panel + s.scales, 0, size_t(s.panel_bytes - s.scales));
    float x[kGroupInputs];
    RowScale scale[kPanel] = {};
    if (has_row_scales(dtype)) {
      for (int n = 0; n < kPanel; n++) {
        uint32_t top = 0;
        for (int64_t g = 0; g < groups; g++) {
          load_inputs(*a.src, row[n], g * kGroupInputs, a.K, x);
          for (int k = 0; k < kGroupInputs; k++) {
            const uint32_t bits = float_to_bits(x[k]) & 0x7fffffffu;
            top = bits > top ? bits : top;
          }
        }
        scale[n] = row_scale(top, dtype == DType::i8 ? 127.0f : 448.0f);
        ((float*)(panel + s.scales))[n] = scale[n].d;
      }
    }
    for (int64_t g = 0; g < groups; g++) {
      uint8_t q[kPanel][kGroupInputs];
      for (int n = 0; n < kPanel; n++) {
        load_inputs(*a.src, row[n], g * kGroupInputs, a.K, x);
        if (has_row_scales(dtype)) {
          for (int k = 0; k < kGroupInputs; k++)
            q[n][k] = dtype == DType::i8 ? uint8_t(code_i8(x[k], scale[n].inverse)) : code_e4m3(x[k], scale[n].inverse);
          continue;
        }
        const int size = dtype == DType::i4_g128 ? kGroupInputs : kBlock;
        for (int at = 0; at < kGroupInputs; at += size) {
          const int64_t place = dtype == DType::i4_g128 ? g : g * kGroupBlocks + at / kBlock;
          const uint16_t d = scale_i4(x + at, size);
          if (place < (dtype == DType::i4_g128 ? groups : s.blocks))
            ((uint16_t*)(panel + s.scales))[place * kPanel + n] = d;
          const float inverse = inverse_i4(d);
          for (int k = at; k < at + size; k++) q[n][k] = uint8_t(code_i4(x[k], inverse));
        }
      }
      for (int64_t b = g * kGroupBlocks; b < (g + 1) * kGroupBlocks && b < s.blocks; b++) {
        const int at = int(b % kGroupBlocks) * kBlock;
        uint8_t* out = panel + b * s.value_bytes;
        if (!has_row_scales(dtype)) {
          store_nibbles(q, at, out);
          continue;
        }
        for (int k = 0; k < kBlock; k++)
          for (int n = 0; n < kPanel; n++) out[k * kPanel + n] = q[n][at + k];
      }
    }
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
