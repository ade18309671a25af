// Storage: one piece of memory that tensors view. Kept alive by the handle table and by every enqueued launch.
#pragma once
#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include "core/tensor.h"

namespace eyrie {

class Storage {
 public:
  // Zeroed memory, 64-byte aligned; from 2 MiB up aligned for, and advised to be, huge pages. Throws EYRIE_OUT_OF_MEMORY.
  static std::shared_ptr<Storage> allocate(size_t bytes);
  // A private read-only mapping of a whole file of exactly `expected_bytes` bytes. Throws EYRIE_FILE.
  static std::shared_ptr<Storage> map_file(const std::string& path, size_t expected_bytes);
  // Memory that `release(data)` frees (device memory).
  static std::shared_ptr<Storage> adopt(void* data, size_t bytes, DeviceKind device,
                                        std::function<void(void*)> release);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  // Gives the resident pages of a mapped file's byte range back to the system; they are read again when touched.
  void discard(size_t offset, size_t bytes);

  void* data() const { return data_; }
  size_t bytes() const { return bytes_; }
  bool writable() const { return kind_ != Kind::mapped; }
  DeviceKind device() const { return device_; }

  // Bytes of all allocations (not mappings) of this process, now and at most.
  static size_t allocated();
  static size_t peak();

 private:
  enum class Kind { heap, pages, mapped, adopted };
  Storage(void* data, size_t bytes, Kind kind);
  void* data_;
  size_t bytes_;
  Kind kind_;
  DeviceKind device_ = DeviceKind::cpu;
  void* base_ = nullptr;  // what munmap gets
  size_t base_bytes_ = 0;
  std::function<void(void*)> release_;
};

}  // namespace eyrie
