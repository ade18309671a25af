#include "emulation/block.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstring>
#include <exception>

#include "core/error.h"

namespace eyrie::emulation {

constinit thread_local Thread* running = nullptr;

namespace {

constexpr size_t kCanary = 256;  // behind shared memory
constexpr size_t kSharedAlign = 1024;

std::string hex(uint32_t x) {
  char text[16];
  snprintf(text, sizeof text, "0x%08x", x);
  return text;
}

std::string place(const Site& site) {
  const char* slash = strrchr(site.file_name(), '/');
  return std::string(slash ? slash + 1 : site.file_name()) + ":" + std::to_string(site.line());
}

bool same(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || !strcmp(a.file_name(), b.file_name()));
}

// 0-31,40
std::string ranges(const std::vector<unsigned>& sorted) {
  std::string text;
  for (size_t i = 0; i < sorted.size();) {
    size_t j = i;
    while (j + 1 < sorted.size() && sorted[j + 1] == sorted[j] + 1) j++;
    text += (text.empty() ? "" : ",") + std::to_string(sorted[i]);
    if (j > i) text += "-" + std::to_string(sorted[j]);
    i = j + 1;
  }
  return text;
}

}  // namespace

Block::Block() : stacks_(reserve_stacks(kMaxThreads)) {
  for (unsigned i = 0; i < kMaxThreads; i++) {
    threads_[i].linear = i;
    threads_[i].lane = i % kWarp;
    threads_[i].warp = i / kWarp;
    threads_[i].block = this;
  }
}

void Block::configure(dim3 grid_, dim3 dim_, size_t shared_bytes, const Config& config) {
  grid = grid_;
  dim = dim_;
  config_ = config;
  eager_copies = config.eager;
  threads_count_ = int(dim.x * dim.y * dim.z);
  warps_count_ = (threads_count_ + kWarp - 1) / kWarp;
  // NaN in every floating type, and for half of the schedules other bits, so that an uninitialised word shows as a difference.
  poison_ = int(config.order) % 2 ? 0x7f : 0xff;
  for (unsigned i = 0; i < unsigned(threads_count_); i++)
    threads_[i].index = {i % dim.x, i / dim.x % dim.y, i / (dim.x * dim.y)};
  place_shared(shared_bytes);
}

// So that the bytes behind the arena are a red zone (AddressSanitizer) or a canary.
void Block::place_shared(size_t bytes) {
  shared_bytes_ = bytes;
#ifdef EMULATION_ASAN
  if (arena_) ASAN_UNPOISON_MEMORY_REGION(arena_.get(), arena_bytes_);
#endif
  const size_t need = bytes + kSharedAlign + kCanary;
  if (arena_bytes_ < need) {
    arena_.reset(new unsigned char[need]);
    arena_bytes_ = need;
  }
  const uintptr_t start = reinterpret_cast<uintptr_t>(arena_.get());
  shared = arena_.get() + ((kSharedAlign - start % kSharedAlign) % kSharedAlign);
#ifdef EMULATION_ASAN
  ASAN_POISON_MEMORY_REGION(shared + bytes, size_t(arena_.get() + arena_bytes_ - (shared + bytes)));
#else
  memset(shared + bytes, 0xa5, kCanary);
#endif
}

void Block::check_canary() {
#ifndef EMULATION_ASAN
  for (size_t i = 0; i < kCanary; i++)
    if (shared[shared_bytes_ + i] != 0xa5) {
      memset(shared + shared_bytes_, 0xa5, kCanary);
      throw Error("EYRIE_EXECUTION", "emulation: block (" + std::to_string(index.x) + "," + std::to_string(index.y) +
                                         "," + std::to_string(index.z) + ") wrote " + std::to_string(i) +
                                         " bytes past its " + std::to_string(shared_bytes_) +
                                         " bytes of shared memory");
    }
#endif
}

