// The cache's own ops: kv_write, kv_compact, kv_copy_pages. Pages are [N,J,S,D] views with contiguous rows; a row moves in the
// widest words that its address, strides and length allow (16 bytes, 4, or one element).
#include "cuda/bytes.cuh"
#include "cuda/kernels.h"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 256;

struct Pages {
  unsigned char* data;
  int64_t page, head, slot;  // strides in bytes
  int row;  // bytes of a row
};

inline Pages pages_of(const Tensor& t) {
  const int64_t bytes = dtype_info(t.dtype).block_bytes;
  return {static_cast<unsigned char*>(t.data), t.stride[0] * bytes, t.stride[1] * bytes, t.stride[2] * bytes,
          int(t.shape[3] * bytes)};
}
GPU_INLINE unsigned char* row_at(Pages p, int page, int head, int slot) {
  return p.data + page * p.page + head * p.head + slot * p.slot;
}
inline bool aligned(const Pages& p, int bytes) {
  return !((reinterpret_cast<uintptr_t>(p.data) | uintptr_t(p.page) | uintptr_t(p.head) | uintptr_t(p.slot) |
            uintptr_t(p.row)) &
           uintptr_t(bytes - 1));
}
inline unsigned blocks_for(int64_t threads) { return unsigned((threads + kThreads - 1) / kThreads); }

// ---- kv_write: a thread per element, keys then values ----

struct NewRows {
  const void* data;
  int64_t row, head;  // strides in elements
};

template <class In, class Out>
__global__ void __launch_bounds__(kThreads)
    kv_write_kernel(NewRows k, NewRows v, const int* slots, Pages k_pages, Pages v_pages, int64_t total, int heads,
                    int D, int E, int S, int64_t limit, FaultAt fault) {
  dependency_wait();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= total) return;
  int at = int(i % (D + E));
  const int head = int(i / (D + E) % heads);
  const int64_t t = i / (D + E) / heads;
  const int slot = slots[t];
  if (slot < 0 || !in_range(fault, 2, t, slot, INT32_MIN, limit)) return;
  const bool value = at >= D;
  if (value) at -= D;
  const NewRows from = value ? v : k;
  const In x = static_cast<const In*>(from.data)[t * from.row + head * from.head + at];
  reinterpret_cast<Out*>(row_at(value ? v_pages : k_pages, slot / S, head, slot % S))[at] =
      from_float<Out>(to_float(x));
}

// 8-bit pages: a warp for a row, keys then values.
template <class In>
__global__ void __launch_bounds__(kThreads)
    kv_write_bytes_kernel(NewRows k, NewRows v, const int* slots, Pages k_pages, Pages v_pages, PageScales k_scales,
                          PageScales v_scales, int64_t rows, int heads, int S, int64_t limit, FaultAt fault) {
  dependency_wait();
  const int64_t i = int64_t(blockIdx.x) * (kThreads / 32) + (threadIdx.x >> 5);
  if (i >= rows) return;
  const bool value = (i & 1) != 0;
  const int head = int(i / 2 % heads);
  const int64_t t = i / 2 / heads;
  const int slot = slots[t];
  if (slot < 0 || !in_range(fault, 2, t, slot, INT32_MIN, limit)) return;
  const NewRows from = value ? v : k;
  const Pages to = value ? v_pages : k_pages;
  const PageScales scales = value ? v_scales : k_scales;
  const In* x = static_cast<const In*>(from.data) + t * from.row + head * from.head;
  unsigned char* row = row_at(to, slot / S, head, slot % S);
  if (scales.rows) {
    store_row_i8(reinterpret_cast<int8_t*>(row), scales.row(slot / S, head, slot % S), to.row,
                 [&](int d) { return to_float(x[d]); });
    return;
  }
  const float inverse = __fdiv_rn(1.0f, scales.head[head]);
  for (int d = int(threadIdx.x & 31); d < to.row; d += 32) row[d] = float_to_e4m3(__fmul_rn(to_float(x[d]), inverse));
}

