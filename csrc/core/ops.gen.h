// Written by csrc/gen.mjs from ops.def and sampling.def; do not edit.
#pragma once
#include "core/call.h"

namespace eyrie {

enum class SamplingColumn { temperature, top_k, top_p, min_p, repetition_penalty, frequency_penalty, presence_penalty, count };

// src:u8[L]^ permute:i32 -> out:w[N,K]
struct PackWeightArgs {
  const Tensor *src, *out;  // null: absent
  int permute;
  int64_t L, N, K;
};
EYRIE_INLINE PackWeightArgs pack_weight_args(const Call& c) {
  PackWeightArgs a;
  a.src = &c.tensor[0];
  a.permute = (int)c.scalar[1];
  a.out = &c.tensor[2];
  a.L = c.size[0];
  a.N = c.size[1];
  a.K = c.size[2];
  return a;
}

// src:any[N,K]^ permute:i32 -> out:w[N,K]
struct QuantizeWeightArgs {
  const Tensor *src, *out;  // null: absent
  int permute;
  int64_t N, K;
};
EYRIE_INLINE QuantizeWeightArgs quantize_weight_args(const Call& c) {
  QuantizeWeightArgs a;
  a.src = &c.tensor[0];
  a.permute = (int)c.scalar[1];
  a.out = &c.tensor[2];
  a.N = c.size[0];
  a.K = c.size[1];
  return a;
}

// src:any[L]^ -> out:any[L]
struct CastArgs {
  const Tensor *src, *out;  // null: absent
  int64_t L;
};
EYRIE_INLINE CastArgs cast_args(const Call& c) {
  CastArgs a;
  a.src = &c.tensor[0];
  a.out = &c.tensor[1];
  a.L = c.size[0];
  return a;
}

// table:w[V,D] ids:i32[T] pos:f32[P,D]? positions:i32[T]? scale:f32 -> out:f[T,D]
struct EmbedArgs {
  const Tensor *table, *ids, *pos, *positions, *out;  // null: absent
  float scale;
  int64_t V, D, T, P;
};
EYRIE_INLINE EmbedArgs embed_args(const Call& c) {
  EmbedArgs a;
  a.table = &c.tensor[0];
  a.ids = &c.tensor[1];
  a.pos = c.tensor[2].data ? &c.tensor[2] : nullptr;
  a.positions = c.tensor[3].data ? &c.tensor[3] : nullptr;
  a.scale = (float)c.scalar[4];
  a.out = &c.tensor[5];
  a.V = c.size[0];
  a.D = c.size[1];
  a.T = c.size[2];
  a.P = c.size[3];
  return a;
}

// x:f~[T,D] rows:i32[R] -> out:f[R,D]
struct TakeRowsArgs {
  const Tensor *x, *rows, *out;  // null: absent
  int64_t T, D, R;
};
EYRIE_INLINE TakeRowsArgs take_rows_args(const Call& c) {
  TakeRowsArgs a;
  a.x = &c.tensor[0];
  a.rows = &c.tensor[1];
  a.out = &c.tensor[2];
  a.T = c.size[0];
  a.D = c.size[1];
  a.R = c.size[2];
  return a;
}

// x:f~[T,G,D] weight:f32[W,D]? bias:f32[V,D]? eps:f32 kind:i32 rounding:i32 -> out:f~[T,G,D]
struct NormArgs {
  const Tensor *x, *weight, *bias, *out;  // null: absent
  float eps;
  int kind;
  int rounding;
  int64_t T, G, D, W, V;
};
EYRIE_INLINE NormArgs norm_args(const Call& c) {
  NormArgs a;
  a.x = &c.tensor[0];
  a.weight = c.tensor[1].data ? &c.tensor[1] : nullptr;
  a.bias = c.tensor[2].data ? &c.tensor[2] : nullptr;
  a.eps = (float)c.scalar[3];
  a.kind = (int)c.scalar[4];
  a.rounding = (int)c.scalar[5];
  a.out = &c.tensor[6];
  a.T = c.size[0];
  a.G = c.size[1];
  a.D = c.size[2];
  a.W = c.size[3];
  a.V = c.size[4];
  return a;
}

// x:f[T,D] y:f[T,D] alpha:f32 -> out:f[T,D]
struct AddArgs {
  const Tensor *x, *y, *out;  // null: absent
  float alpha;
  int64_t T, D;
};
EYRIE_INLINE AddArgs add_args(const Call& c) {
  AddArgs a;
  a.x = &c.tensor[0];
  a.y = &c.tensor[1];
  a.alpha = (float)c.scalar[2];
  a.out = &c.tensor[3];
  a.T = c.size[0];
  a.D = c.size[1];
  return a;
}

// x:f[T,D] low:f32 high:f32 -> out:f[T,D]
struct ClampArgs {
  const Tensor *x, *out;  // null: absent
  float low;
  float high;
  int64_t T, D;
};
EYRIE_INLINE ClampArgs clamp_args(const Call& c) {
  ClampArgs a;
  a.x = &c.tensor[0];
  a.low = (float)c.scalar[1];
  a.high = (float)c.scalar[2];
  a.out = &c.tensor[3];
  a.T = c.size[0];
  a.D = c.size[1];
  return a;
}

// x:f~[T,K] w:w[N,K] bias:f32[N]? residual:f[T,N]? activations:i32 -> out:f~[T,N]
struct LinearArgs {
  const Tensor *x, *w, *bias, *residual, *out;  // null: absent
  int activations;
  int64_t T, K, N;
};
EYRIE_INLINE LinearArgs linear_args(const Call& c) {
  LinearArgs a;
  a.x = &c.tensor[0];
  a.w = &c.tensor[1];
  a.bias = c.tensor[2].data ? &c.tensor[2] : nullptr;
  a.residual = c.tensor[3].data ? &c.tensor[3] : nullptr;
  a.activations = (int)c.scalar[4];
  a.out = &c.tensor[5];
  a.T = c.size[0];
  a.K = c.size[1];
  a.N = c.size[2];
  return a;
}

// x:f~[T,K] a:any[S,R,K] adapter:i32[T] -> v:f32[T,R]
struct LoraShrinkArgs {
  const Tensor *x, *a, *adapter, *v;  // null: absent
  int64_t T, K, S, R;
};
EYRIE_INLINE LoraShrinkArgs lora_shrink_args(const Call& c) {
  LoraShrinkArgs a;
  a.x = &c.tensor[0];
  a.a = &c.tensor[1];
  a.adapter = &c.tensor[2];
  a.v = &c.tensor[3];
  a.T = c.size[0];
  a.K = c.size[1];
  a.S = c.size[2];
  a.R = c.size[3];
  return a;
}

// v:f32~[T,R] b:any[S,R,N] scale:f32[S] adapter:i32[T] out:f~[T,N]!
struct LoraExpandArgs {
  const Tensor *v, *b, *scale, *adapter, *out;  // null: absent
  int64_t T, R, S, N;
};
EYRIE_INLINE LoraExpandArgs lora_expand_args(const Call& c) {
  LoraExpandArgs a;
  a.v = &c.tensor[0];
  a.b = &c.tensor[1];
  a.scale = &c.tensor[2];
  a.adapter = &c.tensor[3];
  a.out = &c.tensor[4];
  a.T = c.size[0];
  a.R = c.size[1];
  a.S = c.size[2];
  a.N = c.size[3];
  return a;
}

// x:f~[T,H,D]! table:f32[P,R] rows:i32[T] offset:i32 interleaved:i32
struct RopeArgs {
  const Tensor *x, *table, *rows;  // null: absent
  int offset;
  int interleaved;
  int64_t T, H, D, P, R;
};
EYRIE_INLINE RopeArgs rope_args(const Call& c) {
  RopeArgs a;
  a.x = &c.tensor[0];
  a.table = &c.tensor[1];
  a.rows = &c.tensor[2];
  a.offset = (int)c.scalar[3];
  a.interleaved = (int)c.scalar[4];
  a.T = c.size[0];
  a.H = c.size[1];
  a.D = c.size[2];
  a.P = c.size[3];
  a.R = c.size[4];
  return a;
}

// k:f~[T,J,D] v:f~[T,J,E] slots:i32[T] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! k_scale:f32[J]? v_scale:f32[J]? k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!?
struct KvWriteArgs {
  const Tensor *k, *v, *slots, *k_pages, *v_pages, *k_scale, *v_scale, *k_scales, *v_scales;  // null: absent
  int64_t T, J, D, E, N, S;
};
EYRIE_INLINE KvWriteArgs kv_write_args(const Call& c) {
  KvWriteArgs a;
  a.k = &c.tensor[0];
  a.v = &c.tensor[1];
  a.slots = &c.tensor[2];
  a.k_pages = &c.tensor[3];
  a.v_pages = &c.tensor[4];
  a.k_scale = c.tensor[5].data ? &c.tensor[5] : nullptr;
  a.v_scale = c.tensor[6].data ? &c.tensor[6] : nullptr;
  a.k_scales = c.tensor[7].data ? &c.tensor[7] : nullptr;
  a.v_scales = c.tensor[8].data ? &c.tensor[8] : nullptr;
  a.T = c.size[0];
  a.J = c.size[1];
  a.D = c.size[2];
  a.E = c.size[3];
  a.N = c.size[4];
  a.S = c.size[5];
  return a;
}

// q:f~[T,H,D] k_pages:kv~[N,J,S,D] v_pages:kv~[N,J,S,E] block_table:i32[B,M] seq_lens:i32[B] q_start:i32[B+1] anc:i32[T,4]? sinks:f32[H]? alibi:f32[H]? q_scale:f32[T]? scale:f32 window:i32 chunk:i32 softcap:f32 k_scale:f32[J]? v_scale:f32[J]? k_scales:f16~[N,J,S]? v_scales:f16~[N,J,S]? -> out:f[T,H,E]
struct PagedAttentionArgs {
  const Tensor *q, *k_pages, *v_pages, *block_table, *seq_lens, *q_start, *anc, *sinks, *alibi, *q_scale, *k_scale, *v_scale, *k_scales, *v_scales, *out;  // null: absent
  float scale;
  int window;
  int chunk;
  float softcap;
  int64_t T, H, D, N, J, S, E, B, M;
};
EYRIE_INLINE PagedAttentionArgs paged_attention_args(const Call& c) {
  PagedAttentionArgs a;
  a.q = &c.tensor[0];
  a.k_pages = &c.tensor[1];
  a.v_pages = &c.tensor[2];
  a.block_table = &c.tensor[3];
  a.seq_lens = &c.tensor[4];
  a.q_start = &c.tensor[5];
  a.anc = c.tensor[6].data ? &c.tensor[6] : nullptr;
  a.sinks = c.tensor[7].data ? &c.tensor[7] : nullptr;
  a.alibi = c.tensor[8].data ? &c.tensor[8] : nullptr;
  a.q_scale = c.tensor[9].data ? &c.tensor[9] : nullptr;
  a.scale = (float)c.scalar[10];
  a.window = (int)c.scalar[11];
  a.chunk = (int)c.scalar[12];
  a.softcap = (float)c.scalar[13];
  a.k_scale = c.tensor[14].data ? &c.tensor[14] : nullptr;
  a.v_scale = c.tensor[15].data ? &c.tensor[15] : nullptr;
  a.k_scales = c.tensor[16].data ? &c.tensor[16] : nullptr;
  a.v_scales = c.tensor[17].data ? &c.tensor[17] : nullptr;
  a.out = &c.tensor[18];
  a.T = c.size[0];
  a.H = c.size[1];
  a.D = c.size[2];
  a.N = c.size[3];
  a.J = c.size[4];
  a.S = c.size[5];
  a.E = c.size[6];
  a.B = c.size[7];
  a.M = c.size[8];
  return a;
}

// gate:f~[T,I] up:f~[T,I] kind:i32 limit:f32 alpha:f32 -> out:f[T,I]
struct GluArgs {
  const Tensor *gate, *up, *out;  // null: absent
  int kind;
  float limit;
  float alpha;
  int64_t T, I;
};
EYRIE_INLINE GluArgs glu_args(const Call& c) {
  GluArgs a;
  a.gate = &c.tensor[0];
  a.up = &c.tensor[1];
  a.kind = (int)c.scalar[2];
  a.limit = (float)c.scalar[3];
  a.alpha = (float)c.scalar[4];
  a.out = &c.tensor[5];
  a.T = c.size[0];
  a.I = c.size[1];
  return a;
}

// x:f~[T,I] kind:i32 -> out:f[T,I]
struct ActArgs {
  const Tensor *x, *out;  // null: absent
  int kind;
  int64_t T, I;
};
EYRIE_INLINE ActArgs act_args(const Call& c) {
  ActArgs a;
  a.x = &c.tensor[0];
  a.kind = (int)c.scalar[1];
  a.out = &c.tensor[2];
  a.T = c.size[0];
  a.I = c.size[1];
  return a;
}

// x:f[R,V]! scale:f32 softcap:f32 valid:i32
struct LogitsArgs {
  const Tensor *x;  // null: absent
  float scale;
  float softcap;
  int valid;
  int64_t R, V;
};
EYRIE_INLINE LogitsArgs logits_args(const Call& c) {
  LogitsArgs a;
  a.x = &c.tensor[0];
  a.scale = (float)c.scalar[1];
  a.softcap = (float)c.scalar[2];
  a.valid = (int)c.scalar[3];
  a.R = c.size[0];
  a.V = c.size[1];
  return a;
}

// x:f[T,C] norm:f32[C]? eps:f32 wq:w[Q,C] wk:w[KD,C] wv:w[VD,C] bq:f32[Q]? bk:f32[KD]? bv:f32[VD]? q_norm:f32[D]? k_norm:f32[D]? rope:f32[P,R]? rows:i32[T] slots:i32[T] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! activations:i32 k_scale:f32[J]? v_scale:f32[J]? k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!? -> q:f[T,H,D]
struct FusedQkvArgs {
  const Tensor *x, *norm, *wq, *wk, *wv, *bq, *bk, *bv, *q_norm, *k_norm, *rope, *rows, *slots, *k_pages, *v_pages, *k_scale, *v_scale, *k_scales, *v_scales, *q;  // null: absent
  float eps;
  int activations;
  int64_t T, C, Q, KD, VD, D, P, R, N, J, S, E, H;
};
EYRIE_INLINE FusedQkvArgs fused_qkv_args(const Call& c) {
  FusedQkvArgs a;
  a.x = &c.tensor[0];
  a.norm = c.tensor[1].data ? &c.tensor[1] : nullptr;
  a.eps = (float)c.scalar[2];
  a.wq = &c.tensor[3];
  a.wk = &c.tensor[4];
  a.wv = &c.tensor[5];
  a.bq = c.tensor[6].data ? &c.tensor[6] : nullptr;
  a.bk = c.tensor[7].data ? &c.tensor[7] : nullptr;
  a.bv = c.tensor[8].data ? &c.tensor[8] : nullptr;
  a.q_norm = c.tensor[9].data ? &c.tensor[9] : nullptr;
  a.k_norm = c.tensor[10].data ? &c.tensor[10] : nullptr;
  a.rope = c.tensor[11].data ? &c.tensor[11] : nullptr;
  a.rows = &c.tensor[12];
  a.slots = &c.tensor[13];
  a.k_pages = &c.tensor[14];
  a.v_pages = &c.tensor[15];
  a.activations = (int)c.scalar[16];
  a.k_scale = c.tensor[17].data ? &c.tensor[17] : nullptr;
  a.v_scale = c.tensor[18].data ? &c.tensor[18] : nullptr;
  a.k_scales = c.tensor[19].data ? &c.tensor[19] : nullptr;
  a.v_scales = c.tensor[20].data ? &c.tensor[20] : nullptr;
  a.q = &c.tensor[21];
  a.T = c.size[0];
  a.C = c.size[1];
  a.Q = c.size[2];
  a.KD = c.size[3];
  a.VD = c.size[4];
  a.D = c.size[5];
  a.P = c.size[6];
  a.R = c.size[7];
  a.N = c.size[8];
  a.J = c.size[9];
  a.S = c.size[10];
  a.E = c.size[11];
  a.H = c.size[12];
  return a;
}

// x:f[T,C] norm:f32[C]? eps:f32 w_gate:w[I,C] w_up:w[I,C] kind:i32 activations:i32 -> out:f[T,I]
struct FusedGluArgs {
  const Tensor *x, *norm, *w_gate, *w_up, *out;  // null: absent
  float eps;
  int kind;
  int activations;
  int64_t T, C, I;
};
EYRIE_INLINE FusedGluArgs fused_glu_args(const Call& c) {
  FusedGluArgs a;
  a.x = &c.tensor[0];
  a.norm = c.tensor[1].data ? &c.tensor[1] : nullptr;
  a.eps = (float)c.scalar[2];
  a.w_gate = &c.tensor[3];
  a.w_up = &c.tensor[4];
  a.kind = (int)c.scalar[5];
  a.activations = (int)c.scalar[6];
  a.out = &c.tensor[7];
  a.T = c.size[0];
  a.C = c.size[1];
  a.I = c.size[2];
  return a;
}

// logits:f32~[R,V] columns:f32[R,C] keys:i32[R,4] counts:u16[U,V]? counts_row:i32[R]? bias_start:i32[R+1]? bias_ids:i32[L]? bias_values:f32[L]? mask:i32[R,W]? -> ids:i32[R] logprobs:f32[R]? top_ids:i32[R,K]? top_logprobs:f32[R,K]?
struct SampleArgs {
  const Tensor *logits, *columns, *keys, *counts, *counts_row, *bias_start, *bias_ids, *bias_values, *mask, *ids, *logprobs, *top_ids, *top_logprobs;  // null: absent
  int64_t R, V, C, U, L, W, K;
};
EYRIE_INLINE SampleArgs sample_args(const Call& c) {
  SampleArgs a;
  a.logits = &c.tensor[0];
  a.columns = &c.tensor[1];
  a.keys = &c.tensor[2];
  a.counts = c.tensor[3].data ? &c.tensor[3] : nullptr;
  a.counts_row = c.tensor[4].data ? &c.tensor[4] : nullptr;
  a.bias_start = c.tensor[5].data ? &c.tensor[5] : nullptr;
  a.bias_ids = c.tensor[6].data ? &c.tensor[6] : nullptr;
  a.bias_values = c.tensor[7].data ? &c.tensor[7] : nullptr;
  a.mask = c.tensor[8].data ? &c.tensor[8] : nullptr;
  a.ids = &c.tensor[9];
  a.logprobs = c.tensor[10].data ? &c.tensor[10] : nullptr;
  a.top_ids = c.tensor[11].data ? &c.tensor[11] : nullptr;
  a.top_logprobs = c.tensor[12].data ? &c.tensor[12] : nullptr;
  a.R = c.size[0];
  a.V = c.size[1];
  a.C = c.size[2];
  a.U = c.size[3];
  a.L = c.size[4];
  a.W = c.size[5];
  a.K = c.size[6];
  return a;
}

// parents:i32[B,Q] num_nodes:i32[B] base:i32[B] block_table:i32[B,M] page_size:i32 -> anc:i32[B,Q,4] rows:i32[B,Q] slots:i32[B,Q] seq_lens:i32[B]
struct TreePrepareArgs {
  const Tensor *parents, *num_nodes, *base, *block_table, *anc, *rows, *slots, *seq_lens;  // null: absent
  int page_size;
  int64_t B, Q, M;
};
EYRIE_INLINE TreePrepareArgs tree_prepare_args(const Call& c) {
  TreePrepareArgs a;
  a.parents = &c.tensor[0];
  a.num_nodes = &c.tensor[1];
  a.base = &c.tensor[2];
  a.block_table = &c.tensor[3];
  a.page_size = (int)c.scalar[4];
  a.anc = &c.tensor[5];
  a.rows = &c.tensor[6];
  a.slots = &c.tensor[7];
  a.seq_lens = &c.tensor[8];
  a.B = c.size[0];
  a.Q = c.size[1];
  a.M = c.size[2];
  return a;
}

// draft:i32[B,Q] parents:i32[B,Q] num_nodes:i32[B] sampled:i32[B,Q] -> path:i32[B,Q] num_accepted:i32[B] bonus:i32[B]
struct TreeAcceptArgs {
  const Tensor *draft, *parents, *num_nodes, *sampled, *path, *num_accepted, *bonus;  // null: absent
  int64_t B, Q;
};
EYRIE_INLINE TreeAcceptArgs tree_accept_args(const Call& c) {
  TreeAcceptArgs a;
  a.draft = &c.tensor[0];
  a.parents = &c.tensor[1];
  a.num_nodes = &c.tensor[2];
  a.sampled = &c.tensor[3];
  a.path = &c.tensor[4];
  a.num_accepted = &c.tensor[5];
  a.bonus = &c.tensor[6];
  a.B = c.size[0];
  a.Q = c.size[1];
  return a;
}

// block_table:i32[B,M] base:i32[B] path:i32[B,Q] num:i32[B] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!?
struct KvCompactArgs {
  const Tensor *block_table, *base, *path, *num, *k_pages, *v_pages, *k_scales, *v_scales;  // null: absent
  int64_t B, M, Q, N, J, S, D, E;
};
EYRIE_INLINE KvCompactArgs kv_compact_args(const Call& c) {
  KvCompactArgs a;
  a.block_table = &c.tensor[0];
  a.base = &c.tensor[1];
  a.path = &c.tensor[2];
  a.num = &c.tensor[3];
  a.k_pages = &c.tensor[4];
  a.v_pages = &c.tensor[5];
  a.k_scales = c.tensor[6].data ? &c.tensor[6] : nullptr;
  a.v_scales = c.tensor[7].data ? &c.tensor[7] : nullptr;
  a.B = c.size[0];
  a.M = c.size[1];
  a.Q = c.size[2];
  a.N = c.size[3];
  a.J = c.size[4];
  a.S = c.size[5];
  a.D = c.size[6];
  a.E = c.size[7];
  return a;
}

// src:i32[L] dst:i32[L] k_pages:kv~[N,J,S,D]! v_pages:kv~[N,J,S,E]! k_scales:f16~[N,J,S]!? v_scales:f16~[N,J,S]!?
struct KvCopyPagesArgs {
  const Tensor *src, *dst, *k_pages, *v_pages, *k_scales, *v_scales;  // null: absent
  int64_t L, N, J, S, D, E;
};
EYRIE_INLINE KvCopyPagesArgs kv_copy_pages_args(const Call& c) {
  KvCopyPagesArgs a;
  a.src = &c.tensor[0];
  a.dst = &c.tensor[1];
  a.k_pages = &c.tensor[2];
  a.v_pages = &c.tensor[3];
  a.k_scales = c.tensor[4].data ? &c.tensor[4] : nullptr;
  a.v_scales = c.tensor[5].data ? &c.tensor[5] : nullptr;
  a.L = c.size[0];
  a.N = c.size[1];
  a.J = c.size[2];
  a.S = c.size[3];
  a.D = c.size[4];
  a.E = c.size[5];
  return a;
}

}  // namespace eyrie
