// Products of bf16 activations with packed weights in pairs (pairs_tile.h): one worker's share of a list of panels. The same two functions as
// cpu/matmul.h has, prepare() and multiply(), for levels with such products.
#pragma once
#include "cpu/pairs_rows.h"
#include "cpu/pairs_tile.h"
#include "cpu/panels.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// Whether a launch is done in pairs.
EYRIE_INLINE bool fits(const PanelList& l, int activations, int64_t) {
  return activations == 0 && fits_pairs(l.m[0].dtype) && fits_pairs(l.m[1].dtype) && fits_pairs(l.m[2].dtype);
}

constexpr int64_t kChunkBlocks = 8;  // two panels unpacked: 16 KiB, half of L1
constexpr int64_t kScaleBlocks = 32;  // whose scales are prepared at once for few rows: 8 KiB of each panel
constexpr int64_t kRowsAtOnce = 256;  // bounds the accumulators of two panels: 32 KiB

// For each panel i of `panels` and each group of rows: sink(i, first row, R, acc [R][16], that of the panel before). Panels are
// taken two by two from panels.begin on, so only every second one has such a panel.
//
// One or two groups of rows: weights become pairs in registers. More groups: a few blocks of two panels become pairs in L1, then all rows pass
// by.
template <class Sink>
EYRIE_INLINE void multiply(Team& team, const PanelList& list, Range panels, const Activations& x, const Sink& sink) {
  const bool many = x.groups > 2;
  const int64_t at_once = kRowsAtOnce / kGroup;
  uint8_t* unpacked = many ? (uint8_t*)team.local(2 * kChunkBlocks * PairsBf16::kBytes) : nullptr;
  float* scales = (float*)team.local(2 * 4 * kScaleBlocks * kPanel * 4);  // [panel][d, m][block][half]
  float* accs = (float*)team.local(size_t((x.groups < at_once ? x.groups : at_once) * kGroup * 2 * kPanel) * 4);

  for (int64_t g0 = 0; g0 < x.groups; g0 += at_once) {
    const int64_t g1 = g0 + at_once < x.groups ? g0 + at_once : x.groups, first = group_begin(x, g0);
    for (int64_t i = panels.begin; i < panels.end; i += 2) {
      const TwoPanels now = two_panels(list, i, panels.end);
      const TwoPanels next = i + 2 < panels.end ? two_panels(list, i + 2, panels.end) : now;
      const int count = now.count;
      const Matrix* const* m = now.m;
      bool prepared = false;
      for (int p = 0; p < count; p++) prepared |= has_prepared_scales(m[p]->dtype);
      const bool alike = count == 2 && m[0]->dtype == m[1]->dtype;
      const int64_t chunk = many ? kChunkBlocks : prepared || x.groups > 1 ? kScaleBlocks : x.blocks;
      const int64_t all = (group_begin(x, g1) - first) * 2 * kPanel;
      for (int64_t k = 0; k < all; k += kPanel) v_store(accs + k, v_zero());

      for (int64_t b = 0; b < x.blocks; b += chunk) {
        const int64_t blocks = x.blocks - b < chunk ? x.blocks - b : chunk;
        PairSource s[2] = {};
        for (int p = 0; p < count; p++) {
          const DType t = m[p]->dtype;
          s[p].table = &table_of(t);
          s[p].values[0] = now.data[p] + b * m[p]->shape.value_bytes;
          s[p].next[0] = next.data[p];
          s[p].left = x.blocks - b;
          if (many && t != DType::bf16) {
            uint8_t* to = unpacked + p * kChunkBlocks * PairsBf16::kBytes;
            unpack_pairs(t, s[p].values[0], blocks, to);
            s[p].values[0] = to;
          }
          fetch_next(now, next, p, b, chunk, x.blocks, many);
          if (!has_prepared_scales(t)) continue;
          float *d = scales + p * 4 * kScaleBlocks * kPanel, *least = d + 2 * kScaleBlocks * kPanel;
          prepare_scales(t, m[p]->shape, now.data[p], b, blocks, d, least);
          s[p].d[0] = d;
          s[p].m[0] = least;
        }
        if (alike) {
          s[0].values[1] = s[1].values[0];
          s[0].next[1] = s[1].next[0];
          s[0].d[1] = s[1].d[0];
          s[0].m[1] = s[1].m[0];
        }
        for (int64_t g = g0; g < g1; g++) {
          const int64_t r0 = group_begin(x, g);
          const int R = int(group_begin(x, g + 1) - r0);
          const uint32_t* values = x.pairs + r0 * row_words(x.blocks);
          const float* sums = (const float*)(values + R * x.blocks * kBlock / 2);
          float* acc = accs + (r0 - first) * 2 * kPanel;
          for (int p = 0; p < count; p += alike ? 2 : 1) {
            const DType t = m[p]->dtype;
            const float* of = has_halves(t) ? sums + R * (x.blocks + 2 * b) : sums + R * b;
            pair_tile_of(t, many, R, alike ? 2 : 1)(s[p], blocks, values + b * R * kBlock / 2, of,
                                                    acc + p * R * kPanel);
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
