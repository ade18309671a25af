// lora_shrink, lora_expand: low-rank updates of rows with adapters of their own. A worker takes pieces of (row, rank) and (row,
// column), so that one row occupies them all; a result depends on its own row and adapter alone.
#include "core/team.h"
#include "core/tiles.h"

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

constexpr int kRanks = 4;  // sums that share the loads of x
constexpr int kWide = 4;  // vectors of columns that share the loads of v
constexpr int64_t kColumns = 256;  // of a piece of lora_expand

EYRIE_INLINE V16 load_any(DType t, const void* p, int64_t i) {
  if (t == DType::f32) return v_load((const float*)p + i);
  return t == DType::f16 ? v_load_f16((const uint16_t*)p + i) : v_load_bf16((const uint16_t*)p + i);
}
// n < 16 elements, zeros behind them.
EYRIE_INLINE V16 load_some(DType t, const void* p, int64_t i, int n) {
  float some[16] = {};
  for (int k = 0; k < n; k++)
    some[k] = t == DType::f32   ? ((const float*)p)[i + k]
              : t == DType::f16 ? f16_to_float(((const uint16_t*)p)[i + k])
                                : bf16_to_float(((const uint16_t*)p)[i + k]);
  return v_load(some);
}

// `count` rows of a, K apart, with x: 16 running sums each, added up at the end.
EYRIE_INLINE void dots(DType type, const void* a, int64_t at, const float* x, int64_t K, int count, float* out) {
  V16 sum[kRanks];
  for (int r = 0; r < kRanks; r++) sum[r] = v_zero();
  int64_t k = 0;
  for (; k + 16 <= K; k += 16) {
    const V16 xv = v_load(x + k);
    for (int r = 0; r < kRanks; r++)
      if (r < count) sum[r] = v_fma(load_any(type, a, at + r * K + k), xv, sum[r]);
  }
  if (k < K) {
    const int rest = int(K - k);
    const V16 xv = v_load_n(x + k, rest);
    for (int r = 0; r < count; r++) sum[r] = v_fma(load_some(type, a, at + r * K + k, rest), xv, sum[r]);
  }
  for (int r = 0; r < count; r++) out[r] = v_reduce_add(sum[r]);
}

EYRIE_INLINE void shrink(const LoraShrinkArgs& a, Range range, DType type) {
  const int64_t pieces = div_up(a.R, kRanks);
  for (int64_t i = range.begin; i < range.end; i++) {
    const int64_t t = i / pieces, r = i % pieces * kRanks;
    const int count = int(a.R - r < kRanks ? a.R - r : kRanks);
    const int64_t s = ((const int32_t*)a.adapter->data)[t];
    float* out = (float*)a.v->data + t * a.R + r;
    const float* x = (const float*)a.x->data + t * a.x->stride[0];
    if (s < 0)
      for (int k = 0; k < count; k++) out[k] = 0;
    else if (count == kRanks) dots(type, a.a->data, (s * a.R + r) * a.K, x, a.K, kRanks, out);
    else dots(type, a.a->data, (s * a.R + r) * a.K, x, a.K, count, out);
  }
}

EYRIE_INLINE void expand(const LoraExpandArgs& a, Range range, DType type) {
  const int64_t pieces = div_up(a.N, kColumns);
  for (int64_t i = range.begin; i < range.end; i++) {
    const int64_t t = i / pieces, begin = i % pieces * kColumns;
    const int64_t end = begin + kColumns < a.N ? begin + kColumns : a.N;
    const int64_t s = ((const int32_t*)a.adapter->data)[t];
    if (s < 0) continue;
    const V16 scale = v_set1(((const float*)a.scale->data)[s]);
    const float* v = (const float*)a.v->data + t * a.v->stride[0];
    float* out = (float*)a.out->data + t * a.out->stride[0];
    int64_t n = begin;
    for (; n + 16 * kWide <= end; n += 16 * kWide) {
      V16 sum[kWide];
      for (int k = 0; k < kWide; k++) sum[k] = v_zero();
      for (int64_t r = 0; r < a.R; r++) {
        const V16 vr = v_set1(v[r]);
        const int64_t at = (s * a.R + r) * a.N + n;
        for (int k = 0; k < kWide; k++) sum[k] = v_fma(load_any(type, a.b->data, at + 16 * k), vr, sum[k]);
      }
      for (int k = 0; k < kWide; k++) v_store(out + n + 16 * k, v_fma(scale, sum[k], v_load(out + n + 16 * k)));
    }
    for (; n < end; n += 16) {
      const int lanes = int(end - n < 16 ? end - n : 16);
      V16 sum = v_zero();
      for (int64_t r = 0; r < a.R; r++)
        sum = v_fma(load_some(type, a.b->data, (s * a.R + r) * a.N + n, lanes), v_set1(v[r]), sum);
      v_store_n(out + n, v_fma(scale, sum, v_load_n(out + n, lanes)), lanes);
    }
  }
}

}  // namespace

void lora_shrink(const Call& call, Team& team) {
  const auto a = lora_shrink_args(call);
  const Range mine = team_range(team, a.T * div_up(a.R, kRanks));
  switch (a.a->dtype) {
    case DType::f32: return shrink(a, mine, DType::f32);
    case DType::f16: return shrink(a, mine, DType::f16);
    default: return shrink(a, mine, DType::bf16);
  }
}

void lora_expand(const Call& call, Team& team) {
  const auto a = lora_expand_args(call);
  const Range mine = team_range(team, a.T * div_up(a.N, kColumns));
  switch (a.b->dtype) {
    case DType::f32: return expand(a, mine, DType::f32);
    case DType::f16: return expand(a, mine, DType::f16);
    default: return expand(a, mine, DType::bf16);
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
