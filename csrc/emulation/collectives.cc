#include "emulation/collectives.h"

#include <bit>
#include <string>

namespace eyrie::emulation {
namespace {

template <class F>
void each(uint32_t lanes, F f) {
  for (; lanes; lanes &= lanes - 1) f(std::countr_zero(lanes));
}

template <class In, class Bits>
void run_shuffle(uint32_t, uint32_t lanes, void* const* in, void* const* out) {
  each(lanes, [&](int lane) {
    const int source = static_cast<const In*>(in[lane])->source;
    if (!(lanes >> source & 1))
      running->block->fail("shuffle: lane " + std::to_string(lane) + " reads lane " + std::to_string(source) +
                           ", which takes no part in it");
    *static_cast<Bits*>(out[lane]) = static_cast<const In*>(in[source])->bits;
  });
}

void run_ballot(uint32_t, uint32_t lanes, void* const* in, void* const* out) {
  uint32_t set = 0;
  each(lanes, [&](int lane) { set |= uint32_t(*static_cast<const bool*>(in[lane])) << lane; });
  each(lanes, [&](int lane) { *static_cast<uint32_t*>(out[lane]) = set; });
}

void run_match_any(uint32_t, uint32_t lanes, void* const* in, void* const* out) {
  const auto value = [&](int lane) { return *static_cast<const uint64_t*>(in[lane]); };
  each(lanes, [&](int lane) {
    uint32_t same = 0;
    each(lanes, [&](int other) { same |= uint32_t(value(other) == value(lane)) << other; });
    *static_cast<uint32_t*>(out[lane]) = same;
  });
}

void run_match_all(uint32_t mask, uint32_t lanes, void* const* in, void* const* out) {
  const uint64_t first = *static_cast<const uint64_t*>(in[std::countr_zero(lanes)]);
  bool same = true;
  each(lanes, [&](int lane) { same &= *static_cast<const uint64_t*>(in[lane]) == first; });
  each(lanes, [&](int lane) { *static_cast<uint32_t*>(out[lane]) = same ? mask : 0; });
}

template <Reduction reduction>
void run_reduce(uint32_t, uint32_t lanes, void* const* in, void* const* out) {
  uint32_t r = *static_cast<const uint32_t*>(in[std::countr_zero(lanes)]);
  each(lanes & (lanes - 1), [&](int lane) {
    const uint32_t v = *static_cast<const uint32_t*>(in[lane]);
    switch (reduction) {
      case Reduction::add: r += v; break;
      case Reduction::min: r = v < r ? v : r; break;
      case Reduction::max: r = v > r ? v : r; break;
      case Reduction::min_signed: r = int32_t(v) < int32_t(r) ? v : r; break;
      case Reduction::max_signed: r = int32_t(v) > int32_t(r) ? v : r; break;
      case Reduction::bit_and: r &= v; break;
      case Reduction::bit_or: r |= v; break;
      case Reduction::bit_xor: r ^= v; break;
    }
  });
  each(lanes, [&](int lane) { *static_cast<uint32_t*>(out[lane]) = r; });
}

void check_width(int width) {
  if (width < 1 || width > 32 || width & (width - 1))
    running->block->fail("shuffle: the width " + std::to_string(width) + " is not a power of two up to 32");
}

}  // namespace

uint32_t shuffle4(uint32_t mask, const char* name, Shuffle4 in, const Site& site) {
  return meet<Shuffle4, uint32_t>(mask, name, run_shuffle<Shuffle4, uint32_t>, in, site);
}
uint64_t shuffle8(uint32_t mask, const char* name, Shuffle8 in, const Site& site) {
  return meet<Shuffle8, uint64_t>(mask, name, run_shuffle<Shuffle8, uint64_t>, in, site);
}

int lane_at(int source, int width) {
  check_width(width);
  return (int(running->lane) & ~(width - 1)) | (source & (width - 1));
}
int lane_up(int delta, int width) {
  check_width(width);
  const int lane = int(running->lane);
  return lane - delta >= (lane & ~(width - 1)) ? lane - delta : lane;
}
int lane_down(int delta, int width) {
  check_width(width);
  const int lane = int(running->lane);
  return lane + delta <= (lane | (width - 1)) ? lane + delta : lane;
}
int lane_xor(int mask, int width) {
  check_width(width);
  const int lane = int(running->lane);
  return (lane ^ mask) <= (lane | (width - 1)) ? lane ^ mask : lane;
}

uint32_t ballot(uint32_t mask, const char* name, bool predicate, const Site& site) {
  return meet<bool, uint32_t>(mask, name, run_ballot, predicate, site);
}
uint32_t match_any(uint32_t mask, uint64_t value, const Site& site) {
  return meet<uint64_t, uint32_t>(mask, "__match_any_sync", run_match_any, value, site);
}
uint32_t match_all(uint32_t mask, uint64_t value, const Site& site) {
  return meet<uint64_t, uint32_t>(mask, "__match_all_sync", run_match_all, value, site);
}

uint32_t reduce(uint32_t mask, Reduction reduction, uint32_t value, const Site& site) {
  static constexpr struct {
    const char* name;
    Meet run;
  } kReductions[] = {{"__reduce_add_sync", run_reduce<Reduction::add>},
                     {"__reduce_min_sync", run_reduce<Reduction::min>},
                     {"__reduce_max_sync", run_reduce<Reduction::max>},
                     {"__reduce_min_sync", run_reduce<Reduction::min_signed>},
                     {"__reduce_max_sync", run_reduce<Reduction::max_signed>},
                     {"__reduce_and_sync", run_reduce<Reduction::bit_and>},
                     {"__reduce_or_sync", run_reduce<Reduction::bit_or>},
                     {"__reduce_xor_sync", run_reduce<Reduction::bit_xor>}};
  const auto& r = kReductions[int(reduction)];
  return meet<uint32_t, uint32_t>(mask, r.name, r.run, value, site);
}

}  // namespace eyrie::emulation
