// Pages of cached keys or values [N,J,S,D] (page, head, slot in page, channel); rows are contiguous, the rest may be strided.
// Token rows are addressed by slot = page * S + slot in page.
#pragma once
#include "core/tensor.h"

namespace eyrie {

// In elements.
EYRIE_INLINE int64_t kv_offset(const Tensor& pages, int64_t slot, int64_t head) {
  const int64_t S = pages.shape[2];
  return slot / S * pages.stride[0] + head * pages.stride[1] + slot % S * pages.stride[2];
}

// Converts to the pages' type (f32, f16, bf16; nearest even). A negative slot is skipped.
EYRIE_INLINE void kv_store_row(const Tensor& pages, int64_t slot, int64_t head, const float* x) {
  if (slot < 0) return;
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
  } else {
    uint16_t* out = (uint16_t*)pages.data + at;
    for (; i + 16 <= D; i += 16) v_store_bf16(out + i, v_load(x + i));
    for (; i < D; i++) out[i] = float_to_bf16(x[i]);
  }
}

}  // namespace eyrie