void Block::run(uint3 index_, void (*body)(const void*), const void* argument) {
  index = index_;
  body_ = body;
  argument_ = argument;
  alive_ = threads_count_;
  arrived_ = 0;
  generation_ = 0;
  votes_[0] = {};
  failed_ = false;
  memset(shared, poison_, shared_bytes_);
  random_ = (config_.seed * 0x9e3779b97f4a7c15u) ^ (uint64_t(index.x) << 32 | index.y << 16 | index.z);
  for (int i = 0; i < threads_count_; i++) {
    Thread& t = threads_[i];
    t.fiber = nullptr;
    t.done = false;
    t.waits = nullptr;
    t.copies.clear();
    t.groups = 0;
  }
  for (int w = 0; w < warps_count_; w++) {
    const int lanes = std::min(kWarp, threads_count_ - w * kWarp);
    warps_[w].ready = warps_[w].alive = lanes == kWarp ? ~0u : (1u << lanes) - 1;
    warps_[w].barrier = warps_[w].open = 0;
  }
  const bool down = config_.order == Order::reverse || config_.order == Order::last_warp;
  last_warp_ = down ? 0 : warps_count_ - 1;  // so that the first pick is the first or the last thread
  last_lane_ = down ? 0 : kWarp - 1;
  Thread* const outer = running;
  running = pick();
  Fiber& fiber = free_fiber();
  running->fiber = &fiber;
  Fiber::swap(home_, fiber);
  running = outer;
  if (failed_) {
    // The suspended fibers are dropped where they are: kernels own nothing.
    idle_count_ = prepared_ = 0;
    throw Error("EYRIE_EXECUTION", "emulation: " + failure_);
  }
  check_canary();
}

Fiber& Block::free_fiber() {
  if (idle_count_) return *idle_[--idle_count_];
  Fiber& fiber = fibers_[prepared_];
  fiber.prepare(stacks_ + size_t(prepared_) * kStack, unsigned(prepared_), &Block::fiber_main, this);
  prepared_++;
  return fiber;
}

void Block::fiber_main(void* argument) { static_cast<Block*>(argument)->run_threads(); }

// A fiber runs threads that have not started, one after the other; a thread that waits keeps it.
void Block::run_threads() {
  for (;;) {
    Thread& thread = *running;
    Fiber& self = *thread.fiber;
    std::string what;
    try {
      body_(argument_);
    } catch (const std::exception& e) {
      what = e.what();
    }
    if (!what.empty()) fail(what);
    end(thread);
    Thread* next = pick();
    if (!next && alive_) fail("deadlock: " + waiting());
    if (next && !next->fiber) {
      next->fiber = &self;
      running = next;
      continue;
    }
    idle_[idle_count_++] = &self;
    if (next) running = next;
    Fiber::swap(self, next ? *next->fiber : home_);
  }
}

void Block::go_on() {
  Thread& self = *running;
  Thread* next = pick();
  if (!next) fail("deadlock: " + waiting());
  if (!next->fiber) next->fiber = &free_fiber();
  running = next;
  Fiber::swap(*self.fiber, *next->fiber);
}

void Block::end(Thread& t) {
  for (const AsyncCopy& c : t.copies) {
    memcpy(c.shared, c.global, size_t(c.source_bytes));
    memset(static_cast<char*>(c.shared) + c.source_bytes, 0, size_t(c.bytes - c.source_bytes));
  }
  t.copies.clear();
  t.done = true;
  Warp& warp = warps_[t.warp];
  warp.ready &= ~(1u << t.lane);
  warp.alive &= ~(1u << t.lane);
  alive_--;
  // Whoever waits for this thread waits for it no longer.
  if (alive_ && arrived_ == alive_) release_barrier();
  for (uint32_t open = warp.open; open; open &= open - 1) complete(warp, warp.meetings[std::countr_zero(open)]);
}

