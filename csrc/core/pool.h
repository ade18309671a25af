// Pool: the worker threads of a CPU stream. The executor thread is worker 0.
#pragma once
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "core/call.h"

namespace eyrie {

// What the first worker of a pool has waited for the others, at barriers and at the ends of launches; counted from the first question on.
struct Waits {
  uint64_t launches = 0, barriers = 0, nanoseconds = 0;
};

class TeamState {
 public:
  explicit TeamState(int size);
  void barrier();
  const int size;
  template <class Wait>
  void measured(int id, std::atomic<uint64_t>& count, const Wait& wait);
  // Relaxed: the worker adds, anybody reads.
  std::atomic<bool> measuring{false};
  std::atomic<uint64_t> launches{0}, barriers{0}, nanoseconds{0};
  // Scratch regions; grown between uses, freed with the state.
  struct Arena {
    std::vector<std::pair<char*, size_t>> chunks;
    size_t used = 0;
    void reset();
    void* take(size_t bytes);
    static size_t rounded(size_t bytes) { return (bytes + 127) / 64 * 64; }
    ~Arena();
  };
  std::vector<std::unique_ptr<Arena>> local;  // one per worker
  Arena shared;
  void* shared_result = nullptr;

 private:
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> epoch_{0};
};

class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  int size() const { return state_.size; }
  Waits waits();  // any thread
  // Runs kernel(call, team) on every worker; the caller is worker 0. Always from the same thread.
  void run(Kernel kernel, const Call& call);

 private:
  void work(int id);
  void enter(int id);
  TeamState state_;
  std::vector<std::thread> threads_;
  Kernel kernel_ = nullptr;
  const Call* call_ = nullptr;
  alignas(64) std::atomic<unsigned> epoch_{0};
  alignas(64) std::atomic<int> done_{0};
  std::atomic<bool> stop_{false};
};

// One turn of a waiting loop.
void spin_pause();

// Denormals are flushed on every level, as the tensor instructions of some CPUs always do (design: equal bits).
void flush_denormals();

}  // namespace eyrie
