// paged_attention: items of work (attention_plan.h), each a walk over the 128-token chunks of its context
// (attention_chunk.h), folded left to right.
#include "cpu/attention_plan.h"

namespace eyrie::cpu::EYRIE_LEVEL {

namespace {

constexpr int64_t kDirectItem = 8;  // packed rows up to which converting the chunk does not pay

// Scratch of one worker.
struct Scratch {
  float *q, *q_tile;  // [packed rows][D16], as they are and in the order of a key tile
  float *keys, *rows, *values, *p, *acc;
  float* state;  // [packed rows][E16 + 16]: acc, then max and sum
  const void *k[kChunk], *v[kChunk];  // rows of the chunk's tokens
  const void* next_k[kChunk];  // of the chunk after this one
  float k_scale[kChunk], v_scale[kChunk];  // of the chunk's tokens, where pages have 8 bits
};

// One pass over a chunk: which of its tokens are there, and how they are read.
struct Pass {
  int64_t start;  // first token of the chunk
  int begin, end;  // tokens with rows
  bool direct;
  bool prefetch, more;  // x.v now, x.next_k after it
};

// A row's part of a chunk.
struct Row {
  View view;
  int64_t token, head;  // query head
  int begin, end;
};

EYRIE_INLINE void fold_row(float* state, const float* acc, float m, float l, int64_t E16) {
  float &m0 = state[E16], &l0 = state[E16 + 1];
  if (m == -__builtin_inff()) return;  // nothing visible
  if (m0 == -__builtin_inff()) {
    memcpy(state, acc, size_t(E16) * sizeof(float));
    m0 = m;
    l0 = l;
    return;
  }
  const float top = m0 > m ? m0 : m;
  float x[16] = {m0 - top, m - top};
  v_store(x, v_exp(v_load(x)));
  const V16 a = v_set1(x[0]), b = v_set1(x[1]);
  for (int64_t e = 0; e < E16; e += 16) v_store(state + e, v_fma(v_load(state + e), a, v_mul(v_load(acc + e), b)));
  l0 = s_fma(l0, x[0], l * x[1]);
  m0 = top;
}

// Calls place(j, row) for the context's tokens start + j, j in [begin, end), of one kv head. Strides of `pages` in bytes.
template <class Place>
EYRIE_INLINE void walk_pages(const Plan& p, const Tensor& pages, const Item& item, int64_t start, int64_t begin,
                             int64_t end, Place place) {
  const int32_t* table = (const int32_t*)p.a.block_table->data + item.request * p.a.M;
  const int64_t bytes = dtype_info(pages.dtype).block_bytes, step = pages.stride[2] * bytes;
  for (int64_t j = begin; j < end;) {
    const int64_t token = start + j, in = token % p.a.S;
    const int64_t run = min64(end, j + p.a.S - in);
    const char* row = (const char*)pages.data +
                      (table[token / p.a.S] * pages.stride[0] + item.head * pages.stride[1]) * bytes + in * step;
    for (; j < run; j++, row += step) place(j, row);
  }
}

// Rows of the context's tokens start + [begin, end).
EYRIE_INLINE void page_rows(const Plan& p, const Tensor& pages, const Item& item, int64_t start, int64_t begin,
                            int64_t end, const void** rows) {
  walk_pages(p, pages, item, start, begin, end,
             [&](int64_t j, const char* row) __attribute__((always_inline)) { rows[j] = row; });
}

// Scales of 8-bit rows of those tokens.
__attribute__((noinline)) void page_scales(const Plan& p, bool values, const Item& item, int64_t start, int64_t begin,
                                           int64_t end, float* out) {
  const Tensor *head = values ? p.a.v_scale : p.a.k_scale, *plane = values ? p.a.v_scales : p.a.k_scales;
  if (head) {
    for (int64_t j = begin; j < end; j++) out[j] = ((const float*)head->data)[item.head];
    return;
  }
  walk_pages(p, *plane, item, start, begin, end, [&](int64_t j, const char* row) __attribute__((always_inline)) {
    out[j] = f16_to_float(*(const uint16_t*)row);
  });
}

// Keys (or values) of those tokens: their rows, and their scales where they have any.
EYRIE_INLINE void find_rows(const Plan& p, bool values, const Item& item, int64_t start, int64_t begin, int64_t end,
                            Scratch& x) {
  page_rows(p, values ? *p.a.v_pages : *p.a.k_pages, item, start, begin, end, values ? x.v : x.k);
  if (p.scaled) page_scales(p, values, item, start, begin, end, values ? x.v_scale : x.k_scale);
}

// The same for one row of a tree: token prefix + k of its context is its k-th ancestor.
EYRIE_INLINE void find_tree_rows(const Plan& p, bool values, const Item& item, const View& v, int64_t start,
                                 int64_t begin, int64_t end, Scratch& x) {
  find_rows(p, values, item, start, begin, min64(end, v.prefix - start), x);
  int64_t j = v.prefix - start;
  for (int64_t node = 0; node < 128 && j < end; node++) {
    if (!(v.ancestors[node / 32] >> (node % 32) & 1)) continue;
    if (j >= begin) find_rows(p, values, item, v.prefix + node - j, j, j + 1, x);
    j++;
  }
}

// Scales, soft-cap, ALiBi and mask of one row's scores over groups [g0, g1). k_scale: of the keys, or null.
EYRIE_INLINE void finish_scores(const Plan& p, const Row& row, int64_t start, int g0, int g1, const float* k_scale,
                                float* s) {
  const PagedAttentionArgs& a = p.a;
  const float scale = a.q_scale ? a.scale * ((const float*)a.q_scale->data)[row.token] : a.scale;
  const V16 f = v_set1(scale), cap = v_set1(a.softcap);
  for (int g = g0; g < g1; g++) {
    V16 x = v_load(s + 16 * g);
    if (k_scale) x = v_mul(x, v_load(k_scale + 16 * g));
    x = v_mul(x, f);
    if (a.softcap != 0) x = v_mul(cap, v_tanh(v_div(x, cap)));
    v_store(s + 16 * g, x);
  }
  if (a.alibi) {  // slope (j - position): the same softmax as slope j, but the rounding stays small where weights are large
    const V16 slope = v_set1(((const float*)a.alibi->data)[row.head]);
    for (int g = g0; g < g1; g++) {
      float distance[16];
      for (int i = 0; i < 16; i++) distance[i] = float(start + 16 * g + i - row.view.position);
      v_store(s + 16 * g, v_fma(slope, v_load(distance), v_load(s + 16 * g)));
    }
  }
  const float masked = -__builtin_inff();
  for (int j = 16 * g0; j < row.begin && j < 16 * g1; j++) s[j] = masked;
  for (int64_t j = max64(row.end, 16 * g0); j < 16 * g1; j++) s[j] = masked;
}

EYRIE_INLINE void values_rows(const Plan& p, const Scratch& x, bool direct, int rows, const float* probs, int begin,
                              int end, float* acc, const void* const* ahead) {
  if (begin >= end) return;
  if (direct) return values_direct_rows(p.type, rows, probs, x.v, begin, end, p.a.E, acc, p.E16, ahead, p.a.D);
  for (int64_t e = 0; e < p.E16; e += 16)
    values_tile_rows(rows, probs, x.values + e * kChunk, begin, end, acc + e, p.E16);
}

// Packed rows (at most kTileRows) with one chunk: writes each row's max, sum and acc (x.acc).
__attribute__((noinline)) void attend_rows(const Plan& p, const Scratch& x, const Item& item, const Pass& pass,
                                           int64_t packed, int count, float* m, float* l) {
  Row rows[kTileRows];
  int begin = kChunk, end = 0, common_begin = 0, common_end = kChunk;
  for (int r = 0; r < count; r++) {
    Row& row = rows[r];
    row.token = item.row + (packed + r) / p.G;
    row.head = item.head * p.G + (packed + r) % p.G;
    row.view = view_of(p, item.request, row.token);
    row.begin = int(max64(0, min64(kChunk, row.view.first - pass.start)));
    row.end = int(max64(row.begin, min64(kChunk, row.view.end - pass.start)));
    if (row.begin < row.end) {
      begin = int(min64(begin, row.begin));
      end = int(max64(end, row.end));
    }
    common_begin = int(max64(common_begin, row.begin));
    common_end = int(min64(common_end, row.end));
    m[r] = -__builtin_inff();
  }
  if (begin >= end) return;

  const int g0 = begin / 16, g1 = int(div_up(end, 16));
  float* s = x.p;
  for (int g = g0; g < g1; g++) {
    if (pass.direct)
      scores_direct_rows(p.type, count, x.q + packed * p.D16, p.D16, x.k + 16 * g, int(max64(0, pass.begin - 16 * g)),
                         int(min64(16, pass.end - 16 * g)), p.a.D, s + 16 * g, pass.prefetch ? x.v + 16 * g : nullptr,
                         p.a.E);
    else scores_tile_rows(count, x.q_tile + packed * p.D16, p.D16, x.keys + g * 16 * p.D16, p.D16 / 16, s + 16 * g);
  }
  for (int r = 0; r < count; r++) {
    if (rows[r].begin >= rows[r].end) continue;
    finish_scores(p, rows[r], pass.start, g0, g1, p.scaled ? x.k_scale : nullptr, s + r * kChunk);
    softmax_chunk(s + r * kChunk, g0, g1, &m[r], &l[r]);
    if (!p.scaled) continue;
    for (int g = g0; g < g1; g++) {
      float* at = s + r * kChunk + 16 * g;
      v_store(at, v_mul(v_load(at), v_load(x.v_scale + 16 * g)));
    }
  }

  // Values: the tokens that every row sees go together, those before and behind row by row; always ascending.
  memset(x.acc, 0, size_t(count) * size_t(p.E16) * sizeof(float));
  const void* const* ahead = pass.prefetch && pass.more ? x.next_k : nullptr;
  if (common_begin < common_end) {
    for (int r = 0; r < count; r++)
      values_rows(p, x, pass.direct, 1, s + r * kChunk, rows[r].begin, common_begin, x.acc + r * p.E16, nullptr);
    values_rows(p, x, pass.direct, count, s, common_begin, common_end, x.acc, ahead);
  }
  for (int r = 0; r < count; r++)
    values_rows(p, x, pass.direct, 1, s + r * kChunk, common_begin < common_end ? common_end : rows[r].begin,
                rows[r].end, x.acc + r * p.E16, nullptr);
}

// Copies the item's queries, padded: as they are, and in the order of a key tile.
EYRIE_INLINE void load_queries(const Plan& p, const Scratch& x, const Item& item) {
  const int64_t steps = p.D16 / 16;
  for (int64_t i = 0; i < item.packed; i++) {
    const float* q = (const float*)p.a.q->data + (item.row + i / p.G) * p.a.q->stride[0] +
                     (item.head * p.G + i % p.G) * p.a.q->stride[1];
    float *out = x.q + i * p.D16, *tile = x.q_tile + i * p.D16;
    memcpy(out, q, size_t(p.a.D) * sizeof(float));
    for (int64_t d = p.a.D; d < p.D16; d++) out[d] = 0;
    for (int n = 0; n < 16; n++)
      for (int64_t k = 0; k < steps; k++) tile[n * steps + k] = out[tree_leaf(n) + 16 * k];
  }
}

// Folds the packed rows [i, end) of one chunk into x.state, or leaves their results at `partials` (of the chunk).
EYRIE_INLINE void attend_chunk(const Plan& p, const Scratch& x, const Item& item, const Pass& pass, int64_t i,
                               int64_t end, float* partials) {
  const int64_t stride = p.E16 + 16;
  const int step = pass.direct ? kDirectRows : kTileRows;
  Pass turn = pass;
  for (; i < end; i += step, turn.prefetch = false) {
    float m[kTileRows], l[kTileRows];
    const int rows = int(min64(step, end - i));
    attend_rows(p, x, item, turn, i, rows, m, l);
    for (int r = 0; r < rows; r++) {
      if (!partials) {
        fold_row(x.state + (i + r) * stride, x.acc + r * p.E16, m[r], l[r], p.E16);
        continue;
      }
      float* out = partials + (i + r) * stride;
      memcpy(out, x.acc + r * p.E16, size_t(p.E16) * sizeof(float));
      out[p.E16] = m[r];
      out[p.E16 + 1] = l[r];
    }
  }
}

// A chunk with rows of a tree behind its prefix: every token has a context of its own.
EYRIE_INLINE void attend_tree_chunk(const Plan& p, Scratch& x, const Item& item, int64_t start, float* partials) {
  for (int64_t i = 0; i < item.tokens; i++) {
    const View v = view_of(p, item.request, item.row + i);
    Pass pass{start, int(max64(0, v.first - start)), int(max64(0, min64(kChunk, v.end - start))), true, false, false};
    if (pass.begin < pass.end) {
      for (int kv = 0; kv < 2; kv++) {
        if (v.ancestors) find_tree_rows(p, kv, item, v, start, pass.begin, pass.end, x);
        else find_rows(p, kv, item, start, pass.begin, pass.end, x);
      }
    }
    attend_chunk(p, x, item, pass, i * p.G, (i + 1) * p.G, partials);
  }
}

// Chunks [first, last) of an item (counted from its chunk0): folded into x.state, or left at `partials`.
__attribute__((noinline)) void attend_item(const Plan& p, Scratch& x, const Item& item, int64_t first, int64_t last,
                                           float* partials) {
  const int64_t stride = p.E16 + 16;
  const bool direct = item.packed <= kDirectItem;
  load_queries(p, x, item);
  if (!partials)
    for (int64_t i = 0; i < item.packed; i++) x.state[i * stride + p.E16] = -__builtin_inff();

  bool ready = false;  // next_k holds this chunk's rows
  for (int64_t c = first; c < last; c++) {
    const int64_t start = (item.chunk0 + c) * kChunk;
    float* out = partials ? partials + (c - first) * item.packed * stride : nullptr;
    if (start + kChunk > item.shared && item.shared < item.end) {
      attend_tree_chunk(p, x, item, start, out);
      continue;
    }
    Pass pass{start, int(max64(0, item.first - start)), int(min64(kChunk, item.end - start)), direct, direct, false};
    if (ready) {
      memcpy(x.k, x.next_k, sizeof x.k);
      if (p.scaled) page_scales(p, false, item, start, pass.begin, pass.end, x.k_scale);
    } else {
      find_rows(p, false, item, start, pass.begin, pass.end, x);
    }
    find_rows(p, true, item, start, pass.begin, pass.end, x);
    ready = pass.more = direct && c + 1 < last && start + kChunk < item.shared;
    if (pass.more) {
      // What the last chunk lacks points somewhere harmless: its rows are prefetched along with this chunk's.
      const int64_t end = min64(kChunk, item.shared - start - kChunk);
      page_rows(p, *p.a.k_pages, item, start + kChunk, 0, end, x.next_k);
      for (int64_t j = end; j < kChunk; j++) x.next_k[j] = x.next_k[0];
    }
    if (!direct) {
      for (int g = pass.begin / 16; g < int(div_up(pass.end, 16)); g++)
        key_tile_of(p.type, x.k + 16 * g, int(max64(0, pass.begin - 16 * g)), int(min64(16, pass.end - 16 * g)), p.a.D,
                    x.rows, x.keys + g * 16 * p.D16);
      value_tiles_of(p.type, x.v, pass.begin, pass.end, p.a.E, x.values);
    }
    attend_chunk(p, x, item, pass, 0, item.packed, out);
  }
}

// The sink joins the denominator, once; then acc / sum.
EYRIE_INLINE void write_item(const Plan& p, const Scratch& x, const Item& item) {
  for (int64_t i = 0; i < item.packed; i++) {
    const int64_t t = item.row + i / p.G, h = item.head * p.G + i % p.G;
    const float* state = x.state + i * (p.E16 + 16);
    const float m = state[p.E16];
    float l = state[p.E16 + 1], f = 1;
    if (p.a.sinks) {
      float z = ((const float*)p.a.sinks->data)[h];
      if (p.a.alibi) z -= ((const float*)p.a.alibi->data)[h] * float(view_of(p, item.request, t).position);
      const float top = m > z ? m : z;
      float e[16] = {m - top, z - top};
      v_store(e, v_exp(v_load(e)));
      f = e[0];
      l = s_fma(l, e[0], e[1]);
    }
    const V16 factor = v_set1(f / l);
    float* out = (float*)p.a.out->data + (t * p.a.H + h) * p.a.E;
    for (int64_t e = 0; e < p.a.E; e += 16) {
      const V16 y = v_mul(v_load(state + e), factor);
      if (e + 16 <= p.a.E) v_store(out + e, y);
      else v_store_n(out + e, y, int(p.a.E - e));
    }
  }
}

}  // namespace

void paged_attention(const Call& call, Team& team) {
  Plan p;
  p.a = paged_attention_args(call);
  if (p.a.T == 0 || p.a.H == 0) return;
  p.type = p.a.k_pages->dtype;
  p.scaled = p.a.k_scale || p.a.k_scales;
  p.G = p.a.H / p.a.J;
  p.D16 = div_up(p.a.D, 16) * 16;
  p.E16 = div_up(p.a.E, 16) * 16;
  p.tokens = max64(1, kItemRows / p.G);
  p.q_start = (const int32_t*)p.a.q_start->data;
  p.seq_lens = (const int32_t*)p.a.seq_lens->data;

  Item item;
  Shares shares{0, team.size, false};
  int64_t items = 0, widest = 1;
  {
    Walk w;
    for (; next_item(p, w, item); items++) widest = max64(widest, item.packed);
    shares.total = w.start;
  }
  shares.whole = items >= 16 * team.size;
  int64_t partial_rows = 0;
  if (team.size > 1 && !shares.whole) {
    Walk w;
    while (next_item(p, w, item)) assign(shares, w, item);
    partial_rows = w.partial;
  }
  const int64_t stride = p.E16 + 16;
  float* partials = partial_rows ? (float*)team.shared(size_t(partial_rows * stride) * sizeof(float)) : nullptr;

  const int64_t floats = 2 * widest * p.D16 + kChunk * p.D16 + 16 * p.D16 + kChunk * p.E16 + kTileRows * kChunk +
                         kTileRows * p.E16 + widest * stride;
  Scratch x;
  x.q = (float*)team.local(size_t(floats) * sizeof(float));
  x.q_tile = x.q + widest * p.D16;
  x.keys = x.q_tile + widest * p.D16;
  x.rows = x.keys + kChunk * p.D16;
  x.values = x.rows + 16 * p.D16;
  x.p = x.values + kChunk * p.E16;
  x.acc = x.p + kTileRows * kChunk;
  x.state = x.acc + kTileRows * p.E16;

  Walk w;
  Item open;
  bool unfinished = false;
  while (next_item(p, w, item)) {
    const int64_t worker = assign(shares, w, item);
    if (worker > team.id) break;
    if (worker == team.id) {
      attend_item(p, x, item, 0, item.own, nullptr);
      if (item.own == item.chunks) {
        write_item(p, x, item);
      } else {  // its share ends inside this item, which is therefore the last
        open = item;
        unfinished = true;
      }
    } else if (item.own < item.chunks) {
      const int64_t begin = max64(item.own, div_up(shares.begin(team.id) - item.start, item.packed));
      const int64_t end = team.id + 1 == team.size
                              ? item.chunks
                              : min64(item.chunks, div_up(shares.begin(team.id + 1) - item.start, item.packed));
      if (begin < end)
        attend_item(p, x, item, begin, end, partials + (item.partial + (begin - item.own) * item.packed) * stride);
    }
  }
  if (!partials) return;
  team.barrier();
  if (!unfinished) return;
  for (int64_t c = 0; c < open.chunks - open.own; c++)
    for (int64_t i = 0; i < open.packed; i++) {
      const float* part = partials + (open.partial + c * open.packed + i) * stride;
      fold_row(x.state + i * stride, part, part[p.E16], part[p.E16 + 1], p.E16);
    }
  write_item(p, x, open);
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
