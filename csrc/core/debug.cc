#include "core/debug.h"

#include <string.h>

#include <cmath>
#include <cstdlib>
#include <string>

#include "core/error.h"

namespace eyrie {
namespace {

bool is(const Launch& launch, const char* op) { return strcmp(launch.op->name, op) == 0; }

// What these write is a weight, or a copy of what was checked when it was made.
bool skipped(const Launch& launch) {
  return is(launch, "pack_weight") || is(launch, "quantize_weight") || is(launch, "cast") || is(launch, "kv_compact") ||
         is(launch, "kv_copy_pages");
}
// Masked tokens are -inf by design.
bool only_nan(const Launch& launch) { return is(launch, "logits") || is(launch, "sample"); }

bool is_float(const Tensor& t) {
  return t.layout == Layout::dense && (t.dtype == DType::f32 || t.dtype == DType::f16 || t.dtype == DType::bf16);
}

// Finite values of f16 come out scaled by a power of two: whether a value is finite is all that is asked of them.
float value_at(const Tensor& t, const char* p) {
  uint32_t bits;
  if (t.dtype == DType::f32) {
    memcpy(&bits, p, 4);
  } else {
    uint16_t h;
    memcpy(&h, p, 2);
    bits = uint32_t(h) << 16;
    if (t.dtype == DType::f16)
      bits = (h & 0x7c00) == 0x7c00 ? (uint32_t(h & 0x8000) << 16 | 0x7f800000u | uint32_t(h & 0x3ff) << 13) : 0;
  }
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

struct Found {
  int64_t count = 0, elements = 0;
  int64_t index[kMaxRank] = {};  // of the first one
  float value = 0;
};

std::string text(const Tensor& t, const int64_t* index) {
  std::string s = "[";
  for (int d = 0; d < t.rank; d++) s += (d ? "," : "") + std::to_string(index[d]);
  return s + "]";
}

class DebugBackend : public Backend {
 public:
  explicit DebugBackend(std::unique_ptr<Backend> inner) : inner_(std::move(inner)) {}
  DeviceKind device() const override { return inner_->device(); }
  void prepare(Launch& launch) override { inner_->prepare(launch); }
  void run(const Launch& launch) override {
    inner_->run(launch);
    if (!skipped(launch)) check(launch);
  }
  bool replay(const Graph&) override { return false; }  // one by one, each with its check
  void copy_in(void* device, const void* host, size_t bytes) override { inner_->copy_in(device, host, bytes); }
  void copy_out(void* host, const void* device, size_t bytes) override { inner_->copy_out(host, device, bytes); }
  std::shared_ptr<Storage> allocate(size_t bytes) override { return inner_->allocate(bytes); }
  std::shared_ptr<Storage> allocate_weight(size_t bytes) override { return inner_->allocate_weight(bytes); }
  bool host_memory() const override { return inner_->host_memory(); }
  std::string describe() const override { return inner_->describe(); }
  int threads() const override { return inner_->threads(); }
  Waits waits() override { return inner_->waits(); }
  bool debug() const override { return true; }

 private:
  // Rows of the last dimension are contiguous, whatever the other strides are.
  Found scan(const Tensor& t, bool nan_only) {
    Found found;
    int64_t rows = 1;
    for (int d = 0; d + 1 < t.rank; d++) rows *= t.shape[d];
    const int64_t columns = t.rank ? t.shape[t.rank - 1] : 1;
    if (rows == 0 || columns == 0) return found;
    const int64_t size = dtype_info(t.dtype).block_bytes;
    int64_t last = 0;
    for (int d = 0; d < t.rank; d++) last += (t.shape[d] - 1) * t.stride[d];
    bytes_.resize(size_t((last + 1) * size));
    inner_->copy_out(bytes_.data(), t.data, bytes_.size());
    for (int64_t r = 0; r < rows; r++) {
      int64_t index[kMaxRank] = {}, rest = r, at = 0;
      for (int d = t.rank - 2; d >= 0; d--) {
        index[d] = rest % t.shape[d];
        rest /= t.shape[d];
        at += index[d] * t.stride[d];
      }
      for (int64_t c = 0; c < columns; c++) {
        const float x = value_at(t, bytes_.data() + (at + c) * size);
        found.elements++;
        if (nan_only ? !std::isnan(x) : std::isfinite(x)) continue;
        if (found.count++) continue;
        memcpy(found.index, index, sizeof index);
        if (t.rank) found.index[t.rank - 1] = c;
        found.value = x;
      }
    }
    return found;
  }

  void check(const Launch& launch) {
    for (size_t i = 0; i < launch.op->args.size(); i++) {
      const Arg& a = launch.op->args[i];
      const Tensor& t = launch.call.tensor[i];
      // Cache pages are large, and hold what other launches wrote: attention's output shows what is wrong in them.
      if (!a.tensor || !a.written || !t.data || !is_float(t) || a.type == Arg::Type::cache) continue;
      const Found found = scan(t, only_nan(launch));
      if (found.count) fail(launch, a, t, found);
    }
  }

  [[noreturn]] void fail(const Launch& launch, const Arg& a, const Tensor& t, const Found& found) {
    const std::string value = std::isnan(found.value) ? "NaN" : found.value < 0 ? "-Infinity" : "Infinity";
    std::string message = std::string(launch.op->name) + (launch.label ? " (" + *launch.label + ")" : "") + ": " +
                          a.name + text(t, found.index) + " is " + value + ", the first of " +
                          std::to_string(found.count) + " values that are not finite among " +
                          std::to_string(found.elements) + "; ";
    std::string weights;
    for (size_t i = 0; i < launch.op->args.size(); i++) {
      const Arg& other = launch.op->args[i];
      const Tensor& x = launch.call.tensor[i];
      if (!other.tensor || other.written || !x.data || other.type == Arg::Type::cache) continue;
      if (x.layout == Layout::tiles) weights += (weights.empty() ? "" : ", ") + other.name;
      if (!is_float(x)) continue;
      const Found cause = scan(x, false);
      if (cause.count)
        throw Error("EYRIE_NON_FINITE", message + "its argument " + other.name + text(x, cause.index) +
                                            " is not finite: look at what it was loaded from");
    }
    throw Error("EYRIE_NON_FINITE", message + "its dense inputs are finite: look for it in " +
                                        (weights.empty() ? std::string("what it computes (an overflow)")
                                                         : weights + ", or for an overflow"));
  }

  std::unique_ptr<Backend> inner_;
  std::string bytes_;  // executor thread only
};

}  // namespace

std::unique_ptr<Backend> debugging(std::unique_ptr<Backend> backend) {
  const char* set = std::getenv("EYRIE_DEBUG");
  if (!set || !*set || strcmp(set, "0") == 0) return backend;
  return std::make_unique<DebugBackend>(std::move(backend));
}

}  // namespace eyrie
