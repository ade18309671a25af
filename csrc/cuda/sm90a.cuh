// The instructions of sm_90a that csrc/cuda/gemm_sm90a.cuh is made of: barriers in shared memory, the copy engine, warpgroup
// matrix products. No emulation: files that include this are left out of emulated builds. Section names are those of the PTX ISA.
#pragma once
#include <cuda.h>  // CUtensorMap; nothing of libcuda is linked

#include "cuda/gpu.cuh"

namespace eyrie::cuda {

// How long a barrier may stay closed before the kernel reports and traps. Only a fault of the kernel lets that happen.
#ifndef EYRIE_BARRIER_SECONDS
#define EYRIE_BARRIER_SECONDS 20
#endif

GPU_INLINE uint32_t shared_address(const void* p) { return uint32_t(__cvta_generic_to_shared(p)); }

// ---- mbarrier ----

GPU_INLINE void barrier_init(uint32_t bar, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(arrivals) : "memory");
}
// Makes initialised barriers visible to the copy engine and to the other blocks of the cluster; a barrier must follow.
GPU_INLINE void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
// One arrival; the phase then also waits for `bytes` that the copy engine writes.
GPU_INLINE void barrier_expect(uint32_t bar, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(bytes) : "memory");
}
// One arrival at the same barrier of block `rank` of the cluster.
GPU_INLINE void barrier_arrive(uint32_t bar, uint32_t rank) {
  asm volatile(
      "{\n .reg .b32 remote;\n"
      " mapa.shared::cluster.u32 remote, %0, %1;\n"
      " mbarrier.arrive.release.cluster.shared::cluster.b64 _, [remote];\n}" ::"r"(bar),
      "r"(rank)
      : "memory");
}
GPU_INLINE void barrier_arrive(uint32_t bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}
// Whether the phase of this parity is complete; may sleep for a while first.
GPU_INLINE bool barrier_test(uint32_t bar, uint32_t parity) {
  uint32_t done;
  asm volatile(
      "{\n .reg .pred p;\n"
      " mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
      " selp.b32 %0, 1, 0, p;\n}"
      : "=r"(done)
      : "r"(bar), "r"(parity)
      : "memory");
  return done != 0;
}
GPU_INLINE uint64_t nanoseconds() {
  uint64_t t;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(t));
  return t;
}

// Four words in memory that the host sees after a trap: what waited (`code`), its block, its thread, the parity.
struct Hang {
  uint32_t* at;  // or null
};
GPU_INLINE void barrier_wait(uint32_t bar, uint32_t parity, const Hang& hang, uint32_t code) {
  for (int i = 0; i < 8; i++)
    if (barrier_test(bar, parity)) return;
  const uint64_t start = nanoseconds();
  while (!barrier_test(bar, parity)) {
    if (nanoseconds() - start < uint64_t(EYRIE_BARRIER_SECONDS) * 1000000000u) continue;
    if (hang.at && atomicCAS(hang.at, 0u, code) == 0) {
      hang.at[1] = blockIdx.x;
      hang.at[2] = threadIdx.x;
      hang.at[3] = parity;
      __threadfence_system();
    }
    const uint64_t reported = nanoseconds();  // whoever reports gets the time to
    while (nanoseconds() - reported < 10000000u) {
    }
    __trap();
  }
}

// Barrier `id` (1..15) among `threads` threads of the block.
GPU_INLINE void named_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// ---- clusters ----

// On a kernel: blocks come in clusters of n.
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
#define EYRIE_CLUSTER(n) __cluster_dims__(n, 1, 1)
#else
#define EYRIE_CLUSTER(n)
#endif

GPU_INLINE uint32_t cluster_rank() {
  uint32_t r;
  asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
  return r;
}
GPU_INLINE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release;\n barrier.cluster.wait.acquire;" ::: "memory");
}

// ---- registers ----

template <int registers>
GPU_INLINE void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
GPU_INLINE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

// threadIdx.x, read here and now: what is derived from it is not kept in registers through the code before.
GPU_INLINE int thread_index() {
  int i;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(i));
  return i;
}

// 16 bytes of shared memory.
GPU_INLINE uint4 load_shared16(uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

// ---- the copy engine ----

// `bytes` contiguous bytes; addresses and size are multiples of 16.
GPU_INLINE void copy_bulk(uint32_t to, const void* from, uint32_t bytes, uint32_t bar) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(bar)
               : "memory");
}
// The map's box whose first element is (row, column); what lies outside the tensor arrives as zeros, and counts as bytes.
GPU_INLINE void copy_box(uint32_t to, const CUtensorMap* map, int column, int row, uint32_t bar) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::
          "r"(to),
      "l"(map), "r"(column), "r"(row), "r"(bar)
      : "memory");
}
// The same into every block of `blocks` (a bit each), at the same offset, counted by each one's own barrier.
GPU_INLINE void copy_box(uint32_t to, const CUtensorMap* map, int column, int row, uint32_t bar, uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(to),
      "l"(map), "r"(column), "r"(row), "r"(bar), "h"(blocks)
      : "memory");
}
GPU_INLINE void prefetch_map(const CUtensorMap* map) { asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory"); }

// ---- wgmma ----

// Orders register accesses before it with the wgmma after it: accumulators, and fragments of A.
GPU_INLINE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
GPU_INLINE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending>
GPU_INLINE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}
// No access to these registers moves across: what a wait has made readable is not read, or renamed, before it.
template <int n>
GPU_INLINE void pin_registers(float (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; i++) asm volatile("" : "+f"(d[i])::"memory");
}

