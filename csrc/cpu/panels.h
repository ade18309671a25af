// Lists of panels of packed weights that share their inputs: what one launch multiplies.
#pragma once
#include "cpu/matmul_scales.h"

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

// Panels i and i + 1 of a list, or i alone, twice, at the end.
struct TwoPanels {
  int count;
  const Matrix* m[2];
  const uint8_t* data[2];
};

EYRIE_INLINE TwoPanels two_panels(const PanelList& l, int64_t i, int64_t end) {
  TwoPanels t{end - i < 2 ? 1 : 2, {}, {}};
  for (int p = 0; p < 2; p++) {
    const PanelAt at = panel_at(l, i + (p < t.count ? p : 0));
    t.m[p] = &l.m[at.matrix];
    t.data[p] = t.m[p]->data + at.panel * t.m[p]->shape.panel_bytes;
  }
  return t;
}

// Fetches into L2 what follows the scales of `blocks` blocks from b on, of `all`: of the same panel, or of the next one; `values` too, where no
// tile does so.
EYRIE_INLINE void fetch_next(const TwoPanels& now, const TwoPanels& next, int p, int64_t b, int64_t blocks, int64_t all,
                             bool values) {
  const bool same = b + blocks < all;
  const TwoPanels& of = same ? now : next;
  const int64_t from = same ? b + blocks : 0, bytes = of.m[p]->shape.value_bytes;
  fetch_scales(of.m[p]->dtype, of.m[p]->shape, of.data[p], from, blocks);
  for (int64_t i = 0; values && i < blocks * bytes; i += 64) __builtin_prefetch(of.data[p] + from * bytes + i, 0, 2);
}

// Multiplies the finished sums [R][16] of panel p by the scales of its outputs, in formats that have such.
EYRIE_INLINE void scale_rows(const TwoPanels& t, int p, int R, float* sums) {
  if (!has_row_scales(t.m[p]->dtype)) return;
  const V16 d = v_load((const float*)(t.data[p] + t.m[p]->shape.scales));
  for (int r = 0; r < R; r++) v_store(sums + r * kPanel, v_mul(d, v_load(sums + r * kPanel)));
}

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
