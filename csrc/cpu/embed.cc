// embed: rows of a packed table (core/tiles.h), scaled, plus learned positions.
#include "core/fp8.h"
#include "core/tiles.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// 32 inputs of output n of a panel, from block b. d q and d (q - 8) are exact in fp32 (11 + 8 bits at most), but for i8's and
// f8_e4m3's, which are rounded once.
EYRIE_INLINE void block_of_row(DType dtype, const TileShape& s, const uint8_t* panel, int64_t b, int n, float* out) {
  const uint8_t* block = panel + b * s.value_bytes;
  const int64_t group = dtype == DType::i4_g128 ? b / kGroupBlocks : b;
  const float d = has_row_scales(dtype) ? ((const float*)(panel + s.scales))[n]
                  : s.scales            ? f16_to_float(((const uint16_t*)(panel + s.scales))[group * kPanel + n])
                                        : 1.0f;
  const float m = s.mins ? f16_to_float(((const uint16_t*)(panel + s.mins))[b * kPanel + n]) : 0.0f;
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
      for (int k = 0; k < kBlock; k++) out[k] = d * e4m3_to_float(block[k * kPanel + n]);
      return;
    case DType::q8_0:
    case DType::i8:
      for (int k = 0; k < kBlock; k++) out[k] = d * float(((const int8_t*)block)[k * kPanel + n]);
      return;
    default:
      for (int k = 0; k < kBlock; k++) {
        const uint32_t dword = ((const uint32_t*)block)[k / 8 * kPanel + n];
        const float q = float(int((dword >> (4 * (k % 8 / 2 + k % 2 * 4))) & 15));
        out[k] = dtype == DType::q4_1 ? d * q + m : d * (q - 8.0f);
      }
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
