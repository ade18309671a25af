// Products of few rows (decoding, draft trees): every weight is read once, straight into tensor-core fragments. A block of eight warps
// makes T panels of 16 outputs for up to 8 C rows; each warp sums two of the K ranges, and the ranges are added in their order, so
// a row's bits depend on (N, K) alone (kernels.md 2.1; the split by K is what fills the memory system).
#include <algorithm>

#include "cuda/product.cuh"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStride = 20;  // floats from column to column of a partial tile: no bank conflicts

template <int T, int C>
struct Partials {
  float part[kRanges][T][C * 8 * kStride];
  float scales[C * 8];
};

// Indexing a kernel's parameters with a variable would copy them to local memory.
GPU_INLINE const unsigned char* data_of(const Product& p, int matrix) {
  return matrix == 0 ? p.w[0].data : matrix == 1 ? p.w[1].data : p.w[2].data;
}
GPU_INLINE int panels_of(const Product& p, int matrix) {
  return matrix == 0 ? p.w[0].panels : matrix == 1 ? p.w[1].panels : p.w[2].panels;
}
GPU_INLINE int outputs_of(const Product& p, int matrix) {
  return matrix == 0 ? p.w[0].n : matrix == 1 ? p.w[1].n : p.w[2].n;
}

GPU_INLINE float scale_of(const Product& p, int matrix, int n) {
  return output_scale(matrix == 0 ? p.w[0] : matrix == 1 ? p.w[1] : p.w[2], n);
}

// The panels of a block and where they come from.
template <Mode mode, int T>
GPU_INLINE void place(const Product& p, int group, int t, int& matrix, int& panel) {
  if (mode == Mode::glu) {
    matrix = t;
    panel = group;
  } else if (mode == Mode::linear) {
    matrix = 0;
    panel = group * T + t;
  } else {  // T == 2: rows i and i + D/2 of a head of q or k; two panels of v
    const int q = p.heads.q_panels, k = p.heads.k_panels, half = p.heads.d / 32;
    int first = group * 2;
    matrix = first < q ? 0 : first < q + k ? 1 : 2;
    if (matrix == 2) {
      panel = first - q - k + t;
    } else {
      const int local = group - (matrix ? q / 2 : 0);
      panel = local / half * 2 * half + local % half + t * half;
    }
  }
}

// One output of T panels a thread: (row, n) of the block's tile. What finishing it needs from memory is loaded before the sums are
// there, since nothing is left then to hide the latency behind.
template <Mode mode, int T>
struct Late {
  static_assert(T <= 2);
  int n, row, out;  // out: of panel 0
  int matrix, distance;  // from the output of panel 0 to that of panel 1
  bool live, second, rotated;
  float bias[T], residual[T], scale[T];
  float cosine, sine;
  int slot;

  template <bool scaled>
  GPU_INLINE void prepare(const Product& p, int group, int first_row, int rows) {
    n = int(threadIdx.x) & 15;
    const int col = int(threadIdx.x) >> 4;
    row = first_row + col;
    int panel;
    place<mode, T>(p, group, 0, matrix, panel);
    out = panel * 16 + n;
    const int outputs = outputs_of(p, matrix);
    live = col < rows && out < outputs;
    distance = mode == Mode::qkv && matrix < 2 ? p.heads.d / 2 : 16;
    second = T == 2 && out + distance < outputs;
#pragma unroll
    for (int t = 0; t < T; t++) {
      bias[t] = residual[t] = 0.0f;
      scale[t] = 1.0f;
    }
    rotated = false;
    cosine = sine = 0.0f;
    slot = -1;
    if (!live) return;
    if constexpr (scaled) {  // glu: the second panel is that of the other matrix
      scale[0] = scale_of(p, matrix, out);
      if (T == 2 && mode == Mode::glu) scale[T - 1] = scale_of(p, 1, out);
      else if (second) scale[T - 1] = scale_of(p, matrix, out + distance);
    }
    if (mode == Mode::linear) {
#pragma unroll
      for (int t = 0; t < T; t++) {
        if (t && !second) continue;
        if (p.out.bias) bias[t] = p.out.bias[out + 16 * t];
        if (p.out.residual)
          residual[t] = load_activation(p.out.residual, p.out.dtype, row * p.out.residual_stride + out + 16 * t);
      }
    } else if (mode == Mode::qkv) {
      const Heads& h = p.heads;
      const float* b = matrix == 0 ? h.bq : matrix == 1 ? h.bk : h.bv;
      if (b) {
        bias[0] = b[out];
        if (second) bias[T - 1] = b[out + distance];
      }
      if (matrix < 2 && h.rope) {
        const int at = h.rows[row], d = out % h.d;
        rotated = in_range(h.fault, 12, row, at, 0, h.rope_rows);
        if (rotated) {
          cosine = h.rope[int64_t(at) * h.d + d];
          sine = h.rope[int64_t(at) * h.d + h.d / 2 + d];
        }
      }
      if (matrix > 0) {
        slot = h.slots[row];
        if (slot >= 0 && !in_range(h.fault, 13, row, slot, 0, h.k.count * h.k.slots)) slot = -1;
      }
    }
  }