// Matrix descriptor ("Matrix Descriptor Format") of a K-major operand in rows of 128 bytes that the copy engine wrote with its
// 128-byte swizzle: bits 0-13 address / 16, bits 16-29 leading dimension offset (not used with a swizzle as wide as the row; 1),
// bits 32-45 stride between groups of 8 rows / 16, bits 49-51 base offset (0: tiles start at multiples of 1024 bytes),
// bits 62-63 swizzle (1: 128 bytes). The next 16 inputs are 32 bytes further: + 2.
GPU_INLINE uint64_t swizzled_descriptor(uint32_t address) {
  return uint64_t((address & 0x3ffffu) >> 4) | uint64_t(1) << 16 | uint64_t(1024 >> 4) << 32 | uint64_t(1) << 62;
}

#define EYRIE_REGS_0                                                                                                   \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30," \
  "%31"
#define EYRIE_REGS_1                                                                                                  \
  "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%" \
  "60,%61,%62,%63"
#define EYRIE_REGS_2                                                                                                  \
  "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%" \
  "92,%93,%94,%95"
#define EYRIE_REGS_3                                                                                                 \
  "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,%112,%113,%114,%115,%116,%117,%118,%" \
  "119,%120,%121,%122,%123,%124,%125,%126,%127"
#define EYRIE_F8(i)                                                                                           \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), \
      "+f"(d[i + 7])
#define EYRIE_F32(i) EYRIE_F8(i), EYRIE_F8(i + 8), EYRIE_F8(i + 16), EYRIE_F8(i + 24)
// operands after the accumulators: a0..a3, descriptor of B, whether to add to D
#define EYRIE_WGMMA(n, registers, i0, i1, i2, i3, ib, iadd, ...)                                                     \
  asm volatile("{\n .reg .pred p;\n setp.ne.b32 p, %" #iadd                                                          \
               ", 0;\n"                                                                                              \
               " wgmma.mma_async.sync.aligned.m64n" #n "k16.f32.bf16.bf16 {" registers "}, {%" #i0 ",%" #i1 ",%" #i2 \
               ",%" #i3 "}, %" #ib ", p, 1, 1, 0;\n}"                                                                \
               : __VA_ARGS__                                                                                         \
               : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "l"(b), "r"(add))

// d = A · B (+ d), asynchronously, by the four warps of a warpgroup: A[64,16] in registers, warp w holding rows 16w..16w+15 as an
// A fragment of mma.m16n8k16; B[16,n] in shared memory; D[64,n]: warp w has rows 16w.., d[4j..4j+3] is the D fragment of columns
// 8j..8j+7 (gpu.cuh).
template <int n>
GPU_INLINE void wgmma_bf16(float (&d)[n / 2], const uint4& a, uint64_t b, int add) {
  static_assert(n == 64 || n == 128 || n == 192 || n == 256);
  if constexpr (n == 64) EYRIE_WGMMA(64, EYRIE_REGS_0, 32, 33, 34, 35, 36, 37, EYRIE_F32(0));
  if constexpr (n == 128)
    EYRIE_WGMMA(128, EYRIE_REGS_0 "," EYRIE_REGS_1, 64, 65, 66, 67, 68, 69, EYRIE_F32(0), EYRIE_F32(32));
  if constexpr (n == 192)
    EYRIE_WGMMA(192, EYRIE_REGS_0 "," EYRIE_REGS_1 "," EYRIE_REGS_2, 96, 97, 98, 99, 100, 101, EYRIE_F32(0),
                EYRIE_F32(32), EYRIE_F32(64));
  if constexpr (n == 256)
    EYRIE_WGMMA(256, EYRIE_REGS_0 "," EYRIE_REGS_1 "," EYRIE_REGS_2 "," EYRIE_REGS_3, 128, 129, 130, 131, 132, 133,
                EYRIE_F32(0), EYRIE_F32(32), EYRIE_F32(64), EYRIE_F32(96));
}

#undef EYRIE_REGS_0
#undef EYRIE_REGS_1
#undef EYRIE_REGS_2
#undef EYRIE_REGS_3
#undef EYRIE_F8
#undef EYRIE_F32
#undef EYRIE_WGMMA

}  // namespace eyrie::cuda
