#include "cpu/host/cpu_backend.h"

#include <string.h>

#include <cstdlib>

#include "core/checks.h"
#include "core/error.h"
#include "core/pool.h"
#include "core/record.h"
#include "core/slab.h"
#include "cpu/host/levels.h"

namespace eyrie::cpu {
namespace {

class CpuBackend : public Backend {
 public:
  CpuBackend(int threads, const Level& level) : level_(level), pool_(threads) {}
  DeviceKind device() const override { return DeviceKind::cpu; }
  int threads() const override { return pool_.size(); }
  Waits waits() override { return pool_.waits(); }
  std::string describe() const override { return level_.name; }

  void prepare(Launch& launch) override {
    const Op& op = *launch.op;
    for (size_t i = 0; i < op.args.size(); i++) {
      if (op.args[i].type == Arg::Type::activation && launch.call.tensor[i].data &&
          launch.call.tensor[i].dtype != DType::f32)
        throw Error("EYRIE_UNSUPPORTED", std::string(op.name) + ": " + op.args[i].name + " is " +
                                             dtype_info(launch.call.tensor[i].dtype).name +
                                             "; on the CPU activations are f32 (they are rounded inside the kernels)");
    }
    launch.kernel = level_.kernels[op.index];
    launch.check = find_check(op.name);
  }

  void run(const Launch& launch) override {
    if (!ready_) {
      flush_denormals();  // this is the executor thread: worker 0
      ready_ = true;
    }
    pool_.run(launch.kernel, launch.call);
  }
  void copy_in(void* device, const void* host, size_t bytes) override { memcpy(device, host, bytes); }
  void copy_out(void* host, const void* device, size_t bytes) override { memcpy(host, device, bytes); }
  std::shared_ptr<Storage> allocate(size_t bytes) override { return Storage::allocate(bytes); }
  std::shared_ptr<Storage> allocate_weight(size_t bytes) override { return allocate_in_slab(bytes); }

 private:
  const Level& level_;
  Pool pool_;
  bool ready_ = false;
};

}  // namespace

std::unique_ptr<Backend> make_backend(int threads, const std::string& level) {
  const char* forced = std::getenv("EYRIE_THREADS");
  if (threads <= 0 && forced && *forced) {
    char* end = nullptr;
    const long n = std::strtol(forced, &end, 10);
    if (*end || n < 1 || n > 512)
      throw Error("EYRIE_INVALID_ARGUMENT", std::string("EYRIE_THREADS: expected 1 to 512, got '") + forced + "'");
    threads = int(n);
  }
  if (threads <= 0) threads = available_cores();
  if (threads > 512) throw Error("EYRIE_INVALID_ARGUMENT", "threads: at most 512, got " + std::to_string(threads));
  return recording(std::make_unique<CpuBackend>(threads, find_level(level)));
}

}  // namespace eyrie::cpu
