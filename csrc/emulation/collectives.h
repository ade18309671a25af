// Barriers and the collectives of a warp, as CUDA C++ spells them. Each knows where it was called (the last, default argument).
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "emulation/block.h"

namespace eyrie::emulation {

template <class In, class Out>
inline Out meet(uint32_t mask, const char* name, Meet operation, const In& in, const Site& site) {
  Out out{};
  running->block->meet(mask, name, operation, &in, &out, site);
  return out;
}

// ---- shuffles: of 4 or 8 bytes, from an absolute lane ----
struct Shuffle4 {
  uint32_t bits;
  int source;
};
struct Shuffle8 {
  uint64_t bits;
  int source;
};
uint32_t shuffle4(uint32_t mask, const char* name, Shuffle4 in, const Site& site);
uint64_t shuffle8(uint32_t mask, const char* name, Shuffle8 in, const Site& site);

template <class T>
inline auto shuffle(uint32_t mask, const char* name, T value, int source, const Site& site) {
  using V = decltype(+value);  // small integers become int
  static_assert(std::is_arithmetic_v<V> && (sizeof(V) == 4 || sizeof(V) == 8));
  const V wide = value;
  if constexpr (sizeof(V) == 4) {
    return std::bit_cast<V>(shuffle4(mask, name, {std::bit_cast<uint32_t>(wide), source}, site));
  } else {
    return std::bit_cast<V>(shuffle8(mask, name, {std::bit_cast<uint64_t>(wide), source}, site));
  }
}

// The lane that shfl.idx, .up, .down, .bfly read (PTX ISA): their own when the other is out of the segment of `width`.
int lane_at(int source, int width);
int lane_up(int delta, int width);
int lane_down(int delta, int width);
int lane_xor(int mask, int width);

// ---- votes, matches, reductions ----
// The bits of a value of 4 or 8 bytes; small integers become int.
template <class T>
inline uint64_t bits_of(T value) {
  const auto wide = +value;
  static_assert(sizeof wide == 4 || sizeof wide == 8);
  uint64_t bits = 0;
  memcpy(&bits, &wide, sizeof wide);
  return bits;
}
uint32_t ballot(uint32_t mask, const char* name, bool predicate, const Site& site);
uint32_t match_any(uint32_t mask, uint64_t value, const Site& site);
uint32_t match_all(uint32_t mask, uint64_t value, const Site& site);

enum class Reduction { add, min, max, min_signed, max_signed, bit_and, bit_or, bit_xor };
uint32_t reduce(uint32_t mask, Reduction reduction, uint32_t value, const Site& site);

}  // namespace eyrie::emulation

#define EMULATION_SITE ::eyrie::emulation::Site site = ::eyrie::emulation::Site::current()

inline void __syncthreads(EMULATION_SITE) { eyrie::emulation::running->block->barrier(false, site); }
inline int __syncthreads_or(int p, EMULATION_SITE) { return eyrie::emulation::running->block->barrier(p, site).any; }
inline int __syncthreads_and(int p, EMULATION_SITE) { return eyrie::emulation::running->block->barrier(p, site).all; }
inline int __syncthreads_count(int p, EMULATION_SITE) {
  return eyrie::emulation::running->block->barrier(p, site).count;
}
inline void __syncwarp(uint32_t mask = ~0u, EMULATION_SITE) {
  eyrie::emulation::running->block->meet(
      mask, "__syncwarp", [](uint32_t, uint32_t, void* const*, void* const*) {}, nullptr, nullptr, site);
}

template <class T>
inline auto __shfl_sync(uint32_t mask, T value, int source, int width = 32, EMULATION_SITE) {
  return eyrie::emulation::shuffle(mask, "__shfl_sync", value, eyrie::emulation::lane_at(source, width), site);
}
template <class T>
inline auto __shfl_up_sync(uint32_t mask, T value, unsigned delta, int width = 32, EMULATION_SITE) {
  return eyrie::emulation::shuffle(mask, "__shfl_up_sync", value, eyrie::emulation::lane_up(int(delta & 31), width),
                                   site);
}
template <class T>
inline auto __shfl_down_sync(uint32_t mask, T value, unsigned delta, int width = 32, EMULATION_SITE) {
  return eyrie::emulation::shuffle(mask, "__shfl_down_sync", value, eyrie::emulation::lane_down(int(delta & 31), width),
                                   site);
}
template <class T>
inline auto __shfl_xor_sync(uint32_t mask, T value, int lanes, int width = 32, EMULATION_SITE) {
  return eyrie::emulation::shuffle(mask, "__shfl_xor_sync", value, eyrie::emulation::lane_xor(lanes & 31, width), site);
}

inline uint32_t __ballot_sync(uint32_t mask, int p, EMULATION_SITE) {
  return eyrie::emulation::ballot(mask, "__ballot_sync", p, site);
}
inline int __any_sync(uint32_t mask, int p, EMULATION_SITE) {
  return eyrie::emulation::ballot(mask, "__any_sync", p, site) != 0;
}
inline int __all_sync(uint32_t mask, int p, EMULATION_SITE) {
  return eyrie::emulation::ballot(mask, "__all_sync", !p, site) == 0;
}
template <class T>
inline uint32_t __match_any_sync(uint32_t mask, T value, EMULATION_SITE) {
  return eyrie::emulation::match_any(mask, eyrie::emulation::bits_of(value), site);
}
template <class T>
inline uint32_t __match_all_sync(uint32_t mask, T value, int* all, EMULATION_SITE) {
  const uint32_t same = eyrie::emulation::match_all(mask, eyrie::emulation::bits_of(value), site);
  *all = same != 0;
  return same;
}

inline unsigned __reduce_add_sync(uint32_t mask, unsigned v, EMULATION_SITE) {
  return eyrie::emulation::reduce(mask, eyrie::emulation::Reduction::add, v, site);
}
inline int __reduce_add_sync(uint32_t mask, int v, EMULATION_SITE) {
  return int(eyrie::emulation::reduce(mask, eyrie::emulation::Reduction::add, uint32_t(v), site));
}
inline unsigned __reduce_min_sync(uint32_t mask, unsigned v, EMULATION_SITE) {
  return eyrie::emulation::reduce(mask, eyrie::emulation::Reduction::min, v, site);
}
inline int __reduce_min_sync(uint32_t mask, int v, EMULATION_SITE) {
  return int(eyrie::emulation::reduce(mask, eyrie::emulation::Reduction::min_signed, uint32_t(v), site));
}
inline unsigned __reduce_max_sync(uint32_t mask, unsigned v, EMULATION_SITE) {
  return eyrie::emulation::reduce(mask, eyrie::emulation::Reduction::max, v, site);
}
inline int __reduce_max_sync(uint32_t mask, int v, EMULATION_SITE) {
  return int(eyrie::emulation::reduce(mask, eyrie::emulation::Reduction::max_signed, uint32_t(v), site));
}
inline unsigned __reduce_and_sync(uint32_t mask, unsigned v, EMULATION_SITE) {
  return eyrie::emulation::reduce(mask, eyrie::emulation::Reduction::bit_and, v, site);
}
inline unsigned __reduce_or_sync(uint32_t mask, unsigned v, EMULATION_SITE) {
  return eyrie::emulation::reduce(mask, eyrie::emulation::Reduction::bit_or, v, site);
}
inline unsigned __reduce_xor_sync(uint32_t mask, unsigned v, EMULATION_SITE) {
  return eyrie::emulation::reduce(mask, eyrie::emulation::Reduction::bit_xor, v, site);
}
#undef EMULATION_SITE
