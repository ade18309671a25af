#include "core/checks.h"

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/ops.gen.h"
#include "core/tiles.h"

namespace eyrie {

namespace {

std::string text(double x) {
  char s[32];
  snprintf(s, sizeof s, "%.9g", x);
  return s;
}

[[noreturn]] void fail(const char* op, const std::string& what) {
  throw Error("EYRIE_EXECUTION", std::string(op) + ": " + what);
}

// "rope: rows[3] is 70, expected a row of table in [0, 64)"
[[noreturn]] void fail_at(const char* op, const char* argument, int64_t i, double got, const std::string& expected) {
  fail(op, std::string(argument) + "[" + std::to_string(i) + "] is " + text(got) + ", expected " + expected);
}
[[noreturn]] void fail_at(const char* op, const char* argument, int64_t i, int64_t k, double got,
                          const std::string& expected) {
  fail(op, std::string(argument) + "[" + std::to_string(i) + "," + std::to_string(k) + "] is " + text(got) +
               ", expected " + expected);
}

std::string between(const char* what, int64_t low, int64_t high) {
  return std::string(what) + " in [" + std::to_string(low) + ", " + std::to_string(high) + ")";
}

const int32_t* ints(const Tensor* t) { return static_cast<const int32_t*>(t->data); }
const float* floats(const Tensor* t) { return static_cast<const float*>(t->data); }

void in_range(const char* op, const char* argument, const Tensor* t, const char* what, int64_t low, int64_t high) {
  const int64_t n = numel(*t);
  for (int64_t i = 0; i < n; i++)
    if (ints(t)[i] < low || ints(t)[i] >= high) fail_at(op, argument, i, ints(t)[i], between(what, low, high));
}

void scalar_in(const char* op, const char* argument, double x, double low, double high) {
  if (!(x >= low && x <= high))
    fail(op, std::string(argument) + " is " + text(x) + ", expected " + text(low) + " to " + text(high));
}

void equal(const char* op, const char* argument, int64_t got, int64_t expected, const char* why) {
  if (got != expected)
    fail(op, std::string(argument) + " is " + std::to_string(got) + ", expected " + std::to_string(expected) + " (" +
                 why + ")");
}

constexpr double kFloatMax = 3.402823466e38;

void check_pack_weight(const Call& call, bool) {
  const auto a = pack_weight_args(call);
  const char* op = "pack_weight";
  const DTypeInfo f = dtype_info(a.out->dtype);
  if (a.K % f.block)
    fail(op, "out has K=" + std::to_string(a.K) + ", expected a multiple of " + std::to_string(f.block));
  equal(op, "the length of src", a.L, a.N * (a.K / f.block) * f.block_bytes, "N rows of K values in the format of out");
  if (a.permute < 0 || a.permute % 2 || (a.permute && a.N % a.permute))
    fail(op, "permute is " + std::to_string(a.permute) +
                 ", expected 0 or an even head size that divides N=" + std::to_string(a.N));
}

void float_type(const char* op, const char* argument, const Tensor* t) {
  if (t->dtype != DType::f32 && t->dtype != DType::f16 && t->dtype != DType::bf16)
    fail(op, std::string(argument) + " is " + dtype_info(t->dtype).name + ", expected f32, f16 or bf16");
}

void check_cast(const Call& call, bool) {
  const auto a = cast_args(call);
  float_type("cast", "src", a.src);
  float_type("cast", "out", a.out);
}

void check_embed(const Call& call, bool values) {
  const auto a = embed_args(call);
  if (!a.pos != !a.positions) fail("embed", "pos and positions go together: pass both or neither");
  if (!values) return;
  in_range("embed", "ids", a.ids, "a token", 0, a.V);
  if (a.pos) in_range("embed", "positions", a.positions, "a row of pos", 0, a.P);
}

void check_take_rows(const Call& call, bool values) {
  if (!values) return;
  const auto a = take_rows_args(call);
  in_range("take_rows", "rows", a.rows, "a row of x", 0, a.T);
}

void check_norm(const Call& call, bool) {
  const auto a = norm_args(call);
  const char* op = "norm";
  scalar_in(op, "kind", a.kind, 0, 1);
  scalar_in(op, "rounding", a.rounding, 0, 1);
  scalar_in(op, "eps", a.eps, 0, kFloatMax);
  if (a.weight && a.W != 1) equal(op, "the number of rows of weight", a.W, a.G, "one, or one for each group");
  if (a.bias && a.kind == 0) fail(op, "bias is given, but RMSNorm (kind 0) has none");
  if (a.bias && a.V != 1) equal(op, "the number of rows of bias", a.V, a.G, "one, or one for each group");
}

void check_activations(const char* op, int activations) { scalar_in(op, "activations", activations, 0, 1); }

void check_linear(const Call& call, bool) { check_activations("linear", linear_args(call).activations); }

void check_lora_shrink(const Call& call, bool values) {
  const auto a = lora_shrink_args(call);
  float_type("lora_shrink", "a", a.a);
  if (values) in_range("lora_shrink", "adapter", a.adapter, "a slot of a (-1: none)", -1, a.S);
}

void check_lora_expand(const Call& call, bool values) {
  const auto a = lora_expand_args(call);
  float_type("lora_expand", "b", a.b);
  if (values) in_range("lora_expand", "adapter", a.adapter, "a slot of b (-1: none)", -1, a.S);
}

void check_rope(const Call& call, bool values) {
  const auto a = rope_args(call);
  const char* op = "rope";
  if (values) in_range(op, "rows", a.rows, "a row of table", 0, a.P);
  if (a.R % 2) fail(op, "table has R=" + std::to_string(a.R) + ", expected an even number");
  scalar_in(op, "interleaved", a.interleaved, 0, 1);
  if (a.offset < 0 || a.offset + a.R > a.D)
    fail(op, "offset is " + std::to_string(a.offset) + ", expected 0 to D - R = " + std::to_string(a.D - a.R));
}

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

void check_kv_write(const Call& call, bool values) {
  const auto a = kv_write_args(call);
  check_scales("kv_write", *a.k_pages, {a.k_scale, a.v_scale, a.k_scales, a.v_scales}, values);
  if (!values) return;
  in_range("kv_write", "slots", a.slots, "a slot (or a negative number)", INT32_MIN, a.N * a.S);
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

void check_glu(const Call& call, bool) {
  const auto a = glu_args(call);
  scalar_in("glu", "kind", a.kind, 0, 5);
  if (a.kind == 5) scalar_in("glu", "limit", a.limit, 0, kFloatMax);
}

void check_act(const Call& call, bool) { scalar_in("act", "kind", act_args(call).kind, 0, 4); }

void check_logits(const Call& call, bool) {
  const auto a = logits_args(call);
  scalar_in("logits", "softcap", a.softcap, 0, kFloatMax);
  scalar_in("logits", "valid", a.valid, 0, double(a.V));
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

void check_fused_glu(const Call& call, bool) {
  const auto a = fused_glu_args(call);
  scalar_in("fused_glu", "kind", a.kind, 0, 4);
  check_activations("fused_glu", a.activations);
}

struct Column {
  const char* name;
  double low, high;
};
const Column kColumns[] = {
#define SAMPLING(name, initial, low, high, text) {#name, low, high},
#include "sampling.def"
#undef SAMPLING
};

void check_columns(const SampleArgs& a) {
  const char* op = "sample";
  for (int64_t r = 0; r < a.R; r++)
    for (int64_t k = 0; k < a.C; k++) {
      const Column& column = kColumns[k];
      const float x = floats(a.columns)[r * a.C + k];
      // Bounds are decimal; a float nearest to one is within it.
      if (!(x >= float(column.low) && x <= float(column.high)))
        fail_at(op, "columns", r, k, x,
                std::string(column.name) + " from " + text(column.low) + " to " + text(column.high));
      if (k == int64_t(SamplingColumn::top_k) && x != std::floor(x))
        fail_at(op, "columns", r, k, x, "an integer top_k");
    }
}

void check_bias(const SampleArgs& a) {
  const char* op = "sample";
  const int32_t* start = ints(a.bias_start);
  if (start[0] < 0) fail_at(op, "bias_start", 0, start[0], "0 or more");
  for (int64_t r = 0; r < a.R; r++)
    if (start[r + 1] < start[r]) fail_at(op, "bias_start", r + 1, start[r + 1], "at least " + std::to_string(start[r]));
  const int64_t L = a.bias_ids && a.bias_values ? a.L : 0;
  if (start[a.R] > L)
    fail_at(op, "bias_start", a.R, start[a.R],
            "at most L=" + std::to_string(L) + ", the length of bias_ids and bias_values");
  for (int64_t i = start[0]; i < start[a.R]; i++) {
    const int32_t id = ints(a.bias_ids)[i];
    if (id < 0 || id >= a.V) fail_at(op, "bias_ids", i, id, between("a token", 0, a.V));
    if (!std::isfinite(floats(a.bias_values)[i]))
      fail_at(op, "bias_values", i, floats(a.bias_values)[i], "a finite number");
  }
}

void check_sample(const Call& call, bool values) {
  const auto a = sample_args(call);
  const char* op = "sample";
  if (a.R == 0) return;
  if (a.V == 0) fail(op, "logits has V=0, expected at least one token");
  equal(op, "the number of columns", a.C, int64_t(SamplingColumn::count), "csrc/sampling.def");
  if (values) check_columns(a);
  if (!a.counts != !a.counts_row) fail(op, "counts and counts_row go together: pass both or neither");
  if (values && a.counts_row) in_range(op, "counts_row", a.counts_row, "a row of counts (-1: none)", -1, a.U);
  if (values && a.bias_start) check_bias(a);
  else if (!a.bias_start && (a.bias_ids || a.bias_values))
    fail(op, "bias_start is missing, but bias_ids or bias_values is given");
  if (a.mask) equal(op, "the number of words in a row of mask", a.W, div_up(a.V, 32), "32 tokens a word");
  if ((a.top_ids || a.top_logprobs) && a.K > a.V)
    fail(op, "top_ids has K=" + std::to_string(a.K) + ", expected at most V=" + std::to_string(a.V));
}

void check_tree_accept(const Call& call, bool values) {
  if (!values) return;
  const auto a = tree_accept_args(call);
  const char* op = "tree_accept";
  if (a.B) in_range(op, "num_nodes", a.num_nodes, "a number of nodes", 1, a.Q + 1);
  for (int64_t b = 0; b < a.B; b++) {
    const int32_t* parents = ints(a.parents) + b * a.Q;
    if (parents[0] != -1) fail_at(op, "parents", b, 0, parents[0], "-1, the root");
    for (int32_t i = 1; i < ints(a.num_nodes)[b]; i++)
      if (parents[i] < 0 || parents[i] >= i)
        fail_at(op, "parents", b, i, parents[i], between("a node before it,", 0, i));
  }
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

struct Entry {
  const char* op;
  Check check;
};
const Entry kChecks[] = {
    {"pack_weight", check_pack_weight},
    {"cast", check_cast},
    {"embed", check_embed},
    {"take_rows", check_take_rows},
    {"norm", check_norm},
    {"linear", check_linear},
    {"lora_shrink", check_lora_shrink},
    {"lora_expand", check_lora_expand},
    {"rope", check_rope},
    {"kv_write", check_kv_write},
    {"paged_attention", check_paged_attention},
    {"glu", check_glu},
    {"act", check_act},
    {"logits", check_logits},
    {"fused_qkv", check_fused_qkv},
    {"fused_glu", check_fused_glu},
    {"sample", check_sample},
    {"tree_accept", check_tree_accept},
    {"kv_compact", check_kv_compact},
    {"kv_copy_pages", check_kv_copy_pages},
};

}  // namespace

Check find_check(const char* op) {
  for (const Entry& e : kChecks)
    if (strcmp(e.op, op) == 0) return e.check;
  return nullptr;
}

}  // namespace eyrie
