// Levels: the instruction-set levels built into this addon, and which of them this CPU can run.
#pragma once
#include <string>
#include <vector>

#include "core/call.h"

namespace eyrie::cpu {

struct Level {
  const char* name;
  const Kernel* kernels;  // in the order of ops.def
  bool (*supported)();
  bool own_bits;  // whether its products have other bits than those of the levels with single fused multiply-adds
};

// Ascending. Adding a level is csrc/cpu/simd/<level>.h, its flags in CMakeLists.txt and a row in levels.cc.
const std::vector<Level>& levels();
// The named level, the best supported one for "" (EYRIE_CPU_LEVEL overrides ""), or for "portable" the best one without bits of its own. Throws
// EYRIE_NO_DEVICE.
const Level& find_level(const std::string& name);
// Cores that are really there: affinity mask and cgroup quota, at least 1.
int available_cores();
// Model name of the processor.
std::string cpu_name();

}  // namespace eyrie::cpu
