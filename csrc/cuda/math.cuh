// Elementary functions: the polynomials of cpu/math.h, one lane, with the same fused and separate roundings, so that the bits
// are those of the CPU levels that have a fused multiply-add. min_of and max_of return the second argument when either is NaN.
#pragma once
#include "cuda/gpu.cuh"

namespace eyrie::cuda {

// One rounding each, which the compiler may not contract.
GPU_INLINE float mul_rn(float a, float b) { return __fmul_rn(a, b); }
GPU_INLINE float add_rn(float a, float b) { return __fadd_rn(a, b); }
GPU_INLINE float sub_rn(float a, float b) { return __fsub_rn(a, b); }

GPU_INLINE float min_of(float a, float b) { return a < b ? a : b; }
GPU_INLINE float max_of(float a, float b) { return a > b ? a : b; }

// 0 below -86.9, infinity above 88.72
GPU_INLINE float exp_exact(float x) {
  const float c = max_of(-86.9f, min_of(89.0f, x));
  const float n = rintf(mul_rn(c, 1.442695041f));
  float r = fmaf(n, -0.693359375f, c);
  r = fmaf(n, 2.12194440e-4f, r);
  float q = 0.0013814568519592285f;
  q = fmaf(q, r, 0.008368730545043945f);
  q = fmaf(q, r, 0.04166838899254799f);
  q = fmaf(q, r, 0.1666652113199234f);
  q = fmaf(q, r, 0.4999999403953552f);
  const float p = add_rn(fmaf(mul_rn(r, r), q, r), 1.0f);
  const int32_t e = x != x ? 0 : int32_t(n);
  const float power = __uint_as_float(uint32_t(e + 126) << 23);  // 2^(n-1)
  return x < -86.9f ? 0.0f : mul_rn(add_rn(p, p), power);
}

GPU_INLINE float tanh_exact(float x) {
  const float a = max_of(x, sub_rn(0.0f, x));
  const float t = sub_rn(1.0f, 2.0f / add_rn(exp_exact(add_rn(a, a)), 1.0f));
  const float large = x < 0.0f ? sub_rn(0.0f, t) : t;
  const float s = mul_rn(x, x);
  float q = -0.005704978480935097f;
  q = fmaf(q, s, 0.020639078691601753f);
  q = fmaf(q, s, -0.05373971164226532f);
  q = fmaf(q, s, 0.13331441581249237f);
  q = fmaf(q, s, -0.3333328068256378f);
  return a < 0.625f ? fmaf(mul_rn(s, x), q, x) : large;
}

GPU_INLINE float erf_exact(float x) {
  const float a = max_of(x, sub_rn(0.0f, x));
  const float t = min_of(3.95f, a);
  float p = -0.0002133636298822239f;
  p = fmaf(p, t, 0.003209912683814764f);
  p = fmaf(p, t, -0.022874072194099426f);
  p = fmaf(p, t, 0.10523752123117447f);
  p = fmaf(p, t, 0.6357364058494568f);
  p = fmaf(p, t, 0.12850913405418396f);
  const float u = sub_rn(1.0f, exp_exact(sub_rn(0.0f, fmaf(p, t, t))));
  const float large = x < 0.0f ? sub_rn(0.0f, u) : u;
  const float s = mul_rn(x, x);
  float q = -0.000595373916439712f;
  q = fmaf(q, s, 0.0049859401769936085f);
  q = fmaf(q, s, -0.026761719956994057f);
  q = fmaf(q, s, 0.11281682550907135f);
  q = fmaf(q, s, -0.3761247992515564f);
  q = fmaf(q, s, 0.12837915122509003f);
  return a < 0.925f ? fmaf(x, q, x) : large;
}

// x (positive, normal) = m * 2^e, m in [sqrt(1/2), sqrt 2)
GPU_INLINE float split_exact(float x, float* e) {
  const int32_t i = int32_t(__float_as_uint(x) - 0x3f3504f3u);
  *e = float(i >> 23);
  return __uint_as_float((uint32_t(i) & 0x7fffffu) + 0x3f3504f3u);
}

// log((1 + f) 2^e)
GPU_INLINE float log_split_exact(float f, float e) {
  float q = -0.07623060792684555f;
  q = fmaf(q, f, 0.12905502319335938f);
  q = fmaf(q, f, -0.1324298083782196f);
  q = fmaf(q, f, 0.14181634783744812f);
  q = fmaf(q, f, -0.16609056293964386f);
  q = fmaf(q, f, 0.20001985132694244f);
  q = fmaf(q, f, -0.25001585483551025f);
  q = fmaf(q, f, 0.33333325386047363f);
  q = fmaf(q, f, -0.49999988079071045f);
  float r = fmaf(mul_rn(f, f), q, f);
  r = fmaf(e, -2.12194440e-4f, r);
  return fmaf(e, 0.693359375f, r);
}

// Of a positive, normal, finite x.
GPU_INLINE float log_exact(float x) {
  float e;
  const float m = split_exact(x, &e);
  return log_split_exact(sub_rn(m, 1.0f), e);
}

}  // namespace eyrie::cuda
