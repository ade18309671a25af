// integers.h and trees.h for the level neon.
#pragma once
#include "core/tensor.h"

namespace eyrie {

struct I16 {
  uint32x4_t v[4];
};
#define EYRIE_QUARTERS_OF(type, expr)                                  \
  type r;                                                              \
  _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) r.v[i] = (expr); \
  return r
EYRIE_INLINE I16 i_set1(uint32_t x) { EYRIE_QUARTERS_OF(I16, vdupq_n_u32(x)); }
EYRIE_INLINE I16 i_load(const uint32_t* p) {  // at any address
  EYRIE_QUARTERS_OF(I16, vreinterpretq_u32_u8(vld1q_u8((const uint8_t*)p + 16 * i)));
}
EYRIE_INLINE void i_store(uint32_t* p, I16 a) {
  for (int i = 0; i < 4; i++) vst1q_u32(p + 4 * i, a.v[i]);
}
EYRIE_INLINE I16 i_add(I16 a, I16 b) { EYRIE_QUARTERS_OF(I16, vaddq_u32(a.v[i], b.v[i])); }
EYRIE_INLINE I16 i_xor(I16 a, I16 b) { EYRIE_QUARTERS_OF(I16, veorq_u32(a.v[i], b.v[i])); }
EYRIE_INLINE I16 i_and(I16 a, uint32_t mask) { EYRIE_QUARTERS_OF(I16, vandq_u32(a.v[i], vdupq_n_u32(mask))); }
EYRIE_INLINE I16 i_or_and(I16 a, I16 b, uint32_t mask) {  // a | (b & mask)
  EYRIE_QUARTERS_OF(I16, vorrq_u32(a.v[i], vandq_u32(b.v[i], vdupq_n_u32(mask))));
}
template <int n>
EYRIE_INLINE I16 i_left(I16 a) {
  EYRIE_QUARTERS_OF(I16, vshlq_n_u32(a.v[i], n));
}
template <int n>
EYRIE_INLINE I16 i_right(I16 a) {  // zeros come in
  if constexpr (n == 0) return a;
  else {
    EYRIE_QUARTERS_OF(I16, vshrq_n_u32(a.v[i], n));
  }
}
EYRIE_INLINE I16 i_load_u8(const uint8_t* p) {
  const uint8x16_t b = vld1q_u8(p);
  const uint16x8_t lo = vmovl_u8(vget_low_u8(b)), hi = vmovl_u8(vget_high_u8(b));
  return {{vmovl_u16(vget_low_u16(lo)), vmovl_u16(vget_high_u16(lo)), vmovl_u16(vget_low_u16(hi)),
           vmovl_u16(vget_high_u16(hi))}};
}
EYRIE_INLINE V16 v_from_bits(I16 a) { EYRIE_QUARTERS_OF(V16, vreinterpretq_f32_u32(a.v[i])); }
EYRIE_INLINE V16 v_lookup(V16 table, I16 a) {  // by the low four bits
  const uint8x16x4_t bytes = {{vreinterpretq_u8_f32(table.v[0]), vreinterpretq_u8_f32(table.v[1]),
                               vreinterpretq_u8_f32(table.v[2]), vreinterpretq_u8_f32(table.v[3])}};
  const uint32x4_t four = vdupq_n_u32(0x04040404), each = vdupq_n_u32(0x03020100);
  EYRIE_QUARTERS_OF(V16, vreinterpretq_f32_u8(vqtbl4q_u8(
                             bytes, vreinterpretq_u8_u32(vmlaq_u32(each, vandq_u32(a.v[i], vdupq_n_u32(15)), four)))));
}
EYRIE_INLINE I16 i_min(I16 a, I16 b) { EYRIE_QUARTERS_OF(I16, vminq_u32(a.v[i], b.v[i])); }  // unsigned
EYRIE_INLINE bool i_any_below(I16 a, uint32_t limit) {                                     // unsigned
  return vminvq_u32(vminq_u32(vminq_u32(a.v[0], a.v[1]), vminq_u32(a.v[2], a.v[3]))) < limit;
}
// a * m: the low words, and the high words in *high.
EYRIE_INLINE I16 i_mul_wide(I16 a, uint32_t m, I16* high) {
  const uint32x2_t x = vdup_n_u32(m);
  I16 low;
  for (int i = 0; i < 4; i++) {
    const uint32x4_t p = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(a.v[i]), x));
    const uint32x4_t q = vreinterpretq_u32_u64(vmull_u32(vget_high_u32(a.v[i]), x));
    low.v[i] = vuzp1q_u32(p, q);
    high->v[i] = vuzp2q_u32(p, q);
  }
  return low;
}
EYRIE_INLINE void neon_transpose4(uint32x4_t* a, uint32x4_t* b, uint32x4_t* c, uint32x4_t* d) {
  const uint64x2_t p = vreinterpretq_u64_u32(vtrn1q_u32(*a, *b)), q = vreinterpretq_u64_u32(vtrn2q_u32(*a, *b));
  const uint64x2_t r = vreinterpretq_u64_u32(vtrn1q_u32(*c, *d)), s = vreinterpretq_u64_u32(vtrn2q_u32(*c, *d));
  *a = vreinterpretq_u32_u64(vtrn1q_u64(p, r));
  *b = vreinterpretq_u32_u64(vtrn1q_u64(q, s));
  *c = vreinterpretq_u32_u64(vtrn2q_u64(p, r));
  *d = vreinterpretq_u32_u64(vtrn2q_u64(q, s));
}
EYRIE_INLINE void i_transpose4(I16* w) {
  for (int i = 0; i < 4; i++) neon_transpose4(&w[0].v[i], &w[1].v[i], &w[2].v[i], &w[3].v[i]);
}
EYRIE_INLINE V16 v_from_int(I16 a) { EYRIE_QUARTERS_OF(V16, vcvtq_f32_s32(vreinterpretq_s32_u32(a.v[i]))); }  // signed
EYRIE_INLINE I16 i_truncate(V16 a) { EYRIE_QUARTERS_OF(I16, vreinterpretq_u32_s32(vcvtq_s32_f32(a.v[i]))); }  // signed
EYRIE_INLINE V16 v_load_u16(const uint16_t* p) {
  EYRIE_QUARTERS_OF(V16, vcvtq_f32_u32(vmovl_u16(vld1_u16(p + 4 * i))));
}
// Lane i: bit i of bits ? x : y
EYRIE_INLINE V16 v_select_bits(uint32_t bits, V16 x, V16 y) {
  static const uint32_t kLane[4] = {1, 2, 4, 8};
  const uint32x4_t lane = vld1q_u32(kLane);
  EYRIE_QUARTERS_OF(V16, vbslq_f32(vtstq_u32(vdupq_n_u32(bits >> (4 * i)), lane), x.v[i], y.v[i]));
}
EYRIE_INLINE uint32_t v_bits_lt(V16 a, V16 b) {  // bit i: a[i] < b[i]
  static const uint32_t kLane[4] = {1, 2, 4, 8};
  const uint32x4_t lane = vld1q_u32(kLane);
  uint32_t bits = 0;
  for (int i = 0; i < 4; i++) bits |= vaddvq_u32(vandq_u32(vcltq_f32(a.v[i], b.v[i]), lane)) << (4 * i);
  return bits;
}
EYRIE_INLINE V16 v_split(V16 x, V16* exponent) {
  const uint32x4_t root = vdupq_n_u32(0x3f3504f3);
  V16 m;
  for (int k = 0; k < 4; k++) {
    const uint32x4_t i = vsubq_u32(vreinterpretq_u32_f32(x.v[k]), root);
    exponent->v[k] = vcvtq_f32_s32(vshrq_n_s32(vreinterpretq_s32_u32(i), 23));
    m.v[k] = vreinterpretq_f32_u32(vaddq_u32(vandq_u32(i, vdupq_n_u32(0x7fffff)), root));
  }
  return m;
}