template <class In>
void write(const KvWriteArgs& a, Context& context) {
  const int64_t total = a.T * a.J * (a.D + a.E);
  const auto go = [&](auto kernel) {
    launch(context, kernel, blocks_for(total), kThreads, 0, NewRows{a.k->data, a.k->stride[0], a.k->stride[1]},
           NewRows{a.v->data, a.v->stride[0], a.v->stride[1]}, static_cast<const int*>(a.slots->data),
           pages_of(*a.k_pages), pages_of(*a.v_pages), total, int(a.J), int(a.D), int(a.E), int(a.S), a.N * a.S,
           fault_at(context));
  };
  if (a.k_scale || a.k_scales) {
    const int64_t rows = 2 * a.T * a.J;
    launch(context, kv_write_bytes_kernel<In>, blocks_for(rows * 32), kThreads, 0,
           NewRows{a.k->data, a.k->stride[0], a.k->stride[1]}, NewRows{a.v->data, a.v->stride[0], a.v->stride[1]},
           static_cast<const int*>(a.slots->data), pages_of(*a.k_pages), pages_of(*a.v_pages),
           scales_of(a.k_scale, a.k_scales), scales_of(a.v_scale, a.v_scales), rows, int(a.J), int(a.S), a.N * a.S,
           fault_at(context));
    return;
  }
  if (a.k_pages->dtype == DType::f32) go(kv_write_kernel<In, float>);
  else if (a.k_pages->dtype == DType::f16) go(kv_write_kernel<In, f16>);
  else go(kv_write_kernel<In, bf16>);
}

// ---- kv_compact: a thread owns a column of one request's and head's rows and moves it, d ascending ----

struct Paths {
  const int *table, *base, *path, *num;
  int requests, columns, width, pages, heads, S;
};

// The slot of token `at` of request b, or false.
GPU_INLINE bool find_token(const Paths& p, int b, int64_t at, const FaultAt& fault, int& page, int& slot) {
  const int64_t column = at / p.S, i = int64_t(b) * p.columns + column;
  slot = int(at % p.S);
  page = p.table[i];
  return in_range(fault, 0, i, page, 0, p.pages, p.columns);
}

template <class Word>
__global__ void __launch_bounds__(kThreads)
    kv_compact_kernel(Paths p, Pages k, Pages v, int words_k, int words, FaultAt fault) {
  dependency_wait();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int word = int(i % words);
  const int head = int(i / words % p.heads), b = int(i / words / p.heads);
  if (b >= p.requests) return;
  const Pages pages = word < words_k ? k : v;
  const int at = word < words_k ? word : word - words_k;
  const int num = p.num[b], base = p.base[b];
  if (!in_range(fault, 3, b, num, 0, int64_t(p.width) + 1)) return;
  if (num > 0 && !in_range(fault, 1, b, base, 0, int64_t(p.columns) * p.S)) return;
  int last = -1;
  for (int d = 0; d < num; d++) {  // path[d] >= d: no row is overwritten before it has been read
    const int node = p.path[int64_t(b) * p.width + d];
    const int64_t low = last + 1 > d ? last + 1 : d;
    if (!in_range(fault, 2, int64_t(b) * p.width + d, node, low, int64_t(p.columns) * p.S - base, p.width)) return;
    last = node;
    if (node == d) continue;
    int from, from_slot, to, to_slot;
    if (!find_token(p, b, int64_t(base) + node, fault, from, from_slot)) return;
    if (!find_token(p, b, int64_t(base) + d, fault, to, to_slot)) return;
    reinterpret_cast<Word*>(row_at(pages, to, head, to_slot))[at] =
        reinterpret_cast<const Word*>(row_at(pages, from, head, from_slot))[at];
  }
}

// ---- kv_copy_pages: a thread per word of a page. No page may be both source and destination in a call ----

