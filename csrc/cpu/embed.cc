// embed: rows of a packed table (core/tiles.h), scaled, plus learned positions.
#include "core/codes.h"
#include "core/fp8.h"
#include "core/tiles.h"
#include "cpu/matmul_scales.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// The code of input k of output n: nibble p of slice j, and the bits above it (core/tiles.h).
EYRIE_INLINE int code_of(const uint8_t* block, int bytes, int n, int k) {
  const int j = k / 8, shift = 4 * (k % 8 / 2 + k % 2 * 4);
  const auto nibble = [&](int v) { return int(((const uint32_t*)block)[v * kPanel + n] >> shift) & 15; };
  if (bytes < 256) {
    const int low = nibble(j / 2) >> (j % 2 * 2) & 3;
    return bytes == 128 ? low : low | (nibble(2) >> j & 1) << 2;
  }
  if (bytes == 320) return nibble(j) | (nibble(4) >> j & 1) << 4;
  if (bytes == 384) return nibble(j) | (nibble(4 + j / 2) >> (j % 2 * 2) & 3) << 4;
  return nibble(j);
}

// 32 inputs of output n of a panel, from block b on. d q + m and d (q - 8) are exact in fp32 up to the last operation.
EYRIE_INLINE void block_of_row(DType dtype, const TileShape& s, const uint8_t* panel, int64_t b, int n, float* out) {
  const uint8_t* block = panel + b * s.value_bytes;
  float one = 1;  // of an output; formats that prepare_scales knows have d and m below
  if (has_row_scales(dtype)) one = ((const float*)(panel + s.scales))[n];
  if (dtype == DType::i4_g128) one = f16_to_float(((const uint16_t*)(panel + s.scales))[b / kGroupBlocks * kPanel + n]);
  float d[2 * kPanel], m[2 * kPanel] = {};
  if (has_prepared_scales(dtype)) prepare_scales(dtype, s, panel, b, 1, d, m);
  const auto half = [&](int k) { return (has_halves(dtype) ? k / 16 * kPanel : 0) + n; };
  switch (dtype) {
    case DType::f32:
      for (int k = 0; k < kBlock; k++) out[k] = ((const float*)block)[k * kPanel + n];
      return;
    case DType::f16:
      for (int k = 0; k < kBlock; k++) out[k] = f16_to_float(((const uint16_t*)block)[k * kPanel + n]);
      return;
    case DType::bf16:
      for (int k = 0; k < kBlock; k++)
        out[k] = bf16_to_float(((const uint16_t*)block)[(k / 2 * kPanel + n) * 2 + k % 2]);
      return;
    case DType::f8_e4m3:
      for (int k = 0; k < kBlock; k++) out[k] = one * e4m3_to_float(block[k * kPanel + n]);
      return;
    case DType::i8:
      for (int k = 0; k < kBlock; k++) out[k] = one * float(((const int8_t*)block)[k * kPanel + n]);
      return;
    case DType::q8_0:
      for (int k = 0; k < kBlock; k++) out[k] = d[n] * float(((const int8_t*)block)[k * kPanel + n]);
      return;
    case DType::i4_g128:
      for (int k = 0; k < kBlock; k++) out[k] = one * float(code_of(block, 256, n, k) - 8);
      return;
    case DType::iq4_nl:
    case DType::iq4_xs:
    case DType::mxfp4:
      for (int k = 0; k < kBlock; k++)
        out[k] = d[n] * (dtype == DType::mxfp4 ? kFp4Values : kIq4Values)[code_of(block, 256, n, k)];
      return;
    case DType::q4_0:
    case DType::q5_0:
    case DType::q3_k:
    case DType::q6_k: {
      const int zero = dtype == DType::q3_k ? 4 : dtype == DType::q4_0 ? 8 : dtype == DType::q5_0 ? 16 : 32;
      for (int k = 0; k < kBlock; k++) out[k] = d[half(k)] * float(code_of(block, int(s.value_bytes), n, k) - zero);
      return;
    }
    default:
      for (int k = 0; k < kBlock; k++)
        out[k] = d[half(k)] * float(code_of(block, int(s.value_bytes), n, k)) + m[half(k)];
  }
}

}  // namespace

void embed(const Call& call, Team& team) {
  const auto a = embed_args(call);
  const TileShape s = tile_shape(a.table->dtype, a.V, a.D);
  const int32_t* ids = (const int32_t*)a.ids->data;
  const Range mine = team_range(team, a.T * s.blocks);
  for (int64_t i = mine.begin; i < mine.end; i++) {
    const int64_t t = i / s.blocks, b = i % s.blocks, k0 = b * kBlock, id = ids[t];
    float row[kBlock];
    block_of_row(a.table->dtype, s, (const uint8_t*)a.table->data + id / kPanel * s.panel_bytes, b, int(id % kPanel),
                 row);
    const float* pos = a.pos ? (const float*)a.pos->data + ((const int32_t*)a.positions->data)[t] * a.D + k0 : nullptr;
    float* out = (float*)a.out->data + t * a.D + k0;
    const int n = int(a.D - k0 < kBlock ? a.D - k0 : kBlock);
    for (int k = 0; k < n; k++) out[k] = pos ? a.scale * row[k] + pos[k] : a.scale * row[k];
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
