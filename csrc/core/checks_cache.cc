// Values of ops on the paged cache, and of trees: lengths, slots, pages, ancestors, scales.
#include <vector>

#include "core/check_words.h"
#include "core/tiles.h"

namespace eyrie::checks {
namespace {

struct Scales {
  const Tensor *k_scale, *v_scale, *k_scales, *v_scales;
};

// Scales are given when the pages' dtype needs them, and only then.
void check_scales(const char* op, const Tensor& pages, const Scales& s, bool values, bool takes_static = true) {
  const DType t = pages.dtype;
  const auto demand = [&](const char* argument, const Tensor* scale, bool needed) {
    const std::string kind = std::string(dtype_info(t).name) + " pages";
    if (needed && !scale) fail(op, std::string(argument) + " is missing: " + kind + " need it");
    if (!needed && scale) fail(op, std::string(argument) + " is given, but " + kind + " have none; pass null");
  };
  demand("k_scale", s.k_scale, takes_static && t == DType::f8_e4m3);
  demand("v_scale", s.v_scale, takes_static && t == DType::f8_e4m3);
  demand("k_scales", s.k_scales, t == DType::i8);
  demand("v_scales", s.v_scales, t == DType::i8);
  if (!values || !s.k_scale) return;
  for (const Tensor* scale : {s.k_scale, s.v_scale})
    for (int64_t j = 0; j < scale->shape[0]; j++) {
      const float x = floats(scale)[j];
      if (!(x >= 1e-30f && x <= 1e30f))
        fail_at(op, scale == s.k_scale ? "k_scale" : "v_scale", j, x, "a scale from 1e-30 to 1e30");
    }
}

int bits(const uint32_t* w) {
  return __builtin_popcount(w[0]) + __builtin_popcount(w[1]) + __builtin_popcount(w[2]) + __builtin_popcount(w[3]);
}

// Bits of a tree row: the row itself, and rows before it.
void check_tree_row(const char* op, const uint32_t* w, int64_t t, int64_t i, int64_t n) {
  if (!bits(w)) return;
  if (n > 128) fail_at(op, "anc", t, double(n), "at most 128 rows in a request with a tree");
  const bool self = w[i / 32] >> (i % 32) & 1;
  for (int64_t j = i + 1; j < 128; j++)
    if (w[j / 32] >> (j % 32) & 1)
      fail_at(op, "anc", t, double(j), "ancestors at or before row " + std::to_string(i) + " of the request");
  if (!self) fail_at(op, "anc", t, double(w[i / 32]), "bit " + std::to_string(i) + " set: a row is its own ancestor");
}

// Trees whose parents come before their children.
void check_trees(const char* op, const Tensor* parents_, const Tensor* num_nodes, int64_t B, int64_t Q) {
  if (B) in_range(op, "num_nodes", num_nodes, "a number of nodes", 1, Q + 1);
  for (int64_t b = 0; b < B; b++) {
    const int32_t* parents = ints(parents_) + b * Q;
    if (parents[0] != -1) fail_at(op, "parents", b, 0, parents[0], "-1, the root");
    for (int32_t i = 1; i < ints(num_nodes)[b]; i++)
      if (parents[i] < 0 || parents[i] >= i)
        fail_at(op, "parents", b, i, parents[i], between("a node before it,", 0, i));
  }
}

}  // namespace

void check_kv_write(const Call& call, bool values) {
  const auto a = kv_write_args(call);
  check_scales("kv_write", *a.k_pages, {a.k_scale, a.v_scale, a.k_scales, a.v_scales}, values);
  if (!values) return;
  in_range("kv_write", "slots", a.slots, "a slot (or a negative number)", INT32_MIN, a.N * a.S);
}
void check_paged_attention(const Call& call, bool values) {
  const auto a = paged_attention_args(call);
  const char* op = "paged_attention";
  if (a.J == 0 || a.H % a.J)
    fail(op, "q has H=" + std::to_string(a.H) + " heads, expected a multiple of the " + std::to_string(a.J) +
                 " of k_pages");
  check_scales(op, *a.k_pages, {a.k_scale, a.v_scale, a.k_scales, a.v_scales}, values);
  scalar_in(op, "scale", a.scale, -kFloatMax, kFloatMax);
  scalar_in(op, "window", a.window, 0, INT32_MAX);
  scalar_in(op, "chunk", a.chunk, 0, INT32_MAX);
  scalar_in(op, "softcap", a.softcap, 0, kFloatMax);
  if (!values) return;
  const int32_t *q_start = ints(a.q_start), *lens = ints(a.seq_lens);
  if (q_start[0] != 0) fail_at(op, "q_start", 0, q_start[0], "0");
  for (int64_t b = 0; b < a.B; b++)
    if (q_start[b + 1] < q_start[b])
      fail_at(op, "q_start", b + 1, q_start[b + 1], "at least " + std::to_string(q_start[b]));
  if (q_start[a.B] != a.T) fail_at(op, "q_start", a.B, q_start[a.B], "T=" + std::to_string(a.T) + ", the rows of q");
  for (int64_t b = 0; b < a.B; b++) {
    const int64_t n = q_start[b + 1] - q_start[b];
    if (n == 0) continue;
    if (lens[b] < n || lens[b] > a.M * a.S)
      fail_at(op, "seq_lens", b, lens[b],
              between("a length", n, a.M * a.S + 1) + " (rows of the request, slots of its pages)");
    const int64_t position = lens[b] - n;  // of the first row: what it cannot see, nobody can
    int64_t first = 0;
    if (a.window > 0 && position - a.window + 1 > first) first = position - a.window + 1;
    if (a.chunk > 0 && position / a.chunk * a.chunk > first) first = position / a.chunk * a.chunk;
    for (int64_t m = first / a.S; m <= (lens[b] - 1) / a.S; m++) {
      const int32_t page = ints(a.block_table)[b * a.M + m];
      if (page < 0 || page >= a.N) fail_at(op, "block_table", b, m, page, between("a page", 0, a.N));
    }
    if (a.anc)
      for (int64_t i = 0; i < n; i++)
        check_tree_row(op, static_cast<const uint32_t*>(a.anc->data) + (q_start[b] + i) * 4, q_start[b] + i, i, n);
  }
}

void check_fused_qkv(const Call& call, bool values) {
  const auto a = fused_qkv_args(call);
  const char* op = "fused_qkv";
  equal(op, "the number of rows of wq", a.Q, a.H * a.D, "H x D, the heads of q");
  equal(op, "the number of rows of wk", a.KD, a.J * a.D, "J x D, the heads of k_pages");
  equal(op, "the number of rows of wv", a.VD, a.J * a.E, "J x E, the heads of v_pages");
  check_scales(op, *a.k_pages, {a.k_scale, a.v_scale, a.k_scales, a.v_scales}, values);
  check_activations(op, a.activations);
  if (a.rope) {
    if (a.R % 2 || a.R > a.D)
      fail(op, "rope has R=" + std::to_string(a.R) + ", expected an even number up to D=" + std::to_string(a.D));
    if (values) in_range(op, "rows", a.rows, "a row of rope", 0, a.P);
  }
  if (values) in_range(op, "slots", a.slots, "a slot (or a negative number)", INT32_MIN, a.N * a.S);
}

void check_tree_prepare(const Call& call, bool values) {
  const auto a = tree_prepare_args(call);
  const char* op = "tree_prepare";
  if (a.Q > 128) fail(op, "parents has Q=" + std::to_string(a.Q) + ", expected at most 128 nodes");
  if (a.page_size < 1) fail(op, "page_size is " + std::to_string(a.page_size) + ", expected 1 or more");
  if (!values || a.Q == 0) return;
  check_trees(op, a.parents, a.num_nodes, a.B, a.Q);
  for (int64_t b = 0; b < a.B; b++) {
    const int64_t base = ints(a.base)[b];
    if (base < 0 || base + a.Q > a.M * a.page_size)
      fail_at(op, "base", b, double(base), between("a length whose nodes have pages,", 0, a.M * a.page_size - a.Q + 1));
    for (int64_t i = base / a.page_size; i * a.page_size < base + a.Q; i++)
      if (const int32_t page = ints(a.block_table)[b * a.M + i];
          page < 0 || (int64_t(page) + 1) * a.page_size > INT32_MAX)
        fail_at(op, "block_table", b, i, page, between("a page", 0, INT32_MAX / a.page_size));
  }
}

void check_tree_accept(const Call& call, bool values) {
  if (!values) return;
  const auto a = tree_accept_args(call);
  check_trees("tree_accept", a.parents, a.num_nodes, a.B, a.Q);
}

void check_kv_compact(const Call& call, bool values) {
  const auto a = kv_compact_args(call);
  const char* op = "kv_compact";
  check_scales(op, *a.k_pages, {nullptr, nullptr, a.k_scales, a.v_scales}, values, false);
  if (!values) return;
  for (int64_t b = 0; b < a.B; b++) {
    const int64_t base = ints(a.base)[b], num = ints(a.num)[b];
    const int32_t* path = ints(a.path) + b * a.Q;
    if (num < 0 || num > a.Q) fail_at(op, "num", b, double(num), between("a number of nodes", 0, a.Q + 1));
    if (num > 0 && base < 0) fail_at(op, "base", b, double(base), "a position");
    for (int64_t d = 0; d < num; d++) {
      if (path[d] < d || (d > 0 && path[d] <= path[d - 1]))
        fail_at(op, "path", b, d, path[d], "ascending nodes, path[d] >= d");
      if (base + path[d] >= a.M * a.S)
        fail_at(op, "path", b, d, path[d],
                "a token within the " + std::to_string(a.M * a.S) + " slots of the request's pages");
      for (int64_t token : {base + d, base + path[d]}) {
        const int32_t page = ints(a.block_table)[b * a.M + token / a.S];
        if (page < 0 || page >= a.N) fail_at(op, "block_table", b, token / a.S, page, between("a page", 0, a.N));
      }
    }
  }
}

void check_kv_copy_pages(const Call& call, bool values) {
  const auto a = kv_copy_pages_args(call);
  const char* op = "kv_copy_pages";
  check_scales(op, *a.k_pages, {nullptr, nullptr, a.k_scales, a.v_scales}, values, false);
  if (!values) return;
  in_range(op, "src", a.src, "a page", 0, a.N);
  in_range(op, "dst", a.dst, "a page", 0, a.N);
  // Copies run in any order: a page that is written is written once and read by nobody.
  std::vector<bool> written(size_t(a.N), false);
  for (int64_t i = 0; i < a.L; i++) {
    if (written[size_t(ints(a.dst)[i])]) fail_at(op, "dst", i, ints(a.dst)[i], "every page at most once");
    written[size_t(ints(a.dst)[i])] = true;
  }
  for (int64_t i = 0; i < a.L; i++)
    if (written[size_t(ints(a.src)[i])])
      fail_at(op, "src", i, ints(a.src)[i], "a page that no copy of the call writes");
}

}  // namespace eyrie::checks
