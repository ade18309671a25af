// Backend: what an executor thread needs of a device to run launches and copies in order.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "core/call.h"
#include "core/pool.h"
#include "core/schema.h"
#include "core/storage.h"

namespace eyrie {

// One enqueued op: its checked arguments and the memory that they view.
struct Launch {
  const Op* op;
  Call call;
  Kernel kernel = nullptr;       // CPU
  Check check = nullptr;
  std::vector<std::shared_ptr<Storage>> keep;
  std::shared_ptr<const std::string> label;  // what runs ("layer 3"), for EYRIE_DEBUG; null: none
};

// A recorded list of launches that can be replayed. `compiled` is what the backend made of it (executor thread only).
struct Graph {
  std::vector<std::unique_ptr<Launch>> launches;
  mutable std::shared_ptr<void> compiled;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual DeviceKind device() const = 0;
  // Fills in how the op runs here; throws EYRIE_UNSUPPORTED when it cannot.
  virtual void prepare(Launch& launch) = 0;
  // The rest is called on the executor thread only.
  virtual void run(const Launch& launch) = 0;
  // Runs all launches of a graph; false: the caller is to run them one by one.
  virtual bool replay(const Graph&) { return false; }
  virtual void copy_in(void* device, const void* host, size_t bytes) = 0;
  virtual void copy_out(void* host, const void* device, size_t bytes) = 0;  // waits for what was enqueued before
  virtual std::shared_ptr<Storage> allocate(size_t bytes) = 0;              // any thread
  virtual std::shared_ptr<Storage> allocate_weight(size_t bytes) { return allocate(bytes); }
  virtual bool host_memory() const { return true; }  // whether its tensors can be read by the host
  virtual std::string describe() const = 0;                                 // level or device name
  virtual int threads() const { return 1; }
  virtual Waits waits() { return {}; }  // any thread; none where a device has no workers
  virtual bool debug() const { return false; }  // whether it checks what launches write (core/debug.h)
};

}  // namespace eyrie
