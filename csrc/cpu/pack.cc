// pack_weight: row-major matrices, as files hold them, into fragment tiles (core/tiles.h).
#include "core/tiles.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// The source row of each output of a panel; null past the last one.
struct Rows {
  const uint8_t* row[kPanel];
};

EYRIE_INLINE Rows rows_of(const uint8_t* src, int64_t row_bytes, int64_t n0, int64_t N, int permute) {
  Rows r;
  for (int i = 0; i < kPanel; i++) {
    int64_t n = n0 + i;
    if (permute > 0) {  // within a head: 0,2,4,…,1,3,5,…
      const int64_t at = n % permute, half = permute / 2;
      n = n - at + (at < half ? 2 * at : 2 * (at - half) + 1);
    }
    r.row[i] = n0 + i < N ? src + n * row_bytes : nullptr;
  }
  return r;
}

// The elements of T of a block, [32 k][16 n]; n is the number of inputs left (32 or fewer at the end of a row).
template <class T>
EYRIE_INLINE void pack_elements(const Rows& rows, int64_t k0, int n, uint8_t* to) {
  T* out = (T*)to;
  for (int i = 0; i < kPanel; i++) {
    T v[kBlock] = {};
    if (rows.row[i]) memcpy(v, rows.row[i] + k0 * sizeof(T), n * sizeof(T));
    for (int k = 0; k < kBlock; k++) out[k * kPanel + i] = v[k];
  }
}

EYRIE_INLINE void pack_bf16(const Rows& rows, int64_t k0, int n, uint8_t* to) {
  uint32_t* out = (uint32_t*)to;
  for (int i = 0; i < kPanel; i++) {
    uint32_t v[kBlock / 2] = {};
    if (rows.row[i]) memcpy(v, rows.row[i] + k0 * 2, n * 2);
    for (int k = 0; k < kBlock / 2; k++) out[k * kPanel + i] = v[k];
  }
}

EYRIE_INLINE void pack_q8(const Rows& rows, int64_t b, uint8_t* to, uint16_t* scales) {
  for (int i = 0; i < kPanel; i++) {
    uint8_t v[34] = {};
    if (rows.row[i]) memcpy(v, rows.row[i] + b * 34, 34);
    memcpy(scales + i, v, 2);
    for (int k = 0; k < kBlock; k++) to[k * kPanel + i] = v[2 + k];
  }
}

// Eight nibbles k0..k7 in the low halves of eight bytes into the dword k0 k2 k4 k6 | k1 k3 k5 k7 (low word first, low nibble first).
EYRIE_INLINE uint32_t nibble_dword(uint64_t v) {
  v |= v >> 12;              // bytes 0, 1 of each half: k0 k2, k1 k3
  v &= 0x0000ffff0000ffff;   // a0 a1 . . b0 b1 . .
  const uint32_t a = uint32_t(v), b = uint32_t(v >> 32);
  return (a & 0xff) | (b & 0xff) << 8 | (a & 0xff00) << 8 | (b & 0xff00) << 16;
}

EYRIE_INLINE void pack_q4(const Rows& rows, int64_t b, int block_bytes, uint8_t* to, uint16_t* scales, uint16_t* mins) {
  uint32_t* out = (uint32_t*)to;
  const uint64_t low = 0x0f0f0f0f0f0f0f0f;
  for (int i = 0; i < kPanel; i++) {
    uint8_t v[20] = {};
    if (rows.row[i]) memcpy(v, rows.row[i] + b * block_bytes, block_bytes);
    uint64_t q[2];  // low nibbles are elements 0..15, high ones 16..31
    memcpy(q, v + block_bytes - 16, 16);
    memcpy(scales + i, v, 2);
    if (mins) memcpy(mins + i, v + 2, 2);
    out[0 * kPanel + i] = nibble_dword(q[0] & low);
    out[1 * kPanel + i] = nibble_dword(q[1] & low);
    out[2 * kPanel + i] = nibble_dword(q[0] >> 4 & low);
    out[3 * kPanel + i] = nibble_dword(q[1] >> 4 & low);
  }
}

}  // namespace

void pack_weight(const Call& call, Team& team) {
  const auto a = pack_weight_args(call);
  const DType dtype = a.out->dtype;
  const TileShape s = tile_shape(dtype, a.N, a.K);
  const DTypeInfo info = dtype_info(dtype);
  const int64_t row_bytes = a.K / info.block * info.block_bytes;
  const Range panels = team_range(team, s.panels);
  for (int64_t p = panels.begin; p < panels.end; p++) {
    const Rows rows = rows_of((const uint8_t*)a.src->data, row_bytes, p * kPanel, a.N, a.permute);
    uint8_t* panel = (uint8_t*)a.out->data + p * s.panel_bytes;
    uint16_t *scales = (uint16_t*)(panel + s.scales), *mins = s.mins ? (uint16_t*)(panel + s.mins) : nullptr;
    for (int64_t b = 0; b < s.blocks; b++) {
      uint8_t* to = panel + b * s.value_bytes;
      const int64_t k0 = b * kBlock;
      const int n = int(a.K - k0 < kBlock ? a.K - k0 : kBlock);
      switch (dtype) {
        case DType::f32: pack_elements<uint32_t>(rows, k0, n, to); break;
        case DType::f16: pack_elements<uint16_t>(rows, k0, n, to); break;
        case DType::bf16: pack_bf16(rows, k0, n, to); break;
        case DType::q8_0: pack_q8(rows, b, to, scales + b * kPanel); break;
        default: pack_q4(rows, b, info.block_bytes, to, scales + b * kPanel, mins ? mins + b * kPanel : nullptr); break;
      }
    }
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