  GPU_INLINE void finish(const Product& p, float (&y)[T]) const {
    if (!live) return;
    if (mode == Mode::linear) {
#pragma unroll
      for (int t = 0; t < T; t++) {
        if (t && !second) continue;
        float v = y[t];
        if (p.out.bias) v += bias[t];
        if (p.out.residual) v += residual[t];
        store_activation(p.out.out, p.out.dtype, row * p.out.out_stride + out + 16 * t, v);
      }
    } else if (mode == Mode::glu) {
      finish_glu(p.out, row, out, y[0], y[T - 1]);
    } else {
      const Heads& h = p.heads;
      float a = y[0], b = y[T - 1];
      if (matrix == 0 ? h.bq : matrix == 1 ? h.bk : h.bv) {
        a += bias[0];
        b += bias[T - 1];
      }
      if (rotated) rotate(a, b, cosine, sine);
      if (matrix == 0) {
        const int64_t q = int64_t(row) * p.w[0].n + out;
        store_activation(h.q, h.q_dtype, q, a);
        store_activation(h.q, h.q_dtype, q + distance, b);
      } else if (slot >= 0) {
        const int size = matrix == 2 ? h.e : h.d;
        store_head(matrix == 1, h, out / size, out % size, a);
        if (second) store_head(matrix == 1, h, (out + distance) / size, (out + distance) % size, b);
      }
    }
  }

  GPU_INLINE void store_head(bool key, const Heads& h, int head, int d, float v) const {
    if (key) store_page(h.k, slot, head, d, v);
    else store_page(h.v, slot, head, d, v);
  }
};

// Block J of a unit; x: word `word` on of the columns.
template <class F, int J, int C>
GPU_INLINE void multiply_block(float (*acc)[4], const typename F::Raw& raw, const uint32_t* xs, const int (&column)[C],
                               int word) {
  uint32_t a[2][4], b[C][2][2];
#pragma unroll
  for (int h = 0; h < 2; h++) {
    F::template fragment<J>(raw, h, a[h]);
#pragma unroll
    for (int c = 0; c < C; c++) {
      const uint32_t* x = xs + column[c] + word + (2 * J + h) * 8;
      b[c][h][0] = x[0];
      b[c][h][1] = x[4];
    }
  }
  F::template accumulate<J, C>(acc, raw, a, b);
}

// Whether a block makes one group of panels after the other (there may be many), or one.
template <Mode mode, int T>
constexpr bool kLoops = mode == Mode::glu || (mode == Mode::linear && T == 2);

// Blocks that a multiprocessor is to have room for: two, but for the one kernel that 128 registers do not hold on these architectures.
template <class F, Mode mode, int C>
constexpr int kBlocksAtOnce =
    (kArch == 860 || kArch == 890) && F::kType == DType::q4_1 && mode == Mode::qkv && C == 2 ? 1 : 2;

