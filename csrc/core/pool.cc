#include "core/pool.h"

#include <sched.h>

#include <chrono>
#include <cstdlib>
#include <new>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace eyrie {
namespace {

// Spins about 50 microseconds, then gives the core away: another process may have taken our partner's core, and spinning on
// would cost both a whole time slice.
template <class Ready>
void spin_until(Ready ready) {
  for (int i = 0; !ready(); i++) {
    spin_pause();
    if (i > 1000) sched_yield();
  }
}

}  // namespace

void spin_pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");  // longer than a yield, which most processors ignore
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

void flush_denormals() {
#if defined(__x86_64__)
  _mm_setcsr(_mm_getcsr() | 0x8040);  // FTZ | DAZ
#elif defined(__aarch64__)
  uint64_t fpcr;
  asm volatile("mrs %0, fpcr" : "=r"(fpcr));
  asm volatile(
      "msr fpcr, %0" ::"r"(fpcr | uint64_t(1) << 24));  // FZ; halves have a flag of their own and stay as they are
#endif
}

TeamState::TeamState(int n) : size(n) {
  for (int i = 0; i < n; i++) local.push_back(std::make_unique<Arena>());
}

// Counts what the first worker waits.
template <class Wait>
void TeamState::measured(int id, std::atomic<uint64_t>& count, const Wait& wait) {
  if (id != 0 || !measuring.load(std::memory_order_relaxed)) return wait();
  const auto start = std::chrono::steady_clock::now();
  wait();
  const std::chrono::nanoseconds took = std::chrono::steady_clock::now() - start;
  nanoseconds.fetch_add(uint64_t(took.count()), std::memory_order_relaxed);
  count.fetch_add(1, std::memory_order_relaxed);
}

void TeamState::barrier() {
  if (size == 1) return;
  const unsigned e = epoch_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == size) {
    arrived_.store(0, std::memory_order_relaxed);
    epoch_.store(e + 1, std::memory_order_release);
  } else {
    spin_until([&] { return epoch_.load(std::memory_order_acquire) != e; });
  }
}

// After a launch that needed several chunks one chunk of their total size takes their place.
void TeamState::Arena::reset() {
  used = 0;
  if (chunks.size() <= 1) return;
  size_t total = 0;
  for (auto& c : chunks) {
    total += c.second;
    free(c.first);
  }
  chunks.clear();
  take(total);
  used = 0;
}

void* TeamState::Arena::take(size_t bytes) {
  bytes = rounded(bytes);
  if (chunks.empty() || used + bytes > chunks.back().second) {
    const size_t size = bytes < 65536 ? 65536 : bytes;
    char* p = static_cast<char*>(aligned_alloc(64, (size + 63) / 64 * 64));
    if (!p) throw std::bad_alloc();
    chunks.emplace_back(p, size);
    used = 0;
  }
  void* p = chunks.back().first + used;
  used += bytes;
  return p;
}

TeamState::Arena::~Arena() {
  for (auto& c : chunks) free(c.first);
}

void Team::barrier() {
  state->measured(id, state->barriers, [&] { state->barrier(); });
}

void* Team::local(size_t bytes) { return state->local[id]->take(bytes); }

void* Team::shared(size_t bytes) {
  if (size == 1) return state->shared.take(bytes);
  // What launches before needed lies in one chunk, in which every worker counts off the same places. A launch that needs more makes room, everybody waiting, and
  // goes on like that to its end.
  TeamState::Arena& arena = state->shared;
  const size_t all = TeamState::Arena::rounded(bytes);
  if (!shared_grows && !arena.chunks.empty() && shared_used + all <= arena.chunks[0].second) {
    char* p = arena.chunks[0].first + shared_used;
    shared_used += all;
    return p;
  }
  barrier();
  if (id == 0) {
    if (!shared_grows) arena.used = shared_used;
    state->shared_result = arena.take(bytes);
  }
  shared_grows = true;
  barrier();
  return state->shared_result;
}

Pool::Pool(int threads) : state_(threads) {
  for (int id = 1; id < threads; id++) threads_.emplace_back([this, id] { work(id); });
}

Pool::~Pool() {
  stop_ = true;
  epoch_.fetch_add(1);
  epoch_.notify_all();
  for (auto& t : threads_) t.join();
}

void Pool::enter(int id) {
  Team team;
  team.id = id;
  team.size = state_.size;
  team.state = &state_;
  state_.local[id]->reset();
  kernel_(*call_, team);
}

void Pool::run(Kernel kernel, const Call& call) {
  kernel_ = kernel;
  call_ = &call;
  state_.shared.reset();
  if (state_.size == 1) return enter(0);
  done_.store(0, std::memory_order_relaxed);
  epoch_.fetch_add(1, std::memory_order_release);
  epoch_.notify_all();
  enter(0);
  state_.measured(0, state_.launches,
                  [&] { spin_until([&] { return done_.load(std::memory_order_acquire) == state_.size - 1; }); });
}

Waits Pool::waits() {
  state_.measuring.store(true, std::memory_order_relaxed);
  return {state_.launches, state_.barriers, state_.nanoseconds};
}

void Pool::work(int id) {
  flush_denormals();
  unsigned seen = 0;
  for (;;) {
    for (int i = 0; i < 20000 && epoch_.load(std::memory_order_acquire) == seen; i++) {
      spin_pause();
      if (i % 512 == 511) sched_yield();
    }
    epoch_.wait(seen, std::memory_order_acquire);  // sleeps only when nothing came
    seen++;
    if (stop_) return;
    enter(id);
    done_.fetch_add(1, std::memory_order_release);
  }
}

}  // namespace eyrie
