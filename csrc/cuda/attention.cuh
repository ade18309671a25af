// Paged attention: what its kernels share. The unit of arithmetic is 16 packed rows (token * G + query head of the group) of one
// request and kv head with one chunk of 128 positions, done by one warp: scores by 16-token steps, one maximum for the chunk,
// p = 2^(s - max), values by steps ascending. Chunks are folded left to right. Which warp does a unit, beside which others, and
// whether a chunk's result stays in registers or goes through memory does not show in the bits.
#pragma once
#include "core/call.h"
#include "core/ops.gen.h"
#include "cuda/bytes.cuh"

namespace eyrie::cuda::attention {

constexpr int kChunk = 128, kStep = 16, kSteps = kChunk / kStep;
constexpr int kWarps = 8, kThreads = kWarps * 32;
constexpr int kRows = 16, kGroupRows = kRows * kWarps;  // of a unit; of a block whose warps share the chunk
constexpr int kRequests = kThreads;  // of a launch: the plan gives each a thread
constexpr int kTreeTokens = 128;  // rows that a request with a tree may have
constexpr float kLog2e = 1.4426950408889634f, kInfinity = __builtin_huge_valf(), kLowest = -3.402823466e38f;

struct PageView {
  const unsigned char* data;
  int64_t page, head, slot;  // strides in bytes
  unsigned page16, slot16;  // the same in units of 16 bytes, in which a place of the pool has 32 bits
};

struct Args {  // passed by value to kernels
  const void* q;
  int64_t q_row, q_head;  // strides in elements
  void* out;
  DType q_type;  // of q and out
  PageView k, v;
  PageScales k_scales, v_scales;  // of 8-bit pages on the tensor cores
  const int *block_table, *seq_lens, *q_start;
  const uint32_t* anc;
  const float *sinks, *alibi, *q_scale;
  float scale, softcap;
  int window, chunk;
  int T, H, J, G, N, S, M, D, E;
  int first_request, requests;  // of this launch
  bool last;  // there are no more
  int grid;  // blocks of the launch
  bool fold_apart;  // what blocks leave as partial results is folded by a launch of its own
  float* partials;  // rows of (columns of a state) + 4: values, maximum, sum
  int partial_rows, ticket_count;
  uint32_t* tickets;
  int tiles;  // tiles of 128 keys that fit the shared memory beside the rest
  FaultAt fault;
};

// ---- what a row sees: positions [first, position] ----

GPU_INLINE int first_seen(const Args& a, int position) {
  int first = 0;
  if (a.window > 0) first = max(first, position - a.window + 1);
  if (a.chunk > 0) first = max(first, position / a.chunk * a.chunk);
  return first;
}

struct Request {
  int row, tokens, length, prefix;
  int chunk0, chunks;  // with something visible
  int regular;  // leading chunks in which a position is a place in the cache for every row: all, or a tree's prefix
  int groups;  // of kGroupRows packed rows
  bool tree;
};

GPU_INLINE Request request_from(const Args& a, int row, int end, int length, bool tree) {
  Request r;
  r.row = row;
  r.tokens = end - row;
  r.length = length;
  r.prefix = r.length - r.tokens;
  r.chunk0 = first_seen(a, r.prefix) / kChunk;
  r.chunks = (r.length + kChunk - 1) / kChunk - r.chunk0;
  r.tree = tree;
  r.regular = tree ? max(0, r.prefix / kChunk - r.chunk0) : r.chunks;
  r.groups = (r.tokens * a.G + kGroupRows - 1) / kGroupRows;
  return r;
}
GPU_INLINE Request request_at(const Args& a, int b, bool tree) {
  return request_from(a, a.q_start[b], a.q_start[b + 1], a.seq_lens[b], tree);
}

// Whether the request can be worked on; reports what is wrong with it.
GPU_INLINE bool valid_request(const Args& a, int b, int row, int end, int length) {
  if (!in_range(a.fault, 5, b, row, 0, int64_t(a.T) + 1)) return false;
  if (!in_range(a.fault, 5, b + 1, end, row, int64_t(a.T) + 1)) return false;
  if (end == row) return true;
  return in_range(a.fault, 4, b, length, end - row, int64_t(a.M) * a.S + 1);
}
GPU_INLINE bool valid_request(const Args& a, int b) {
  return valid_request(a, b, a.q_start[b], a.q_start[b + 1], a.seq_lens[b]);
}

// ---- trees: ancestor bits of a row; a row without any is a chain ----

struct Ancestors {
  uint32_t word[4];
};

GPU_INLINE uint32_t rows_up_to(int token, int word) {  // bits of rows 0..token in a word
  const int bits = min(32, max(0, token + 1 - 32 * word));
  return bits == 32 ? ~0u : (1u << bits) - 1;
}
GPU_INLINE Ancestors ancestors_of(const Args& a, const Request& r, int token) {
  const uint4 w = *reinterpret_cast<const uint4*>(a.anc + int64_t(r.row + token) * 4);
  Ancestors x = {{w.x, w.y, w.z, w.w}};
  const bool chain = !(w.x | w.y | w.z | w.w);
#pragma unroll
  for (int i = 0; i < 4; i++) {  // nothing behind the row itself
    const uint32_t mask = rows_up_to(token, i);
    x.word[i] = chain ? mask : x.word[i] & mask;
  }
  return x;
}
// Reports a bit behind the row itself.
GPU_INLINE void check_ancestors(const Args& a, int row, int token) {
  for (int i = 0; i < 4; i++) {
    const uint32_t behind = a.anc[int64_t(row + token) * 4 + i] & ~rows_up_to(token, i);
    if (behind) in_range(a.fault, 6, row + token, 32 * i + __ffs(int(behind)) - 1, 0, token + 1);
  }
}
GPU_INLINE int depth_of(const Ancestors& x) {
  return __popc(x.word[0]) + __popc(x.word[1]) + __popc(x.word[2]) + __popc(x.word[3]);
}
// The k-th ancestor, counted from the root; k < depth_of(x).
GPU_INLINE int ancestor_at(const Ancestors& x, int k) {
  uint32_t bits = x.word[0];
  int base = 0;
#pragma unroll
  for (int i = 0; i < 3; i++) {
    const int n = __popc(bits);
    if (base == 32 * i && k >= n) {
      k -= n;
      bits = x.word[i + 1];
      base = 32 * (i + 1);
    }
  }
  for (; k > 0; k--) bits &= bits - 1;
  return base + __ffs(int(bits)) - 1;
}

GPU_INLINE int position_of(const Args& a, const Request& r, int token) {
  return r.prefix + (r.tree ? max(1, depth_of(ancestors_of(a, r, token))) - 1 : token);
}

// ---- pages ----

// The page that holds a token, or -1 (reported) when the table names none.
GPU_INLINE int page_of(const Args& a, int b, int token) {
  const int64_t i = int64_t(b) * a.M + token / a.S;
  const int page = a.block_table[i];
  return in_range(a.fault, 3, i, page, 0, a.N, a.M) ? page : -1;
}

// ---- queries and results ----

GPU_INLINE float query_at(const Args& a, int64_t i) {
  if (a.q_type == DType::f32) return static_cast<const float*>(a.q)[i];
  if (a.q_type == DType::bf16) return to_float(static_cast<const bf16*>(a.q)[i]);
  return to_float(static_cast<const f16*>(a.q)[i]);
}
// Calls go with a value of the type that q and out have.
template <class Go>
GPU_INLINE void with_type(const Args& a, Go go) {
  if (a.q_type == DType::f32) go(float());
  else if (a.q_type == DType::bf16) go(bf16());
  else go(f16());
}
GPU_INLINE void write_out(const Args& a, int64_t i, float x) {
  if (a.q_type == DType::f32) static_cast<float*>(a.out)[i] = x;
  else if (a.q_type == DType::bf16) static_cast<bf16*>(a.out)[i] = to_bf16(x);
  else static_cast<f16*>(a.out)[i] = to_f16(x);
}

// Rows that belong to no request, or to a bad one, become zeros. By a block.
GPU_INLINE void clear_rows(const Args& a, int from, int to) {
  const int64_t begin = int64_t(max(0, from)) * a.H * a.E, end = int64_t(min(a.T, to)) * a.H * a.E;
#pragma unroll 1
  for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) write_out(a, i, 0);
}

