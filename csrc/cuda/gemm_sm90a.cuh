// out[M,N] = x[M,K] · w[N,K]ᵀ, bf16 in, fp32 sums, with wgmma. A tile is 64 outputs for each consumer warpgroup x `tokens` rows
// of x; a producer warp keeps `stages` steps of 64 inputs on their way through the copy engine.
//
// The outputs are the M of the instruction and A comes from registers: what a lane holds of A is 16 consecutive bytes of the packed
// weight (tiles.cuh), so the tile is copied as it lies in memory and one conflict-free 16-byte load is the fragment. A from shared
// memory would need the 8 x 16 byte core matrices of the matrix descriptor, which the packing does not have; either way A is
// read from shared memory once per warpgroup. The price is latency, hidden by loading a block of 32 inputs while the tensor
// cores work on the block before it. x is B: rows of 128 bytes, swizzled by the copy engine.
#pragma once
#include "cuda/gemm_sm90a.h"
#include "cuda/sm90a.cuh"
#include "cuda/tiles.cuh"

namespace eyrie::cuda {

struct GemmArgs {
  const unsigned char* weights;
  int64_t panel_bytes;
  int m, n, panels, blocks;
  int steps;  // of 64 inputs
  int range;  // steps of a range; 0: one chain
  int token_tiles, output_tiles;  // output tiles of a whole cluster
  int group;  // token tiles that are walked together
  bool vector;  // rows of out, residual and bias can be accessed four elements at a time
  GemmEpilogue e;
  Hang hang;
};

template <int tokens_, int consumers_, int stages_, int cluster_, bool ranges_, bool boxed_ = true>
struct GemmShape {
  static constexpr int tokens = tokens_, consumers = consumers_, stages = stages_, cluster = cluster_;
  static constexpr bool ranges = ranges_;
  // The weights of a step come as one box of a tensor map, or as a run of bytes from each panel.
  static constexpr bool boxed = boxed_;
  static constexpr int panels = 4 * consumers, outputs = 16 * panels;  // of a block
  static constexpr int threads = 128 * (consumers + 1);
  // 64 Ki registers: the consumers take what the producer's warpgroup gives
  static constexpr int producer_registers = consumers == 2 ? 40 : 32, consumer_registers = consumers == 2 ? 232 : 160;
  static constexpr int x_bytes = tokens * 128, w_bytes = outputs * 128;  // of a stage
  static constexpr int x_at = 0, w_at = stages * x_bytes, turn_at = w_at + stages * w_bytes;
  // The accumulators are turned to rows of outputs in strips of 32 tokens, padded against bank conflicts.
  static constexpr int strip_row = 64 + 4, strip_bytes = 32 * strip_row * 4;
  static constexpr int limit = 227 * 1024, strips = turn_at + 2 * consumers * strip_bytes + 256 <= limit ? 2 : 1;
  static constexpr int bars_at = turn_at + strips * consumers * strip_bytes, shared_bytes = bars_at + 16 * stages;
  static_assert(shared_bytes <= limit && (consumers == 2 || consumers == 3));
  static_assert(tokens % (32 * cluster) == 0 && (cluster == 1 || cluster == 2));
};

struct GemmTile {
  int token, output;  // in tiles
};
// Tile t of the walk: `group` token tiles side by side, all output tiles down, so that blocks at work together share in L2.
GPU_INLINE GemmTile gemm_tile(const GemmArgs& p, int t) {
  const int per = p.group * p.output_tiles, first = t / per * p.group, rest = t % per;
  const int width = min(p.group, p.token_tiles - first);
  return {first + rest % width, rest / width};
}

// A ring position: which stage, and the parity of its current use.
struct GemmRing {
  int stage = 0;
  uint32_t parity = 0;
  template <class S>
  GPU_INLINE void next() {
    if (++stage == S::stages) stage = 0, parity ^= 1;
  }
};

// By one thread; by a warp when not boxed.
template <class S>
GPU_INLINE void gemm_produce(const CUtensorMap* x_map, const CUtensorMap* w_map, const GemmArgs& p, uint32_t shared,
                             uint32_t rank) {
  constexpr int box = S::tokens / S::cluster;  // every block of the cluster fetches its part of x for all of them
  const int lane = threadIdx.x % 32;
  const uint32_t full = shared + S::bars_at, empty = full + 8 * S::stages;
  const int tiles = p.token_tiles * p.output_tiles;
  GemmRing ring;
  for (int t = blockIdx.x / S::cluster; t < tiles; t += gridDim.x / S::cluster) {
    const GemmTile tile = gemm_tile(p, t);
    const int panel = (tile.output * S::cluster + int(rank)) * S::panels;
    const int row = tile.token * S::tokens + int(rank) * box;
    for (int k = 0; k < p.steps; k++) {
      const uint32_t bar = full + 8 * ring.stage;
      const uint32_t x_to = shared + S::x_at + ring.stage * S::x_bytes + rank * (box * 128);
      const uint32_t w_to = shared + S::w_at + ring.stage * S::w_bytes;
      barrier_wait(empty + 8 * ring.stage, ring.parity ^ 1, p.hang, 0x1000000u | uint32_t(k) << 8 | ring.stage);
      if constexpr (S::boxed) {  // panels and blocks that do not exist arrive as zeros
        barrier_expect(bar, S::x_bytes + S::w_bytes);
        copy_box(w_to, w_map, k * 256, panel, bar);
      } else {
        const int panels = max(0, min(S::panels, p.panels - panel));
        const uint32_t bytes = 2 * k + 1 < p.blocks ? 2048 : 1024;  // the last block may lack a pair
        if (lane == 0) barrier_expect(bar, S::x_bytes + uint32_t(panels) * bytes);
        if (lane < panels)
          copy_bulk(w_to + lane * 2048, p.weights + int64_t(panel + lane) * p.panel_bytes + int64_t(k) * 2048, bytes,
                    bar);
      }
      if (S::boxed || lane == 0) {
        if constexpr (S::cluster == 1) copy_box(x_to, x_map, k * 64, row, bar);
        else copy_box(x_to, x_map, k * 64, row, bar, uint16_t((1 << S::cluster) - 1));
      }
      if constexpr (!S::boxed) __syncwarp();
      ring.next<S>();
    }
  }
}

GPU_INLINE float4 gemm_load4(const void* row, DType type, int n) {
  if (type == DType::f32) return *reinterpret_cast<const float4*>(static_cast<const float*>(row) + n);
  const uint2 v = *reinterpret_cast<const uint2*>(static_cast<const uint16_t*>(row) + n);
  return {low_bf16(v.x), high_bf16(v.x), low_bf16(v.y), high_bf16(v.y)};
}
GPU_INLINE void gemm_store4(void* row, DType type, int n, const float4& v) {
  if (type == DType::f32) *reinterpret_cast<float4*>(static_cast<float*>(row) + n) = v;
  else *reinterpret_cast<uint2*>(static_cast<uint16_t*>(row) + n) = {pack_bf16(v.x, v.y), pack_bf16(v.z, v.w)};
}
GPU_INLINE float gemm_load(const void* base, DType type, int64_t at) {
  return type == DType::f32 ? static_cast<const float*>(base)[at] : to_float(static_cast<const bf16*>(base)[at]);
}
GPU_INLINE const void* gemm_row(const void* base, DType type, int64_t offset) {
  return static_cast<const unsigned char*>(base) + offset * (type == DType::f32 ? 4 : 2);
}

// sums: D[64 outputs from `output`, S::tokens rows from `token`] of this warpgroup.
template <class S>
GPU_INLINE void gemm_epilogue(const GemmArgs& p, const float (&sums)[S::tokens / 2], unsigned char* turn, int output,
                              int token) {
  const GemmEpilogue& e = p.e;
  const int thread = thread_index() % 128, lane = thread % 32;
  const int column = thread / 32 * 16 + lane / 4, pair = lane % 4 * 2;  // where this thread's sums are
  const int row = thread / 16, n = output + thread % 16 * 4;  // what it stores: rows row + 8i, outputs n..n+3
  const int group = thread_index() / 128 - 1;
  float* strips = reinterpret_cast<float*>(turn + group * S::strips * S::strip_bytes);
  const bool vector = p.vector && n < p.n;
  float4 bias = {0, 0, 0, 0};
  if (vector && e.bias) bias = *reinterpret_cast<const float4*>(e.bias + n);
  named_barrier(1 + group, 128);  // the strips of the tile before have been read
#pragma unroll
  for (int c = 0; c < S::tokens / 32; c++) {
    const int first = token + c * 32;
    if (first >= p.m) break;
    float* strip = strips + c % S::strips * (S::strip_bytes / 4);
    float4 residual[4] = {};
    if (vector && e.residual) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int m = first + row + 8 * i;
        if (m < p.m)
          residual[i] = gemm_load4(gemm_row(e.residual, e.residual_type, m * e.residual_stride), e.residual_type, n);
      }
    }
    if (S::strips == 1 && c > 0) named_barrier(1 + group, 128);
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int i = 0; i < 4; i++)
        strip[(8 * j + pair + (i & 1)) * S::strip_row + column + 8 * (i >> 1)] = sums[(c * 4 + j) * 4 + i];
    named_barrier(1 + group, 128);
    if (p.vector) {
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int m = first + row + 8 * i;
        float4 v = *reinterpret_cast<const float4*>(strip + (row + 8 * i) * S::strip_row + thread % 16 * 4);
        v.x = v.x + bias.x + residual[i].x, v.y = v.y + bias.y + residual[i].y;
        v.z = v.z + bias.z + residual[i].z, v.w = v.w + bias.w + residual[i].w;
        if (vector && m < p.m)
          gemm_store4(const_cast<void*>(gemm_row(e.out, e.out_type, m * e.out_stride)), e.out_type, n, v);
      }
    } else {  // ragged or unaligned rows: one output at a time
#pragma unroll 1
      for (int i = thread; i < 32 * 64; i += 128) {
        const int m = first + i / 64, o = output + i % 64;
        if (m >= p.m || o >= p.n) continue;
        float v = strip[i / 64 * S::strip_row + i % 64];
        if (e.bias) v += e.bias[o];
        if (e.residual) v += gemm_load(e.residual, e.residual_type, m * e.residual_stride + o);
        if (e.out_type == DType::f32) static_cast<float*>(e.out)[m * e.out_stride + o] = v;
        else static_cast<bf16*>(e.out)[m * e.out_stride + o] = to_bf16(v);
      }
    }
  }
}

