#include "cpu/host/levels.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <thread>
#include <utility>

#include "core/error.h"
#include "core/schema.h"

namespace eyrie::cpu {
namespace baseline {
extern const Kernel kernels[];
}
#if defined(__x86_64__) && !defined(EYRIE_BASELINE_ONLY)
namespace avx2 {
extern const Kernel kernels[];
}
namespace avx512 {
extern const Kernel kernels[];
}
#ifdef EYRIE_HAVE_PAIRS
namespace avx512_bf16 {
void linear(const Call& call, Team& team);
void fused_qkv(const Call& call, Team& team);
void fused_glu(const Call& call, Team& team);
}  // namespace avx512_bf16
#endif
#endif

#if defined(__aarch64__) && !defined(EYRIE_BASELINE_ONLY)
namespace neon {
extern const Kernel kernels[];
}
#endif

namespace {

bool always() { return true; }
#if defined(__x86_64__) && !defined(EYRIE_BASELINE_ONLY)
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avx512() {
#ifdef EYRIE_EMULATE_AVX512
  return has_avx2();
#else
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#endif
}
#ifdef EYRIE_HAVE_PAIRS
// On Intel's processors VDPBF16PS has half the rate of the multiply-adds it stands for.
bool has_fast_pairs() { return has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd"); }
// The kernels of avx512, but for those whose products are pairs.
const Kernel* kernels_in_pairs() {
  static const auto& table = *new std::vector<Kernel>([] {
    std::vector<Kernel> t(avx512::kernels, avx512::kernels + ops().size());
    const std::pair<const char*, Kernel> own[] = {
        {"linear", avx512_bf16::linear}, {"fused_qkv", avx512_bf16::fused_qkv}, {"fused_glu", avx512_bf16::fused_glu}};
    for (const Op& op : ops())
      for (const auto& [name, kernel] : own)
        if (std::string(op.name) == name) t[size_t(op.index)] = kernel;
    return t;
  }());
  return table.data();
}
#endif
#endif

// Cores that a cgroup quota leaves, or a large number.
double cgroup_cores() {
  std::string quota;
  double period = 0;
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  if (v2 >> quota >> period && quota != "max") return std::atof(quota.c_str()) / period;
  std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  double us = -1;
  if (q >> us && p >> period && us > 0) return us / period;
  return 1e9;
}

}  // namespace

const std::vector<Level>& levels() {
  static const auto& all = *new std::vector<Level>{
                                                     // never destroyed, like the op table
      {"baseline", baseline::kernels, always, false},
#if defined(__x86_64__) && !defined(EYRIE_BASELINE_ONLY)
      {"avx2", avx2::kernels, has_avx2, false},
      {"avx512", avx512::kernels, has_avx512, false},
#ifdef EYRIE_HAVE_PAIRS
      {"avx512_bf16", kernels_in_pairs(), has_fast_pairs, true},
#endif
#endif
#if defined(__aarch64__) && !defined(EYRIE_BASELINE_ONLY)
      {"neon", neon::kernels, always, false},
#endif
  };
  return all;
}

const Level& find_level(const std::string& name) {
  std::string wanted = name;
  const char* forced = std::getenv("EYRIE_CPU_LEVEL");
  if (wanted.empty() && forced) wanted = forced;
  const Level* best = nullptr;
  std::string names;
  for (const Level& level : levels()) {
    if (level.supported()) {
      names += (names.empty() ? "" : ", ") + std::string(level.name);
      if (wanted.empty() || wanted == level.name || (wanted == "portable" && !level.own_bits)) best = &level;
    }
  }
  if (!best)
    throw Error("EYRIE_NO_DEVICE", "CPU level " + wanted + " does not exist or this processor (" + cpu_name() +
                                       ") lacks its instructions; usable: " + names);
  return *best;
}

int available_cores() {
  cpu_set_t set;
  int n = int(std::thread::hardware_concurrency());
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
  return std::max(1, std::min(n, int(std::ceil(cgroup_cores()))));
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.rfind("model name", 0) == 0) return line.substr(line.find(':') + 2);
  return "unknown";
}

}  // namespace eyrie::cpu
