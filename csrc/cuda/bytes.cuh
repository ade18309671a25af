// Cached rows of 8 bits: f8_e4m3 with a scale of each head, i8 with an f16 scale of each row. Rounding is that of csrc/cpu/kv.h, bit
// for bit.
#pragma once
#include "core/fp8.h"
#include "core/tensor.h"
#include "cuda/gpu.cuh"

namespace eyrie::cuda {

struct e4m3 {
  uint8_t bits;
};

// ---- four bytes as two words of two bf16: bytes 0 and 2, bytes 1 and 3 ----

// Two's complement: q = low7 - 128 sign, both exact in bf16 with 128 added.
GPU_INLINE void widen_i8(uint32_t word, uint32_t& even, uint32_t& odd) {
  const uint32_t shifted = word >> 8, minus_one = 0xbf80bf80u;
  const uint32_t base = opaque(0x43004300u);  // in a register: (word & mask) | base is then one instruction
  even = fma_bf16x2((word & 0x00800080u) | base, minus_one, (word & 0x007f007fu) | base);
  odd = fma_bf16x2((shifted & 0x00800080u) | base, minus_one, (shifted & 0x007f007fu) | base);
}
// e4m3: its bits in bf16's place are the value times 2^-120, subnormals too. NaN becomes 480, which no number is.
GPU_INLINE void widen_e4m3(uint32_t word, uint32_t& even, uint32_t& odd) {
  const uint32_t scale = 0x7b807b80u, nothing = 0x80008000u;  // 2^120; -0 keeps the sign of a zero
  even = fma_bf16x2((word << 4 & 0x07f007f0u) | (word << 8 & 0x80008000u), scale, nothing);
  odd = fma_bf16x2((word >> 4 & 0x07f007f0u) | (word & 0x80008000u), scale, nothing);
}
// Nonzero in the top bits of bytes that are NaN.
GPU_INLINE uint32_t nan_bytes(uint32_t word) { return ((word & 0x7f7f7f7fu) + 0x01010101u) & 0x80808080u; }
// 480, what widen_e4m3 makes of NaN, becomes one.
GPU_INLINE uint32_t restore_nan(uint32_t pair) {
  if ((pair & 0x7fffu) == 0x43f0u) pair |= 0x7fc0u;
  if ((pair & 0x7fff0000u) == 0x43f00000u) pair |= 0x7fc00000u;
  return pair;
}

GPU_INLINE float to_float(e4m3 x) { return e4m3_to_float(x.bits); }
GPU_INLINE float to_float(int8_t x) { return float(x); }

// Scales of a cache's keys or values, passed by value to kernels; null where the pages have none of the kind.
struct PageScales {
  const float* head;  // [J]
  unsigned char* rows;  // f16 [N,J,S]
  int64_t page, head_stride, slot;  // of rows, in bytes

  GPU_INLINE f16* row(int64_t page_index, int j, int in_page) const {
    return reinterpret_cast<f16*>(rows + page_index * page + j * head_stride + in_page * slot);
  }
  GPU_INLINE float of(int64_t page_index, int j, int in_page) const {
    return head ? head[j] : rows ? to_float(*row(page_index, j, in_page)) : 1.0f;
  }
};
inline PageScales scales_of(const Tensor* head, const Tensor* rows) {
  PageScales s = {};
  if (head) s.head = static_cast<const float*>(head->data);
  if (!rows) return s;
  s.rows = static_cast<unsigned char*>(rows->data);
  s.page = rows->stride[0] * 2;
  s.head_stride = rows->stride[1] * 2;
  s.slot = rows->stride[2] * 2;
  return s;
}

// The scale of a row whose largest magnitude has the bits `top`, and what to multiply with.
GPU_INLINE f16 row_scale_i8(uint32_t top, float& inverse) {
  inverse = 0;
  if (top >= 0x7f800000u) return f16{0x7e00};  // infinite or NaN
  if (top < 0x32800000u) return f16{0};  // below 2^-26
  const float least = __fdiv_rn(__uint_as_float(top), 127.0f);
  f16 scale = to_f16(least);
  if (to_float(scale) < least) scale.bits++;
  if (scale.bits > 0x7bff) scale.bits = 0x7bff;
  inverse = __fdiv_rn(1.0f, to_float(scale));
  return scale;
}
GPU_INLINE int8_t to_i8(float x, float inverse) {
  if (inverse == 0) return 0;
  return int8_t(fmaxf(-127.0f, fminf(127.0f, rintf(__fmul_rn(x, inverse)))));
}

// A warp stores a row of `size` values, value(i), as i8; its scale too.
template <class Value>
GPU_INLINE void store_row_i8(int8_t* row, f16* scale, int size, Value value) {
  const int lane = int(threadIdx.x & 31);
  uint32_t top = 0;
  for (int i = lane; i < size; i += 32) top = max(top, __float_as_uint(value(i)) & 0x7fffffffu);
  top = __reduce_max_sync(~0u, top);
  float inverse;
  const f16 s = row_scale_i8(top, inverse);
  if (lane == 0) *scale = s;
  for (int i = lane; i < size; i += 32) row[i] = to_i8(value(i), inverse);
}

}  // namespace eyrie::cuda