template <class S>
GPU_INLINE void gemm_consume(const GemmArgs& p, unsigned char* base, uint32_t shared, uint32_t rank) {
  const int group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
  const uint32_t full = shared + S::bars_at, empty = full + 8 * S::stages;
  const uint32_t fragments = shared + S::w_at + (group * 4 + warp) * 2048 + lane * 16;
  const uint64_t descriptor = swizzled_descriptor(shared + S::x_at);
  const int tiles = p.token_tiles * p.output_tiles;
  const bool odd = p.blocks & 1;
  float part[S::tokens / 2], total[S::ranges ? S::tokens / 2 : 1];
  total[0] = 0;

  const auto load = [&](int stage, int half) {
    return load_shared16(fragments + uint32_t(stage * S::w_bytes + half * 512));
  };
  const auto release = [&](int stage) {
    if constexpr (S::cluster == 1) {
      if (lane == 0) barrier_arrive(empty + 8 * stage);
    } else {
      if (lane < S::cluster) barrier_arrive(empty + 8 * stage, lane);
    }
  };
  const auto wait = [&](const GemmRing& r, int k) {
    barrier_wait(full + 8 * r.stage, r.parity, p.hang, 0x2000000u | uint32_t(k) << 8 | r.stage);
  };

  GemmRing ring;
  for (int t = blockIdx.x / S::cluster; t < tiles; t += gridDim.x / S::cluster) {
#pragma unroll
    for (int i = 0; i < S::tokens / 2; i++) {
      part[i] = 0;  // not for its value: or the registers would stay occupied through the epilogue
      if constexpr (S::ranges) total[i] = 0;
    }
    wait(ring, 0);
    uint4 a0 = load(ring.stage, 0), a1 = load(ring.stage, 1);
    int before = 0, k = 0;
    do {
      const int end = S::ranges ? min(k + p.range, p.steps) : p.steps;
      int add = 0;
      for (; k < end; k++) {
        const uint64_t b = descriptor + uint64_t(ring.stage) * (S::x_bytes >> 4);
        wgmma_fence();
        wgmma_bf16<S::tokens>(part, a0, b, add);
        wgmma_bf16<S::tokens>(part, a1, b + 2, 1);
        wgmma_commit();
        wgmma_wait<1>();  // the second half of the step before
        if (k > 0) release(before);
        uint4 a2 = load(ring.stage, 2), a3 = load(ring.stage, 3);
        if (!S::boxed && odd && k == p.steps - 1) a2 = a3 = uint4{0, 0, 0, 0};  // was not copied
        wgmma_fence();
        wgmma_bf16<S::tokens>(part, a2, b + 4, 1);
        wgmma_bf16<S::tokens>(part, a3, b + 6, 1);
        wgmma_commit();
        wgmma_wait<1>();  // the first half: a0 and a1 are free
        before = ring.stage;
        ring.next<S>();
        if (k + 1 < p.steps) {
          wait(ring, k + 1);
          a0 = load(ring.stage, 0), a1 = load(ring.stage, 1);
        }
        add = 1;
      }
      wgmma_wait<0>();
      pin_registers(part);
      if constexpr (S::ranges) {
#pragma unroll
        for (int i = 0; i < S::tokens / 2; i++) total[i] += part[i];
      }
    } while (S::ranges && k < p.steps);
    release(before);
    const GemmTile tile = gemm_tile(p, t);
    const int output = ((tile.output * S::cluster + int(rank)) * S::consumers + group) * 64;
    if constexpr (S::ranges) gemm_epilogue<S>(p, total, base + S::turn_at, output, tile.token * S::tokens);
    else gemm_epilogue<S>(p, part, base + S::turn_at, output, tile.token * S::tokens);
  }
}

