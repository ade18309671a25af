#include "cpu/host/levels.h"

#include <sched.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

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
// Levels that have products of their own and everything else from avx512.
#define PRODUCTS(level)                         \
  namespace level {                             \
  void linear(const Call& call, Team& team);    \
  void fused_qkv(const Call& call, Team& team); \
  void fused_glu(const Call& call, Team& team); \
  }
#ifdef EYRIE_HAVE_PAIRS
PRODUCTS(avx512_bf16)
#endif
#ifdef EYRIE_HAVE_TILES
PRODUCTS(amx)
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
// The kernels of avx512, but for the products.
[[maybe_unused]] std::vector<Kernel> with_products(Kernel linear, Kernel fused_qkv, Kernel fused_glu) {
  std::vector<Kernel> table(avx512::kernels, avx512::kernels + ops().size());
  const std::pair<std::string, Kernel> own[] = {{"linear", linear}, {"fused_qkv", fused_qkv}, {"fused_glu", fused_glu}};
  for (const Op& op : ops())
    for (const auto& [name, kernel] : own)
      if (op.name == name) table[size_t(op.index)] = kernel;
  return table;
}
#ifdef EYRIE_HAVE_PAIRS
// On Intel's processors VDPBF16PS has half the rate of the multiply-adds it stands for.
bool has_fast_pairs() { return has_avx512() && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_is("amd"); }
const Kernel* kernels_in_pairs() {
  static const auto& table =
      *new std::vector<Kernel>(with_products(avx512_bf16::linear, avx512_bf16::fused_qkv, avx512_bf16::fused_glu));
  return table.data();
}
#endif
#ifdef EYRIE_HAVE_TILES
// The processor has tiles and products of bf16 on them, the system saves them, and lets this process use them: asked once, before any thread does so.
bool grants_tiles() {
#ifdef EYRIE_EMULATE_AMX
  return true;
#else
  unsigned a, b, c, d;
  constexpr unsigned kBf16 = 1u << 22, kTiles = 1u << 24, kTileState = 3u << 17;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || (d & kBf16) == 0 || (d & kTiles) == 0) return false;
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM of Linux 5.16
  return (low & kTileState) == kTileState && syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
#endif
}
bool has_tiles() {
  static const bool granted = has_avx512() && grants_tiles();
  return granted;
}
const Kernel* kernels_in_tiles() {
  static const auto& table = *new std::vector<Kernel>(with_products(amx::linear, amx::fused_qkv, amx::fused_glu));
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
#ifdef EYRIE_HAVE_TILES
      {"amx", kernels_in_tiles(), has_tiles, false},
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
