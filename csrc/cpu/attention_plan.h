// How attention is cut into work. An item is a block of query rows of one request with one kv head: up to kItemRows packed
// rows (token, query head), so that they share the chunk's keys and values. Items are laid end to end, weighted by rows x
// chunks, and the line is cut into one equal share for each worker; a cut may fall between two chunks of an item. The chunks
// after the cut then leave partial results (max, sum, acc), which the owner of the item's first chunk folds in order. So how
// the work is cut does not show in the bits.
#pragma once
#include "core/tiles.h"
#include "cpu/attention_chunk.h"

namespace eyrie {

constexpr int64_t kItemRows = 96;

EYRIE_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }
EYRIE_INLINE int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

// What one query token sees: its context, tokens [first, end) of it. Behind the prefix, a tree's row has its ancestors
// one after the other for context, wherever their rows lie; so its bits are those of the same text without a tree.
struct View {
  int64_t position, first, end, prefix;
  const uint32_t* ancestors;  // null: no tree, the context is what is cached
};

struct Item {
  int64_t request, head;  // kv head
  int64_t row, tokens, packed;  // first row of q, tokens, tokens * G
  int64_t first, end;  // of the context of its rows
  int64_t shared;  // behind the context that all rows have in common: all of it, or the prefix of a tree
  int64_t chunk0, chunks;  // chunks with something visible
  int64_t own;  // leading chunks of the worker that starts the item
  int64_t partial;  // index of the first partial (in rows) among those of all items
  int64_t start;  // on the line of work
};

struct Plan {
  PagedAttentionArgs a;
  DType type;  // of the pages
  bool scaled;  // they have scales
  int64_t G, D16, E16;
  int64_t tokens;  // of an item
  const int32_t *q_start, *seq_lens;

  int64_t blocks(int64_t b) const { return div_up(q_start[b + 1] - q_start[b], tokens); }
};

EYRIE_INLINE int tree_depth(const uint32_t* w) {
  return __builtin_popcount(w[0]) + __builtin_popcount(w[1]) + __builtin_popcount(w[2]) + __builtin_popcount(w[3]);
}

EYRIE_INLINE const uint32_t* tree_row(const Plan& p, int64_t t) {
  if (!p.a.anc) return nullptr;
  const uint32_t* w = (const uint32_t*)p.a.anc->data + t * 4;
  return (w[0] | w[1] | w[2] | w[3]) ? w : nullptr;
}

__attribute__((noinline)) static View view_of(const Plan& p, int64_t b, int64_t t) {
  const int64_t n = p.q_start[b + 1] - p.q_start[b];
  View v;
  v.prefix = p.seq_lens[b] - n;
  v.ancestors = tree_row(p, t);
  v.position = v.prefix + (v.ancestors ? tree_depth(v.ancestors) - 1 : t - p.q_start[b]);
  v.first = 0;
  if (p.a.window > 0) v.first = max64(v.first, v.position - p.a.window + 1);
  if (p.a.chunk > 0) v.first = max64(v.first, v.position / p.a.chunk * p.a.chunk);
  v.end = v.position + 1;
  return v;
}

// Walks over all items in the order of the line. `next` is false behind the last.
struct Walk {
  int64_t b = 0, block = 0, head = 0, start = 0, partial = 0;
};

__attribute__((noinline)) static bool next_item(const Plan& p, Walk& w, Item& item) {
  while (w.b < p.a.B && w.block >= p.blocks(w.b)) {
    w.b++;
    w.block = 0;
  }
  if (w.b >= p.a.B) return false;
  item.request = w.b;
  item.head = w.head;
  item.row = p.q_start[w.b] + w.block * p.tokens;
  item.tokens = min64(p.tokens, p.q_start[w.b + 1] - item.row);
  item.packed = item.tokens * p.G;
  item.first = INT64_MAX;
  item.end = item.shared = 0;
  bool tree = false;
  for (int64_t t = item.row; t < item.row + item.tokens; t++) {
    const View v = view_of(p, w.b, t);
    item.first = min64(item.first, v.first);
    item.end = max64(item.end, v.end);
    item.shared = v.prefix;
    tree |= v.ancestors != nullptr;
  }
  if (!tree) item.shared = item.end;
  item.chunk0 = item.first / kChunk;
  item.chunks = div_up(item.end, kChunk) - item.chunk0;
  item.start = w.start;
  w.start += item.packed * item.chunks;
  if (++w.head == p.a.J) {
    w.head = 0;
    w.block++;
  }
  return true;
}

struct Shares {
  int64_t total, size;
  bool whole;  // items are not cut

  int64_t begin(int64_t worker) const { return total * worker / size; }
  int64_t worker_at(int64_t x) const {  // the last worker whose share begins at or before x
    int64_t w = x * size / (total > 0 ? total : 1);
    while (w + 1 < size && begin(w + 1) <= x) w++;
    while (w > 0 && begin(w) > x) w--;
    return w;
  }
};

// Worker of an item's first chunk; fills in how many chunks it keeps and where the partials of the others go.
EYRIE_INLINE int64_t assign(const Shares& s, Walk& w, Item& item) {
  const int64_t worker = s.worker_at(item.start);
  item.own = item.chunks;
  if (!s.whole && worker + 1 < s.size)
    item.own = min64(item.chunks, div_up(s.begin(worker + 1) - item.start, item.packed));
  item.partial = w.partial;
  w.partial += (item.chunks - item.own) * item.packed;
  return worker;
}

}  // namespace eyrie
