#include "core/record.h"

#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <mutex>

#include "core/error.h"
#include "core/tiles.h"

namespace eyrie {
namespace {

// Of one shape: contents differ too (sampling parameters, block tables).
constexpr int kSameShape = 4;

using Bytes = std::string;

template <class T>
void put(Bytes& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put_text(Bytes& out, const std::string& s) {
  put(out, uint16_t(s.size()));
  out += s;
}

// Bytes from the tensor's address to the end of its last element.
size_t extent(const Tensor& t) {
  if (t.layout == Layout::tiles) return size_t(tile_bytes(t.dtype, t.shape[0], t.shape[1]));
  int64_t last = 0;
  for (int i = 0; i < t.rank; i++) {
    if (t.shape[i] == 0) return 0;
    last += (t.shape[i] - 1) * t.stride[i];
  }
  return size_t(last + 1) * size_t(dtype_info(t.dtype).block_bytes);
}

struct Region {
  const char* begin;
  const char* end;
  bool written;
  Bytes before;
};

// Memory of the dense tensors, overlapping ones joined, in the order of addresses.
std::vector<Region> regions_of(const Launch& launch) {
  std::vector<Region> all;
  for (size_t i = 0; i < launch.op->args.size(); i++) {
    const Tensor& t = launch.call.tensor[i];
    if (!launch.op->args[i].tensor || !t.data || t.layout == Layout::tiles) continue;
    const char* begin = static_cast<const char*>(t.data);
    all.push_back({begin, begin + extent(t), launch.op->args[i].written, {}});
  }
  std::sort(all.begin(), all.end(),
            [](const Region& a, const Region& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  std::vector<Region> joined;
  for (Region& r : all) {
    if (!joined.empty() && (r.begin < joined.back().end || r.begin == joined.back().begin)) {
      joined.back().end = std::max(joined.back().end, r.end);
      joined.back().written |= r.written;
    } else {
      joined.push_back(std::move(r));
    }
  }
  return joined;
}

std::string number(double x) {
  char s[32];
  snprintf(s, sizeof s, "%.9g", x);
  return s;
}

// linear x:f32[2,64] w:q4_0[32,64] bias:- residual:- activations:0 out:f32[2,32]
std::string shapes_of(const Launch& launch) {
  std::string s = launch.op->name;
  for (size_t i = 0; i < launch.op->args.size(); i++) {
    const Arg& a = launch.op->args[i];
    const Tensor& t = launch.call.tensor[i];
    s += " " + a.name + ":";
    if (!a.tensor) {
      s += number(launch.call.scalar[i]);
    } else if (!t.data) {
      s += "-";
    } else {
      s += dtype_info(t.dtype).name + shape_text(t);
      int64_t dense = 1;
      bool strided = false;
      for (int d = t.rank - 1; d >= 0 && t.layout == Layout::dense; d--) {
        strided |= t.shape[d] > 1 && t.stride[d] != dense;
        dense *= t.shape[d];
      }
      if (strided) s += "~";
    }
  }
  return s;
}

// What a packed weight was made of.
struct Source {
  DType dtype, type;  // of the weight, of the bytes: u8 where they are in the weight's own format
  int64_t n, k;
  int32_t permute;
  Bytes bytes;
};

// Of the process: streams share the file and the weights.
class Recorder {
 public:
  explicit Recorder(const std::string& folder) : path_(folder + "/" + std::to_string(getpid()) + ".rec") {
    const char* limit = std::getenv("EYRIE_RECORD_LIMIT");
    limit_ = limit && *limit ? std::atoi(limit) : 60;
    const char* megabytes = std::getenv("EYRIE_RECORD_MB");
    largest_ = size_t(megabytes && *megabytes ? std::atoi(megabytes) : 4) << 20;
  }

  void run(Backend& backend, const Launch& launch) {
    const std::string shapes = shapes_of(launch);
    std::vector<Region> regions;
    bool wanted;
    {
      std::lock_guard lock(mutex_);
      wanted = count_[launch.op->name] < limit_ && of_shape_[shapes] < kSameShape;
    }
    if (wanted) {
      regions = regions_of(launch);
      size_t total = 0;
      for (const Region& r : regions) total += size_t(r.end - r.begin) * (r.written ? 2 : 1);
      wanted = total <= largest_;
      for (Region& r : regions)
        if (wanted) r.before.assign(r.begin, r.end);
    }
    backend.run(launch);
    std::lock_guard lock(mutex_);
    if (strcmp(launch.op->name, "pack_weight") == 0 || strcmp(launch.op->name, "quantize_weight") == 0)
      remember(launch);
    if (wanted) write(launch, shapes, regions);
  }

 private:
  void remember(const Launch& launch) {
    const Tensor &src = launch.call.tensor[0], &out = launch.call.tensor[2];
    Source s{out.dtype, src.dtype, out.shape[0], out.shape[1], int32_t(launch.call.scalar[1]), {}};
    const size_t bytes = extent(src);
    if (bytes <= largest_) s.bytes.assign(static_cast<const char*>(src.data), bytes);
    weights_[out.data] = std::move(s);
  }

  void write(const Launch& launch, const std::string& shapes, const std::vector<Region>& regions) {
    Bytes r;
    put_text(r, launch.op->name);
    put_text(r, shapes);
    put(r, uint32_t(regions.size()));
    for (const Region& region : regions) {
      put(r, uint64_t(region.end - region.begin));
      put(r, uint32_t(reinterpret_cast<uintptr_t>(region.begin) % 64));
      put(r, uint8_t(region.written));
      r += region.before;
      if (region.written) r.append(region.begin, region.end);
    }
    for (size_t i = 0; i < launch.op->args.size(); i++)
      if (!put_argument(r, launch, i, regions)) return;
    if (r.size() > largest_) return;
    std::ofstream file(path_, std::ios::binary | std::ios::app);
    Bytes head;
    if (file.tellp() == 0) {
      head.assign(kRecordMagic, 8);
      put(head, kRecordVersion);
    }
    put(head, uint64_t(r.size()));
    file << head << r;
    if (!file.flush()) throw Error("EYRIE_FILE", "cannot write " + path_ + " (EYRIE_RECORD)");
    count_[launch.op->name]++;
    of_shape_[shapes]++;
  }

  // false: a weight whose source is not known.
  bool put_argument(Bytes& r, const Launch& launch, size_t i, const std::vector<Region>& regions) {
    const Arg& a = launch.op->args[i];
    const Tensor& t = launch.call.tensor[i];
    if (!a.tensor) {
      put(r, RecordKind::scalar);
      put(r, launch.call.scalar[i]);
    } else if (!t.data) {
      put(r, RecordKind::absent);
    } else if (t.layout == Layout::dense) {
      put(r, RecordKind::tensor);
      put(r, t.dtype);
      put(r, t.rank);
      for (int d = 0; d < t.rank; d++) put(r, t.shape[d]);
      for (int d = 0; d < t.rank; d++) put(r, t.stride[d]);
      const char* begin = static_cast<const char*>(t.data);
      uint32_t index = 0;
      while (!(begin >= regions[index].begin && begin + extent(t) <= regions[index].end)) index++;
      put(r, index);
      put(r, uint64_t(begin - regions[index].begin));
    } else if (a.written) {
      put(r, RecordKind::made);
      put(r, t.dtype);
      put(r, t.shape[0]);
      put(r, t.shape[1]);
    } else {
      const auto known = weights_.find(t.data);
      if (known == weights_.end()) return false;
      const Source& s = known->second;
      if (s.dtype != t.dtype || s.n != t.shape[0] || s.k != t.shape[1] || (s.bytes.empty() && numel(t) > 0))
        return false;
      put(r, RecordKind::weight);
      put(r, t.dtype);
      put(r, t.shape[0]);
      put(r, t.shape[1]);
      put(r, s.permute);
      put(r, s.type);
      put(r, uint64_t(s.bytes.size()));
      r += s.bytes;
    }
    return true;
  }

  const std::string path_;
  int limit_;
  size_t largest_;  // bytes of a record
  std::mutex mutex_;
  std::map<std::string, int> count_, of_shape_;
  std::map<const void*, Source> weights_;  // of one address the last one
};

class RecordingBackend : public Backend {
 public:
  RecordingBackend(std::unique_ptr<Backend> inner, Recorder& recorder)
      : inner_(std::move(inner)), recorder_(recorder) {}
  DeviceKind device() const override { return inner_->device(); }
  void prepare(Launch& launch) override { inner_->prepare(launch); }
  void run(const Launch& launch) override { recorder_.run(*inner_, launch); }
  void copy_in(void* device, const void* host, size_t bytes) override { inner_->copy_in(device, host, bytes); }
  void copy_out(void* host, const void* device, size_t bytes) override { inner_->copy_out(host, device, bytes); }
  std::shared_ptr<Storage> allocate(size_t bytes) override { return inner_->allocate(bytes); }
  std::shared_ptr<Storage> allocate_weight(size_t bytes) override { return inner_->allocate_weight(bytes); }
  std::string describe() const override { return inner_->describe(); }
  int threads() const override { return inner_->threads(); }
  Waits waits() override { return inner_->waits(); }

 private:
  std::unique_ptr<Backend> inner_;
  Recorder& recorder_;
};

}  // namespace

std::unique_ptr<Backend> recording(std::unique_ptr<Backend> backend) {
  const char* folder = std::getenv("EYRIE_RECORD");
  if (!folder || !*folder) return backend;
  static Recorder& recorder = *new Recorder(folder);  // never destroyed: an executor may still write at exit
  return std::make_unique<RecordingBackend>(std::move(backend), recorder);
}

}  // namespace eyrie
