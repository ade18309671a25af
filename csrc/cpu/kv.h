// Pages of cached keys or values [N,J,S,D] (page, head, slot in page, channel); rows are contiguous, the rest may be strided.
// Token rows are addressed by slot = page * S + slot in page.
#pragma once
#include "core/fp8.h"
#include "core/tensor.h"

namespace eyrie {

// Pages with what they need to be written.
struct KvPages {
  const Tensor* pages;
  const Tensor* scale;  // f8_e4m3: f32[J]
  const Tensor* scales;  // i8: f16[N,J,S]
};

// In elements.
EYRIE_INLINE int64_t kv_offset(const Tensor& pages, int64_t slot, int64_t head) {
  const int64_t S = pages.shape[2];
  return slot / S * pages.stride[0] + head * pages.stride[1] + slot % S * pages.stride[2];
}

// The f16 scale of a row of i8 (ops.def: kv_write), and in *inverse what to multiply with. Largest and smallest rows come out
// of integers, so that every level and device has the same bits.
EYRIE_INLINE uint16_t kv_row_scale(const float* x, int64_t D, float* inverse) {
  uint32_t top = 0;
  for (int64_t i = 0; i < D; i++) {
    const uint32_t u = float_to_bits(x[i]) & 0x7fffffff;
    top = u > top ? u : top;
  }
  *inverse = 0;
  if (top >= 0x7f800000) return 0x7e00;  // infinite or NaN
  if (top < 0x32800000) return 0;  // below 2^-26: all would be 0 at the smallest scale, too
  const float least = bits_to_float(top) / 127.0f;
  uint16_t scale = float_to_f16(least);
  if (f16_to_float(scale) < least) scale++;
  if (scale > 0x7bff) scale = 0x7bff;
  *inverse = 1.0f / f16_to_float(scale);
  return scale;
}

EYRIE_INLINE void kv_store_i8(int8_t* out, const float* x, int64_t D, float inverse) {
  const V16 f = v_set1(inverse), top = v_set1(127.0f), low = v_set1(-127.0f);
  for (int64_t i = 0; i < D; i += 16) {
    const int n = int(D - i < 16 ? D - i : 16);
    float y[16];
    const V16 v = n < 16 ? v_load_n(x + i, n) : v_load(x + i);
    v_store(y, v_max(low, v_min(top, v_round_int(v_mul(v, f)))));
    for (int k = 0; k < n; k++) out[i + k] = int8_t(y[k]);
  }
}

// Converts to the pages' type (nearest even). A negative slot is skipped.
EYRIE_INLINE void kv_store_row(const KvPages& kv, int64_t slot, int64_t head, const float* x) {
  if (slot < 0) return;
  const Tensor& pages = *kv.pages;
  const int64_t D = pages.shape[3], at = kv_offset(pages, slot, head);
  int64_t i = 0;
  if (pages.dtype == DType::f32) {
    float* out = (float*)pages.data + at;
    for (; i + 16 <= D; i += 16) v_store(out + i, v_load(x + i));
    if (i < D) v_store_n(out + i, v_load_n(x + i, int(D - i)), int(D - i));
  } else if (pages.dtype == DType::f16) {
    uint16_t* out = (uint16_t*)pages.data + at;
    for (; i + 16 <= D; i += 16) v_store_f16(out + i, v_load(x + i));
    for (; i < D; i++) out[i] = float_to_f16(x[i]);
  } else if (pages.dtype == DType::f8_e4m3) {
    uint8_t* out = (uint8_t*)pages.data + at;
    const float inverse = 1.0f / ((const float*)kv.scale->data)[head];
    for (; i < D; i++) out[i] = float_to_e4m3(x[i] * inverse);
  } else if (pages.dtype == DType::i8) {
    float inverse;
    ((uint16_t*)kv.scales->data)[kv_offset(*kv.scales, slot, head)] = kv_row_scale(x, D, &inverse);
    // A row that is not finite has 0 everywhere, and its scale says so.
    if (inverse == 0) memset((int8_t*)pages.data + at, 0, size_t(D));
    else kv_store_i8((int8_t*)pages.data + at, x, D, inverse);
  } else {
    uint16_t* out = (uint16_t*)pages.data + at;
    for (; i + 16 <= D; i += 16) v_store_bf16(out + i, v_load(x + i));
    for (; i < D; i++) out[i] = float_to_bf16(x[i]);
  }
}

}  // namespace eyrie
