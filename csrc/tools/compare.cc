#include "tools/compare.h"

#include <cmath>
#include <cstring>

#include "core/fp8.h"

namespace eyrie {
namespace {

// What stands for real numbers: compared by distance where an op has a tolerance.
bool is_float(DType t) {
  return t == DType::f32 || t == DType::f16 || t == DType::bf16 || t == DType::f8_e4m3 || t == DType::i8;
}

bool is_cache(const std::string& name) { return name == "k_pages" || name == "v_pages"; }

// Which slots of a cache the op writes, by its argument `slots`; empty for other arguments. The rest must stay as it was.
std::vector<bool> written_slots(const Op& op, const Record& record, size_t i) {
  const Tensor& pages = record.arguments[i].tensor;
  std::vector<bool> written;
  for (size_t k = 0; k < op.args.size() && is_cache(op.args[i].name); k++) {
    const RecordArgument& a = record.arguments[k];
    if (op.args[k].name != "slots") continue;
    written.resize(size_t(pages.shape[0] * pages.shape[2]), false);
    for_elements(a, [&](int64_t offset) {
      int32_t slot;
      memcpy(&slot, record.regions[a.region].before.data() + offset, 4);
      if (slot >= 0 && size_t(slot) < written.size()) written[size_t(slot)] = true;
    });
  }
  return written;
}

struct Row {
  const char* op;
  double f32;  // f32 results of f32 activations
  double narrow;  // bf16 activations, judged by the f32 results of unrounded ones
};
// Ops that are not here move values only: equal bits.
const Row kTolerances[] = {
    {"embed", 1e-6, 4e-3},       {"norm", 1e-5, 8e-3},   {"add", 1e-6, 8e-3},    {"lora_shrink", 1e-5, 2e-2},
    {"lora_expand", 1e-5, 8e-3}, {"linear", 2e-5, 8e-3}, {"rope", 2e-6, 8e-3},   {"paged_attention", 2e-5, 8e-3},
    {"glu", 1e-5, 1e-2},         {"act", 1e-5, 1e-2},    {"logits", 1e-5, 8e-3}, {"fused_qkv", 2e-5, 2e-2},
    {"fused_glu", 2e-5, 2e-2},   {"sample", 1e-5, 1e-5},
};

std::string at(const RecordArgument& a, int64_t flat) {
  std::string s = "[";
  int64_t rest = flat;
  std::string parts[kMaxRank];
  for (int d = a.tensor.rank - 1; d >= 0; d--) {
    parts[d] = std::to_string(rest % a.tensor.shape[d]);
    rest /= a.tensor.shape[d];
  }
  for (int d = 0; d < a.tensor.rank; d++) s += (d ? "," : "") + parts[d];
  return s + "]";
}

std::string value(DType t, const char* p) {
  if (is_float(t)) {
    char s[32];
    snprintf(s, sizeof s, "%.9g", double(to_float(t, p)));
    return s;
  }
  int32_t x = 0;
  memcpy(&x, p, size_t(dtype_info(t).block_bytes));
  return std::to_string(x);
}

double scalar_of(const Op& op, const Record& record, const char* name) {
  for (size_t i = 0; i < op.args.size(); i++)
    if (op.args[i].name == name) return record.arguments[i].scalar;
  return 0;
}

}  // namespace

float to_float(DType dtype, const char* element) {
  uint32_t bits = 0;
  float x;
  if (dtype == DType::f8_e4m3) return e4m3_to_float(uint8_t(*element));
  if (dtype == DType::i8) return float(static_cast<signed char>(*element));
  if (dtype == DType::f16) {
    _Float16 h;
    memcpy(&h, element, 2);
    return float(h);
  }
  memcpy(dtype == DType::bf16 ? reinterpret_cast<char*>(&bits) + 2 : reinterpret_cast<char*>(&bits), element,
         dtype == DType::bf16 ? 2 : 4);
  memcpy(&x, &bits, 4);
  return x;
}

double tolerance(const Op& op, const Record& record, size_t i, bool narrow) {
  const DType out = record.arguments[i].tensor.dtype;
  if (!is_float(out)) return 0;
  const std::string name = op.name;
  // Values that are rounded when they are stored, in the CPU or here, may fall to the other side; twice as far when they were rounded to bf16
  // before.
  const double rounding = out == DType::bf16      ? 4e-3
                          : out == DType::f16     ? 5e-4
                          : out == DType::f8_e4m3 ? 3e-2
                          : out == DType::i8      ? 8e-3
                                                  : 0;
  for (const Row& row : kTolerances) {
    if (name != row.op) continue;
    if (narrow) return row.narrow;
    double allowed = std::max(row.f32, rounding);
    // A norm that differs in the last bit changes which bf16 a product is given.
    if ((name == "fused_qkv" || name == "fused_glu") && scalar_of(op, record, "activations") == 0)
      allowed = std::max(allowed, 1e-3);
    // Tensor cores take the probabilities in the cache's own type.
    if (name == "paged_attention")
      for (size_t k = 0; k < op.args.size(); k++)
        if (is_cache(op.args[k].name) && record.arguments[k].tensor.dtype != DType::f32) allowed = 4e-3;
    return allowed;
  }
  return narrow ? std::max(4e-3, 2 * rounding) : 0;
}

Difference compare(const Op& op, const Record& record, size_t i, const std::vector<char>& got, double allowed) {
  const RecordArgument& a = record.arguments[i];
  const RecordRegion& region = record.regions[a.region];
  const DType t = a.tensor.dtype;
  const size_t size = size_t(dtype_info(t).block_bytes);
  const std::vector<bool> slots = written_slots(op, record, i);
  // Of a flat index of [page][head][slot][dimension]: whether the op leaves it alone.
  const auto kept = [&](int64_t index) {
    const int64_t* shape = a.tensor.shape;
    return !slots.empty() &&
           !slots[size_t(index / (shape[1] * shape[2] * shape[3]) * shape[2] + index / shape[3] % shape[2])];
  };
  Difference d;
  double sum = 0, norm = 0;
  int64_t flat = 0, wrong = 0;
  const auto complain = [&](int64_t index, int64_t offset, const char* what) {
    if (wrong++ == 0)
      d.problem = op.args[i].name + at(a, index) + " is " + value(t, got.data() + offset) + ", " + what + " " +
                  value(t, region.after.data() + offset);
  };
  for_elements(a, [&](int64_t offset) {
    const char *g = got.data() + offset, *w = region.after.data() + offset;
    const int64_t index = flat++;
    if (memcmp(g, w, size) == 0) {
      if (is_float(t)) {
        const double y = double(to_float(t, w));
        if (std::isfinite(y) && !kept(index)) norm += y * y;
      }
      return;
    }
    if (!is_float(t)) return complain(index, offset, "expected");
    if (kept(index)) return complain(index, offset, "but nothing is written there: it was");
    const double x = double(to_float(t, g)), y = double(to_float(t, w));
    if (std::isnan(x) && std::isnan(y)) return;  // which NaN is the device's affair
    if (allowed == 0 || !std::isfinite(x) || !std::isfinite(y)) return complain(index, offset, "expected");
    norm += y * y;
    sum += (x - y) * (x - y);
    d.largest = std::max(d.largest, std::fabs(x - y));
  });
  d.relative = sum == 0 ? 0 : std::sqrt(sum / std::max(norm, 1e-30));
  if (wrong) {
    d.problem += " (" + std::to_string(wrong) + " of " + std::to_string(flat) + " elements)";
  } else if (d.relative > allowed) {
    char s[96];
    snprintf(s, sizeof s, ": relative error %.3g (largest %.3g), allowed %.3g", d.relative, d.largest, allowed);
    d.problem = op.args[i].name + s;
  }
  return d;
}

int64_t stray_write(const Op& op, const Record& record, size_t region, const std::vector<char>& got) {
  const std::vector<char>& before = record.regions[region].before;
  if (got == before) return -1;
  std::vector<bool> covered(before.size(), false);
  for (size_t i = 0; i < record.arguments.size(); i++) {
    const RecordArgument& a = record.arguments[i];
    if (a.kind != RecordKind::tensor || !op.args[i].written || a.region != region) continue;
    const int64_t size = dtype_info(a.tensor.dtype).block_bytes;
    for_elements(a, [&](int64_t offset) {
      for (int64_t k = 0; k < size; k++) covered[size_t(offset + k)] = true;
    });
  }
  for (size_t k = 0; k < before.size(); k++)
    if (!covered[k] && got[k] != before[k]) return int64_t(k);
  return -1;
}

}  // namespace eyrie