template <class S>
__global__ void EYRIE_CLUSTER(S::cluster) __launch_bounds__(S::threads, 1)
    gemm_kernel(const __grid_constant__ CUtensorMap x_map, const __grid_constant__ CUtensorMap w_map,
                const __grid_constant__ GemmArgs p) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  GPU_SHARED(base);
  const uint32_t shared = shared_address(base);
  const uint32_t rank = S::cluster == 1 ? 0 : cluster_rank();
  if (threadIdx.x == 0) {
    if (shared % 1024) __trap();  // the swizzle is a function of the address
    prefetch_map(&x_map);
    if constexpr (S::boxed) prefetch_map(&w_map);
    for (int i = 0; i < S::stages; i++) {
      barrier_init(shared + S::bars_at + 8 * i, 1);
      barrier_init(shared + S::bars_at + 8 * (S::stages + i), 4 * S::consumers * S::cluster);  // a lane of each warp
    }
    barrier_init_fence();
  }
  if constexpr (S::cluster == 1) __syncthreads();
  else cluster_sync();
  dependency_wait();
  if (threadIdx.x < 128) {
    give_registers<S::producer_registers>();
    if (threadIdx.x < (S::boxed ? 1 : 32)) gemm_produce<S>(&x_map, &w_map, p, shared, rank);
    dependency_release();
  } else {
    take_registers<S::consumer_registers>();
    gemm_consume<S>(p, base, shared, rank);
  }
  if constexpr (S::cluster > 1) cluster_sync();  // the others may still write and arrive here
