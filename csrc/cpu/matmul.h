// Products of activations with packed weights: one worker's share of a list of panels.
#pragma once
#include "cpu/matmul_tile.h"
#include "cpu/panels.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// Whole groups of blocks, so that a chunk begins one.
constexpr int64_t kChunkBlocks = 4;   // two panels unpacked: 16 KiB, half of L1
constexpr int64_t kChunkBytes = 8192;  // of each panel when two groups of rows read it packed
constexpr int64_t kScaleBlocks =
    32;  // whose scales are prepared at once for few rows: whole groups of kSuperBlocks, 8 KiB of each panel
constexpr int64_t kRowsAtOnce = 256;  // bounds the accumulators of two panels: 32 KiB

// For each panel i of `panels` and each group of rows: sink(i, first row, R, acc [R][16], that of the panel before). Panels are
// taken two by two from panels.begin on, so only every second one has such a panel.
//
// One or two groups of rows: weights become floats in registers, twice for two groups, which is cheaper than through memory. More
// groups: a few blocks of two panels become floats in L1, then all rows pass by.
template <class Sink>
EYRIE_INLINE void multiply(Team& team, const PanelList& list, Range panels, const Activations& x, const Sink& sink) {
  const bool many = x.groups > 2;
  const int64_t at_once = kRowsAtOnce / kGroup;
  float* unpacked = many ? (float*)team.local(2 * kChunkBlocks * kBlock * kPanel * 4) : nullptr;
  float* scales = (float*)team.local(2 * 4 * kScaleBlocks * kPanel * 4);  // [panel][d, m][block][half]
  float* accs = (float*)team.local(size_t((x.groups < at_once ? x.groups : at_once) * kGroup * 2 * kPanel) * 4);

  for (int64_t g0 = 0; g0 < x.groups; g0 += at_once) {
    const int64_t g1 = g0 + at_once < x.groups ? g0 + at_once : x.groups, first = group_begin(x, g0);
    for (int64_t i = panels.begin; i < panels.end; i += 2) {
      const TwoPanels now = two_panels(list, i, panels.end);
      const TwoPanels next = i + 2 < panels.end ? two_panels(list, i + 2, panels.end) : now;
      const int count = now.count;
      const Matrix* const* m = now.m;
      Source s = {};
      bool prepared = false;
      for (int p = 0; p < count; p++) prepared |= has_prepared_scales(m[p]->dtype);
      const int64_t chunk = many            ? kChunkBlocks
                            : prepared      ? kScaleBlocks
                            : x.groups == 1 ? x.blocks
                                            : kChunkBytes / m[0]->shape.value_bytes;
      const bool alike = count == 2 && m[0]->dtype == m[1]->dtype;
      const int64_t all = (group_begin(x, g1) - first) * 2 * kPanel;
      for (int64_t k = 0; k < all; k += kPanel) v_store(accs + k, v_zero());

      for (int64_t b = 0; b < x.blocks; b += chunk) {
        const int64_t blocks = x.blocks - b < chunk ? x.blocks - b : chunk;
        s.left = x.blocks - b;
        for (int p = 0; p < count; p++) {
          const DType t = m[p]->dtype;
          const TileShape& shape = m[p]->shape;
          s.values[p] = now.data[p] + b * shape.value_bytes;
          s.next[p] = next.data[p];
          if (many && t != DType::f32) {
            float* to = unpacked + p * kChunkBlocks * kBlock * kPanel;
            unpack(t, s.values[p], blocks, to);
            s.values[p] = (const uint8_t*)to;
          }
          if (t == DType::i4_g128) s.d[p] = (const float*)(now.data[p] + shape.scales + b / kGroupBlocks * kPanel * 2);
          fetch_next(now, next, p, b, chunk, x.blocks, many);
          if (!has_prepared_scales(t)) continue;
          float *d = scales + p * 4 * kScaleBlocks * kPanel, *least = d + 2 * kScaleBlocks * kPanel;
          prepare_scales(t, shape, now.data[p], b, blocks, d, least);
          s.d[p] = d;
          s.m[p] = least;
        }
        for (int64_t g = g0; g < g1; g++) {
          const int64_t r0 = group_begin(x, g), at = r0 * row_floats(x.blocks);
          const int R = int(group_begin(x, g + 1) - r0);
          float* acc = accs + (r0 - first) * 2 * kPanel;
          for (int p = 0; p < count;) {
            const int P = p == 0 && alike ? panels_of_tile(R) : 1;
            const float* values = (has_nibbles(m[p]->dtype) ? x.nibbles : x.plain) + at;
            const float* sums = values + R * x.blocks * kBlock;
            sums = has_halves(m[p]->dtype) ? sums + R * (x.blocks + 2 * b) : sums + R * b;
            Source from = s;
            if (p == 1) {
              from.values[0] = s.values[1];
              from.next[0] = s.next[1];
              from.d[0] = s.d[1];
              from.m[0] = s.m[1];
            }
            tile_of(m[p]->dtype, many, R, P)(from, blocks, values + b * R * kBlock, sums, acc + p * R * kPanel);
            p += P;
          }
        }
      }
      for (int64_t g = g0; g < g1; g++) {
        const int64_t r0 = group_begin(x, g);
        const int R = int(group_begin(x, g + 1) - r0);
        for (int p = 0; p < count; p++) {
          float* sums = accs + ((r0 - first) * 2 + p * R) * kPanel;
          scale_rows(now, p, R, sums);
          sink(i + p, r0, R, sums, sums - R * kPanel);
        }
      }
    }
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
