#include "core/checks.h"

#include <cstring>

#include "core/check_words.h"
#include "core/tiles.h"

namespace eyrie {
namespace {

using namespace checks;

void check_permute(const char* op, int permute, int64_t N) {
  if (permute < 0 || permute % 2 || (permute && N % permute))
    fail(op, "permute is " + std::to_string(permute) +
                 ", expected 0 or an even head size that divides N=" + std::to_string(N));
}

void check_pack_weight(const Call& call, bool) {
  const auto a = pack_weight_args(call);
  const char* op = "pack_weight";
  const DTypeInfo f = dtype_info(a.out->dtype);
  if (made_of_floats(a.out->dtype))
    fail(op, std::string("out is ") + f.name + ", which no file holds; quantize_weight makes it from f32, f16 or bf16");
  if (a.K % f.block)
    fail(op, "out has K=" + std::to_string(a.K) + ", expected a multiple of " + std::to_string(f.block));
  equal(op, "the length of src", a.L, a.N * (a.K / f.block) * f.block_bytes, "N rows of K values in the format of out");
  check_permute(op, a.permute, a.N);
}

void float_type(const char* op, const char* argument, const Tensor* t) {
  if (t->dtype != DType::f32 && t->dtype != DType::f16 && t->dtype != DType::bf16)
    fail(op, std::string(argument) + " is " + dtype_info(t->dtype).name + ", expected f32, f16 or bf16");
}

void check_quantize_weight(const Call& call, bool) {
  const auto a = quantize_weight_args(call);
  const char* op = "quantize_weight";
  const DType t = a.out->dtype;
  float_type(op, "src", a.src);
  if (!made_of_floats(t) && t != DType::q4_0)
    fail(op, std::string("out is ") + dtype_info(t).name +
                 ", expected i8, f8_e4m3, i4_g128 or q4_0; pack_weight keeps f32, f16 and bf16 as they are");
  check_permute(op, a.permute, a.N);
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

void check_fused_glu(const Call& call, bool) {
  const auto a = fused_glu_args(call);
  scalar_in("fused_glu", "kind", a.kind, 0, 4);
  check_activations("fused_glu", a.activations);
}

struct Entry {
  const char* op;
  Check check;
};
const Entry kChecks[] = {
    {"pack_weight", check_pack_weight},
    {"quantize_weight", check_quantize_weight},
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
    {"tree_prepare", check_tree_prepare},
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