Thread* Block::take(unsigned warp, unsigned lane) {
  last_warp_ = int(warp);
  last_lane_ = int(lane);
  return &threads_[warp * kWarp + lane];
}

// The next thread that can run, in the order of the schedule.
Thread* Block::pick() {
  const auto above = [](uint32_t ready, int lane) { return lane == kWarp - 1 ? 0 : ready >> (lane + 1) << (lane + 1); };
  const auto below = [](uint32_t ready, int lane) { return ready & ((1u << lane) - 1); };
  const auto lowest = [](uint32_t x) { return unsigned(std::countr_zero(x)); };
  const auto highest = [](uint32_t x) { return unsigned(31 - std::countl_zero(x)); };
  const int n = warps_count_;
  switch (config_.order) {
    case Order::forward:
      if (const uint32_t r = above(warps_[last_warp_].ready, last_lane_)) return take(unsigned(last_warp_), lowest(r));
      for (int i = 1, w = last_warp_; i <= n; i++) {
        if (++w == n) w = 0;
        if (warps_[w].ready) return take(unsigned(w), lowest(warps_[w].ready));
      }
      return nullptr;
    case Order::reverse:
      if (const uint32_t r = below(warps_[last_warp_].ready, last_lane_)) return take(unsigned(last_warp_), highest(r));
      for (int i = 1, w = last_warp_; i <= n; i++) {
        if (--w < 0) w = n - 1;
        if (warps_[w].ready) return take(unsigned(w), highest(warps_[w].ready));
      }
      return nullptr;
    case Order::random: {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      int w = int((random_ >> 40) % uint64_t(n));
      const int lane = int(random_ >> 35 & 31);
      for (int i = 0; i < n; i++, w = w + 1 == n ? 0 : w + 1)
        if (const uint32_t r = warps_[w].ready)
          return take(unsigned(w), (lowest(std::rotr(r, lane)) + unsigned(lane)) % 32);
      return nullptr;
    }
    case Order::first_warp:
      for (int w = 0; w < n; w++)
        if (const uint32_t r = warps_[w].ready) {
          const uint32_t a = w == last_warp_ ? above(r, last_lane_) : 0;
          return take(unsigned(w), lowest(a ? a : r));
        }
      return nullptr;
    case Order::last_warp:
      for (int w = n - 1; w >= 0; w--)
        if (const uint32_t r = warps_[w].ready) {
          const uint32_t b = w == last_warp_ ? below(r, last_lane_) : 0;
          return take(unsigned(w), highest(b ? b : r));
        }
      return nullptr;
  }
  return nullptr;
}

Vote Block::barrier(bool predicate, const Site& site) {
  Thread& t = *running;
  Warp& warp = warps_[t.warp];
  if (!warp.barrier) warp.barrier_site = site;
  else if (!same(warp.barrier_site, site))
    fail("__syncthreads at " + place(site) + " while other threads of the warp are at that of " +
         place(warp.barrier_site));
  const int generation = generation_;
  Vote& vote = votes_[generation & 1];
  vote.any |= predicate;
  vote.all &= predicate;
  vote.count += predicate;
  warp.barrier |= 1u << t.lane;
  if (++arrived_ == alive_) {
    release_barrier();
    return vote;
  }
  warp.ready &= ~(1u << t.lane);
  t.waits = "__syncthreads";
  t.mask = 0;
  t.site = site;
  go_on();
  return votes_[generation & 1];
}

void Block::release_barrier() {
  for (int w = 0; w < warps_count_; w++) {
    Warp& warp = warps_[w];
    warp.ready |= warp.barrier;
    for (uint32_t lanes = warp.barrier; lanes; lanes &= lanes - 1)
      threads_[w * kWarp + std::countr_zero(lanes)].waits = nullptr;
    warp.barrier = 0;
  }
  arrived_ = 0;
  generation_++;
  votes_[generation_ & 1] = {};
}

