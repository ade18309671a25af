// Products of many rows (prefill, large batches) on mma.sync: a block makes 128 outputs for 64 or 128 rows from tiles in shared
// memory, weights in fragment order as they lie in memory. The K ranges are those of decode_product.cu, summed one after the
// other, or by several blocks where one block a tile would leave multiprocessors idle: the bits are the same either way.
#include <algorithm>
#include <cstdlib>

#include "cuda/gemm_sm90a.h"
#include "cuda/product.cuh"

namespace eyrie::cuda {
namespace {

constexpr int kPanels = 8;

// 128 outputs are four warps; as many such groups share the rows as the registers allow.
template <class F>
constexpr int kThreadsOf = F::kType == DType::bf16 ? 512 : 256;

struct Gemm {
  WeightView w[2];
  const bf16* x;  // [rows, units * 64], zero past K
  int64_t x_stride;
  int rows, splits;
  float* partials;  // [range][matrix][row][panels * 16] when splits > 1
  Epilogue out;
};

template <class F, int R>
struct Stage {
  unsigned char w[kPanels][F::kUnitBytes];
  unsigned char scales[kPanels][F::kScaleBytes ? F::kScaleBytes : 16];
  bf16 x[R][kUnit];  // 16-byte pieces at place (piece ^ row % 8)
};

// Blocks in an order that keeps eight row groups beside each other, so that both operands are found in L2.
GPU_INLINE void raster(int id, int columns, int row_groups, int& column, int& row_group) {
  const int band = id / (8 * columns), height = min(8, row_groups - band * 8), rest = id - band * 8 * columns;
  row_group = band * 8 + rest % height;
  column = rest / height;
}

// The warp's 32 outputs x 8 C rows of block J of a unit.
template <class F, bool kGlu, int J, int R, int C>
GPU_INLINE void multiply_block(float (&part)[2][C][4], const Stage<F, R>& s, bool alone, int wn, int wm, int lane) {
  uint32_t b[C][2][2];
#pragma unroll
  for (int h = 0; h < 2; h++)
#pragma unroll
    for (int c = 0; c < C; c += 2) {
      const int row = (wm * C + c) * 8 + (lane & 7) + (lane >> 4) * 8, piece = (2 * J + h) * 2 + (lane >> 3 & 1);
      uint32_t r[4];
      load_matrix4<false>(r, &s.x[row][(piece ^ (row & 7)) * 8]);
      b[c][h][0] = r[0];
      b[c][h][1] = r[1];
      b[c + 1][h][0] = r[2];
      b[c + 1][h][1] = r[3];
    }
#pragma unroll
  for (int mt = 0; mt < 2; mt++) {
    const int local = kGlu ? mt * 4 + wn : 2 * wn + mt;
    typename F::Raw raw;
    F::load_shared(raw, s.w[local], s.scales[local], alone, lane);
    uint32_t a[2][4];
    F::template fragment<J>(raw, 0, a[0]);
    F::template fragment<J>(raw, 1, a[1]);
    // Few columns at a time: their dot products and the sums share the registers.
    constexpr int kColumns = F::kType == DType::q4_1 ? 2 : C < 4 ? C : 4;
#pragma unroll
    for (int c = 0; c < C; c += kColumns) F::template accumulate<J, kColumns>(&part[mt][c], raw, a, &b[c]);
  }
}

// kStages: four, or two where the device has less shared memory.
template <class F, bool kGlu, int R, int kStages>
__global__ void __launch_bounds__(kThreadsOf<F>, 1) gemm_kernel(Gemm p) {
  constexpr int kThreads = kThreadsOf<F>;
  GPU_SHARED(raw_shared);
  Stage<F, R>* const stages = reinterpret_cast<Stage<F, R>*>(raw_shared);
  constexpr int C = R / 8 / (kThreads / 128);  // column tiles of 8 rows of a warp
  constexpr int kOwn = kGlu ? 4 : 8;  // panels of each matrix in a block
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, wn = warp & 3, wm = warp >> 2;
  const WeightView& w0 = p.w[0];
  const int columns = (w0.panels + kOwn - 1) / kOwn;
  int column, row_group;
  raster(blockIdx.x, columns, (p.rows + R - 1) / R, column, row_group);
  const int first_panel = column * kOwn, first_row = row_group * R;
  const int per = range_blocks(w0.blocks), ranges = (w0.blocks + per - 1) / per;
  const int share = kRanges / p.splits, range0 = blockIdx.y * share, range1 = min(range0 + share, ranges);
  const int unit0 = range0 * per / 2, unit1 = min(range1 * per / 2, (w0.blocks + 1) / 2);
  dependency_wait();
  if (range0 >= range1) return;

  // What this thread copies of every unit: addresses advance by a unit's bytes.
  constexpr int kPieces = F::kUnitBytes / 16, kOwnPieces = (kPanels * kPieces + kThreads - 1) / kThreads;
  constexpr bool kGroups = F::kType == DType::i4_g128;  // two units have one scale
  constexpr int kScalePieces = F::kScaleBytes / 16, kOwnRows = R * 8 / kThreads;
  uint32_t from_w[kOwnPieces];  // offsets in 16 bytes
  bool have_w[kOwnPieces];
#pragma unroll
  for (int j = 0; j < kOwnPieces; j++) {
    const int i = int(threadIdx.x) + j * kThreads, local = i / kPieces, piece = i % kPieces;
    const int panel = first_panel + (kGlu ? local % kOwn : local);
    have_w[j] = i < kPanels * kPieces && panel < w0.panels;
    from_w[j] = have_w[j] ? uint32_t(panel * w0.panel_bytes / 16) + piece : 0;
  }
  uint32_t from_x[kOwnRows];  // likewise
  bool have_x[kOwnRows];
#pragma unroll
  for (int j = 0; j < kOwnRows; j++) {
    const int i = int(threadIdx.x) + j * kThreads, row = i >> 3;
    have_x[j] = first_row + row < p.rows;
    from_x[j] = have_x[j] ? uint32_t((first_row + row) * p.x_stride / 8) + (i & 7) : 0;
  }
  uint32_t from_scale = 0;
  bool have_scale = false;
  if constexpr (kScalePieces > 0) {
    const int local = int(threadIdx.x) / kScalePieces, piece = int(threadIdx.x) % kScalePieces;
    const int panel = first_panel + (kGlu ? local % kOwn : local);
    have_scale = local < kPanels && panel < w0.panels;
    if (have_scale)
      from_scale = uint32_t((panel * w0.panel_bytes + (piece < 4 ? w0.scales : w0.mins)) / 16) + (piece & 3);
  }

  auto fetch = [&](int u) {
    Stage<F, R>& s = stages[u % kStages];
    // A last block without a pair: the second half of the unit does not exist (of 4-bit blocks not even its place).
    const bool whole = 2 * u + 1 < w0.blocks;
#pragma unroll
    for (int j = 0; j < kOwnPieces; j++) {
      const int i = int(threadIdx.x) + j * kThreads, local = i / kPieces, piece = i % kPieces;
      const bool ok = have_w[j] && (whole || piece < kPieces / 2);
      if (kPanels * kPieces % kThreads == 0 || i < kPanels * kPieces)
        copy_async16(&s.w[local][piece * 16],
                     (kGlu && local >= kOwn ? p.w[1].data : w0.data) +
                         int64_t(ok ? from_w[j] + uint32_t(u) * (F::kUnitBytes / 16) : 0) * 16,
                     ok);
    }
    if constexpr (kScalePieces > 0) {
      const int local = int(threadIdx.x) / kScalePieces, piece = int(threadIdx.x) % kScalePieces;
      const bool ok = have_scale && (whole || kGroups || (piece & 2) == 0);
      const uint32_t step = kGroups ? uint32_t(u) / 2 * 2 : uint32_t(u) * 4;
      if (local < kPanels)
        copy_async16(&s.scales[local][piece * 16],
                     (kGlu && local >= kOwn ? p.w[1].data : w0.data) + int64_t(ok ? from_scale + step : 0) * 16, ok);
    }
#pragma unroll
    for (int j = 0; j < kOwnRows; j++) {
      const int i = int(threadIdx.x) + j * kThreads, row = i >> 3, piece = i & 7;
      copy_async16(&s.x[row][(piece ^ (row & 7)) * 8], p.x + int64_t(have_x[j] ? from_x[j] + uint32_t(u) * 8 : 0) * 8,
                   have_x[j]);
    }
  };

  // The registers hold the range that is being summed; what the ranges add up to waits in shared memory, a place a thread.
  float part[2][C][4] = {};
  float* const total = reinterpret_cast<float*>(raw_shared + kStages * sizeof(Stage<F, R>)) + threadIdx.x;
  const auto total_of = [&](int mt, int c, int i) -> float& { return total[((mt * C + c) * 4 + i) * kThreads]; };
  // Ends a range: adds it to the total, or writes it for the blocks that share the sum.
  auto end_range = [&](int range) {
    if (p.splits == 1) {
#pragma unroll
      for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
          for (int i = 0; i < 4; i++) total_of(mt, c, i) = (range == 0 ? 0.0f : total_of(mt, c, i)) + part[mt][c][i];
    } else {
      const int thread = int(opaque(threadIdx.x)), width = w0.panels * 16;
#pragma unroll
      for (int mt = 0; mt < 2; mt++) {
        const int panel = first_panel + (thread >> 5 & 3) * (kGlu ? 1 : 2) + (kGlu ? 0 : mt);
        const int row0 = first_row + (thread >> 7) * C * 8 + 2 * (thread & 3);
        float* to = p.partials + (int64_t(range * (kGlu ? 2 : 1) + (kGlu ? mt : 0)) * p.rows + row0) * width +
                    panel * 16 + (thread >> 2 & 7);
#pragma unroll
        for (int c = 0; c < C; c++)
#pragma unroll
          for (int i = 0; i < 4; i++)
            if (panel < w0.panels && row0 + c * 8 + (i & 1) < p.rows)
              to[int64_t(c * 8 + (i & 1)) * width + 8 * (i >> 1)] = part[mt][c][i];
      }
    }
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
      for (int c = 0; c < C; c++)
#pragma unroll
        for (int i = 0; i < 4; i++) part[mt][c][i] = 0.0f;
  };

#pragma unroll
  for (int i = 0; i < kStages - 1; i++) {
    if (unit0 + i < unit1) fetch(unit0 + i);
    copy_async_commit();
  }
  for (int u = unit0; u < unit1; u++) {
    copy_async_wait<kStages - 2>();
    __syncthreads();  // the unit is there, and everybody is done with the stage that is fetched next
    if (u + kStages - 1 < unit1) fetch(u + kStages - 1);
    copy_async_commit();
    const Stage<F, R>& s = stages[u % kStages];

    const bool alone = 2 * u + 1 >= w0.blocks;
    multiply_block<F, kGlu, 0>(part, s, alone, wn, wm, lane);
    multiply_block<F, kGlu, 1>(part, s, alone, wn, wm, lane);
    if ((u + 1) % (per / 2) == 0 || u + 1 == unit1) end_range(u / (per / 2));
  }
  dependency_release();
  if (p.splits > 1) return;

  // Worked out again: nothing of it has to stay in registers meanwhile.
  const int thread = int(opaque(threadIdx.x)), n0 = (thread >> 2 & 7) + (thread >> 5 & 3) * (kGlu ? 16 : 32);
  const int row0 = first_row + (thread >> 7) * C * 8 + 2 * (thread & 3);
#pragma unroll
  for (int mt = 0; mt < (kGlu ? 1 : 2); mt++)
#pragma unroll
    for (int c = 0; c < C; c++)
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int n = first_panel * 16 + n0 + mt * 16 + 8 * (i >> 1), row = row0 + c * 8 + (i & 1);
        if (row >= p.rows || n >= w0.n) continue;
        float y = total_of(kGlu ? 0 : mt, c, i), z = kGlu ? total_of(1, c, i) : 0;
        if constexpr (has_row_scales(F::kType)) {
          y = __fmul_rn(output_scale(w0, n), y);
          if (kGlu) z = __fmul_rn(output_scale(p.w[1], n), z);
        }
        if (kGlu) finish_glu(p.out, row, n, y, z);
        else finish_linear(p.out, row, n, y);
      }
}

// Adds the ranges of a split product in their order.
template <bool kGlu>
__global__ void __launch_bounds__(256) fold_kernel(Gemm p) {
  dependency_wait();
  const int n = blockIdx.x * 256 + threadIdx.x, row = blockIdx.y, width = p.w[0].panels * 16;
  if (n >= p.w[0].n) return;
  const int per = range_blocks(p.w[0].blocks), ranges = (p.w[0].blocks + per - 1) / per;
  float y[2] = {};
  for (int r = 0; r < ranges; r++)
#pragma unroll
    for (int m = 0; m < (kGlu ? 2 : 1); m++)
      y[m] += p.partials[((int64_t(r) * (kGlu ? 2 : 1) + m) * p.rows + row) * width + n];
  if (has_row_scales(p.w[0].dtype))
#pragma unroll
    for (int m = 0; m < (kGlu ? 2 : 1); m++) y[m] = __fmul_rn(output_scale(p.w[m], n), y[m]);
  if (kGlu) finish_glu(p.out, row, n, y[0], y[1]);
  else finish_linear(p.out, row, n, y[0]);
}

// Rows as the product takes them: normalised, rounded to bf16, padded with zeros. A block a row.
__global__ void __launch_bounds__(256) round_rows(Rows x, bf16* out, int width) {
  GPU_SHARED(memory);
  float* const sums = reinterpret_cast<float*>(memory);
  dependency_wait();
  stage_rows<true>(x, int(blockIdx.x), 1, reinterpret_cast<uint32_t*>(out + int64_t(blockIdx.x) * width), width / 2, 0,
                   sums, sums + 256);
}

template <class F, int R>
constexpr size_t shared_bytes(int stages) {
  return stages * sizeof(Stage<F, R>) + size_t(R) * kPanels * 16 * 4;
}

template <class F, bool kGlu, int R>
void start(Context& context, Gemm p) {
  const int own = kGlu ? 4 : 8;
  const dim3 grid(unsigned((p.w[0].panels + own - 1) / own * ((p.rows + R - 1) / R)), unsigned(p.splits));
  if (shared_bytes<F, R>(4) <= context.shared_limit)
    launch(context, gemm_kernel<F, kGlu, R, 4>, grid, dim3(kThreadsOf<F>), shared_bytes<F, R>(4), p);
  else launch(context, gemm_kernel<F, kGlu, R, 2>, grid, dim3(kThreadsOf<F>), shared_bytes<F, R>(2), p);
  if (p.splits == 1) return;
  launch(context, fold_kernel<kGlu>, dim3(unsigned((p.w[0].n + 255) / 256), unsigned(p.rows)), dim3(256), 0, p);
}

// Rows of a tile: with mins, 128 do not fit the registers everywhere, and else not every shared memory.
int tile_rows(const Context& context, DType t, int rows) {
  return rows > 64 && t != DType::q4_1 && shared_bytes<WeightsBf16, 128>(2) <= context.shared_limit ? 128 : 64;
}

template <class F>
void choose(Context& context, bool glu, const Gemm& p) {
  if (tile_rows(context, F::kType, p.rows) == 64)
    glu ? start<F, true, 64>(context, p) : start<F, false, 64>(context, p);
  else if constexpr (F::kType != DType::q4_1) glu ? start<F, true, 128>(context, p) : start<F, false, 128>(context, p);
}

size_t aligned(size_t n) { return (n + 255) / 256 * 256; }

// Hopper's warpgroup instructions, for enough rows. False: not there, or not for these operands.
bool hopper_product(Context& context, const Gemm& p) {
  GemmEpilogue e;
  e.bias = p.out.bias;
  e.residual = p.out.residual;
  e.residual_type = e.out_type = p.out.dtype;
  e.residual_stride = p.out.residual_stride;
  e.out = p.out.out;
  e.out_stride = p.out.out_stride;
  return gemm_sm90a(context, p.x, p.x_stride, p.rows, p.w[0], e);
}

}  // namespace

