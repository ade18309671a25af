// pack_weight: row-major matrices, as files hold them, into fragment order (tiles.cuh). Each warp makes one block of 16 outputs x
// 32 inputs; a block's source bytes are contiguous per row. Host memory passes through an upload buffer in slices of rows.
#include <algorithm>

#include "cuda/kernels.h"
#include "cuda/tiles.cuh"

namespace eyrie::cuda {
namespace {

struct PackArgs {
  const unsigned char* src;  // rows [first, first + rows)
  int64_t row_bytes;
  int first, rows, permute;
  WeightView out;
};

// Bytes at an unaligned address: file blocks are 18, 20 or 34 bytes long.
GPU_INLINE uint32_t byte_at(const unsigned char* p) { return *p; }
GPU_INLINE uint32_t half_at(const unsigned char* p) { return byte_at(p) | byte_at(p + 1) << 8; }

// Column (0..31) of register r, element e, half h of a lane; its row is lane / 4 + 8 (r & 1).
GPU_INLINE int fragment_column(int lane, int h, int r, int e) { return 16 * h + 2 * (lane & 3) + e + 8 * (r >> 1); }

__global__ void __launch_bounds__(256) pack_kernel(PackArgs a) {
  dependency_wait();
  const int lane = threadIdx.x & 31;
  const int64_t task = int64_t(blockIdx.x) * 8 + (threadIdx.x >> 5);
  const int blocks = a.out.blocks, panel = a.first / 16 + int(task / blocks), b = int(task % blocks);
  if (panel >= (a.first + a.rows + 15) / 16) return;
  unsigned char* to = const_cast<unsigned char*>(a.out.data) + panel * a.out.panel_bytes;
  const int k0 = b * 32;

  // Address of the row (null past the end).
  auto row_of = [&](int row) -> const unsigned char* {
    const int n = panel * 16 + row;
    if (n >= a.out.n) return nullptr;
    return a.src + int64_t(source_row(n, a.permute) - a.first) * a.row_bytes;
  };
  const unsigned char *const even = row_of(lane >> 2), *const odd = row_of((lane >> 2) + 8);  // of even, odd registers

  switch (a.out.dtype) {
    case DType::f32:
      for (int i = 0; i < 16; i++) {  // h, r, e
        const int h = i >> 3, r = i >> 1 & 3, e = i & 1, k = k0 + fragment_column(lane, h, r, e);
        const unsigned char* row = r & 1 ? odd : even;
        const uint32_t v = row && k < a.out.k ? half_at(row + k * 4) | half_at(row + k * 4 + 2) << 16 : 0;
        reinterpret_cast<uint32_t*>(to + int64_t(b) * 2048)[((h * 2 + (r >> 1)) * 32 + lane) * 4 + (r & 1) * 2 + e] = v;
      }
      return;
    case DType::f16:
    case DType::bf16:
      for (int i = 0; i < 8; i++) {  // h, r
        const int h = i >> 2, r = i & 3, k = k0 + fragment_column(lane, h, r, 0);
        const unsigned char* row = r & 1 ? odd : even;
        const uint32_t low = row && k < a.out.k ? half_at(row + k * 2) : 0;
        const uint32_t high = row && k + 1 < a.out.k ? half_at(row + k * 2 + 2) : 0;
        reinterpret_cast<uint32_t*>(to + int64_t(b) * 1024)[(h * 32 + lane) * 4 + r] = low | high << 16;
      }
      return;
    default: break;
  }

  const int size = a.out.dtype == DType::q8_0 ? 34 : a.out.dtype == DType::q4_0 ? 18 : 20;
  const int head = a.out.dtype == DType::q4_1 ? 4 : 2;
  if (a.out.dtype == DType::q8_0) {
    for (int i = 0; i < 4; i++) {  // h, r >> 1
      uint32_t word = 0;
      for (int byte = 0; byte < 4; byte++) {
        const int r = (i & 1) * 2 + (byte & 1), e = byte >> 1;
        const unsigned char* row = r & 1 ? odd : even;
        if (row) word |= byte_at(row + int64_t(b) * size + head + fragment_column(lane, i >> 1, r, e)) << (8 * byte);
      }
      reinterpret_cast<uint32_t*>(to + int64_t(b) * 512)[lane * 4 + i] = word;
    }
  } else {
    for (int h = 0; h < 2; h++) {  // nibbles: elements 0..15 low, 16..31 high
      uint32_t word = 0;
      for (int i = 0; i < 8; i++) {
        const int r = i & 3, e = i >> 2;
        const unsigned char* row = r & 1 ? odd : even;
        if (!row) continue;
        const uint32_t byte = byte_at(row + int64_t(b) * size + head + fragment_column(lane, 0, r, e));
        word |= (h ? byte >> 4 : byte & 15u) << (4 * r + 16 * e);
      }
      reinterpret_cast<uint32_t*>(to + q4_offset(b, blocks, lane))[h] = word;
    }
  }
  if (lane < 16) {  // lane = row
    const int place = b * 16 + (lane & 7) * 2 + (lane >> 3);
    const unsigned char* row = row_of(lane);
    reinterpret_cast<uint16_t*>(to + a.out.scales)[place] = uint16_t(row ? half_at(row + int64_t(b) * size) : 0);
    if (a.out.mins)
      reinterpret_cast<uint16_t*>(to + a.out.mins)[place] = uint16_t(row ? half_at(row + int64_t(b) * size + 2) : 0);
  }
}

constexpr int64_t kSlice = int64_t(64) << 20;  // bytes uploaded at once

}  // namespace

void pack_weight(const Call& call, Context& context) {
  const PackWeightArgs a = pack_weight_args(call);
  if (a.N == 0 || a.K == 0) return;
  const DTypeInfo info = dtype_info(a.out->dtype);
  PackArgs p{};
  p.row_bytes = a.K / info.block * info.block_bytes;
  p.permute = a.permute;
  p.out = weight_view(*a.out);
  // Slices end between heads and between panels.
  int64_t unit = 16;
  while (a.permute && unit % a.permute) unit += 16;
  const bool host = a.src->device == DeviceKind::cpu;
  const int64_t step = host ? std::max(unit, kSlice / p.row_bytes / unit * unit) : a.N;
  for (int64_t n = 0; n < a.N; n += step) {
    p.first = int(n);
    p.rows = int(std::min(step, a.N - n));
    p.src = static_cast<const unsigned char*>(a.src->data) + n * p.row_bytes;
    if (host) p.src = static_cast<const unsigned char*>(context.upload(p.src, size_t(p.rows * p.row_bytes)));
    const int64_t tasks = int64_t((p.rows + 15) / 16) * p.out.blocks;
    launch(context, pack_kernel, dim3(unsigned((tasks + 7) / 8)), dim3(256), 0, p);
  }
}

}  // namespace eyrie::cuda
