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

template <Mode mode, int T, int C>
GPU_INLINE void finish(const Product& p, const Partials<T, C>& s, int group, int first_row, int rows) {
  const int per = range_blocks(p.w[0].blocks), used = (p.w[0].blocks + per - 1) / per;
  for (int i = threadIdx.x; i < C * 8 * 16; i += kThreads) {
    const int n = i & 15, col = i >> 4, row = first_row + col;
    if (col >= rows) break;
    float y[T];
#pragma unroll
    for (int t = 0; t < T; t++) y[t] = 0.0f;
    for (int r = 0; r < used; r++) {
#pragma unroll
      for (int t = 0; t < T; t++) y[t] += s.part[r][t][col * kStride + n];
    }
    if (mode == Mode::linear) {
#pragma unroll
      for (int t = 0; t < T; t++) {
        const int out = (group * T + t) * 16 + n;
        if (out < p.w[0].n) finish_linear(p.out, row, out, y[t]);
      }
    } else if (mode == Mode::glu) {
      if (group * 16 + n < p.w[0].n) finish_glu(p.out, row, group * 16 + n, y[0], y[T - 1]);
    } else {
      const Heads& h = p.heads;
      int matrix, panel;
      place<mode, T>(p, group, 0, matrix, panel);
      const int out = panel * 16 + n;
      float a = y[0], b = y[T - 1];
      const float* bias = matrix == 0 ? h.bq : matrix == 1 ? h.bk : h.bv;
      const int distance = matrix == 2 ? 16 : h.d / 2;
      const bool second = out + distance < outputs_of(p, matrix);
      if (bias) {
        a += bias[out];
        if (second) b += bias[out + distance];
      }
      const int size = matrix == 2 ? h.e : h.d, head = out / size, d = out % size;
      if (matrix < 2 && h.rope) {
        const int at = h.rows[row];
        if (in_range(h.fault, 12, row, at, 0, h.rope_rows)) {
          const float* cs = h.rope + int64_t(at) * h.d;
          rotate(a, b, cs[d], cs[h.d / 2 + d]);
        }
      }
      if (matrix == 0) {
        const int64_t q = int64_t(row) * p.w[0].n + out;
        store_activation(h.q, h.q_dtype, q, a);
        store_activation(h.q, h.q_dtype, q + distance, b);
      } else {
        const int slot = h.slots[row];
        const Pages& pages = matrix == 1 ? h.k : h.v;
        if (slot < 0 || !in_range(h.fault, 13, row, slot, 0, pages.count * pages.slots)) continue;
        store_page(pages, slot, head, d, a);
        if (second) store_page(pages, slot, (out + distance) / size, (out + distance) % size, b);
      }
    }
  }
}

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

template <class F, Mode mode, int T, int C>
__global__ void __launch_bounds__(kThreads, 2) decode_kernel(Product p, int rows_at_once) {
  GPU_SHARED(raw_shared);
  Partials<T, C>& s = *reinterpret_cast<Partials<T, C>*>(raw_shared);
  uint32_t* const xs = reinterpret_cast<uint32_t*>(raw_shared + sizeof(Partials<T, C>));
  constexpr int kDepth =
      F::kWords >= 4 || (T == 2 && C == 2 && F::kType == DType::q4_1) ? 2 / T : 4 / T;  // units on their way
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = blockIdx.x;
  const int blocks = p.w[0].blocks, per = range_blocks(blocks);
  const int first = min(2 * warp * per, blocks), last = min(first + 2 * per, blocks), units = (last - first + 1) / 2;

  const WeightView& w0 = p.w[0];  // one format and K: strides and offsets are the same in all matrices
  const unsigned char* panel[T];
#pragma unroll
  for (int t = 0; t < T; t++) {
    int matrix, at;
    place<mode, T>(p, group, t, matrix, at);
    panel[t] = data_of(p, matrix) + min(at, panels_of(p, matrix) - 1) * w0.panel_bytes;
  }

  typename F::Raw raw[kDepth][T];
#pragma unroll
  for (int d = 0; d < kDepth; d++)
    if (d < units) {
#pragma unroll
      for (int t = 0; t < T; t++) F::load(raw[d][t], w0, panel[t], first + 2 * d, lane);
    }

  // Weights are on their way; now the rows, which the kernel before may still write.
  dependency_wait();
  const int first_row = blockIdx.y * rows_at_once, rows = min(rows_at_once, p.x.count - first_row);
  const int words = (blocks + 1) / 2 * 32, stride = words + 4;  // of a row, in pairs of bf16
  stage_rows(p.x, first_row, rows, xs, words, stride, &s.part[0][0][0], s.scales);

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
  for (int u = 0; u < units; u += kDepth) {
#pragma unroll
    for (int d = 0; d < kDepth; d++) {
      const int i = u + d;
      if (i >= units) continue;
      const int word = (first / 2 + i) * 32;
#pragma unroll
      for (int t = 0; t < T; t++) {
        const typename F::Raw now = raw[d][t];
        if (i + kDepth < units) F::load(raw[d][t], w0, panel[t], first + 2 * (i + kDepth), lane);
        multiply_block<F, 0, C>(acc[t], now, xs, column, word);
        multiply_block<F, 1, C>(acc[t], now, xs, column, word);
      }
      if (i == per / 2 - 1 || i == units - 1) flush(2 * warp + (i >= per / 2));
    }
  }
  dependency_release();
  __syncthreads();
  finish<mode, T, C>(p, s, group, first_row, rows);
}

template <class F, Mode mode, int T, int C>
void start(Context& context, const Product& p, int groups) {
  const size_t row_bytes = (size_t(p.w[0].blocks + 1) / 2 * 32 + 4) * 4;
  const size_t room = context.shared_limit - sizeof(Partials<T, C>);
  const int rows = int(std::max<size_t>(1, std::min<size_t>({size_t(C * 8), size_t(p.x.count), room / row_bytes})));
  launch(context, decode_kernel<F, mode, T, C>, dim3(unsigned(groups), unsigned((p.x.count + rows - 1) / rows)),
         dim3(kThreads), sizeof(Partials<T, C>) + rows * row_bytes, p, rows);
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
    case DType::q4_0: return choose_mode<WeightsQ4<false>>(context, mode, p);
    default: return choose_mode<WeightsQ4<true>>(context, mode, p);
  }
}

}  // namespace eyrie::cuda
