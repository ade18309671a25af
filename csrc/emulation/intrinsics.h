// What one thread of CUDA C++ can call: bits, arithmetic with a stated rounding, min and max, caching hints, fences, atomics.
#pragma once
#include <atomic>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulation/block.h"

// ---- bits ----

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x ? std::countr_zero(unsigned(x)) + 1 : 0; }
inline int __ffsll(long long x) { return x ? std::countr_zero(static_cast<unsigned long long>(x)) + 1 : 0; }
inline unsigned __brev(unsigned x) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++) r |= (x >> i & 1) << (31 - i);
  return r;
}
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline int __mulhi(int a, int b) { return int(int64_t(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(Wide(a) * b >> 64);
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t bytes = uint64_t(y) << 32 | x;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned s = selector >> 4 * i & 15;
    unsigned byte = unsigned(bytes >> 8 * (s & 7)) & 255;
    if (s & 8) byte = byte & 128 ? 255 : 0;  // the sign, repeated
    r |= byte << 8 * i;
  }
  return r;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) << (shift & 31) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }
inline int __dp4a(int a, int b, int c) {
  for (int i = 0; i < 4; i++) c += int(int8_t(a >> 8 * i)) * int(int8_t(b >> 8 * i));
  return c;
}

// ---- arithmetic (-ffp-contract=off: each operation is one) ----

inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return float(1.0 / sqrt(double(x))); }
inline float rsqrtf(float x) { return float(1.0 / sqrt(double(x))); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline int __float2int_rn(float x) { return int(nearbyintf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __saturatef(float x) { return x > 0 ? (x < 1 ? x : 1) : 0; }
// Macros: libm has these names too.
#define __expf(x) expf(x)
#define __exp10f(x) powf(10.0f, x)
#define __logf(x) logf(x)
#define __log2f(x) log2f(x)
#define __powf(x, y) powf(x, y)
#define __sinf(x) sinf(x)
#define __cosf(x) cosf(x)

// CUDA's overloads, so that a call that is ambiguous there is ambiguous here.
#define EMULATION_MIN_MAX(result, first, second) \
  inline result min(first a, second b) {         \
    const result x = a, y = b;                   \
    return y < x ? y : x;                        \
  }                                              \
  inline result max(first a, second b) {         \
    const result x = a, y = b;                   \
    return x < y ? y : x;                        \
  }
#define EMULATION_MIN_MAX_OF(type, utype) \
  EMULATION_MIN_MAX(type, type, type)     \
  EMULATION_MIN_MAX(utype, utype, utype)  \
  EMULATION_MIN_MAX(utype, type, utype)   \
  EMULATION_MIN_MAX(utype, utype, type)
using emulation_ulong = unsigned long;
using emulation_ulonglong = unsigned long long;
EMULATION_MIN_MAX_OF(int, unsigned)
EMULATION_MIN_MAX_OF(long, emulation_ulong)
EMULATION_MIN_MAX_OF(long long, emulation_ulonglong)
#undef EMULATION_MIN_MAX_OF
#undef EMULATION_MIN_MAX
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
inline double min(float a, double b) { return fmin(a, b); }
inline double max(float a, double b) { return fmax(a, b); }
inline double min(double a, float b) { return fmin(a, b); }
inline double max(double a, float b) { return fmax(a, b); }

// ---- memory ----

template <class T>
inline T __ldg(const T* p) {
  return *p;
}
template <class T>
inline T __ldcg(const T* p) {
  return *p;
}
template <class T>
inline T __ldca(const T* p) {
  return *p;
}
template <class T>
inline T __ldcs(const T* p) {
  return *p;
}
template <class T>
inline T __ldcv(const T* p) {
  return *p;
}
template <class T>
inline void __stcg(T* p, T v) {
  *p = v;
}
template <class T>
inline void __stcs(T* p, T v) {
  *p = v;
}
template <class T>
inline void __stwt(T* p, T v) {
  *p = v;
}
inline void __threadfence() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __threadfence_block() { std::atomic_signal_fence(std::memory_order_seq_cst); }
inline void __threadfence_system() { std::atomic_thread_fence(std::memory_order_seq_cst); }
inline void __trap() { eyrie::emulation::running->block->fail("__trap"); }
unsigned __activemask() = delete;  // says nothing that a program may rely on

namespace eyrie::emulation {
template <class T>
concept AtomicInteger = std::same_as<T, int> || std::same_as<T, unsigned> || std::same_as<T, unsigned long long>;
template <class T>
concept AtomicOrdered = AtomicInteger<T> || std::same_as<T, long long>;
template <class T>
concept AtomicValue = AtomicInteger<T> || std::same_as<T, float> || std::same_as<T, double>;

template <class T, class F>
inline T atomic_update(T* p, F change) {
  std::atomic_ref<T> a(*p);
  T old = a.load(std::memory_order_relaxed);
  while (!a.compare_exchange_weak(old, change(old), std::memory_order_relaxed)) {
  }
  return old;
}
}  // namespace eyrie::emulation

template <eyrie::emulation::AtomicValue T>
inline T atomicAdd(T* p, std::type_identity_t<T> v) {
  return eyrie::emulation::atomic_update(p, [v](T old) { return old + v; });
}
template <eyrie::emulation::AtomicInteger T>
inline T atomicSub(T* p, std::type_identity_t<T> v) {
  return eyrie::emulation::atomic_update(p, [v](T old) { return old - v; });
}
template <eyrie::emulation::AtomicOrdered T>
inline T atomicMax(T* p, std::type_identity_t<T> v) {
  return eyrie::emulation::atomic_update(p, [v](T old) { return old < v ? v : old; });
}
template <eyrie::emulation::AtomicOrdered T>
inline T atomicMin(T* p, std::type_identity_t<T> v) {
  return eyrie::emulation::atomic_update(p, [v](T old) { return v < old ? v : old; });
}
template <eyrie::emulation::AtomicInteger T>
inline T atomicOr(T* p, std::type_identity_t<T> v) {
  return eyrie::emulation::atomic_update(p, [v](T old) { return old | v; });
}
template <eyrie::emulation::AtomicInteger T>
inline T atomicAnd(T* p, std::type_identity_t<T> v) {
  return eyrie::emulation::atomic_update(p, [v](T old) { return old & v; });
}
template <eyrie::emulation::AtomicInteger T>
inline T atomicXor(T* p, std::type_identity_t<T> v) {
  return eyrie::emulation::atomic_update(p, [v](T old) { return old ^ v; });
}
template <class T>
  requires eyrie::emulation::AtomicInteger<T> || std::same_as<T, float>
inline T atomicExch(T* p, std::type_identity_t<T> v) {
  return std::atomic_ref<T>(*p).exchange(v, std::memory_order_relaxed);
}
template <eyrie::emulation::AtomicInteger T>
inline T atomicCAS(T* p, std::type_identity_t<T> expected, std::type_identity_t<T> v) {
  std::atomic_ref<T>(*p).compare_exchange_strong(expected, v, std::memory_order_relaxed);
  return expected;
}
inline unsigned atomicInc(unsigned* p, unsigned limit) {
  return eyrie::emulation::atomic_update(p, [limit](unsigned old) { return old >= limit ? 0 : old + 1; });
}
inline unsigned atomicDec(unsigned* p, unsigned limit) {
  return eyrie::emulation::atomic_update(p, [limit](unsigned old) { return !old || old > limit ? limit : old - 1; });
}