template <class F, Mode mode, int T, int C>
__global__ void __launch_bounds__(kThreads, (kBlocksAtOnce<F, mode, C>))
    decode_kernel(Product p, int rows_at_once, int groups) {
  GPU_SHARED(raw_shared);
  Partials<T, C>& s = *reinterpret_cast<Partials<T, C>*>(raw_shared);
  uint32_t* const xs = reinterpret_cast<uint32_t*>(raw_shared + sizeof(Partials<T, C>));
  // Units on their way: what 128 registers hold, since two blocks are to fit a multiprocessor. Where a block has several groups
  // it streams from one into the next; where it has one, its first units are most of what it reads.
  constexpr bool kLoop = kLoops<mode, T>;
  constexpr DType kType = F::kType;
  constexpr int kFits = kType == DType::q4_1             ? (T == 2 && C == 2  ? 1
                                                            : T == 2 || kLoop ? 2
                                                                              : 3)
                        : kType == DType::bf16 || C == 2 ? (T == 1 && C == 1 ? 3 : 2 / T)
                                                         : 4 / T;
  // From compute capability 10.0 on ptxas takes a few registers more for the same.
  constexpr bool kLess = kArch >= 1000 && kLoop && T == 2 && C == 1 && (kType == DType::q4_1 || kType == DType::q8_0);
  constexpr int kDepth = kLess ? kFits - 1 : kFits;  // units on their way
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int blocks = p.w[0].blocks, per = range_blocks(blocks);
  const int first = min(2 * warp * per, blocks), last = min(first + 2 * per, blocks), units = (last - first + 1) / 2;

  const WeightView& w0 = p.w[0];  // one format and K: strides and offsets are the same in all matrices
  const unsigned char* panel[T];
  auto panels_of_group = [&](int group) {
#pragma unroll
    for (int t = 0; t < T; t++) {
      int matrix, at;
      place<mode, T>(p, group, t, matrix, at);
      panel[t] = data_of(p, matrix) + min(at, panels_of(p, matrix) - 1) * w0.panel_bytes;
    }
  };
  panels_of_group(blockIdx.x);

  typename F::Raw raw[kDepth][T];
#pragma unroll
  for (int d = 0; d < kDepth; d++)
    if (d < units) {
#pragma unroll
      for (int t = 0; t < T; t++) F::load(raw[d][t], w0, panel[t], first + 2 * d, lane);
    }

  // The next kernel may bring its own weights on their way beside this one (it has room for a second block).
  dependency_release();
  // Weights are on their way; now the rows, which the kernel before may still write.
  dependency_wait();
  const int first_row = blockIdx.y * rows_at_once, rows = min(rows_at_once, p.x.count - first_row);
  const int words = (blocks + 1) / 2 * 32, stride = words + 4;  // of a row, in pairs of bf16
  stage_rows<C == 1>(p.x, first_row, rows, xs, words, stride, &s.part[0][0][0], s.scales);

  float acc[T][C][4] = {};
  int column[C];
#pragma unroll
  for (int c = 0; c < C; c++) column[c] = min(c * 8 + (lane >> 2), rows - 1) * stride + (lane & 3);
  auto flush = [&](int range) {
    const int g = lane >> 2, q = 2 * (lane & 3);
#pragma unroll
    for (int t = 0; t < T; t++)
#pragma unroll
      for (int c = 0; c < C; c++) {
        float* to = s.part[range][t] + (c * 8 + q) * kStride + g;
        to[0] = acc[t][c][0];
        to[kStride] = acc[t][c][1];
        to[8] = acc[t][c][2];
        to[kStride + 8] = acc[t][c][3];
        acc[t][c][0] = acc[t][c][1] = acc[t][c][2] = acc[t][c][3] = 0.0f;
      }
  };
  const int used = (blocks + per - 1) / per;
  for (int group = blockIdx.x; group < groups; group += kLoop ? int(gridDim.x) : groups) {
    Late<mode, T> late;
    late.template prepare<has_row_scales(kType)>(p, group, first_row, rows);
    for (int u = 0; u < units; u += kDepth) {
      // From the last round on it is the next group's units that are brought on their way.
      const bool over = u + kDepth >= units, more = kLoop && group + int(gridDim.x) < groups;
      if (over && more) panels_of_group(group + gridDim.x);
      const int ahead = over ? (more ? 0 : units) : u + kDepth;
#pragma unroll
      for (int d = 0; d < kDepth; d++) {
        const int i = u + d;
        const bool some = i < units;
        const int word = (first / 2 + i) * 32;
#pragma unroll
        for (int t = 0; t < T; t++) {
          const typename F::Raw now = raw[d][t];
          if (ahead + d < units) F::load(raw[d][t], w0, panel[t], first + 2 * (ahead + d), lane);
          if (!some) continue;
          multiply_block<F, 0, C>(acc[t], now, xs, column, word);
          multiply_block<F, 1, C>(acc[t], now, xs, column, word);
        }
        if (some && (i == per / 2 - 1 || i == units - 1)) flush(2 * warp + (i >= per / 2));
      }
    }
    __syncthreads();
    float y[T];
#pragma unroll
    for (int t = 0; t < T; t++) {
      float v[kRanges];
#pragma unroll
      for (int r = 0; r < kRanges; r++)
        v[r] = late.live && r < used ? s.part[r][t][(late.row - first_row) * kStride + late.n] : 0.0f;
      y[t] = 0.0f;
#pragma unroll
      for (int r = 0; r < kRanges; r++)
        if (r < used) y[t] += v[r];
    }
    __syncthreads();  // the partial sums have been read
    if constexpr (has_row_scales(kType)) {
#pragma unroll
      for (int t = 0; t < T; t++) y[t] = __fmul_rn(late.scale[t], y[t]);  // not to be contracted with what follows
    }
    late.finish(p, y);
  }
}