#elif defined(__CUDA_ARCH__)
  __trap();
#endif
}

// ---- host ----

using EncodeTiled = CUresult (*)(CUtensorMap*, CUtensorMapDataType, cuuint32_t, void*, const cuuint64_t*,
                                 const cuuint64_t*, const cuuint32_t*, const cuuint32_t*, CUtensorMapInterleave,
                                 CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

// cuTensorMapEncodeTiled out of the driver that is loaded, or null.
inline EncodeTiled encode_tiled() {
  static const EncodeTiled function = [] {
    void* found = nullptr;
    cudaDriverEntryPointQueryResult result;
#if CUDART_VERSION >= 12050
    const cudaError_t e =
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000, cudaEnableDefault, &result);
#else
    const cudaError_t e = cudaGetDriverEntryPoint("cuTensorMapEncodeTiled", &found, cudaEnableDefault, &result);
#endif
    return reinterpret_cast<EncodeTiled>(e == cudaSuccess && result == cudaDriverEntryPointSuccess ? found : nullptr);
  }();
  return function;
}

inline bool gemm_map(CUtensorMap* map, CUtensorMapDataType type, const void* data, int64_t columns, int64_t rows,
                     int64_t row_bytes, int box_columns, int box_rows, CUtensorMapSwizzle swizzle) {
  const EncodeTiled encode = encode_tiled();
  if (!encode || reinterpret_cast<uintptr_t>(data) % 16 || row_bytes % 16) return false;
  const cuuint64_t sizes[2] = {cuuint64_t(columns), cuuint64_t(rows)}, strides[1] = {cuuint64_t(row_bytes)};
  const cuuint32_t boxes[2] = {cuuint32_t(box_columns), cuuint32_t(box_rows)}, steps[2] = {1, 1};
  return encode(map, type, 2, const_cast<void*>(data), sizes, strides, boxes, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

// Outputs can be stored four at a time.
inline bool gemm_vector(const GemmEpilogue& e, int n) {
  const auto fits = [](const void* p, DType type, int64_t stride) {
    return reinterpret_cast<uintptr_t>(p) % (type == DType::f32 ? 16 : 8) == 0 && stride % 4 == 0;
  };
  return n % 4 == 0 && fits(e.out, e.out_type, e.out_stride) && fits(e.bias, DType::f32, 0) &&
         fits(e.residual, e.residual_type, e.residual ? e.residual_stride : 0);
}

template <class S>
bool launch_gemm(Context& context, const void* x, int64_t x_stride, int m, const WeightView& w, const GemmEpilogue& e,
                 uint32_t* hang = nullptr, int group = 0) {
  CUtensorMap x_map, w_map = {};
  if (!gemm_map(&x_map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, x, w.k, m, x_stride * 2, 64, S::tokens / S::cluster,
                CU_TENSOR_MAP_SWIZZLE_128B))
    return false;
  // A panel is a row of 8-byte elements: a box is at most 256 elements wide, and a step has 2048 bytes of each panel.
  if (S::boxed && !gemm_map(&w_map, CU_TENSOR_MAP_DATA_TYPE_INT64, w.data, w.panel_bytes / 8, w.panels, w.panel_bytes,
                            256, S::panels, CU_TENSOR_MAP_SWIZZLE_NONE))
    return false;
  GemmArgs p = {};
  p.weights = w.data;
  p.panel_bytes = w.panel_bytes;
  p.m = m, p.n = w.n, p.panels = w.panels, p.blocks = w.blocks;
  p.steps = (w.blocks + 1) / 2;
  p.range = S::ranges ? gemm_range_blocks(w.blocks) / 2 : 0;
  p.token_tiles = int(div_up(m, S::tokens));
  p.output_tiles = int(div_up(w.panels, S::panels * S::cluster));
  p.group = group > 0 ? group : (S::tokens >= 192 ? 8 : 16);  // about as many outputs as tokens in a wave
  if (p.group > p.token_tiles) p.group = p.token_tiles;
  p.vector = gemm_vector(e, w.n);
  p.e = e;
  p.hang.at = hang;
  const int64_t tiles = int64_t(p.token_tiles) * p.output_tiles, room = context.sms / S::cluster;
  launch(context, gemm_kernel<S>, dim3(unsigned(tiles < room ? tiles : room) * S::cluster), dim3(S::threads),
         size_t(S::shared_bytes), x_map, w_map, p);
  return true;
}

}  // namespace eyrie::cuda
