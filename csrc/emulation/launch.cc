#include "emulation/launch.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "core/error.h"

namespace eyrie::emulation {
namespace {

struct Job {
  dim3 grid, block;
  size_t shared;
  void (*body)(const void*);
  const void* argument;
  Config config;
  uint64_t blocks = 0, step = 1, first = 0;  // the i-th block to run is first + i * step, modulo blocks
  int workers = 1;
  std::atomic<uint64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error{};
};

// OS threads that stay, each with a Block and its stacks. One launch at a time; never destroyed, since its threads outlive main.
class Workers {
 public:
  static Workers& get() {
    static Workers& workers = *new Workers;
    return workers;
  }

  void run(Job& job) {
    std::lock_guard<std::mutex> one(launch_);
    while (blocks_.size() < size_t(job.workers)) blocks_.push_back(std::make_unique<Block>());
    if (job.workers > 1) {
      std::lock_guard<std::mutex> lock(mutex_);
      while (threads_ < job.workers - 1) {
        threads_++;
        std::thread([this, worker = threads_] { serve(worker); }).detach();
      }
      job_ = &job;
      generation_++;
      wake_.notify_all();
    }
    work(job, *blocks_[0]);
    if (job.workers > 1) {
      std::unique_lock<std::mutex> lock(mutex_);
      job_ = nullptr;  // whoever has not started yet is not needed
      done_.wait(lock, [&] { return active_ == 0; });
    }
    if (job.error) std::rethrow_exception(job.error);
  }

 private:
  void serve(int worker) {
    std::unique_lock<std::mutex> lock(mutex_);
    for (uint64_t seen = 0;;) {
      wake_.wait(lock, [&] { return job_ && generation_ != seen; });
      seen = generation_;
      if (worker >= job_->workers) continue;
      Job& job = *job_;
      Block& block = *blocks_[size_t(worker)];
      active_++;
      lock.unlock();
      work(job, block);
      lock.lock();
      if (--active_ == 0) done_.notify_one();
    }
  }

  void work(Job& job, Block& block) {
    bool configured = false;
    for (uint64_t i; !job.failed && (i = job.next.fetch_add(1, std::memory_order_relaxed)) < job.blocks;) {
      const uint64_t n = (job.first + i * job.step) % job.blocks;
      const uint3 index = {unsigned(n % job.grid.x), unsigned(n / job.grid.x % job.grid.y),
                           unsigned(n / job.grid.x / job.grid.y)};
      try {
        if (!configured) block.configure(job.grid, job.block, job.shared, job.config);
        configured = true;
        block.run(index, job.body, job.argument);
      } catch (...) {
        std::lock_guard<std::mutex> lock(mutex_);
        if (!job.error) job.error = std::current_exception();
        job.failed = true;
      }
    }
  }

  std::mutex launch_, mutex_;
  std::condition_variable wake_, done_;
  std::vector<std::unique_ptr<Block>> blocks_;
  Job* job_ = nullptr;
  uint64_t generation_ = 0;
  int threads_ = 0, active_ = 0;
};

std::string shape(dim3 d) { return std::to_string(d.x) + "x" + std::to_string(d.y) + "x" + std::to_string(d.z); }

void check(dim3 grid, dim3 block, size_t shared) {
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (!threads || threads > kMaxThreads || block.z > 64 || !grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu ||
      grid.y > 65535 || grid.z > 65535 || shared > kSharedLimit)
    throw Error("EYRIE_EXECUTION", "emulation: invalid launch, grid " + shape(grid) + ", block " + shape(block) +
                                       ", shared " + std::to_string(shared));
}

// Blocks have no order either: the schedules differ in it too.
void order_blocks(Job& job) {
  const uint64_t n = job.blocks;
  switch (job.config.order) {
    case Order::forward:
    case Order::first_warp: break;
    case Order::reverse:
    case Order::last_warp:
      job.first = n - 1;
      job.step = n - 1;  // that is, -1
      break;
    case Order::random:
      job.first = job.config.seed % n;
      job.step = (job.config.seed * 2654435761u + 1) % n;
      while (std::gcd(job.step, n) != 1) job.step++;
  }
}

}  // namespace

void launch_grid(dim3 grid, dim3 block, size_t shared, void (*body)(const void*), const void* argument) {
  check(grid, block, shared);
  const Config& config = scoped_config();
  Job job{grid, block, shared, body, argument, config};
  job.blocks = uint64_t(grid.x) * grid.y * grid.z;
  const int workers = config.workers ? config.workers : std::max(1, int(std::thread::hardware_concurrency()));
  job.workers = int(std::min<uint64_t>(job.blocks, uint64_t(workers)));
  order_blocks(job);
  Workers::get().run(job);
}

}  // namespace eyrie::emulation