void product_gemm(Context& context, Mode mode, const Product& product) {
  const bool glu = mode == Mode::glu;
  Gemm p{};
  p.w[0] = product.w[0];
  p.w[1] = product.w[1];
  p.rows = product.x.count;
  p.out = product.out;
  const int width = (p.w[0].blocks + 1) / 2 * kUnit, per = range_blocks_host(p.w[0].blocks);
  const int ranges = (p.w[0].blocks + per - 1) / per, own = glu ? 4 : 8, R = tile_rows(context, p.w[0].dtype, p.rows);
  const int tiles = (p.w[0].panels + own - 1) / own * ((p.rows + R - 1) / R);
  p.splits = 1;
  static const bool allowed = !std::getenv("EYRIE_NO_WGMMA");
  const bool warpgroups = allowed && context.arch == 90 && !glu && p.w[0].dtype == DType::bf16 && p.rows > 64 &&
                          int64_t(p.rows) * p.w[0].n >= (int64_t(1) << 19);
  while (!warpgroups && p.splits < kRanges && tiles * p.splits * 2 <= 2 * context.sms && p.rows <= 65535) p.splits *= 2;

  const Rows& x = product.x;
  const bool direct = !x.normed && x.dtype == DType::bf16 && x.k == width && x.stride % 8 == 0 &&
                      reinterpret_cast<uintptr_t>(x.x) % 16 == 0;
  const size_t rounded = direct ? 0 : aligned(size_t(p.rows) * width * 2);
  const size_t partial =
      p.splits == 1 ? 0 : size_t(ranges) * (glu ? 2 : 1) * size_t(p.rows) * size_t(p.w[0].panels) * 16 * 4;
  char* scratch = rounded + partial ? static_cast<char*>(context.workspace(rounded + partial)) : nullptr;
  p.partials = reinterpret_cast<float*>(scratch + rounded);
  p.x = direct ? static_cast<const bf16*>(x.x) : reinterpret_cast<const bf16*>(scratch);
  p.x_stride = direct ? x.stride : width;
  if (!direct)
    launch(context, round_rows, dim3(unsigned(p.rows)), dim3(256), 257 * sizeof(float), x,
           reinterpret_cast<bf16*>(scratch), width);
  if (warpgroups && hopper_product(context, p)) return;
  switch (p.w[0].dtype) {
    case DType::bf16: return choose<WeightsBf16>(context, glu, p);
    case DType::q8_0: return choose<WeightsQ8>(context, glu, p);
    case DType::i8: return choose<WeightsBytes<DType::i8>>(context, glu, p);
    case DType::f8_e4m3: return choose<WeightsBytes<DType::f8_e4m3>>(context, glu, p);
    case DType::q4_0: return choose<WeightsQ4<DType::q4_0>>(context, glu, p);
    case DType::i4_g128: return choose<WeightsQ4<DType::i4_g128>>(context, glu, p);
    default: return choose<WeightsQ4<DType::q4_1>>(context, glu, p);
  }
}

}  // namespace eyrie::cuda
