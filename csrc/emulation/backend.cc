// The device 'emulated': the CUDA kernels, compiled by the C++ compiler, on the CPU. Test builds only; it replaces
// cuda/backend.cu and shares everything else with it.
#include "cuda/backend.h"

#include <cstring>
#include <utility>
#include <vector>

#include "core/checks.h"
#include "core/error.h"
#include "cuda/faults.h"
#include "cuda/kernels.h"
#include "emulation/config.h"
#include "emulation/fibers.h"

namespace eyrie::cuda {
namespace {

// A block whose end AddressSanitizer knows to the byte.
void* allocate_exactly(size_t bytes) {
  const size_t padded = (bytes + 511) / 256 * 256;
  void* p = aligned_alloc(256, padded);
  if (!p) throw Error("EYRIE_OUT_OF_MEMORY", "cannot allocate " + std::to_string(bytes) + " bytes");
#ifdef EMULATION_ASAN
  ASAN_POISON_MEMORY_REGION(static_cast<char*>(p) + bytes, padded - bytes);
#endif
  return p;
}

class EmulatedBackend : public Backend {
 public:
  explicit EmulatedBackend(const emulation::Config& config) : config_(config), tickets_(kTickets, 0) {
    context_.fault = &fault_;
    context_.sms = 4;
    context_.arch = 90;
    context_.shared_limit = 227 * 1024;
    context_.grow_ = [](Context* c, size_t bytes) { return self(c)->poisoned(self(c)->workspace_, bytes); };
    context_.scratch_ = [](Context* c, size_t bytes) { return self(c)->poisoned(self(c)->scratch_, bytes); };
    context_.tickets_ = [](Context* c, size_t count) { return self(c)->tickets(count); };
    context_.upload_ = [](Context*, const void* host, size_t) { return host; };
    context_.owner = this;
  }
  ~EmulatedBackend() override {
    free(workspace_);
    free(scratch_);
  }
  DeviceKind device() const override { return DeviceKind::cuda; }
  std::string describe() const override { return "emulated"; }
  bool host_memory() const override { return false; }

  void prepare(Launch& launch) override {
    require_kernel(launch);
    launch.check = find_check(launch.op->name);
  }
  void run(const Launch& launch) override {
    context_.op = launch.op->index;
    const emulation::ConfigScope schedule(config_);
    try {
      kKernels[launch.op->index](launch.call, context_);
    } catch (const Error& e) {
      for (uint32_t& t : tickets_) t = 0;
      const std::string what = e.what();
      throw Error(e.code(), what.starts_with("emulation:") ? launch.op->name + (": " + what) : what);
    }
    for (uint32_t& t : tickets_)
      if (std::exchange(t, 0))
        throw Error("EYRIE_EXECUTION", std::string(launch.op->name) + ": left a ticket that is not zero");
  }
  void copy_in(void* device, const void* host, size_t bytes) override { memcpy(device, host, bytes); }
  void copy_out(void* host, const void* device, size_t bytes) override {
    throw_fault(fault_);
    if (bytes) memcpy(host, device, bytes);
  }
  std::shared_ptr<Storage> allocate(size_t bytes) override {
    void* p = allocate_exactly(bytes);
    memset(p, 0, bytes);
    return Storage::adopt(p, bytes, DeviceKind::cuda, [](void* q) { free(q); });
  }

 private:
  static EmulatedBackend* self(Context* c) { return static_cast<EmulatedBackend*>(c->owner); }
  // Poisoned each time: nothing may be left from the call before.
  static void* poisoned(void*& memory, size_t bytes) {
    free(memory);
    memory = nullptr;
    memory = allocate_exactly(bytes);
    memset(memory, 0xff, bytes);
    return memory;
  }
  uint32_t* tickets(size_t count) {
    if (count > kTickets) throw Error("EYRIE_EXECUTION", "too many tickets");
    return tickets_.data();
  }

  const emulation::Config config_;
  Context context_;
  Fault fault_ = {};
  void *workspace_ = nullptr, *scratch_ = nullptr;
  std::vector<uint32_t> tickets_;
};

}  // namespace

Probe probe() {
  Probe p;
  p.emulated = true;
  p.message = "this addon emulates CUDA on the CPU (a test build): use device 'emulated'";
  return p;
}

std::unique_ptr<Backend> make_backend(int) { throw Error("EYRIE_NO_DEVICE", "device cuda: " + probe().message); }
std::unique_ptr<Backend> make_emulated(const std::string& schedule) {
  return std::make_unique<EmulatedBackend>(emulation::parse_config(schedule, emulation::config()));
}
DeviceMemory device_memory(int) { return {}; }

}  // namespace eyrie::cuda
