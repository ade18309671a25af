// Reads what core/record.h describes.
#pragma once
#include <string>
#include <vector>

#include "core/record.h"

namespace eyrie {

struct RecordRegion {
  uint32_t alignment;  // of its first byte, modulo 64
  bool written;
  std::vector<char> before, after;  // after: only when written
};

struct RecordArgument {
  RecordKind kind;
  double scalar = 0;
  Tensor tensor;  // data stays null
  uint32_t region = 0;
  uint64_t offset = 0;
  int permute = 0;
  DType source_type = DType::u8;  // u8: in the weight's own format (pack_weight), else floats (quantize_weight)
  std::vector<char> source;  // of a weight
};

struct Record {
  std::string op, shapes;
  std::vector<RecordRegion> regions;
  std::vector<RecordArgument> arguments;
};

// All records of a file; throws EYRIE_FILE when it is damaged or of another version.
std::vector<Record> read_records(const std::string& path);

}  // namespace eyrie
