// Context: what a CUDA kernel's host function gets beside its arguments. Plain C++: no CUDA headers.
#pragma once
#include <cstddef>
#include <cstdint>

namespace eyrie::cuda {

// The first bad value that a kernel met (an id outside its table, a page outside the pool). Kernels skip what it would have
// touched; the host turns it into an error at the next read. Lies in memory that both sides see.
struct Fault {
  uint32_t set;  // 0: none; 1: being written; 2: complete
  int32_t op;  // row of ops.def
  int32_t argument;  // index in the op's signature
  int32_t index;  // element of the argument, flat
  int32_t columns;  // 0, or how many elements a row of it has: the index is then shown as row, column
  int32_t value;  // what was found there
  int32_t low, high;  // expected: low <= value < high
};

constexpr size_t kTickets = size_t(1) << 18;  // counters that there are

struct Context {
  void* owner = nullptr;  // the backend
  void* stream = nullptr;  // cudaStream_t
  Fault* fault = nullptr;
  int op = 0;  // row of ops.def of the call
  int sms = 0;  // multiprocessors
  int arch = 0;  // 10 * major + minor
  size_t shared_limit = 0;  // bytes of shared memory that a block may have
  bool chained = false;  // programmatic dependent launch: the next kernel may start before this one ends
  // Device memory for the launches of one call, 256-byte aligned, contents undefined. One call at a time uses it: ask once.
  void* workspace(size_t bytes) { return grow_(this, bytes); }
  // The same again, for a host function that calls others: their workspace() does not touch it.
  void* scratch(size_t bytes) { return scratch_(this, bytes); }
  // `count` counters (at most kTickets) that are zero; whoever uses them leaves them zero.
  uint32_t* tickets(size_t count) { return tickets_(this, count); }

  // A device copy of host bytes for the launches that follow, until the next upload.
  const void* upload(const void* host, size_t bytes) { return upload_(this, host, bytes); }

  void* (*grow_)(Context*, size_t) = nullptr;
  void* (*scratch_)(Context*, size_t) = nullptr;
  uint32_t* (*tickets_)(Context*, size_t) = nullptr;
  const void* (*upload_)(Context*, const void*, size_t) = nullptr;
};

}  // namespace eyrie::cuda
