// pack_weight: row-major matrices, as files hold them, into fragment tiles (core/tiles.h). Loading a model is this kernel: blocks are
// transposed 16 bytes at a time in vectors of the compiler, which every 64-bit CPU has.
#include "cpu/pack_codes.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

template <class T>
struct Lanes {
  static constexpr int kCount = 16 / sizeof(T);
  typedef T V __attribute__((vector_size(16)));
};
using U64 = Lanes<uint64_t>::V;

EYRIE_INLINE Lanes<uint8_t>::V zip_low(Lanes<uint8_t>::V a, Lanes<uint8_t>::V b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
EYRIE_INLINE Lanes<uint8_t>::V zip_high(Lanes<uint8_t>::V a, Lanes<uint8_t>::V b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
EYRIE_INLINE Lanes<uint16_t>::V zip_low(Lanes<uint16_t>::V a, Lanes<uint16_t>::V b) {
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
}
EYRIE_INLINE Lanes<uint16_t>::V zip_high(Lanes<uint16_t>::V a, Lanes<uint16_t>::V b) {
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
}
EYRIE_INLINE Lanes<uint32_t>::V zip_low(Lanes<uint32_t>::V a, Lanes<uint32_t>::V b) {
  return __builtin_shufflevector(a, b, 0, 4, 1, 5);
}
EYRIE_INLINE Lanes<uint32_t>::V zip_high(Lanes<uint32_t>::V a, Lanes<uint32_t>::V b) {
  return __builtin_shufflevector(a, b, 2, 6, 3, 7);
}

// Transposes a square of L rows of L lanes: zipping row i with row i + L/2 rotates the bits of (row, lane) by one, and log2(L)
// such steps exchange them.
template <class T>
EYRIE_INLINE void transpose(typename Lanes<T>::V* r) {
  constexpr int L = Lanes<T>::kCount;
#pragma GCC unroll 4
  for (int step = 1; step < L; step *= 2) {
    typename Lanes<T>::V t[L];
#pragma GCC unroll 16
    for (int i = 0; i < L / 2; i++) {
      t[2 * i] = zip_low(r[i], r[i + L / 2]);
      t[2 * i + 1] = zip_high(r[i], r[i + L / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < L; i++) r[i] = t[i];
  }
}

// `count` elements of each of 16 rows (a multiple of the lanes) to [count][16].
template <class T>
EYRIE_INLINE void transpose_rows(const uint8_t* const (&row)[kPanel], int count, uint8_t* out) {
  constexpr int L = Lanes<T>::kCount;
  for (int k = 0; k < count; k += L)
    for (int n = 0; n < kPanel; n += L) {
      typename Lanes<T>::V r[L];
#pragma GCC unroll 16
      for (int i = 0; i < L; i++) memcpy(&r[i], row[n + i] + k * sizeof(T), 16);
      transpose<T>(r);
#pragma GCC unroll 16
      for (int i = 0; i < L; i++) memcpy(out + ((k + i) * kPanel + n) * sizeof(T), &r[i], 16);
    }
}

// The 32 nibbles of a row (low ones: elements 0..15, high ones: 16..31) as the dwords of j = 0, 2, 1, 3.
EYRIE_INLINE U64 nibble_dwords(const uint8_t* quants) {
  U64 q, d[2];
  memcpy(&q, quants, 16);
#pragma GCC unroll 2
  for (int high = 0; high < 2; high++) {
    U64 v = (high ? q >> 4 : q) & 0x0f0f0f0f0f0f0f0f;  // bytes k0 … k7
    v |= v >> 12;  // k0k2 k1k3 . . k4k6 k5k7 . .
    const U64 even = v & 0x000000ff000000ff, odd = v & 0x0000ff000000ff00;
    d[high] = ((even | even >> 24) & 0xffff) | ((odd << 8 | odd >> 16) & 0xffff0000);  // k0k2 k4k6 k1k3 k5k7
  }
  return d[0] | d[1] << 32;
}

// Block b of 16 rows of 4-bit blocks, HEAD bytes of d (and m) before the nibbles.
template <int HEAD>
EYRIE_INLINE void pack_nibbles(const uint8_t* const (&block)[kPanel], uint8_t* out) {
  for (int n = 0; n < kPanel; n += 4) {
    Lanes<uint32_t>::V r[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
      const U64 v = nibble_dwords(block[n + i] + HEAD);
      memcpy(&r[i], &v, 16);
    }
    transpose<uint32_t>(r);
    memcpy(out + n * 4, &r[0], 16);
    memcpy(out + 128 + n * 4, &r[1], 16);
    memcpy(out + 64 + n * 4, &r[2], 16);
    memcpy(out + 192 + n * 4, &r[3], 16);
  }
}

EYRIE_INLINE void pack_halves(const uint8_t* const (&block)[kPanel], int at, uint16_t* out) {
  for (int n = 0; n < kPanel; n++) memcpy(out + n, block[n] + at, 2);
}

// Where block b of each row starts (block_bytes: of 32 inputs). Rows past the last one read zeros.
EYRIE_INLINE void blocks_of(const uint8_t* const (&row)[kPanel], int64_t b, int64_t block_bytes,
                            const uint8_t* (&block)[kPanel]) {
  alignas(16) static const uint8_t zeros[128] = {};
  for (int n = 0; n < kPanel; n++) block[n] = row[n] ? row[n] + b * block_bytes : zeros;
}

// The last block of rows whose length is not a multiple of 32, padded with zeros.
EYRIE_INLINE void pad_blocks(const uint8_t* (&block)[kPanel], size_t bytes, uint8_t (&padded)[kPanel][128]) {
  memset(padded, 0, sizeof padded);
  for (int n = 0; n < kPanel; n++) {
    memcpy(padded[n], block[n], bytes);
    block[n] = padded[n];
  }
}

// A panel of the formats that pack_codes.h takes apart. Blocks are whole: K is a multiple of what a block holds.
EYRIE_INLINE void pack_panel(DType t, const TileShape& s, const uint8_t* const (&row)[kPanel], uint8_t* panel) {
  const DTypeInfo info = dtype_info(t);
  const TileFormat f = tile_format(t);
  const int parts = info.block / kBlock, at = scale_offset(t);
  memset(panel + s.blocks * s.value_bytes, 0, size_t(s.panel_bytes - s.blocks * s.value_bytes));
  for (int64_t first = 0; first < s.blocks; first += parts)
    for (int n = 0; n < kPanel; n++) {
      const uint8_t* block = row[n] ? row[n] + first / parts * info.block_bytes : nullptr;
      for (int part = 0; part < parts; part++) {
        const int64_t b = first + part;
        uint8_t* values = panel + b * s.value_bytes + n * 4;
        uint8_t q[kBlock], rows[6][8] = {}, c[2] = {};
        if (block) {
          block_codes(t, block, part, q);
          nibble_rows(t, q, rows);
          if (f.codes) part_codes(t, block, part, c);
        }
        for (int v = 0; v < s.value_bytes / 64; v++) {
          const uint32_t dword = nibble_dword(rows[v]);
          memcpy(values + v * 64, &dword, 4);
        }
        for (int i = 0; i < f.codes; i++) panel[s.codes + (b * f.codes + i) * kPanel + n] = c[i];
      }
      if (!s.scales || !block) continue;
      const int64_t place = (first / parts * kPanel + n) * 2;
      memcpy(panel + s.scales + place, block + at, 2);
      if (!s.mins) continue;
      uint16_t m;
      memcpy(&m, block + at + 2, 2);
      if (parts > 1) m ^= 0x8000;  // subtracted in the file, added here
      memcpy(panel + s.mins + place, &m, 2);
    }
}

// Whether pack_panel packs it.
EYRIE_INLINE bool has_code_blocks(DType t) { return t >= DType::q5_0 && t <= DType::mxfp4; }

}  // namespace

void pack_weight(const Call& call, Team& team) {
  const auto a = pack_weight_args(call);
  const DType dtype = a.out->dtype;
  const DTypeInfo info = dtype_info(dtype);
  const TileShape s = tile_shape(dtype, a.N, a.K);
  const int64_t row_bytes = a.K / info.block * info.block_bytes, block_bytes = kBlock / info.block * info.block_bytes;
  const int64_t tail = info.block == 1 ? a.K % kBlock * info.block_bytes : 0;
  const Range panels = team_range(team, s.panels);
  for (int64_t p = panels.begin; p < panels.end; p++) {
    const uint8_t* row[kPanel];
    for (int i = 0; i < kPanel; i++) {
      const int64_t n = p * kPanel + i;
      row[i] = n < a.N ? (const uint8_t*)a.src->data + source_row(n, a.permute) * row_bytes : nullptr;
    }
    uint8_t* panel = (uint8_t*)a.out->data + p * s.panel_bytes;
    if (has_code_blocks(dtype)) {
      pack_panel(dtype, s, row, panel);
      continue;
    }
    for (int64_t b = 0; b < s.blocks; b++) {
      const uint8_t* block[kPanel];
      uint8_t padded[kPanel][128];
      blocks_of(row, b, block_bytes, block);
      if (tail && b == s.blocks - 1) pad_blocks(block, size_t(tail), padded);
      uint8_t* out = panel + b * s.value_bytes;
      if (s.scales) pack_halves(block, 0, (uint16_t*)(panel + s.scales) + b * kPanel);
      if (s.mins) pack_halves(block, 2, (uint16_t*)(panel + s.mins) + b * kPanel);
      switch (dtype) {
        case DType::f32: transpose_rows<uint32_t>(block, kBlock, out); break;
        case DType::f16: transpose_rows<uint16_t>(block, kBlock, out); break;
        case DType::bf16: transpose_rows<uint32_t>(block, kBlock / 2, out); break;  // pairs of k
        case DType::q8_0:
          for (int n = 0; n < kPanel; n++) block[n] += 2;
          transpose_rows<uint8_t>(block, kBlock, out);
          break;
        case DType::q4_0: pack_nibbles<2>(block, out); break;
        default: pack_nibbles<4>(block, out); break;
      }
    }
    if (s.scales) {  // the planes are multiples of 64 bytes
      const int64_t used = s.blocks * kPanel * 2, plane = div_up(used, 64) * 64;
      memset(panel + s.scales + used, 0, size_t(plane - used));
      if (s.mins) memset(panel + s.mins + used, 0, size_t(plane - used));
    }
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
