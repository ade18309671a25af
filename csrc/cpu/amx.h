// Products of bf16 activations with packed weights on a tile unit: one worker's share of a list of panels. The same two functions as cpu/matmul.h has, prepare()
// and multiply(), and the same bits: one multiplication of tiles is the `e + o` of a block of 16 rows and 16 outputs (cpu/matmul_tile.h).
#pragma once
#include "cpu/amx_blocks.h"
#include "cpu/pairs_rows.h"
#include "cpu/panels.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// Fewer rows are the level below's: a multiplication takes its 16 cycles for one row as for 16, and weights with scales would have to go through memory. (Where it was
// tried, on an Intel Xeon, multiply-adds were faster for one row of every format with scales, in q8_0 for two; these kernels themselves were not measured.)
constexpr int64_t kFewRows = 2;

// Whether a launch is done in tiles. i4_g128 folds groups of blocks.
EYRIE_INLINE bool fits_tiles(DType t) { return fits_pairs(t) && t != DType::i4_g128; }
EYRIE_INLINE bool fits(const PanelList& l, int activations, int64_t rows) {
  return rows > kFewRows && activations == 0 && fits_tiles(l.m[0].dtype) && fits_tiles(l.m[1].dtype) &&
         fits_tiles(l.m[2].dtype);
}

constexpr int64_t kChunkBlocks = 8;  // two panels of bf16: 16 KiB, a third of L1
constexpr int64_t kRowsAtOnce = 256;  // bounds the accumulators of two panels: 32 KiB

// For each panel i of `panels` and each group of rows: sink(i, first row, R, acc [R][16], that of the panel before). Panels are
// taken two by two from panels.begin on, so only every second one has such a panel.
//
// A few blocks of two panels become bf16 in L1 (those that are bf16 stay where they are), then all rows pass by.
template <class Sink>
EYRIE_INLINE void multiply(Team& team, const PanelList& list, Range panels, const Activations& x, const Sink& sink) {
  if (x.rows == 0) return;
  const int64_t rows = stored_rows(x, 0), at_once = kRowsAtOnce / kGroup;
  const int64_t a_block = rows * kBlock * 2;  // bytes
  uint8_t* unpacked = (uint8_t*)team.local(2 * kChunkBlocks * PairsBf16::kBytes);
  float* scales = (float*)team.local(2 * 4 * kChunkBlocks * kPanel * 4);  // [panel][d, m][block][half]
  // [group][panel][rows][16]
  float* accs = (float*)team.local(size_t((x.groups < at_once ? x.groups : at_once) * 2 * rows * kPanel) * 4);
  TileShapes shapes{int(rows)};
  const auto pairs_of = [&](int64_t g) { return x.pairs + stored_before(x, g) * row_words(x.blocks); };

  for (int64_t g0 = 0; g0 < x.groups; g0 += at_once) {
    const int64_t g1 = g0 + at_once < x.groups ? g0 + at_once : x.groups;
    const auto acc_of = [&](int64_t g, int p) { return accs + ((g - g0) * 2 + p) * rows * kPanel; };
    for (int64_t i = panels.begin; i < panels.end; i += 2) {
      const TwoPanels now = two_panels(list, i, panels.end);
      const TwoPanels next = i + 2 < panels.end ? two_panels(list, i + 2, panels.end) : now;
      const int count = now.count;
      const Matrix* const* m = now.m;
      for (int64_t b = 0; b < x.blocks; b += kChunkBlocks) {
        const int64_t blocks = x.blocks - b < kChunkBlocks ? x.blocks - b : kChunkBlocks;
        TileWeights w[2] = {};
        for (int p = 0; p < count; p++) {
          const DType t = m[p]->dtype;
          w[p].values = now.data[p] + b * m[p]->shape.value_bytes;
          if (t != DType::bf16) {
            uint8_t* to = unpacked + p * kChunkBlocks * PairsBf16::kBytes;
            unpack_pairs(t, w[p].values, blocks, to);
            w[p].values = to;
          }
          fetch_next(now, next, p, b, kChunkBlocks, x.blocks, true);
          if (!has_prepared_scales(t)) continue;
          float *d = scales + p * 4 * kChunkBlocks * kPanel, *least = d + 2 * kChunkBlocks * kPanel;
          prepare_scales(t, m[p]->shape, now.data[p], b, blocks, d, least);
          w[p].d = d;
          w[p].m = least;
        }
        const bool plain = !w[0].d && !w[1].d && count == 2;
        if (plain) {
          shapes.whole();
          for (int64_t g = g0; g < g1; g += 2) {
            const int G = g + 1 < g1 ? 2 : 1;
            const uint32_t* a[2] = {pairs_of(g) + b * a_block / 4, nullptr};
            float* c[4] = {acc_of(g, 0), acc_of(g, 1), nullptr, nullptr};
            if (G == 2) {
              a[1] = pairs_of(g + 1) + b * a_block / 4;
              c[2] = acc_of(g + 1, 0);
              c[3] = acc_of(g + 1, 1);
            }
            (G == 2 ? add_blocks<2, 2> : add_blocks<1, 2>)({w[0].values, w[1].values}, {a[0], a[1]}, a_block, blocks, c,
                                                           b == 0);
          }
          continue;
        }
        for (int p = 0; p < count; p++) {
          const DType t = m[p]->dtype;
          if (has_halves(t)) shapes.halves();
          else shapes.whole();
          for (int64_t g = g0; g < g1; g++) {
            const uint32_t* a = pairs_of(g) + b * a_block / 4;
            float* c[4] = {acc_of(g, p), nullptr, nullptr, nullptr};
            if (!w[p].d) {
              add_blocks<1, 1>({w[p].values, nullptr}, {a, nullptr}, a_block, blocks, c, b == 0);
              continue;
            }
            const float* sums = (const float*)(pairs_of(g) + x.blocks * a_block / 4);
            sums += has_halves(t) ? rows * (x.blocks + 2 * b) : rows * b;
            fold_blocks_of(has_nibbles(t), has_halves(t), int(rows))(w[p], a, a_block, blocks, sums, c[0], b == 0);
          }
        }
      }
      for (int64_t g = g0; g < g1; g++) {
        const int64_t r0 = group_begin(x, g);
        const int R = int(group_begin(x, g + 1) - r0);
        for (int p = 0; p < count; p++) {
          float* sums = acc_of(g, p);
          scale_rows(now, p, R, sums);
          sink(i + p, r0, R, sums, p ? acc_of(g, 0) : nullptr);
        }
      }
    }
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
