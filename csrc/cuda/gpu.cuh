// The one header through which kernels reach the machine: every instruction that C++ does not have is wrapped here, as PTX for
// nvcc and in software for the emulation (EYRIE_EMULATED, csrc/emulation), so that one kernel source runs on both. Rules that
// follow: shared memory comes from GPU_SHARED, launches go through launch(), no inline assembly and no cuda_bf16.h elsewhere.
#pragma once
#include <cstdint>
#include <cstring>

#ifdef EYRIE_EMULATED
#include "emulation/emulation.h"
#define GPU_SHARED(pointer) unsigned char* pointer = ::eyrie::emulation::shared_memory()
#else
#include <cuda_runtime.h>
#define GPU_SHARED(pointer)                                      \
  extern __shared__ __align__(1024) unsigned char gpu_shared_[]; \
  unsigned char* pointer = gpu_shared_
#endif

#include "core/error.h"
#include "cuda/context.h"

#define GPU_INLINE __device__ __forceinline__

namespace eyrie::cuda {

// ---- launches ----

// Enqueues kernel<<<grid, block, shared>>>(arguments...) on the context's stream. The kernel must call dependency_wait() in every
// thread that touches memory an earlier kernel wrote or reads, before it does.
template <class... P, class... A>
void launch(Context& context, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... arguments) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
#ifdef EYRIE_EMULATED
  emulation::launch(grid, block, shared, [&] { kernel(P(arguments)...); });
#else
  if (shared > 48 * 1024)
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                         int(shared));
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared;
  config.stream = static_cast<cudaStream_t>(context.stream);
  config.attrs = &attribute;
  config.numAttrs = context.chained && context.arch >= 90 ? 1 : 0;
  const cudaError_t e = cudaLaunchKernelEx(&config, kernel, P(arguments)...);
  if (e != cudaSuccess)
    throw Error("EYRIE_EXECUTION", std::string("CUDA launch: ") + cudaGetErrorString(e) + " (" +
                                       std::to_string(int(e)) + "), grid " + std::to_string(grid.x) + "x" +
                                       std::to_string(grid.y) + "x" + std::to_string(grid.z) + ", block " +
                                       std::to_string(block.x) + ", shared " + std::to_string(shared));
#endif
}

// The architecture that kernels are compiled for: 800, 860, … For what changes speed only; 0 in the emulation and on the host.
#if defined(__CUDA_ARCH__)
constexpr int kArch = __CUDA_ARCH__;
#else
constexpr int kArch = 0;
#endif

// Waits for the kernels before this one on the stream (griddepcontrol; a no-op when launched without overlap).
GPU_INLINE void dependency_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
// The next kernel may be scheduled from here on; its dependency_wait() still waits for the end of this one.
GPU_INLINE void dependency_release() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// ---- faults ----

struct FaultAt {  // passed by value to kernels
  Fault* fault;
  int op;
};
inline FaultAt fault_at(const Context& c) { return {c.fault, c.op}; }

// Reports value unless low <= value < high; returns whether it is fine.
GPU_INLINE bool in_range(const FaultAt& f, int argument, int64_t index, int value, int64_t low, int64_t high,
                         int columns = 0) {
  if (value >= low && value < high) return true;
  if (atomicCAS(&f.fault->set, 0u, 1u) == 0) {
    f.fault->op = f.op;
    f.fault->argument = argument;
    f.fault->index = int(index);
    f.fault->columns = columns;
    f.fault->value = value;
    f.fault->low = int(low);
    f.fault->high = int(high);
    __threadfence();
    f.fault->set = 2;
  }
  return false;
}

// ---- numbers ----

struct bf16 {
  uint16_t bits;
};
struct f16 {
  uint16_t bits;
};

GPU_INLINE float to_float(bf16 h) { return __uint_as_float(uint32_t(h.bits) << 16); }
GPU_INLINE float to_float(float x) { return x; }
GPU_INLINE float to_float(f16 h) {
#ifdef EYRIE_EMULATED
  _Float16 x;
  memcpy(&x, &h, 2);
  return float(x);
#else
  float r;
  asm("cvt.f32.f16 %0, %1;" : "=f"(r) : "h"(h.bits));
  return r;
#endif
}

// Round to nearest even; NaN stays NaN.
GPU_INLINE bf16 to_bf16(float x) {
  const uint32_t u = __float_as_uint(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return bf16{uint16_t(u >> 16 | 0x40)};
  return bf16{uint16_t((u + 0x7fffu + (u >> 16 & 1)) >> 16)};
}
GPU_INLINE f16 to_f16(float x) {
#ifdef EYRIE_EMULATED
  const _Float16 y = _Float16(x);
  f16 r;
  memcpy(&r, &y, 2);
  return r;
#else
  f16 r;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(r.bits) : "f"(x));
  return r;
#endif
}
template <class T>
GPU_INLINE T from_float(float x);
template <>
GPU_INLINE float from_float<float>(float x) {
  return x;
}
template <>
GPU_INLINE bf16 from_float<bf16>(float x) {
  return to_bf16(x);
}
template <>
GPU_INLINE f16 from_float<f16>(float x) {
  return to_f16(x);
}

