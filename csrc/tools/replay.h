// Runs a record on a device through the Backend interface.
#pragma once
#include "core/backend.h"
#include "tools/records.h"

namespace eyrie {

struct Outcome {
  std::string problem;  // empty: as on the CPU
  double relative = 0;  // of the worst argument, by its share of the tolerance
  double allowed = 0;
};

struct ReplayOptions {
  int repeat = 2;  // runs of each record, which must give equal bits
  bool exact = false;  // no guard bytes: every access outside is one that compute-sanitizer sees
  bool narrow = false;  // the record was narrowed
};

class Replay {
 public:
  Replay(Backend& backend, ReplayOptions options) : backend_(backend), options_(options) {}
  // Throws EYRIE_UNSUPPORTED when the device has no kernel.
  Outcome run(const Record& record);
  // "" when a packed weight holds the values of its source, as `embed` reads them.
  std::string check_packed(const Tensor& weight, DType source_type, const std::vector<char>& source, int permute);

 private:
  struct Placed {
    std::shared_ptr<Storage> storage;
    char* first = nullptr;  // of the region, on the device
  };
  void launch(const Op& op, const Call& call, std::vector<std::shared_ptr<Storage>> keep);
  Placed place(const RecordRegion& region, Placed reuse);
  std::shared_ptr<Storage> pack(const RecordArgument& weight);
  size_t guard() const { return options_.exact ? 0 : 256; }

  Backend& backend_;
  const ReplayOptions options_;
};

// The same record with activations in bf16, as only devices take them; false when the op has none.
bool narrowed(const Record& record, Record& out);

const Op& op_named(const std::string& name);

}  // namespace eyrie