template <class Word>
__global__ void __launch_bounds__(kThreads)
    kv_copy_pages_kernel(const int* src, const int* dst, Pages k, Pages v, int words_k, int words, int copies,
                         int pages, int heads, int S, FaultAt fault) {
  dependency_wait();
  const int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  const int word = int(i % words);
  const int slot = int(i / words % S), head = int(i / words / S % heads);
  const int64_t copy = i / words / S / heads;
  if (copy >= copies) return;
  const int from = src[copy], to = dst[copy];
  if (!in_range(fault, 0, copy, from, 0, pages) || !in_range(fault, 1, copy, to, 0, pages)) return;
  const Pages p = word < words_k ? k : v;
  const int at = word < words_k ? word : word - words_k;
  reinterpret_cast<Word*>(row_at(p, to, head, slot))[at] =
      reinterpret_cast<const Word*>(row_at(p, from, head, slot))[at];
}

// Calls go(Word()) with the widest word that fits keys and values.
template <class Go>
void with_words(const Pages& k, const Pages& v, Go go) {
  if (aligned(k, 16) && aligned(v, 16)) go(uint4());
  else if (aligned(k, 4) && aligned(v, 4)) go(uint32_t());
  else if (aligned(k, 2) && aligned(v, 2)) go(uint16_t());
  else go(uint8_t());
}

// Scales of i8 rows as pages of rows of one f16.
inline Pages plane_of(const Tensor& t) {
  return {static_cast<unsigned char*>(t.data), t.stride[0] * 2, t.stride[1] * 2, t.stride[2] * 2, 2};
}

}  // namespace

void kv_write(const Call& call, Context& context) {
  const KvWriteArgs a = kv_write_args(call);
  if (a.T * a.J * (a.D + a.E) == 0) return;
  if (a.k->dtype == DType::f32) write<float>(a, context);
  else if (a.k->dtype == DType::f16) write<f16>(a, context);
  else write<bf16>(a, context);
}

void kv_compact(const Call& call, Context& context) {
  const KvCompactArgs a = kv_compact_args(call);
  if (a.B * a.J * (a.D + a.E) == 0) return;
  const Pages k = pages_of(*a.k_pages), v = pages_of(*a.v_pages);
  const auto ints = [](const Tensor* t) { return static_cast<const int*>(t->data); };
  const Paths p = {ints(a.block_table),
                   ints(a.base),
                   ints(a.path),
                   ints(a.num),
                   int(a.B),
                   int(a.M),
                   int(a.Q),
                   int(a.N),
                   int(a.J),
                   int(a.S)};
  const auto move = [&](const Pages& k, const Pages& v) {
    with_words(k, v, [&](auto word) {
      const int bytes = int(sizeof word), words = (k.row + v.row) / bytes;
      launch(context, kv_compact_kernel<decltype(word)>, blocks_for(a.B * a.J * words), kThreads, 0, p, k, v,
             k.row / bytes, words, fault_at(context));
    });
  };
  move(k, v);
  if (a.k_scales) move(plane_of(*a.k_scales), plane_of(*a.v_scales));
}

void kv_copy_pages(const Call& call, Context& context) {
  const KvCopyPagesArgs a = kv_copy_pages_args(call);
  if (a.L * a.J * a.S * (a.D + a.E) == 0) return;
  const Pages k = pages_of(*a.k_pages), v = pages_of(*a.v_pages);
  const auto ints = [](const Tensor* t) { return static_cast<const int*>(t->data); };
  const auto copy = [&](const Pages& k, const Pages& v) {
    with_words(k, v, [&](auto word) {
      const int bytes = int(sizeof word), words = (k.row + v.row) / bytes;
      launch(context, kv_copy_pages_kernel<decltype(word)>, blocks_for(a.L * a.J * a.S * words), kThreads, 0,
             ints(a.src), ints(a.dst), k, v, k.row / bytes, words, int(a.L), int(a.N), int(a.J), int(a.S),
             fault_at(context));
    });
  };
  copy(k, v);
  if (a.k_scales) copy(plane_of(*a.k_scales), plane_of(*a.v_scales));
}

}  // namespace eyrie::cuda
