// Block: one thread block on one OS thread. Each of its threads has a fiber from its first collective to its end; barriers and
// warp collectives are the places where fibers change. Divergence, deadlocks and bad addresses end the launch with an Error.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "emulation/config.h"
#include "emulation/fibers.h"
#include "emulation/types.h"

namespace eyrie::emulation {

constexpr int kWarp = 32;
constexpr int kMaxThreads = 1024;
constexpr int kMaxWarps = kMaxThreads / kWarp;
constexpr size_t kSharedLimit = 227 * 1024;

using Site = std::source_location;  // where a kernel called a collective

class Block;

struct AsyncCopy {
  void* shared;
  const void* global;
  int bytes, source_bytes;  // the rest is zeros
  int group;
};

struct Thread {
  uint3 index{};
  unsigned linear = 0, lane = 0, warp = 0;
  Block* block = nullptr;
  Fiber* fiber = nullptr;  // null: not started
  bool done = true;
  // What it waits for; null: it can run.
  const char* waits = nullptr;
  uint32_t mask = 0;
  Site site;
  std::vector<AsyncCopy> copies;  // issued, not landed
  int groups = 0;  // committed
};

// The running thread. The TLS model makes it one instruction in a shared library too.
extern constinit thread_local Thread* running __attribute__((tls_model("initial-exec")));

// The lanes of a warp that meet in a collective: `lanes` are those that came (the mask less exited threads), in and out point at
// each lane's argument and result. Fails when the lanes do not fit the operation.
using Meet = void (*)(uint32_t mask, uint32_t lanes, void* const* in, void* const* out);

struct Vote {  // of a barrier
  bool any = false, all = true;
  int count = 0;
};

class Block {
 public:
  Block();
  // Runs block `index` of a grid: body(argument) in each thread. Throws Error.
  void run(uint3 index, void (*body)(const void*), const void* argument);
  void configure(dim3 grid, dim3 dim, size_t shared, const Config& config);

  // For the running thread:
  Vote barrier(bool predicate, const Site& site);
  void meet(uint32_t mask, const char* name, Meet operation, const void* in, void* out, const Site& site);
  [[noreturn]] void fail(const std::string& what);
  // Fails unless [p, p + bytes) lies in shared memory and p is a multiple of `align`.
  void require_shared(const void* p, size_t bytes, size_t align, const char* what);

  uint3 index{};
  dim3 grid, dim;
  bool eager_copies = false;
  unsigned char* shared = nullptr;

 private:
  struct Meeting {
    uint32_t mask = 0, arrived = 0;
    const char* name = nullptr;
    Meet operation = nullptr;
  };
  struct Warp {
    uint32_t ready = 0;  // lanes that can run
    uint32_t alive = 0;  // lanes that have not ended
    uint32_t barrier = 0;  // lanes that wait at the barrier
    Site barrier_site;
    uint32_t open = 0;  // meetings in use
    Meeting meetings[kWarp];
    void* in[kWarp];
    void* out[kWarp];
  };

  static void fiber_main(void* block);
  Thread* pick();
  Thread* take(unsigned warp, unsigned lane);
  Fiber& free_fiber();
  void run_threads();
  void go_on();  // the running thread waits: another runs meanwhile
  void end(Thread& thread);
  void release_barrier();
  bool complete(Warp& warp, Meeting& meeting);
  void place_shared(size_t bytes);
  void check_canary();
  std::string waiting() const;

  size_t shared_bytes_ = 0;
  std::unique_ptr<unsigned char[]> arena_;
  size_t arena_bytes_ = 0;
  Config config_;
  uint64_t random_ = 0;
  unsigned char poison_ = 0xff;
  int threads_count_ = 0, warps_count_ = 0, alive_ = 0;
  int last_warp_ = 0, last_lane_ = 0;
  int arrived_ = 0, generation_ = 0;
  Vote votes_[2];
  void (*body_)(const void*) = nullptr;
  const void* argument_ = nullptr;
  std::string failure_;
  bool failed_ = false;

  Fiber home_;
  char* stacks_;
  Thread threads_[kMaxThreads];
  Warp warps_[kMaxWarps];
  Fiber fibers_[kMaxThreads];
  Fiber* idle_[kMaxThreads];
  int idle_count_ = 0, prepared_ = 0;
};

}  // namespace eyrie::emulation