template <class F, Mode mode, int T, int C>
void start(Context& context, const Product& p, int groups) {
  const size_t row_bytes = (size_t(p.w[0].blocks + 1) / 2 * 32 + 4) * 4;
  const size_t room = context.shared_limit - sizeof(Partials<T, C>);
  const int rows = int(std::max<size_t>(1, std::min<size_t>({size_t(C * 8), size_t(p.x.count), room / row_bytes})));
  launch(context, decode_kernel<F, mode, T, C>,
         dim3(unsigned(kLoops<mode, T> ? std::min(groups, 2 * context.sms) : groups),
              unsigned((p.x.count + rows - 1) / rows)),
         dim3(kThreads), sizeof(Partials<T, C>) + rows * row_bytes, p, rows, groups);
}

template <class F, Mode mode, int T>
void choose_columns(Context& context, const Product& p, int groups) {
  if (p.x.count <= 8) start<F, mode, T, 1>(context, p, groups);
  else start<F, mode, T, 2>(context, p, groups);
}

template <class F>
void choose_mode(Context& context, Mode mode, const Product& p) {
  switch (mode) {
    case Mode::linear:
      // Two panels a block once that still gives every multiprocessor its share.
      if (p.w[0].panels >= 4 * context.sms) choose_columns<F, Mode::linear, 2>(context, p, (p.w[0].panels + 1) / 2);
      else choose_columns<F, Mode::linear, 1>(context, p, p.w[0].panels);
      return;
    case Mode::glu: return choose_columns<F, Mode::glu, 2>(context, p, p.w[0].panels);
    case Mode::qkv:
      return choose_columns<F, Mode::qkv, 2>(context, p, (p.w[0].panels + p.w[1].panels) / 2 + (p.w[2].panels + 1) / 2);
  }
}

}  // namespace

void product_decode(Context& context, Mode mode, const Product& p) {
  switch (p.w[0].dtype) {
    case DType::bf16: return choose_mode<WeightsBf16>(context, mode, p);
    case DType::q8_0: return choose_mode<WeightsQ8>(context, mode, p);
    case DType::i8: return choose_mode<WeightsBytes<DType::i8>>(context, mode, p);
    case DType::f8_e4m3: return choose_mode<WeightsBytes<DType::f8_e4m3>>(context, mode, p);
    case DType::q4_0: return choose_mode<WeightsQ4<DType::q4_0>>(context, mode, p);
    case DType::i4_g128: return choose_mode<WeightsQ4<DType::i4_g128>>(context, mode, p);
    default: return choose_mode<WeightsQ4<DType::q4_1>>(context, mode, p);
  }
}

}  // namespace eyrie::cuda
