#include "core/slab.h"

#include <sys/mman.h>
#include <unistd.h>

#include <mutex>

namespace eyrie {
namespace {

constexpr size_t kHuge = size_t(2) << 20;
constexpr size_t kSlab = size_t(64) << 20;
constexpr size_t kLargest =
    kSlab / 4;  // of a piece: what does not fit leaves the rest of a slab unused, though untouched

struct Slab {
  void* base;
  size_t base_bytes;
  char* data;
  size_t used = 0;

  Slab(void* mapping, size_t bytes)
      : base(mapping), base_bytes(bytes), data((char*)((uintptr_t(mapping) + kHuge - 1) & ~uintptr_t(kHuge - 1))) {}
  ~Slab() { munmap(base, base_bytes); }
  Slab(const Slab&) = delete;
  Slab& operator=(const Slab&) = delete;

  void trim() {
    const size_t page = size_t(sysconf(_SC_PAGESIZE)), from = (used + page - 1) / page * page;
    const size_t to = (used + kHuge - 1) / kHuge * kHuge;
    if (from < to) madvise(data + from, to - from, MADV_DONTNEED);
  }
};

std::mutex g_mutex;
std::weak_ptr<Slab> g_current;  // dies with its last piece

std::shared_ptr<Slab> make_slab() {
  const size_t bytes = kSlab + kHuge;  // room to align
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return nullptr;
  auto slab = std::make_shared<Slab>(base, bytes);
  madvise(slab->data, kSlab, MADV_HUGEPAGE);
  return slab;
}

}  // namespace

std::shared_ptr<Storage> allocate_in_slab(size_t bytes) {
#if defined(__SANITIZE_ADDRESS__)
  return Storage::allocate(bytes);  // each with a red zone of its own
#else
  const size_t padded = (bytes + 127) / 64 * 64;  // never empty, and kernels may load a whole vector at the end
  if (padded > kLargest) return Storage::allocate(bytes);
  const std::lock_guard<std::mutex> lock(g_mutex);
  std::shared_ptr<Slab> slab = g_current.lock();
  if (!slab || slab->used + padded > kSlab) {
    if (slab) slab->trim();
    slab = make_slab();
    if (!slab) return Storage::allocate(bytes);  // which says what is wrong
    g_current = slab;
  }
  void* data = slab->data + slab->used;
  slab->used += padded;
  return Storage::adopt(data, bytes, DeviceKind::cpu, [slab](void*) {});
#endif
}

void trim_slab() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  if (const std::shared_ptr<Slab> slab = g_current.lock()) slab->trim();
}

}  // namespace eyrie
