// Ops without a reduction: add, cast, take_rows, glu, act, logits. Work is cut into pieces of a row, so that one long row
// (decoding) and many short ones both occupy every worker.
#include "cpu/act.h"

namespace eyrie::cpu::EYRIE_LEVEL {

namespace {

constexpr int64_t kPiece = 1024;  // elements

struct Piece {
  int64_t row, begin, end;  // columns [begin, end) of a row
};

EYRIE_INLINE int64_t pieces_per_row(int64_t columns) { return div_up(columns, kPiece); }

EYRIE_INLINE Piece piece_at(int64_t i, int64_t columns) {
  const int64_t n = pieces_per_row(columns), begin = i % n * kPiece;
  return {i / n, begin, begin + kPiece < columns ? begin + kPiece : columns};
}

EYRIE_INLINE V16 load(const float* p, int64_t n) { return n >= 16 ? v_load(p) : v_load_n(p, int(n)); }
EYRIE_INLINE void store(float* p, V16 a, int64_t n) {
  if (n >= 16) v_store(p, a);
  else v_store_n(p, a, int(n));
}

EYRIE_INLINE void glu_pieces(const GluArgs& a, Range range, int kind) {
  for (int64_t r = range.begin; r < range.end; r++) {
    const Piece p = piece_at(r, a.I);
    const float* g = (const float*)a.gate->data + p.row * a.gate->stride[0];
    const float* u = (const float*)a.up->data + p.row * a.up->stride[0];
    float* out = (float*)a.out->data + p.row * a.I;
    for (int64_t i = p.begin; i < p.end; i += 16) {
      const int64_t n = p.end - i;
      store(out + i, glu_v16(kind, load(g + i, n), load(u + i, n), a.limit, a.alpha), n);
    }
  }
}

EYRIE_INLINE void act_pieces(const ActArgs& a, Range range, int kind) {
  for (int64_t r = range.begin; r < range.end; r++) {
    const Piece p = piece_at(r, a.I);
    const float* x = (const float*)a.x->data + p.row * a.x->stride[0];
    float* out = (float*)a.out->data + p.row * a.I;
    for (int64_t i = p.begin; i < p.end; i += 16) store(out + i, act_v16(kind, load(x + i, p.end - i)), p.end - i);
  }
}

// A source may lie anywhere in a mapped file, so nothing here assumes that it is aligned.
EYRIE_INLINE V16 load_as_float(const Tensor& t, int64_t i) {
  if (t.dtype == DType::f32) return v_load((const float*)((const char*)t.data + i * 4));
  const uint16_t* p = (const uint16_t*)((const char*)t.data + i * 2);
  return t.dtype == DType::f16 ? v_load_f16(p) : v_load_bf16(p);
}
EYRIE_INLINE float load_one(const Tensor& t, int64_t i) {
  if (t.dtype == DType::f32) {
    float f;
    memcpy(&f, (const char*)t.data + i * 4, 4);
    return f;
  }
  uint16_t h;
  memcpy(&h, (const char*)t.data + i * 2, 2);
  return t.dtype == DType::f16 ? f16_to_float(h) : bf16_to_float(h);
}

}  // namespace

void add(const Call& call, Team& team) {
  const auto a = add_args(call);
  const Range range = team_range(team, a.T * a.D, 16);
  const float *x = (const float*)a.x->data, *y = (const float*)a.y->data;
  float* out = (float*)a.out->data;
  const V16 alpha = v_set1(a.alpha);
  for (int64_t i = range.begin; i < range.end; i += 16) {
    const int64_t n = range.end - i;
    store(out + i, v_fma(alpha, load(y + i, n), load(x + i, n)), n);
  }
}

void clamp(const Call& call, Team& team) {
  const auto a = clamp_args(call);
  const Range range = team_range(team, a.T * a.D, 16);
  const float* x = (const float*)a.x->data;
  float* out = (float*)a.out->data;
  const V16 low = v_set1(a.low), high = v_set1(a.high);
  for (int64_t i = range.begin; i < range.end; i += 16) {
    const int64_t n = range.end - i;
    store(out + i, v_min(v_max(load(x + i, n), low), high), n);
  }
}

void cast(const Call& call, Team& team) {
  const auto a = cast_args(call);
  const Range range = team_range(team, a.L, 16);
  for (int64_t i = range.begin; i < range.end; i += 16) {
    if (i + 16 <= range.end) {
      const V16 x = load_as_float(*a.src, i);
      if (a.out->dtype == DType::f32) v_store((float*)a.out->data + i, x);
      else if (a.out->dtype == DType::f16) v_store_f16((uint16_t*)a.out->data + i, x);
      else v_store_bf16((uint16_t*)a.out->data + i, x);
      continue;
    }
    for (int64_t k = i; k < range.end; k++) {
      const float x = load_one(*a.src, k);
      if (a.out->dtype == DType::f32) ((float*)a.out->data)[k] = x;
      else ((uint16_t*)a.out->data)[k] = a.out->dtype == DType::f16 ? float_to_f16(x) : float_to_bf16(x);
    }
  }
}

void take_rows(const Call& call, Team& team) {
  const auto a = take_rows_args(call);
  const int32_t* rows = (const int32_t*)a.rows->data;
  const Range range = team_range(team, a.R);
  for (int64_t r = range.begin; r < range.end; r++) {
    const float* x = (const float*)a.x->data + rows[r] * a.x->stride[0];
    memcpy((float*)a.out->data + r * a.D, x, size_t(a.D) * sizeof(float));
  }
}

// A constant kind lets the compiler drop the switch from the loop.
void glu(const Call& call, Team& team) {
  const auto a = glu_args(call);
  const Range range = team_range(team, a.T * pieces_per_row(a.I));
  switch (a.kind) {
    case kSilu: return glu_pieces(a, range, kSilu);
    case kGeluTanh: return glu_pieces(a, range, kGeluTanh);
    case kGeluErf: return glu_pieces(a, range, kGeluErf);
    case kRelu2: return glu_pieces(a, range, kRelu2);
    case kSigmoid: return glu_pieces(a, range, kSigmoid);
    default: return glu_pieces(a, range, kOai);
  }
}

void act(const Call& call, Team& team) {
  const auto a = act_args(call);
  const Range range = team_range(team, a.T * pieces_per_row(a.I));
  switch (a.kind) {
    case kSilu: return act_pieces(a, range, kSilu);
    case kGeluTanh: return act_pieces(a, range, kGeluTanh);
    case kGeluErf: return act_pieces(a, range, kGeluErf);
    case kRelu2: return act_pieces(a, range, kRelu2);
    default: return act_pieces(a, range, kSigmoid);
  }
}

void logits(const Call& call, Team& team) {
  const auto a = logits_args(call);
  const Range range = team_range(team, a.R * pieces_per_row(a.V));
  const V16 scale = v_set1(a.scale), cap = v_set1(a.softcap);
  for (int64_t r = range.begin; r < range.end; r++) {
    const Piece p = piece_at(r, a.V);
    float* x = (float*)a.x->data + p.row * a.V;
    for (int64_t i = p.begin; i < p.end; i += 16) {
      const int64_t n = p.end - i;
      V16 y = v_mul(load(x + i, n), scale);
      if (a.softcap != 0) y = v_mul(cap, v_tanh(v_div(y, cap)));
      store(x + i, y, n);
    }
    for (int64_t i = p.begin > a.valid ? p.begin : a.valid; i < p.end; i++) x[i] = -__builtin_inff();
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
