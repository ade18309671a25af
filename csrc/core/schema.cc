#include "core/schema.h"

#include <sstream>

#include "core/error.h"
#include "core/tiles.h"

namespace eyrie {
namespace {

struct Row {
  const char* name;
  const char* signature;
};
const Row kRows[] = {
#define OP(name, signature) {#name, signature},
#include "ops.def"
#undef OP
};

Arg::Type parse_type(const std::string& s) {
  if (s == "f32") return Arg::Type::f32;
  if (s == "f16") return Arg::Type::f16;
  if (s == "bf16") return Arg::Type::bf16;
  if (s == "i32") return Arg::Type::i32;
  if (s == "u8") return Arg::Type::u8;
  if (s == "u16") return Arg::Type::u16;
  if (s == "f") return Arg::Type::activation;
  if (s == "kv") return Arg::Type::cache;
  if (s == "w") return Arg::Type::weight;
  if (s == "any") return Arg::Type::any;
  throw Error("EYRIE_INVALID_ARGUMENT", "ops.def: unknown type " + s);
}

int symbol_of(Op& op, const std::string& name) {
  for (size_t i = 0; i < op.symbols.size(); i++)
    if (op.symbols[i] == name) return int(i);
  op.symbols.push_back(name);
  return int(op.symbols.size()) - 1;
}

Arg parse_arg(Op& op, std::string word, bool output) {
  Arg a;
  a.written = output;
  while (word.back() == '?' || word.back() == '!' || word.back() == '^') {
    (word.back() == '?' ? a.optional : word.back() == '!' ? a.written : a.host) = true;
    word.pop_back();
  }
  const size_t colon = word.find(':'), bracket = word.find('[');
  a.name = word.substr(0, colon);
  a.tensor = bracket != std::string::npos;
  std::string type = word.substr(colon + 1, (a.tensor ? bracket : word.size()) - colon - 1);
  if (type.back() == '~') {
    a.strided = true;
    type.pop_back();
  }
  a.type = parse_type(type);
  if (!a.tensor) return a;
  std::stringstream dims(word.substr(bracket + 1, word.size() - bracket - 2));
  for (std::string d; std::getline(dims, d, ',');) {
    Dim dim;
    if (isdigit(d[0])) {
      dim.offset = std::stoll(d);
    } else {
      const size_t plus = d.find('+');
      dim.symbol = symbol_of(op, d.substr(0, plus));
      if (plus != std::string::npos) dim.offset = std::stoll(d.substr(plus + 1));
    }
    a.dims.push_back(dim);
  }
  return a;
}

std::vector<Op> parse_all() {
  std::vector<Op> all;
  for (const Row& row : kRows) {
    Op op{int(all.size()), row.name, row.signature, {}, {}};
    std::stringstream words(row.signature);
    bool output = false;
    for (std::string w; words >> w;) {
      if (w == "->") output = true;
      else op.args.push_back(parse_arg(op, w, output));
    }
    if (op.args.size() > kMaxArgs || op.symbols.size() > kMaxSymbols)
      throw Error("EYRIE_INVALID_ARGUMENT", std::string("ops.def: too many arguments or sizes in ") + row.name);
    all.push_back(std::move(op));
  }
  return all;
}

[[noreturn]] void fail(const char* code, const Op& op, const Arg& a, const std::string& what) {
  throw Error(code, std::string(op.name) + ": " + a.name + " " + what + "  (" + op.signature + ")");
}

bool is_float(DType t) { return t == DType::f32 || t == DType::f16 || t == DType::bf16; }

const char* expected(Arg::Type t) {
  switch (t) {
    case Arg::Type::f32: return "f32";
    case Arg::Type::f16: return "f16";
    case Arg::Type::bf16: return "bf16";
    case Arg::Type::i32: return "i32";
    case Arg::Type::u8: return "u8";
    case Arg::Type::u16: return "u16";
    case Arg::Type::activation: return "f32, f16 or bf16";
    case Arg::Type::cache: return "f32, f16, bf16, f8_e4m3 or i8";
    case Arg::Type::weight: return "a packed weight (pack_weight, quantize_weight)";
    default: return "a dense tensor";
  }
}

bool dtype_fits(Arg::Type t, const Tensor& x) {
  if (t == Arg::Type::weight) return x.layout == Layout::tiles;
  if (x.layout != Layout::dense) return false;
  switch (t) {
    case Arg::Type::f32: return x.dtype == DType::f32;
    case Arg::Type::f16: return x.dtype == DType::f16;
    case Arg::Type::bf16: return x.dtype == DType::bf16;
    case Arg::Type::i32: return x.dtype == DType::i32;
    case Arg::Type::u8: return x.dtype == DType::u8;
    case Arg::Type::u16: return x.dtype == DType::u16;
    case Arg::Type::activation: return is_float(x.dtype);
    case Arg::Type::cache: return is_float(x.dtype) || x.dtype == DType::f8_e4m3 || x.dtype == DType::i8;
    default: return true;
  }
}

std::string dtype_text(const Tensor& t) {
  return std::string(dtype_info(t.dtype).name) + (t.layout == Layout::tiles ? " (packed)" : "");
}

void check_density(const Op& op, const Arg& a, const Tensor& x) {
  if (x.layout == Layout::tiles) return;
  if (x.rank && x.shape[x.rank - 1] > 1 && x.stride[x.rank - 1] != 1)
    fail("EYRIE_SHAPE", op, a, "must be contiguous in its last dimension");
  if (a.strided) return;
  if (!is_dense(x)) fail("EYRIE_SHAPE", op, a, "must be dense, but is a strided view; copy it first");
}

// First and one past the last byte that a tensor can touch.
void extent(const Tensor& t, const char*& begin, const char*& end) {
  begin = end = static_cast<const char*>(t.data);
  if (t.layout == Layout::tiles) {
    end += tile_bytes(t.dtype, t.shape[0], t.shape[1]);
    return;
  }
  int64_t last = 0;
  for (int i = 0; i < t.rank; i++) {
    if (t.shape[i] == 0) return;
    last += (t.shape[i] - 1) * t.stride[i];
  }
  end += (last + 1) * dtype_info(t.dtype).block_bytes / dtype_info(t.dtype).block;
}

// A written tensor may coincide exactly with another one (element-wise in place); partial overlap is an error, except between
// two views of one strided buffer that share no element, which cannot be told cheaply and is allowed for strided arguments.
void check_aliasing(const Op& op, const Call& call) {
  for (size_t i = 0; i < op.args.size(); i++) {
    const Arg& a = op.args[i];
    if (!a.tensor || !a.written || !call.tensor[i].data) continue;
    const char *b0, *e0;
    extent(call.tensor[i], b0, e0);
    for (size_t j = 0; j < op.args.size(); j++) {
      const Arg& other = op.args[j];
      if (j == i || !other.tensor || !call.tensor[j].data || (a.strided && other.strided)) continue;
      const char *b1, *e1;
      extent(call.tensor[j], b1, e1);
      if (b0 < e1 && b1 < e0 && !(b0 == b1 && e0 == e1))
        fail("EYRIE_INVALID_ARGUMENT", op, a, "overlaps " + other.name + " in part; use separate tensors");
    }
  }
}

}  // namespace

const std::vector<Op>& ops() {
  // Never destroyed: process.exit runs static destructors while executor threads may still look at their op.
  static const auto& all = *new std::vector<Op>(parse_all());
  return all;
}

std::string shape_text(const Tensor& t) {
  std::string s = "[";
  for (int i = 0; i < t.rank; i++) s += (i ? "," : "") + std::to_string(t.shape[i]);
  return s + "]";
}

void bind(const Op& op, Call& call) {
  for (int64_t& s : call.size) s = -1;
  int activation = -1, cache = -1, device = -1;
  for (size_t i = 0; i < op.args.size(); i++) {
    const Arg& a = op.args[i];
    if (!a.tensor) continue;
    const Tensor& x = call.tensor[i];
    if (!x.data) continue;  // absent; presence was checked by the caller
    if (!dtype_fits(a.type, x))
      fail("EYRIE_DTYPE", op, a, std::string("is ") + dtype_text(x) + ", expected " + expected(a.type));
    int* same = a.type == Arg::Type::activation ? &activation : a.type == Arg::Type::cache ? &cache : nullptr;
    if (same) {
      if (*same < 0) *same = int(x.dtype);
      if (*same != int(x.dtype))
        fail("EYRIE_DTYPE", op, a, std::string("is ") + dtype_text(x) + ", expected " + dtype_info(DType(*same)).name);
    }
    if (device < 0 && !a.host) device = int(x.device);
    if (device != int(x.device) && !a.host) fail("EYRIE_INVALID_ARGUMENT", op, a, "is on another device");
    if (a.dims.size() != x.rank)
      fail("EYRIE_SHAPE", op, a,
           "has shape " + shape_text(x) + ", expected " + std::to_string(a.dims.size()) + " dimensions");
    for (size_t d = 0; d < a.dims.size(); d++) {
      const Dim& dim = a.dims[d];
      int64_t want = dim.offset;
      std::string label = std::to_string(want);
      if (dim.symbol >= 0) {
        int64_t& bound = call.size[dim.symbol];
        label = op.symbols[dim.symbol] + (dim.offset ? "+" + std::to_string(dim.offset) : "");
        if (bound < 0) bound = x.shape[d] - dim.offset;
        want = bound + dim.offset;
      }
      if (x.shape[d] != want)
        fail("EYRIE_SHAPE", op, a,
             "has " + label + "=" + std::to_string(x.shape[d]) + ", expected " + std::to_string(want));
    }
    check_density(op, a, x);
  }
  check_aliasing(op, call);
}

}  // namespace eyrie
