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

constexpr int kMaxPanels = 16;               // panels of a cache block
constexpr int64_t kCacheBlock = 192 * 1024;  // bytes of their weights: a part of L2
constexpr int64_t kChunk = 96 / kGroup;      // blocks of inputs: a group's chunk is 12 KiB, a part of L1

// For each panel i of `panels` and each group of rows: sink(i, first row, R, acc [R][16]). Panels come in ascending order in cache
// blocks of an even number, so with a list in turn the panel before an odd one has its result at acc - R * 16.
template <class Sink>
EYRIE_INLINE void multiply(const PanelList& list, Range panels, const Activations& x, const Sink& sink) {
  alignas(64) float acc[kMaxPanels * kGroup * kPanel];
  const uint8_t* data[kMaxPanels];
  const Matrix* m[kMaxPanels];

  int64_t widest = list.m[0].shape.panel_bytes;
  for (const Matrix& k : list.m) widest = k.shape.panel_bytes > widest ? k.shape.panel_bytes : widest;
  int64_t step = 2, chunk = x.blocks;
  if (x.groups > 1) {
    step = kCacheBlock / widest / 2 * 2;
    step = step < 2 ? 2 : step > kMaxPanels ? kMaxPanels : step;
    chunk = div_up(x.blocks, div_up(x.blocks, kChunk));
  }

  for (int64_t i0 = panels.begin; i0 < panels.end; i0 += step) {
    const int count = int(panels.end - i0 < step ? panels.end - i0 : step);
    for (int i = 0; i < count; i++) {
      const PanelAt at = panel_at(list, i0 + i);
      m[i] = &list.m[at.matrix];
      data[i] = m[i]->data + at.panel * m[i]->shape.panel_bytes;
    }
    for (int64_t g = 0; g < x.groups; g++) {
      const int64_t r0 = group_begin(x, g), at = r0 * row_floats(x.blocks);
      const int R = int(group_begin(x, g + 1) - r0);
      for (int i = 0; i < count * R; i++) v_store(acc + i * kPanel, v_zero());
      for (int64_t b0 = 0; b0 < x.blocks; b0 += chunk) {
        const int64_t b1 = b0 + chunk < x.blocks ? b0 + chunk : x.blocks;
        for (int i = 0; i < count;) {
          const int P = R == 1 && kPairs && i + 1 < count && m[i]->dtype == m[i + 1]->dtype ? 2 : 1;
          const float* values = (has_nibbles(m[i]->dtype) ? x.nibbles : x.plain) + at;
          const float* sums = values + R * x.blocks * kBlock;
          tile_of(m[i]->dtype, R, P)(data + i, m[i]->shape, b0, b1, values, sums, acc + i * R * kPanel);
          i += P;
        }
      }
      for (int i = 0; i < count; i++) sink(i0 + i, r0, R, acc + i * R * kPanel);
    }
  }
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
