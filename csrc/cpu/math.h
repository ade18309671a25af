// Elementary functions on 16 lanes: range reduction and a polynomial in explicit fused multiply-adds, so that every vector
// level gives the same bits. Errors are 1 to 2 ulp. Constants come first in v_min and v_max: a NaN then passes through.
#pragma once
#include "cpu/simd/integers.h"

namespace eyrie {

// e^x = 2^n e^r, n = round(x / ln 2), |r| <= ln 2 / 2; e^r = 1 + r + r^2 q(r). 2^n is applied as 2 * 2^(n-1), which
// reaches infinity by itself (x > 88.72). Below -86.9, near the smallest normal number, the result is 0.
EYRIE_INLINE V16 v_exp(V16 x) {
  const V16 low = v_set1(-86.9f);
  const V16 c = v_max(low, v_min(v_set1(89.0f), x));
  const V16 n = v_round_int(v_mul(c, v_set1(1.442695041f)));
  V16 r = v_fma(n, v_set1(-0.693359375f), c);  // ln 2 in two parts, the first exact in 10 bits
  r = v_fma(n, v_set1(2.12194440e-4f), r);
  V16 q = v_set1(0.0013814568519592285f);
  q = v_fma(q, r, v_set1(0.008368730545043945f));
  q = v_fma(q, r, v_set1(0.04166838899254799f));
  q = v_fma(q, r, v_set1(0.1666652113199234f));
  q = v_fma(q, r, v_set1(0.4999999403953552f));
  const V16 p = v_add(v_fma(v_mul(r, r), q, r), v_set1(1.0f));
  const V16 e = v_mul(v_add(p, p), v_pow2(v_sub(n, v_set1(1.0f))));
  return v_select_lt(x, low, v_zero(), e);
}

// tanh x = x + x^3 q(x^2) below 0.625, sign(x) (1 - 2 / (e^2|x| + 1)) above.
EYRIE_INLINE V16 v_tanh(V16 x) {
  const V16 minus = v_sub(v_zero(), x), a = v_max(x, minus);
  const V16 e = v_exp(v_add(a, a));
  const V16 t = v_sub(v_set1(1.0f), v_div(v_set1(2.0f), v_add(e, v_set1(1.0f))));
  const V16 large = v_select_lt(x, v_zero(), v_sub(v_zero(), t), t);
  const V16 s = v_mul(x, x);
  V16 q = v_set1(-0.005704978480935097f);
  q = v_fma(q, s, v_set1(0.020639078691601753f));
  q = v_fma(q, s, v_set1(-0.05373971164226532f));
  q = v_fma(q, s, v_set1(0.13331441581249237f));
  q = v_fma(q, s, v_set1(-0.3333328068256378f));
  return v_select_lt(a, v_set1(0.625f), v_fma(v_mul(s, x), q, x), large);
}

// erf x = x + x q(x^2) below 0.925, sign(x) (1 - e^-(t + t q(t))), t = |x|, above; 1 from 3.95 on.
EYRIE_INLINE V16 v_erf(V16 x) {
  const V16 a = v_max(x, v_sub(v_zero(), x));
  const V16 t = v_min(v_set1(3.95f), a);
  V16 p = v_set1(-0.0002133636298822239f);
  p = v_fma(p, t, v_set1(0.003209912683814764f));
  p = v_fma(p, t, v_set1(-0.022874072194099426f));
  p = v_fma(p, t, v_set1(0.10523752123117447f));
  p = v_fma(p, t, v_set1(0.6357364058494568f));
  p = v_fma(p, t, v_set1(0.12850913405418396f));
  const V16 u = v_sub(v_set1(1.0f), v_exp(v_sub(v_zero(), v_fma(p, t, t))));
  const V16 large = v_select_lt(x, v_zero(), v_sub(v_zero(), u), u);
  const V16 s = v_mul(x, x);
  V16 q = v_set1(-0.000595373916439712f);
  q = v_fma(q, s, v_set1(0.0049859401769936085f));
  q = v_fma(q, s, v_set1(-0.026761719956994057f));
  q = v_fma(q, s, v_set1(0.11281682550907135f));
  q = v_fma(q, s, v_set1(-0.3761247992515564f));
  q = v_fma(q, s, v_set1(0.12837915122509003f));
  return v_select_lt(a, v_set1(0.925f), v_fma(x, q, x), large);
}

// log(m 2^e) = e ln 2 + log(1 + f), f = m - 1 in [sqrt(1/2) - 1, sqrt 2 - 1), log(1 + f) = f + f^2 q(f).
EYRIE_INLINE V16 v_log_split(V16 f, V16 e) {
  V16 q = v_set1(-0.07623060792684555f);
  q = v_fma(q, f, v_set1(0.12905502319335938f));
  q = v_fma(q, f, v_set1(-0.1324298083782196f));
  q = v_fma(q, f, v_set1(0.14181634783744812f));
  q = v_fma(q, f, v_set1(-0.16609056293964386f));
  q = v_fma(q, f, v_set1(0.20001985132694244f));
  q = v_fma(q, f, v_set1(-0.25001585483551025f));
  q = v_fma(q, f, v_set1(0.33333325386047363f));
  q = v_fma(q, f, v_set1(-0.49999988079071045f));
  V16 r = v_fma(v_mul(f, f), q, f);
  r = v_fma(e, v_set1(-2.12194440e-4f), r);
  return v_fma(e, v_set1(0.693359375f), r);
}

// Of a positive, normal, finite x.
EYRIE_INLINE V16 v_log(V16 x) {
  V16 e;
  const V16 m = v_split(x, &e);
  return v_log_split(v_sub(m, v_set1(1.0f)), e);
}

}  // namespace eyrie
