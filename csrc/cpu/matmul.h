// Products of activations with packed weights: one worker's share of a list of panels.
#pragma once
#include "cpu/matmul_tile.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

struct Matrix {
  const uint8_t* data;
  DType dtype;
  int64_t N;
  TileShape shape;
};

EYRIE_INLINE Matrix matrix_of(const Tensor& w) {
  const int64_t N = w.shape[0], K = w.shape[1];
  return {(const uint8_t*)w.data, w.dtype, N, tile_shape(w.dtype, N, K)};
}

// The panels of up to three matrices over the same inputs: one matrix after the other, or panel by panel in turn (two
// matrices of one size). `count` panels.
struct PanelList {
  Matrix m[3];
  bool in_turn;
  int64_t count;
};

EYRIE_INLINE PanelList list_of(const Tensor& w) {
  const Matrix m = matrix_of(w);
  return {{m, m, m}, false, m.shape.panels};
}
EYRIE_INLINE PanelList in_turn(const Tensor& w, const Tensor& v) {
  const Matrix m = matrix_of(w);
  return {{m, matrix_of(v), m}, true, 2 * m.shape.panels};
}
EYRIE_INLINE PanelList one_after_the_other(const Tensor& u, const Tensor& v, const Tensor& w) {
  const PanelList l{{matrix_of(u), matrix_of(v), matrix_of(w)}, false, 0};
  return {{l.m[0], l.m[1], l.m[2]}, false, l.m[0].shape.panels + l.m[1].shape.panels + l.m[2].shape.panels};
}
EYRIE_INLINE bool any_nibbles(const PanelList& l) {
  return has_nibbles(l.m[0].dtype) || has_nibbles(l.m[1].dtype) || has_nibbles(l.m[2].dtype);
}
EYRIE_INLINE bool any_halves(const PanelList& l) {
  return has_halves(l.m[0].dtype) || has_halves(l.m[1].dtype) || has_halves(l.m[2].dtype);
}
EYRIE_INLINE bool all_nibbles(const PanelList& l) {
  return has_nibbles(l.m[0].dtype) && has_nibbles(l.m[1].dtype) && has_nibbles(l.m[2].dtype);
}

struct PanelAt {
  int matrix;
  int64_t panel;
};

EYRIE_INLINE PanelAt panel_at(const PanelList& l, int64_t i) {
  if (l.in_turn) return {int(i % 2), i / 2};
  const int64_t first = l.m[0].shape.panels, second = l.m[1].shape.panels;
  if (i < first) return {0, i};
  if (i < first + second) return {1, i - first};
  return {2, i - first - second};
}

// Whole groups of blocks, so that a chunk begins one.
constexpr int64_t kChunkBlocks = 4;   // two panels unpacked: 16 KiB, half of L1
constexpr int64_t kChunkBytes = 8192;  // of each panel when two groups of rows read it packed
constexpr int64_t kScaleBlocks =
    32;  // whose scales are prepared at once for few rows: whole groups of kSuperBlocks, 8 KiB of each panel
constexpr int64_t kRowsAtOnce = 256;  // bounds the accumulators of two panels: 32 KiB

// From block b of a panel on.
EYRIE_INLINE void point_at(Source& s, int p, const Matrix& m, const uint8_t* panel, int64_t b, const uint8_t* values) {
  s.values[p] = values ? values : panel + b * m.shape.value_bytes;
  s.scales[p] = (const uint16_t*)(panel + m.shape.scales) + (m.dtype == DType::i4_g128 ? b / kGroupBlocks : b) * kPanel;
  s.mins[p] = (const uint16_t*)(panel + m.shape.mins) + b * kPanel;
}

// For each panel i of `panels` and each group of rows: sink(i, first row, R, acc [R][16]). Panels are taken two by two from
// panels.begin on, so with a list in turn the panel before an odd one has its result at acc - R * 16.
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
      const int count = panels.end - i < 2 ? 1 : 2;
      const Matrix* m[2];
      const uint8_t* panel[2];
      Source s = {};
      for (int p = 0; p < count; p++) {
        const PanelAt at = panel_at(list, i + p);
        m[p] = &list.m[at.matrix];
        panel[p] = m[p]->data + at.panel * m[p]->shape.panel_bytes;
      }
      const bool prepared[2] = {has_prepared_scales(m[0]->dtype, many),
                                count == 2 && has_prepared_scales(m[1]->dtype, many)};
      const int64_t chunk = many                         ? kChunkBlocks
                            : prepared[0] || prepared[1] ? kScaleBlocks
                            : x.groups == 1              ? x.blocks
                                                         : kChunkBytes / m[0]->shape.value_bytes;
      const bool alike = count == 2 && m[0]->dtype == m[1]->dtype;
      const int64_t all = (group_begin(x, g1) - first) * 2 * kPanel;
      for (int64_t k = 0; k < all; k += kPanel) v_store(accs + k, v_zero());

      for (int64_t b = 0; b < x.blocks; b += chunk) {
        const int64_t blocks = x.blocks - b < chunk ? x.blocks - b : chunk;
        for (int p = 0; p < count; p++) {
          float* to = many && m[p]->dtype != DType::f32 ? unpacked + p * kChunkBlocks * kBlock * kPanel : nullptr;
          point_at(s, p, *m[p], panel[p], b, (const uint8_t*)to);
          if (to) unpack(m[p]->dtype, panel[p] + b * m[p]->shape.value_bytes, blocks, to);
          if (!prepared[p]) continue;
          float *d = scales + p * 4 * kScaleBlocks * kPanel, *least = d + 2 * kScaleBlocks * kPanel;
          prepare_scales(m[p]->dtype, m[p]->shape, panel[p], b, blocks, d, least);
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
              from.scales[0] = s.scales[1];
              from.mins[0] = s.mins[1];
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
          if (has_row_scales(m[p]->dtype)) {
            const V16 d = v_load((const float*)(panel[p] + m[p]->shape.scales));
            for (int r = 0; r < R; r++) v_store(sums + r * kPanel, v_mul(d, v_load(sums + r * kPanel)));
          }
          sink(i + p, r0, R, sums);
        }
      }
    }
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
