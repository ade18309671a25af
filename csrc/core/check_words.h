// What the checks of values share: the sentences of their errors.
#pragma once
#include <cstdio>
#include <string>

#include "core/checks.h"
#include "core/error.h"
#include "core/ops.gen.h"

namespace eyrie::checks {

inline std::string text(double x) {
  char s[32];
  snprintf(s, sizeof s, "%.9g", x);
  return s;
}

[[noreturn]] inline void fail(const char* op, const std::string& what) {
  throw Error("EYRIE_EXECUTION", std::string(op) + ": " + what);
}

// "rope: rows[3] is 70, expected a row of table in [0, 64)"
[[noreturn]] inline void fail_at(const char* op, const char* argument, int64_t i, double got,
                                 const std::string& expected) {
  fail(op, std::string(argument) + "[" + std::to_string(i) + "] is " + text(got) + ", expected " + expected);
}
[[noreturn]] inline void fail_at(const char* op, const char* argument, int64_t i, int64_t k, double got,
                                 const std::string& expected) {
  fail(op, std::string(argument) + "[" + std::to_string(i) + "," + std::to_string(k) + "] is " + text(got) +
               ", expected " + expected);
}

inline std::string between(const char* what, int64_t low, int64_t high) {
  return std::string(what) + " in [" + std::to_string(low) + ", " + std::to_string(high) + ")";
}

inline const int32_t* ints(const Tensor* t) { return static_cast<const int32_t*>(t->data); }
inline const float* floats(const Tensor* t) { return static_cast<const float*>(t->data); }

inline void in_range(const char* op, const char* argument, const Tensor* t, const char* what, int64_t low,
                     int64_t high) {
  const int64_t n = numel(*t);
  for (int64_t i = 0; i < n; i++)
    if (ints(t)[i] < low || ints(t)[i] >= high) fail_at(op, argument, i, ints(t)[i], between(what, low, high));
}

inline void scalar_in(const char* op, const char* argument, double x, double low, double high) {
  if (!(x >= low && x <= high))
    fail(op, std::string(argument) + " is " + text(x) + ", expected " + text(low) + " to " + text(high));
}

inline void equal(const char* op, const char* argument, int64_t got, int64_t expected, const char* why) {
  if (got != expected)
    fail(op, std::string(argument) + " is " + std::to_string(got) + ", expected " + std::to_string(expected) + " (" +
                 why + ")");
}

constexpr double kFloatMax = 3.402823466e38;

// An activation mode: 0 rounds to bf16, 1 keeps f32.
inline void check_activations(const char* op, int activations) { scalar_in(op, "activations", activations, 0, 1); }

// Of checks_cache.cc and checks_sample.cc, for the table in checks.cc.
void check_kv_write(const Call& call, bool values);
void check_paged_attention(const Call& call, bool values);
void check_fused_qkv(const Call& call, bool values);
void check_tree_prepare(const Call& call, bool values);
void check_tree_accept(const Call& call, bool values);
void check_kv_compact(const Call& call, bool values);
void check_kv_copy_pages(const Call& call, bool values);
void check_sample(const Call& call, bool values);

}  // namespace eyrie::checks