// Two floats as two bf16 in one word, `low` in the low half.
GPU_INLINE uint32_t pack_bf16(float low, float high) {
#ifdef EYRIE_EMULATED
  return uint32_t(to_bf16(low).bits) | uint32_t(to_bf16(high).bits) << 16;
#else
  uint32_t r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
#endif
}
GPU_INLINE float low_bf16(uint32_t pair) { return __uint_as_float(pair << 16); }
GPU_INLINE float high_bf16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }
GPU_INLINE float low_f16(uint32_t pair) { return to_float(f16{uint16_t(pair)}); }
GPU_INLINE float high_f16(uint32_t pair) { return to_float(f16{uint16_t(pair >> 16)}); }

// a * b + c on two bf16, one rounding each.
GPU_INLINE uint32_t fma_bf16x2(uint32_t a, uint32_t b, uint32_t c) {
#ifdef EYRIE_EMULATED
  return pack_bf16(fmaf(low_bf16(a), low_bf16(b), low_bf16(c)), fmaf(high_bf16(a), high_bf16(b), high_bf16(c)));
#else
  uint32_t r;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(r) : "r"(a), "r"(b), "r"(c));
  return r;
#endif
}

// 2^x to about two units in the last place; denormal results are zero.
GPU_INLINE float exp2_approximate(float x) {
#ifdef EYRIE_EMULATED
  return exp2f(x);
#else
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
  return r;
#endif
}

// ---- memory ----

// 16 bytes that are read once: past L1, first to leave L2.
GPU_INLINE uint4 load_stream(const void* p) {
#ifdef EYRIE_EMULATED
  uint4 v;
  memcpy(&v, p, 16);
  return v;
#else
  uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.L2::cache_hint.v4.u32 {%0,%1,%2,%3}, [%4], %5;"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p), "l"(policy));
  return v;
#endif
}
// 4 bytes through the read-only path.
GPU_INLINE uint32_t load_word(const void* p) {
#ifdef EYRIE_EMULATED
  uint32_t v;
  memcpy(&v, p, 4);
  return v;
#else
  return __ldg(static_cast<const uint32_t*>(p));
#endif
}

// Copies 16 bytes to shared memory, or writes zeros when !valid (nothing is read then).
GPU_INLINE void copy_async16(void* shared, const void* global, bool valid) {
#ifdef EYRIE_EMULATED
  emulation::copy_async(shared, global, 16, valid ? 16 : 0);
#else
  const uint32_t s = uint32_t(__cvta_generic_to_shared(shared));
  const int n = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(s), "l"(global), "r"(n) : "memory");
#endif
}
// The same where others want the rest of the 128 bytes around it soon: L2 gets them all.
GPU_INLINE void copy_async16_of_line(void* shared, const void* global, bool valid) {
#ifdef EYRIE_EMULATED
  emulation::copy_async(shared, global, 16, valid ? 16 : 0);
#else
  const uint32_t s = uint32_t(__cvta_generic_to_shared(shared));
  const int n = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(s), "l"(global), "r"(n) : "memory");
#endif
}
GPU_INLINE void copy_async_commit() {
#ifdef EYRIE_EMULATED
  emulation::copy_async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
// Waits until at most `pending` of this thread's groups are still on their way.
template <int pending>
GPU_INLINE void copy_async_wait() {
#ifdef EYRIE_EMULATED
  emulation::copy_async_wait(pending);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// ---- tensor cores ----
// Fragments of mma.m16n8k16 (PTX ISA), g = lane / 4, t = lane % 4, two bf16 a register, the lower column or row in the low half:
//   A[16,16]: a0 (g, 2t..2t+1)  a1 (g+8, 2t..)  a2 (g, 2t+8..)  a3 (g+8, 2t+8..)
//   B[16,8]:  b0 (2t..2t+1, g)  b1 (2t+8.., g)
//   D[16,8]:  d0 d1 (g, 2t..2t+1)  d2 d3 (g+8, 2t..)

// d += A · B, bf16 in, fp32 sums
GPU_INLINE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef EYRIE_EMULATED
  emulation::mma_bf16(d, a, b);
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
// d += A · B, f16 in, fp32 sums
GPU_INLINE void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef EYRIE_EMULATED
  emulation::mma_f16(d, a, b);
#else
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Four 8x8 matrices of 16-bit elements; lane l gives the address of row l % 8 of matrix l / 8 (16-byte aligned, shared memory).
// Register m of lane l then holds elements 2(l%4), 2(l%4)+1 of row l/4 of matrix m; transposed: of column l/4.
template <bool transposed>
GPU_INLINE void load_matrix4(uint32_t (&r)[4], const void* row) {
#ifdef EYRIE_EMULATED
  emulation::load_matrix4(r, row, transposed);
#else
  const uint32_t s = uint32_t(__cvta_generic_to_shared(row));
  if (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(s)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(s)
                 : "memory");
#endif
}

// x, of which the compiler knows nothing: what follows from it is computed where it is used instead of being kept in registers
// around a loop.
GPU_INLINE unsigned opaque(unsigned x) {
#ifndef EYRIE_EMULATED
  asm volatile("" : "+r"(x));
#endif
  return x;
}

}  // namespace eyrie::cuda
