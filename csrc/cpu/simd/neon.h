// Level `neon`: 16 lanes in four 128-bit registers, for any 64-bit ARM processor. Its fused multiply-adds and trees are those of AVX2, and so are its
// bits. Products of bf16 or int8 of newer processors (BFMMLA, I8MM) are not used: their sums have bits of their own.
#pragma once
#include <arm_neon.h>

#include "core/half.h"

#define EYRIE_LEVEL neon
#define EYRIE_LEVEL_NEON 1

namespace eyrie {

struct V16 {
  float32x4_t v[4];
};

#define EYRIE_QUARTERS(expr)                                           \
  V16 r;                                                               \
  _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) r.v[i] = (expr); \
  return r

EYRIE_INLINE uint32x4_t neon_bits(float32x4_t x) { return vreinterpretq_u32_f32(x); }
EYRIE_INLINE float32x4_t neon_float(uint32x4_t x) { return vreinterpretq_f32_u32(x); }

EYRIE_INLINE V16 v_set1(float x) { EYRIE_QUARTERS(vdupq_n_f32(x)); }
EYRIE_INLINE V16 v_zero() { EYRIE_QUARTERS(vdupq_n_f32(0)); }
EYRIE_INLINE V16 v_load(const float* p) { EYRIE_QUARTERS(vld1q_f32(p + 4 * i)); }
EYRIE_INLINE V16 v_load_n(const float* p, int n) {
  float lanes[16] = {};
  if (n > 0) memcpy(lanes, p, size_t(n < 16 ? n : 16) * 4);
  return v_load(lanes);
}
EYRIE_INLINE float32x4_t neon_from_f16(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }
EYRIE_INLINE V16 v_load_f16(const uint16_t* p) { EYRIE_QUARTERS(neon_from_f16(vld1_u16(p + 4 * i))); }
EYRIE_INLINE V16 v_load_bf16(const uint16_t* p) { EYRIE_QUARTERS(neon_float(vshll_n_u16(vld1_u16(p + 4 * i), 16))); }
// f16 has room for e4m3 with its bits moved: the value times 2^-8, but for NaN.
EYRIE_INLINE float32x4_t neon_from_e4m3(uint16x4_t x) {
  const uint16x4_t mag = vand_u16(x, vdup_n_u16(0x7f)), sign = vshl_n_u16(vand_u16(x, vdup_n_u16(0x80)), 8);
  const uint16x4_t nan = vand_u16(vceq_u16(mag, vdup_n_u16(0x7f)), vdup_n_u16(0x7e00));
  return vmulq_n_f32(neon_from_f16(vorr_u16(vorr_u16(vshl_n_u16(mag, 7), sign), nan)), 256.0f);
}
EYRIE_INLINE V16 v_load_e4m3(const uint8_t* p) {
  const uint8x16_t b = vld1q_u8(p);
  const uint16x8_t lo = vmovl_u8(vget_low_u8(b)), hi = vmovl_u8(vget_high_u8(b));
  return {{neon_from_e4m3(vget_low_u16(lo)), neon_from_e4m3(vget_high_u16(lo)), neon_from_e4m3(vget_low_u16(hi)),
           neon_from_e4m3(vget_high_u16(hi))}};
}
EYRIE_INLINE V16 v_load_i8(const int8_t* p) {
  const int8x16_t b = vld1q_s8(p);
  const int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_s8(vget_high_s8(b));
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(lo))),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_s16(vget_high_s16(hi)))}};
}
EYRIE_INLINE void v_store(float* p, V16 a) {
  for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, a.v[i]);
}
EYRIE_INLINE void v_store_n(float* p, V16 a, int n) {
  float lanes[16];
  v_store(lanes, a);
  if (n > 0) memcpy(p, lanes, size_t(n < 16 ? n : 16) * 4);
}
EYRIE_INLINE void v_store_f16(uint16_t* p, V16 a) {
  for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vreinterpret_u16_f16(vcvt_f16_f32(a.v[i])));
}
EYRIE_INLINE uint32x4_t
neon_round_bf16(float32x4_t x) {  // rounded bits in the high half of each lane, low half undefined
  const uint32x4_t u = neon_bits(x), even = vandq_u32(vshrq_n_u32(u, 16), vdupq_n_u32(1));
  const uint32x4_t r = vaddq_u32(u, vaddq_u32(even, vdupq_n_u32(0x7fff)));
  return vbslq_u32(vceqq_f32(x, x), r, vorrq_u32(u, vdupq_n_u32(0x400000)));
}
EYRIE_INLINE void v_store_bf16(uint16_t* p, V16 a) {
  for (int i = 0; i < 4; i++) vst1_u16(p + 4 * i, vshrn_n_u32(neon_round_bf16(a.v[i]), 16));
}
EYRIE_INLINE V16 v_round_bf16(V16 a) {
  EYRIE_QUARTERS(neon_float(vandq_u32(neon_round_bf16(a.v[i]), vdupq_n_u32(0xffff0000))));
}
EYRIE_INLINE V16 v_add(V16 a, V16 b) { EYRIE_QUARTERS(vaddq_f32(a.v[i], b.v[i])); }
EYRIE_INLINE V16 v_sub(V16 a, V16 b) { EYRIE_QUARTERS(vsubq_f32(a.v[i], b.v[i])); }
EYRIE_INLINE V16 v_mul(V16 a, V16 b) { EYRIE_QUARTERS(vmulq_f32(a.v[i], b.v[i])); }
EYRIE_INLINE V16 v_div(V16 a, V16 b) { EYRIE_QUARTERS(vdivq_f32(a.v[i], b.v[i])); }
EYRIE_INLINE V16 v_fma(V16 a, V16 b, V16 c) { EYRIE_QUARTERS(vfmaq_f32(c.v[i], a.v[i], b.v[i])); }
// As on x86, the second argument where they do not compare.
EYRIE_INLINE V16 v_max(V16 a, V16 b) { EYRIE_QUARTERS(vbslq_f32(vcgtq_f32(a.v[i], b.v[i]), a.v[i], b.v[i])); }
EYRIE_INLINE V16 v_min(V16 a, V16 b) { EYRIE_QUARTERS(vbslq_f32(vcltq_f32(a.v[i], b.v[i]), a.v[i], b.v[i])); }
EYRIE_INLINE V16 v_round_int(V16 a) { EYRIE_QUARTERS(vrndnq_f32(a.v[i])); }
// 2^n for integral n in [-126, 127]
EYRIE_INLINE V16 v_pow2(V16 n) {
  EYRIE_QUARTERS(vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtq_s32_f32(n.v[i]), vdupq_n_s32(127)), 23)));
}
// a < b ? x : y
EYRIE_INLINE V16 v_select_lt(V16 a, V16 b, V16 x, V16 y) {
  EYRIE_QUARTERS(vbslq_f32(vcltq_f32(a.v[i], b.v[i]), x.v[i], y.v[i]));
}
// The lanes of a then b at even places, and those at odd places.
EYRIE_INLINE void v_unzip(V16 a, V16 b, V16* even, V16* odd) {
  for (int i = 0; i < 2; i++) {
    even->v[i] = vuzp1q_f32(a.v[2 * i], a.v[2 * i + 1]);
    odd->v[i] = vuzp2q_f32(a.v[2 * i], a.v[2 * i + 1]);
    even->v[i + 2] = vuzp1q_f32(b.v[2 * i], b.v[2 * i + 1]);
    odd->v[i + 2] = vuzp2q_f32(b.v[2 * i], b.v[2 * i + 1]);
  }
}
EYRIE_INLINE float s_fma(float a, float b, float c) {
  return vget_lane_f32(vfma_f32(vdup_n_f32(c), vdup_n_f32(a), vdup_n_f32(b)), 0);
}
EYRIE_INLINE float s_sqrt(float a) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(a)), 0); }

// Fixed trees: lane i meets lane i+8, then i+4, i+2, i+1.
EYRIE_INLINE float v_reduce_add(V16 a) {
  const float32x4_t s4 = vaddq_f32(vaddq_f32(a.v[0], a.v[2]), vaddq_f32(a.v[1], a.v[3]));
  const float32x2_t s2 = vadd_f32(vget_low_f32(s4), vget_high_f32(s4));
  return vget_lane_f32(s2, 0) + vget_lane_f32(s2, 1);
}
EYRIE_INLINE float v_reduce_max(V16 a) {
  const auto larger = [](float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); };
  float s[4];
  vst1q_f32(s, larger(larger(a.v[0], a.v[2]), larger(a.v[1], a.v[3])));
  const float x = s[0] > s[2] ? s[0] : s[2], y = s[1] > s[3] ? s[1] : s[3];
  return x > y ? x : y;
}

}  // namespace eyrie
