// Tensor: a view of memory that kernels see. Plain data: no ownership, no methods that the linker could share
// between translation units compiled for different instruction sets.
#pragma once
#include <cstddef>
#include <cstdint>

#define EYRIE_INLINE static inline __attribute__((always_inline))
#if defined(__CUDACC__)
#define EYRIE_BOTH __host__ __device__ EYRIE_INLINE  // where kernels of either kind run
#else
#define EYRIE_BOTH EYRIE_INLINE
#endif

namespace eyrie {

enum class DType : uint8_t {
  f32,
  f16,
  bf16,
  i32,
  u8,
  u16,
  q8_0,
  q4_0,
  q4_1,
  f8_e4m3,
  i8,
  i4_g128,
  q5_0,
  q5_1,
  q2_k,
  q3_k,
  q4_k,
  q5_k,
  q6_k,
  iq4_nl,
  iq4_xs,
  mxfp4,
  count
};
enum class Layout : uint8_t { dense, tiles };
enum class DeviceKind : uint8_t { cpu, cuda };

constexpr int kMaxRank = 5;

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  Layout layout = Layout::dense;
  DeviceKind device = DeviceKind::cpu;
  uint8_t rank = 0;
  int64_t shape[kMaxRank] = {};
  int64_t stride[kMaxRank] = {};  // in elements; 0 for tiles
};

// A block is the smallest unit that a format stores: one element, or 32 or 256 quantised ones. i4_g128 is in no file: matrices of floats become it
// (quantize_weight), and their rows may have any length.
struct DTypeInfo {
  const char* name;
  int block;  // elements
  int block_bytes;  // bytes as stored in files (row-major)
};

EYRIE_INLINE DTypeInfo dtype_info(DType t) {
  switch (t) {
    case DType::f32: return {"f32", 1, 4};
    case DType::f16: return {"f16", 1, 2};
    case DType::bf16: return {"bf16", 1, 2};
    case DType::i32: return {"i32", 1, 4};
    case DType::u8: return {"u8", 1, 1};
    case DType::u16: return {"u16", 1, 2};
    case DType::q8_0: return {"q8_0", 32, 34};
    case DType::q4_0: return {"q4_0", 32, 18};
    case DType::q4_1: return {"q4_1", 32, 20};
    case DType::f8_e4m3: return {"f8_e4m3", 1, 1};
    case DType::i8: return {"i8", 1, 1};
    case DType::i4_g128: return {"i4_g128", 128, 66};
    case DType::q5_0: return {"q5_0", 32, 22};
    case DType::q5_1: return {"q5_1", 32, 24};
    case DType::q2_k: return {"q2_k", 256, 84};
    case DType::q3_k: return {"q3_k", 256, 110};
    case DType::q4_k: return {"q4_k", 256, 144};
    case DType::q5_k: return {"q5_k", 256, 176};
    case DType::q6_k: return {"q6_k", 256, 210};
    case DType::iq4_nl: return {"iq4_nl", 32, 18};
    case DType::iq4_xs: return {"iq4_xs", 256, 136};
    case DType::mxfp4: return {"mxfp4", 32, 17};
    default: return {"?", 1, 1};
  }
}

EYRIE_INLINE int64_t numel(const Tensor& t) {
  int64_t n = 1;
  for (int i = 0; i < t.rank; i++) n *= t.shape[i];
  return n;
}

// Whether the elements lie one behind the other, in order; a tensor without elements always does.
EYRIE_INLINE bool is_dense(const Tensor& t) {
  int64_t dense = 1;
  bool steps = true;
  for (int i = t.rank - 1; i >= 0; i--) {
    if (t.shape[i] == 0) return true;
    if (t.shape[i] > 1 && t.stride[i] != dense) steps = false;
    dense *= t.shape[i];
  }
  return steps;
}

}  // namespace eyrie
