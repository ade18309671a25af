// Schema: the parsed signature of an op, and the one place where arguments are checked against it.
#pragma once
#include <string>
#include <vector>

#include "core/call.h"

namespace eyrie {

struct Dim {
  int symbol = -1;      // index into Op::symbols, or -1 for a literal
  int64_t offset = 0;   // the literal, or what is added to the symbol
};

struct Arg {
  enum class Type { f32, f16, bf16, i32, u8, u16, activation, cache, weight, any };
  std::string name;
  Type type = Type::f32;
  bool tensor = false;    // else a scalar (f32 or i32)
  bool strided = false;   // rows may be strided
  bool optional = false;
  bool written = false;   // output or in place
  bool host = false;      // may lie in host memory, whatever the device
  std::vector<Dim> dims;
};

struct Op {
  int index;
  const char* name;
  const char* signature;
  std::vector<Arg> args;
  std::vector<std::string> symbols;
};

// All ops in the order of ops.def. Parsed once; throws when a row is malformed.
const std::vector<Op>& ops();

// Binds symbolic sizes and checks dtype, layout, rank, sizes, density, device and aliasing of every tensor of the
// call; throws Error(EYRIE_SHAPE | EYRIE_DTYPE | EYRIE_INVALID_ARGUMENT) naming the argument, what was expected and what came.
void bind(const Op& op, Call& call);

std::string shape_text(const Tensor& t);

}  // namespace eyrie
