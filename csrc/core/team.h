// Team: how a CPU kernel sees the threads that run it. Every worker calls the same kernel with its own Team (SPMD);
// `id` of `size`. Out-of-line on purpose: the definitions live in one baseline translation unit (team.cc).
#pragma once
#include "core/tensor.h"

namespace eyrie {

class TeamState;

class Team {
 public:
  int id = 0;
  int size = 1;
  TeamState* state = nullptr;
  size_t shared_used = 0;  // of the scratch of all, by this worker's count
  bool shared_grows = false;

  // Waits for all workers of the team.
  void barrier();
  // Scratch memory that all workers of this launch see; every worker must make the same calls. Waits for nobody, as a rule.
  // 64-byte aligned, contents undefined. A second call in the same launch returns a second region.
  void* shared(size_t bytes);
  // Scratch memory of this worker alone, 64-byte aligned, contents undefined. A second call in the same launch returns a
  // second region (earlier ones stay valid until the launch ends).
  void* local(size_t bytes);
};

struct Range {
  int64_t begin, end;
};

// The part of [0, n) that belongs to this worker, in multiples of `align`.
EYRIE_INLINE Range team_range(const Team& team, int64_t n, int64_t align = 1) {
  const int64_t units = (n + align - 1) / align;
  int64_t b = units * team.id / team.size * align, e = units * (team.id + 1) / team.size * align;
  return {b < n ? b : n, e < n ? e : n};
}

}  // namespace eyrie
