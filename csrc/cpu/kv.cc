// The cache's own ops: kv_write, kv_compact, kv_copy_pages. Each (token or request or page, head) belongs to one worker.
#include "cpu/kv.h"

namespace eyrie::cpu::EYRIE_LEVEL {

namespace {

EYRIE_INLINE char* row_at(const Tensor& pages, int64_t slot, int64_t head) {
  return (char*)pages.data + kv_offset(pages, slot, head) * dtype_info(pages.dtype).block_bytes;
}

// scales: of i8 rows, or null.
EYRIE_INLINE void copy_row(const Tensor& pages, const Tensor* scales, int64_t from, int64_t to, int64_t head) {
  memcpy(row_at(pages, to, head), row_at(pages, from, head),
         size_t(pages.shape[3] * dtype_info(pages.dtype).block_bytes));
  if (!scales) return;
  uint16_t* const plane = (uint16_t*)scales->data;
  plane[kv_offset(*scales, to, head)] = plane[kv_offset(*scales, from, head)];
}

}  // namespace

void kv_write(const Call& call, Team& team) {
  const auto a = kv_write_args(call);
  const int32_t* slots = (const int32_t*)a.slots->data;
  const Range range = team_range(team, a.T * a.J);
  for (int64_t i = range.begin; i < range.end; i++) {
    const int64_t t = i / a.J, j = i % a.J;
    kv_store_row({a.k_pages, a.k_scale, a.k_scales}, slots[t], j,
                 (const float*)a.k->data + t * a.k->stride[0] + j * a.k->stride[1]);
    kv_store_row({a.v_pages, a.v_scale, a.v_scales}, slots[t], j,
                 (const float*)a.v->data + t * a.v->stride[0] + j * a.v->stride[1]);
  }
}

void kv_compact(const Call& call, Team& team) {
  const auto a = kv_compact_args(call);
  const Range range = team_range(team, a.B * a.J);
  for (int64_t i = range.begin; i < range.end; i++) {
    const int64_t b = i / a.J, j = i % a.J;
    const int32_t* table = (const int32_t*)a.block_table->data + b * a.M;
    const int32_t* path = (const int32_t*)a.path->data + b * a.Q;
    const int64_t base = ((const int32_t*)a.base->data)[b], num = ((const int32_t*)a.num->data)[b];
    for (int64_t d = 0; d < num; d++) {  // ascending: path[d] >= d, so no row is overwritten before it has been read
      if (path[d] == d) continue;
      const int64_t from = base + path[d], to = base + d;
      const int64_t from_slot = table[from / a.S] * a.S + from % a.S, to_slot = table[to / a.S] * a.S + to % a.S;
      copy_row(*a.k_pages, a.k_scales, from_slot, to_slot, j);
      copy_row(*a.v_pages, a.v_scales, from_slot, to_slot, j);
    }
  }
}

void kv_copy_pages(const Call& call, Team& team) {
  const auto a = kv_copy_pages_args(call);
  const int32_t *src = (const int32_t*)a.src->data, *dst = (const int32_t*)a.dst->data;
  const Range range = team_range(team, a.L * a.J);
  for (int64_t i = range.begin; i < range.end; i++) {
    const int64_t l = i / a.J, j = i % a.J;
    for (int64_t s = 0; s < a.S; s++) {
      copy_row(*a.k_pages, a.k_scales, src[l] * a.S + s, dst[l] * a.S + s, j);
      copy_row(*a.v_pages, a.v_scales, src[l] * a.S + s, dst[l] * a.S + s, j);
    }
  }
}

}  // namespace eyrie::cpu::EYRIE_LEVEL