// The first step of the tree of v_reduce_add: p[i] = a[i] + a[i+8].
EYRIE_INLINE void v_store_half_sums(float* p, V16 a) {
  vst1q_f32(p, vaddq_f32(a.v[0], a.v[2]));
  vst1q_f32(p + 4, vaddq_f32(a.v[1], a.v[3]));
}
// 16 rows of half sums [16][8] to their 16 sums: exactly the bits of v_reduce_add on each row.
EYRIE_INLINE V16 v_finish_sums(const float* p) {
  V16 r;
  for (int g = 0; g < 4; g++, p += 32) {
    uint32x4_t s[4];
    for (int t = 0; t < 4; t++) s[t] = vreinterpretq_u32_f32(vaddq_f32(vld1q_f32(p + 8 * t), vld1q_f32(p + 8 * t + 4)));
    neon_transpose4(&s[0], &s[1], &s[2], &s[3]);  // now lane t of s[i] is s[t][i]
    r.v[g] = vaddq_f32(vaddq_f32(vreinterpretq_f32_u32(s[0]), vreinterpretq_f32_u32(s[2])),
                       vaddq_f32(vreinterpretq_f32_u32(s[1]), vreinterpretq_f32_u32(s[3])));
  }
  return r;
}
// out[c][r] = in[r * in_stride + c] for 16 x 16.
EYRIE_INLINE void v_transpose16(const float* in, int64_t in_stride, float* const* out) {
  for (int r = 0; r < 16; r += 4)
    for (int c = 0; c < 16; c += 4) {
      uint32x4_t q[4];
      for (int i = 0; i < 4; i++) q[i] = vreinterpretq_u32_f32(vld1q_f32(in + (r + i) * in_stride + c));
      neon_transpose4(&q[0], &q[1], &q[2], &q[3]);
      for (int i = 0; i < 4; i++) vst1q_f32(out[c + i] + r, vreinterpretq_f32_u32(q[i]));
    }
}
#undef EYRIE_QUARTERS_OF

}  // namespace eyrie
