// Paged attention for what the tensor-core kernel does not take: f32 and 8-bit pages, other head sizes, odd pages. A block per query row
// and head, a thread per token of a chunk, everything in fp32: exact, and slow.
#include "cuda/attention.cuh"

namespace eyrie::cuda::attention {
namespace {

constexpr int kBlock = kChunk;  // threads

struct Shared {
  float p[kChunk], reduce[4];  // p: with the scales of the values
  int request;
};

template <class Op>
GPU_INLINE float reduce_block(float x, float* scratch, Op op) {
#pragma unroll
  for (int i = 16; i; i >>= 1) x = op(x, __shfl_xor_sync(~0u, x, i));
  if ((threadIdx.x & 31) == 0) scratch[threadIdx.x >> 5] = x;
  __syncthreads();
  x = op(op(scratch[0], scratch[1]), op(scratch[2], scratch[3]));
  __syncthreads();
  return x;
}

template <class T>
__global__ void __launch_bounds__(kBlock) general_kernel(Args a, BothScales scales) {
  dependency_wait();
  GPU_SHARED(memory);
  Shared& s = *reinterpret_cast<Shared*>(memory);
  float* q = reinterpret_cast<float*>(memory + sizeof(Shared));
  float* state = q + a.D;  // [E]
  const void** rows =
      reinterpret_cast<const void**>(memory + (sizeof(Shared) + (a.D + a.E) * sizeof(float) + 15) / 16 * 16);
  const int t = int(blockIdx.x), head = int(blockIdx.y), j = head / a.G, me = int(threadIdx.x);

  if (me == 0) s.request = -1;
  __syncthreads();
  for (int b = me; b < a.requests; b += kBlock)
    if (a.q_start[b] <= t && t < a.q_start[b + 1]) atomicMax(&s.request, b);
  __syncthreads();
  const int b = s.request;
  const int64_t out = (int64_t(t) * a.H + head) * a.E;
  if (b < 0 || !valid_request(a, b)) {
    for (int e = me; e < a.E; e += kBlock) write_out(a, out + e, 0);
    return;
  }
  Request r = request_at(a, b, false);
  const int token = t - r.row;
  Ancestors tree = {};
  if (a.anc) {
    const uint4 w = *reinterpret_cast<const uint4*>(a.anc + int64_t(t) * 4);
    r.tree = (w.x | w.y | w.z | w.w) && r.tokens <= kTreeTokens;
    if (r.tree) {
      if (me == 0) check_ancestors(a, r.row, token);
      tree = ancestors_of(a, r, token);
    }
  }
  const int position = r.tree ? r.prefix + max(1, depth_of(tree)) - 1 : r.prefix + token;
  const int first = first_seen(a, position);
  const float scale = a.q_scale ? a.scale * a.q_scale[t] : a.scale;
  for (int d = me; d < a.D; d += kBlock) q[d] = query_at(a, t * a.q_row + head * a.q_head + d);
  for (int e = me; e < a.E; e += kBlock) state[e] = 0;
  float m0 = -kInfinity, l0 = 0;
  __syncthreads();

  for (int start = first / kChunk * kChunk; start <= position; start += kChunk) {
    const int at = start + me, begin = max(0, first - start), end = min(kChunk, position + 1 - start);
    const bool seen = at >= first && at <= position;
    float x = -kInfinity;
    const void* value = nullptr;
    float value_scale = 1;
    bool bad = false;
    if (seen) {
      const int slot = r.tree && at >= r.prefix ? r.prefix + ancestor_at(tree, at - r.prefix) : at;
      const int page = page_of(a, b, slot);
      bad = page < 0;
      if (!bad) {
        const T* k = reinterpret_cast<const T*>(a.k.data + page * a.k.page + j * a.k.head + slot % a.S * a.k.slot);
        value = a.v.data + page * a.v.page + j * a.v.head + slot % a.S * a.v.slot;
        x = 0;
        for (int d = 0; d < a.D; d++) x = fmaf(q[d], to_float(k[d]), x);
        if constexpr (sizeof(T) == 1) {
          x = __fmul_rn(x, scales.k.of(page, j, slot % a.S));
          value_scale = scales.v.of(page, j, slot % a.S);
        }
        x *= scale;
        if (a.softcap != 0) x = a.softcap * tanhf(x / a.softcap);
        if (a.alibi) x = fmaf(a.alibi[head], float(at - position), x);
        x *= kLog2e;
      }
    }
    rows[me] = value;
    float m = reduce_block(fmaxf(x, kLowest), s.reduce, [](float u, float v) { return fmaxf(u, v); });
    const float p = seen ? exp2f(x - m) : 0;
    s.p[me] = sizeof(T) == 1 && seen ? __fmul_rn(p, value_scale) : p;
    const float l = reduce_block(p, s.reduce, [](float u, float v) { return u + v; });
    if (__syncthreads_or(bad)) m = __uint_as_float(0x7fc00000u);
    const Fold f = fold(m0, l0, m, l);
    if (!f.skip)
      for (int e = me; e < a.E; e += kBlock) {
        float o = 0;
        for (int i = begin; i < end; i++) o = fmaf(s.p[i], to_float(static_cast<const T*>(rows[i])[e]), o);
        state[e] = fmaf(state[e], f.old, f.add * o);
      }
    __syncthreads();
  }
  const float factor = finish(a, head, position, m0, l0);
  for (int e = me; e < a.E; e += kBlock) write_out(a, out + e, factor == 0 && m0 != m0 ? 0 : state[e] * factor);
}

}  // namespace

void attend_general(Args a, DType pages, const BothScales& scales, Context& context) {
  const size_t shared =
      (sizeof(Shared) + size_t(a.D + a.E) * sizeof(float) + 15) / 16 * 16 + kChunk * sizeof(const void*);
  const auto go = [&](auto kernel) {
    launch(context, kernel, dim3(unsigned(a.T), unsigned(a.H)), dim3(kBlock), shared, a, scales);
  };
  if (pages == DType::f32) go(general_kernel<float>);
  else if (pages == DType::f16) go(general_kernel<f16>);
  else if (pages == DType::f8_e4m3) go(general_kernel<e4m3>);
  else if (pages == DType::i8) go(general_kernel<int8_t>);
  else go(general_kernel<bf16>);
}

}  // namespace eyrie::cuda::attention
