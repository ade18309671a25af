#include "core/storage.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "core/error.h"

namespace eyrie {
namespace {

std::atomic<size_t> g_allocated{0}, g_peak{0};
constexpr size_t kHuge = size_t(2) << 20;
// Pieces from here on are mappings of their own: among the small ones of the heap they would pin what libraries have freed.
constexpr size_t kMapped = size_t(256) << 10;

void account(size_t bytes) {
  const size_t now = g_allocated.fetch_add(bytes) + bytes;
  size_t peak = g_peak.load();
  while (now > peak && !g_peak.compare_exchange_weak(peak, now)) {
  }
}

[[noreturn]] void out_of_memory(size_t bytes) {
  throw Error("EYRIE_OUT_OF_MEMORY",
              "cannot allocate " + std::to_string(bytes) + " bytes (" + strerror(errno) + "); " +
                  std::to_string(g_allocated.load()) +
                  " bytes are allocated already. Dispose tensors, take a smaller model or context.");
}

}  // namespace

size_t Storage::allocated() { return g_allocated; }
size_t Storage::peak() { return g_peak; }

Storage::Storage(void* data, size_t bytes, Kind kind) : data_(data), bytes_(bytes), kind_(kind) {
  if (kind != Kind::mapped) account(bytes);
}

Storage::~Storage() {
  if (kind_ != Kind::mapped) g_allocated.fetch_sub(bytes_);
  switch (kind_) {
    case Kind::heap: free(data_); break;
    case Kind::pages:
    case Kind::mapped: munmap(base_, base_bytes_); break;
    case Kind::adopted: release_(data_); break;
  }
}

std::shared_ptr<Storage> Storage::allocate(size_t bytes) {
  if (bytes > (size_t(1) << 46)) {
    errno = ENOMEM;
    out_of_memory(bytes);
  }
  if (bytes < kMapped) {
    const size_t padded = (bytes + 127) / 64 * 64;  // never empty, and kernels may load a whole vector at the end
    void* p = aligned_alloc(64, padded);
    if (!p) out_of_memory(bytes);
    memset(p, 0, padded);
    return std::shared_ptr<Storage>(new Storage(p, bytes, Kind::heap));
  }
  const size_t unit = bytes < kHuge ? size_t(sysconf(_SC_PAGESIZE)) : kHuge;
  const size_t mapped = (bytes + 64 + unit - 1) / unit * unit + (unit == kHuge ? kHuge : 0);  // room to align
  void* base = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) out_of_memory(bytes);
  void* data = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(base) + unit - 1) & ~uintptr_t(unit - 1));
  // Only whole huge pages inside the request, so that resident memory never exceeds what was asked for.
  if (unit == kHuge) madvise(data, bytes / kHuge * kHuge, MADV_HUGEPAGE);
  auto s = std::shared_ptr<Storage>(new Storage(data, bytes, Kind::pages));
  s->base_ = base;
  s->base_bytes_ = mapped;
  return s;
}

std::shared_ptr<Storage> Storage::map_file(const std::string& path, size_t expected_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw Error("EYRIE_FILE", "cannot open " + path + ": " + strerror(errno));
  struct stat st;
  void* base = MAP_FAILED;
  const bool known = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  const size_t bytes = known ? size_t(st.st_size) : 0;
  if (bytes > 0 && bytes == expected_bytes) base = mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
  const int error = errno;
  close(fd);
  if (!known) throw Error("EYRIE_FILE", path + " is not a regular file");
  if (bytes != expected_bytes)
    throw Error("EYRIE_FILE", path + " has " + std::to_string(bytes) + " bytes, expected " +
                                  std::to_string(expected_bytes) +
                                  ": it changed since its header was read; load it again");
  if (base == MAP_FAILED) throw Error("EYRIE_FILE", "cannot map " + path + ": " + strerror(error));
  auto s = std::shared_ptr<Storage>(new Storage(base, bytes, Kind::mapped));
  s->base_ = base;
  s->base_bytes_ = bytes;
  return s;
}

void Storage::discard(size_t offset, size_t bytes) {
  if (kind_ != Kind::mapped) return;
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page - 1) / page * page, end = (offset + bytes) / page * page;
  if (begin < end) madvise(static_cast<char*>(data_) + begin, end - begin, MADV_DONTNEED);
}

std::shared_ptr<Storage> Storage::adopt(void* data, size_t bytes, DeviceKind device,
                                        std::function<void(void*)> release) {
  auto s = std::shared_ptr<Storage>(new Storage(data, bytes, Kind::adopted));
  s->device_ = device;
  s->release_ = std::move(release);
  return s;
}

}  // namespace eyrie
