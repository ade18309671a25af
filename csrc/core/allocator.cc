#include "core/allocator.h"

#include <cstdlib>
#include <initializer_list>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace eyrie {

void release_freed() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
}

void bound_allocator() {
#if defined(__GLIBC__)
  for (const char* name : {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"})
    if (getenv(name)) return;
  constexpr int kThreshold = 256 << 10;
  mallopt(M_MMAP_THRESHOLD, kThreshold);
  mallopt(M_TRIM_THRESHOLD, kThreshold);
#endif
}

}  // namespace eyrie