void Block::meet(uint32_t mask, const char* name, Meet operation, const void* in, void* out, const Site& site) {
  Thread& t = *running;
  Warp& warp = warps_[t.warp];
  const uint32_t bit = 1u << t.lane;
  if (!(mask & bit))
    fail(std::string(name) + " at " + place(site) + ": the mask " + hex(mask) + " leaves out its caller");
  Meeting* meeting = nullptr;
  for (uint32_t open = warp.open; open; open &= open - 1) {
    Meeting& m = warp.meetings[std::countr_zero(open)];
    if (m.mask == mask) meeting = &m;
  }
  if (!meeting) {
    const int free = std::countr_one(warp.open);
    warp.open |= 1u << free;
    meeting = &warp.meetings[free];
    *meeting = {mask, 0, name, operation};
  } else if (meeting->operation != operation) {
    fail(std::string(name) + " at " + place(site) + " while other lanes of the mask " + hex(mask) + " are in " +
         meeting->name);
  }
  warp.in[t.lane] = const_cast<void*>(in);
  warp.out[t.lane] = out;
  meeting->arrived |= bit;
  t.waits = name;
  t.mask = mask;
  t.site = site;
  if (complete(warp, *meeting)) return;
  warp.ready &= ~bit;
  go_on();
}

// Runs the operation when every lane of the mask that still lives has come.
bool Block::complete(Warp& warp, Meeting& m) {
  const uint32_t lanes = m.arrived;
  if (lanes != (m.mask & warp.alive)) return false;
  m.operation(m.mask, lanes, warp.in, warp.out);
  warp.open &= ~(1u << (&m - warp.meetings));
  warp.ready |= lanes;
  Thread* const first = &threads_[(&warp - warps_) * kWarp];
  for (uint32_t l = lanes; l; l &= l - 1) first[std::countr_zero(l)].waits = nullptr;
  return true;
}

std::string Block::waiting() const {
  std::string text;
  std::vector<bool> shown(size_t(threads_count_), false);
  std::vector<unsigned> ended;
  for (int i = 0; i < threads_count_; i++) {
    const Thread& t = threads_[i];
    if (t.done) ended.push_back(t.linear);
    if (t.done || shown[size_t(i)] || !t.waits) continue;
    std::vector<unsigned> group;
    for (int j = i; j < threads_count_; j++) {
      const Thread& o = threads_[j];
      if (o.done || !o.waits || strcmp(o.waits, t.waits) || !same(o.site, t.site) || o.mask != t.mask) continue;
      shown[size_t(j)] = true;
      group.push_back(o.linear);
    }
    text += (text.empty() ? "threads " : "; threads ") + ranges(group) + " wait at " + t.waits + " (" + place(t.site);
    if (strcmp(t.waits, "__syncthreads")) text += ", mask " + hex(t.mask);
    text += ")";
  }
  if (!ended.empty()) text += "; ended: " + ranges(ended);
  return text;
}

void Block::fail(const std::string& what) {
  const Thread& t = *running;
  failure_ = what + "; block (" + std::to_string(index.x) + "," + std::to_string(index.y) + "," +
             std::to_string(index.z) + "), thread " + std::to_string(t.linear);
  if (t.waits && !what.starts_with("deadlock")) failure_ += ", " + std::string(t.waits) + " at " + place(t.site);
  failed_ = true;
  Fiber::swap(*running->fiber, home_);
  __builtin_unreachable();
}

void Block::require_shared(const void* p, size_t bytes, size_t align, const char* what) {
  const auto* at = static_cast<const unsigned char*>(p);
  if (at < shared || at + bytes > shared + shared_bytes_)
    fail(std::string(what) + ": the address is outside of the block's shared memory, at byte " +
         std::to_string(at - shared) + " of " + std::to_string(shared_bytes_));
  if (reinterpret_cast<uintptr_t>(p) % align)
    fail(std::string(what) + ": the address is not a multiple of " + std::to_string(align));
}

}  // namespace eyrie::emulation
