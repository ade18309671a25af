#include "tools/records.h"

#include <cstring>
#include <fstream>
#include <iterator>

#include "core/error.h"

namespace eyrie {
namespace {

class Reader {
 public:
  Reader(const std::string& path, const char* begin, const char* end) : path_(path), at_(begin), end_(end) {}
  const char* take(uint64_t n) {
    if (n > uint64_t(end_ - at_)) throw Error("EYRIE_FILE", path_ + " ends in the middle of a record");
    const char* p = at_;
    at_ += n;
    return p;
  }
  template <class T>
  T get() {
    T value;
    memcpy(&value, take(sizeof value), sizeof value);
    return value;
  }
  std::string text() {
    const auto n = get<uint16_t>();
    return std::string(take(n), n);
  }
  std::vector<char> bytes(uint64_t n) {
    const char* p = take(n);
    return std::vector<char>(p, p + n);
  }
  bool done() const { return at_ == end_; }

 private:
  const std::string& path_;
  const char *at_, *end_;
};

DType dtype_of(Reader& r) {
  const auto value = r.get<uint8_t>();
  if (value >= uint8_t(DType::count)) throw Error("EYRIE_FILE", "a record has an unknown dtype");
  return DType(value);
}

RecordArgument read_argument(Reader& r) {
  RecordArgument a;
  a.kind = RecordKind(r.get<uint8_t>());
  switch (a.kind) {
    case RecordKind::scalar: a.scalar = r.get<double>(); break;
    case RecordKind::absent: break;
    case RecordKind::tensor:
      a.tensor.dtype = dtype_of(r);
      a.tensor.rank = r.get<uint8_t>();
      if (a.tensor.rank > kMaxRank) throw Error("EYRIE_FILE", "a record has a tensor of too many dimensions");
      for (int d = 0; d < a.tensor.rank; d++) a.tensor.shape[d] = r.get<int64_t>();
      for (int d = 0; d < a.tensor.rank; d++) a.tensor.stride[d] = r.get<int64_t>();
      a.region = r.get<uint32_t>();
      a.offset = r.get<uint64_t>();
      break;
    case RecordKind::weight:
    case RecordKind::made:
      a.tensor.dtype = dtype_of(r);
      a.tensor.layout = Layout::tiles;
      a.tensor.rank = 2;
      a.tensor.shape[0] = r.get<int64_t>();
      a.tensor.shape[1] = r.get<int64_t>();
      if (a.kind == RecordKind::made) break;
      a.permute = r.get<int32_t>();
      a.source_type = dtype_of(r);
      a.source = r.bytes(r.get<uint64_t>());
      break;
    default: throw Error("EYRIE_FILE", "a record has an argument of an unknown kind");
  }
  return a;
}

}  // namespace

std::vector<Record> read_records(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error("EYRIE_FILE", "cannot open " + path);
  const std::vector<char> file{std::istreambuf_iterator<char>(in), {}};
  Reader all(path, file.data(), file.data() + file.size());
  if (memcmp(all.take(8), kRecordMagic, 8) != 0 || all.get<uint32_t>() != kRecordVersion)
    throw Error("EYRIE_FILE", path + " is no file of records of this version; write it again (scripts/record.mjs)");
  std::vector<Record> records;
  while (!all.done()) {
    const auto size = all.get<uint64_t>();
    const char* begin = all.take(size);
    Reader r(path, begin, begin + size);
    Record record;
    record.op = r.text();
    record.shapes = r.text();
    record.regions.resize(r.get<uint32_t>());
    for (RecordRegion& region : record.regions) {
      const auto bytes = r.get<uint64_t>();
      region.alignment = r.get<uint32_t>();
      region.written = r.get<uint8_t>() != 0;
      region.before = r.bytes(bytes);
      if (region.written) region.after = r.bytes(bytes);
    }
    while (!r.done()) record.arguments.push_back(read_argument(r));
    for (const RecordArgument& a : record.arguments)
      if (a.kind == RecordKind::tensor &&
          (a.region >= record.regions.size() || a.offset > record.regions[a.region].before.size()))
        throw Error("EYRIE_FILE", path + ": a record's tensor lies outside its memory");
    records.push_back(std::move(record));
  }
  return records;
}

}  // namespace eyrie