// ---- folding, in base 2. A maximum of NaN marks a row whose request is bad: it becomes zeros ----

struct Fold {
  float old, add;  // factors
  bool skip;
};

// (m0, l0) <- (m0, l0) and (m, l); the values follow as fmaf(o, old, add * x) unless skip.
GPU_INLINE Fold fold(float& m0, float& l0, float m, float l) {
  if (m == -kInfinity || m0 != m0) return {1, 0, true};  // nothing visible
  if (m != m) {
    m0 = m;
    return {1, 0, true};
  }
  const float top = fmaxf(m0, m);
  const Fold f = {exp2_approximate(m0 - top), exp2_approximate(m - top), false};
  l0 = fmaf(l0, f.old, l * f.add);
  m0 = top;
  return f;
}

// The factor that makes a row's folded values its result, with the scale of the head's values, if one was put off; the sink joins the
// denominator, once.
GPU_INLINE float finish(const Args& a, int head, int position, float m, float l) {
  if (m != m || m == -kInfinity) return 0;
  float f = 1;
  if (a.sinks) {
    float z = a.sinks[head];
    if (a.alibi) z = fmaf(-a.alibi[head], float(position), z);
    z = __fmul_rn(z, kLog2e);  // not to be contracted: the same bits wherever this is inlined
    const float top = fmaxf(m, z);
    f = exp2_approximate(m - top);
    l = fmaf(l, f, exp2_approximate(z - top));
  }
  f /= l;
  return a.v_scales.head ? __fmul_rn(f, a.v_scales.head[head / a.G]) : f;
}

// tanh to about 1e-7 absolute.
GPU_INLINE float tanh_approximate(float x) {
  return 1.0f - __fdividef(2.0f, exp2_approximate(x * (2 * kLog2e)) + 1.0f);
}

struct BothScales {  // of 8-bit pages
  PageScales k, v;
};

// Any head sizes, page sizes, strides and types, in fp32 (attention_general.cu).
void attend_general(Args args, DType pages, const BothScales& scales, Context& context);

// On the tensor cores, for pages of f16, bf16, f8_e4m3 (e4m3) and i8 (int8_t). False when the call is not of that kind or does not fit the
// device. Prompts and trees (attention_blocks.cuh); few rows a request, no tree (attention_few.cuh).
template <class T>
bool attend_blocks(const Args& args, const PagedAttentionArgs& p, Context& context);
template <class T>
bool attend_decode(const Args& args, Context& context);

}  // namespace eyrie::cuda::attention
