// Level `baseline`: 16 lanes in plain C++, for any x86-64 (and any other CPU). No fused multiply-add: results are within
// rounding of the other levels, not bit-equal to them.
#pragma once
#include <math.h>

#include "core/half.h"

#define EYRIE_LEVEL baseline

namespace eyrie {

// The compiler's own vectors: it cuts them into what the machine has (four xmm registers on x86-64), and compiles them
// many times faster than loops over an array.
typedef float Lanes __attribute__((vector_size(64)));
typedef int32_t IntLanes __attribute__((vector_size(64)));

struct V16 {
  Lanes v;
};

#define EYRIE_LANES(expr)                       \
  V16 r;                                        \
  for (int i = 0; i < 16; i++) r.v[i] = (expr); \
  return r

EYRIE_INLINE V16 v_zero() { return {Lanes{}}; }
EYRIE_INLINE V16 v_set1(float x) { return {Lanes{} + x}; }
EYRIE_INLINE V16 v_load(const float* p) {
  V16 r;
  memcpy(&r, p, 64);
  return r;
}
EYRIE_INLINE V16 v_load_n(const float* p, int n) {
  V16 r = {Lanes{}};
  if (n > 0) memcpy(&r, p, size_t(n < 16 ? n : 16) * 4);
  return r;
}
typedef uint16_t Halves __attribute__((vector_size(32)));
// f16_to_float of core/half.h, lane by lane.
EYRIE_INLINE V16 v_load_f16(const uint16_t* p) {
  Halves raw;
  memcpy(&raw, p, 32);
  const IntLanes h = __builtin_convertvector(raw, IntLanes), mag = h & 0x7fff, shifted = mag << 13;
  const IntLanes special = (shifted & 0x7fe000) | 0x7f800000 | ((mag > 0x7c00) & 0x400000);
  const IntLanes one = IntLanes{} + 0x38800000;
  const IntLanes small = (IntLanes)((Lanes)(one | shifted) - (Lanes)one);
  const IntLanes finite = mag >= 0x400 ? shifted + 0x38000000 : small;
  return {(Lanes)(((h & 0x8000) << 16) | (mag >= 0x7c00 ? special : finite))};
}
EYRIE_INLINE V16 v_load_bf16(const uint16_t* p) {
  Halves h;
  memcpy(&h, p, 32);
  return {(Lanes)(__builtin_convertvector(h, IntLanes) << 16)};
}
EYRIE_INLINE V16 v_load_i8(const int8_t* p) {
  typedef int8_t Bytes __attribute__((vector_size(16)));
  Bytes b;
  memcpy(&b, p, 16);
  return {__builtin_convertvector(__builtin_convertvector(b, IntLanes), Lanes)};
}
// e4m3_to_float of core/fp8.h, lane by lane.
EYRIE_INLINE V16 v_load_e4m3(const uint8_t* p) {
  typedef uint8_t Bytes __attribute__((vector_size(16)));
  Bytes raw;
  memcpy(&raw, p, 16);
  const IntLanes x = __builtin_convertvector(raw, IntLanes), mag = (x & 0x7f) << 20;
  const IntLanes one = IntLanes{} + 0x3c800000;
  const IntLanes small = (IntLanes)((Lanes)(one + mag) - (Lanes)one);
  const IntLanes finite = mag >= 0x800000 ? mag + 0x3c000000 : small;
  return {(Lanes)(((x & 0x80) << 24) | (mag == 0x7f00000 ? IntLanes{} + 0x7fc00000 : finite))};
}
EYRIE_INLINE void v_store(float* p, V16 a) { memcpy(p, &a, 64); }
EYRIE_INLINE void v_store_n(float* p, V16 a, int n) {
  for (int i = 0; i < n; i++) p[i] = a.v[i];
}
EYRIE_INLINE void v_store_f16(uint16_t* p, V16 a) {
  for (int i = 0; i < 16; i++) p[i] = float_to_f16(a.v[i]);
}
EYRIE_INLINE void v_store_bf16(uint16_t* p, V16 a) {
  for (int i = 0; i < 16; i++) p[i] = float_to_bf16(a.v[i]);
}
EYRIE_INLINE V16 v_add(V16 a, V16 b) { return {a.v + b.v}; }
EYRIE_INLINE V16 v_sub(V16 a, V16 b) { return {a.v - b.v}; }
EYRIE_INLINE V16 v_mul(V16 a, V16 b) { return {a.v * b.v}; }
EYRIE_INLINE V16 v_div(V16 a, V16 b) { return {a.v / b.v}; }
EYRIE_INLINE V16 v_fma(V16 a, V16 b, V16 c) { return {a.v * b.v + c.v}; }
EYRIE_INLINE V16 v_max(V16 a, V16 b) { return {a.v > b.v ? a.v : b.v}; }
EYRIE_INLINE V16 v_min(V16 a, V16 b) { return {a.v < b.v ? a.v : b.v}; }
EYRIE_INLINE V16 v_round_int(V16 a) { EYRIE_LANES(rintf(a.v[i])); }
EYRIE_INLINE V16 v_round_bf16(V16 a) {
  const IntLanes u = (IntLanes)a.v;
  const IntLanes rounded = u + 0x7fff + ((u >> 16) & 1);
  const IntLanes nan = u | 0x400000;
  return {(Lanes)((a.v == a.v ? rounded : nan) & int32_t(0xffff0000))};
}
// 2^n for integral n in [-126, 127]
EYRIE_INLINE V16 v_pow2(V16 n) {
  const IntLanes bits = (__builtin_convertvector(n.v, IntLanes) + 127) << 23;
  return {(Lanes)bits};
}
// a < b ? x : y
EYRIE_INLINE V16 v_select_lt(V16 a, V16 b, V16 x, V16 y) { return {a.v < b.v ? x.v : y.v}; }
// The lanes of a then b at even places, and those at odd places.
EYRIE_INLINE void v_unzip(V16 a, V16 b, V16* even, V16* odd) {
  for (int i = 0; i < 8; i++) {
    even->v[i] = a.v[2 * i];
    odd->v[i] = a.v[2 * i + 1];
    even->v[i + 8] = b.v[2 * i];
    odd->v[i + 8] = b.v[2 * i + 1];
  }
}
// Scalars with the rounding of the level's vector instruction.
EYRIE_INLINE float s_fma(float a, float b, float c) { return a * b + c; }
EYRIE_INLINE float s_sqrt(float a) { return sqrtf(a); }

// Fixed trees: lane i meets lane i+8, then i+4, i+2, i+1.
EYRIE_INLINE float v_reduce_add(V16 a) {
  for (int h = 8; h; h /= 2)
    for (int i = 0; i < h; i++) a.v[i] = a.v[i] + a.v[i + h];
  return a.v[0];
}
EYRIE_INLINE float v_reduce_max(V16 a) {
  for (int h = 8; h; h /= 2)
    for (int i = 0; i < h; i++) a.v[i] = a.v[i] > a.v[i + h] ? a.v[i] : a.v[i + h];
  return a.v[0];
}
#undef EYRIE_LANES

}  // namespace eyrie
