// Paged attention for few rows a request: what the kernel's blocks share. A chunk is done by a group of warps instead of by one:
// each scores its share of the steps and makes their probabilities, once all have the chunk's maxima, and each does its share of the
// values' columns, so that the sums are those of a unit (attention.cuh), bit for bit, in less time. What keys and values a warp multiplies
// it has copied itself: half a chunk of keys or values is a stage, in a ring of the warp's own.
#pragma once
#include "cuda/attention_ring.cuh"

namespace eyrie::cuda::attention {

constexpr int kHalf = kChunk / 2, kHalfSteps = kSteps / 2;

struct Split {  // passed by value to the kernel
  int groups;  // of a block
  int ring;  // chunks that a warp has room for
  int slots;  // units of a request that are worked on beside each other
  int splits;  // blocks of a unit, at most
  int fill;  // of them, those that keep the device busy
  int most_chunks;  // of a unit whose chunks may leave partial results
};

template <class T, int D>
struct Decode {
  static constexpr int team = D <= 64 ? 2 : 4;  // warps of a group
  static constexpr int steps = kHalfSteps / team;  // that a warp scores of a stage
  static constexpr int column_warps = D % 64 == 0 ? team : D / 32;
  static constexpr int columns = D / column_warps;  // of a warp
  static constexpr int q_pitch = D + 8, k_pitch = D + kPad<T>, v_pitch = columns + kPad<T>;
  static constexpr int k_stage = steps * kStep * k_pitch, v_stage = kHalf * v_pitch;  // elements
  static constexpr int chunk = 2 * (k_stage + v_stage);
  static constexpr int scales = kRowScales<T> ? 2 * kChunk : 0;  // of a chunk: of its keys, of its values
  static constexpr int state = D + 4;  // floats of a partial result
  static constexpr int most_groups = D <= 64 ? 4 : D <= 128 ? 2 : 1;
  static constexpr int kept = most_groups == 1 ? 1 : columns / 8 * team;
  struct Group {
    uint4 probabilities[kSteps][32];  // operands of the tensor cores
    float2 parts[kSteps][32];  // their sums over a lane's columns
    float maxima[team][kRows];
    float4 values[kept][32];  // that group 0 folds
    float4 sums[32];
  };
  struct Fixed {
    int last;
    Request request;  // to be read when needed: registers are short
    alignas(16) RowInfo rows[most_groups * team][kRows + 1];
    alignas(16) Operand<T> q[kRows * q_pitch];
  };
  static constexpr size_t fixed = (sizeof(Fixed) + 127) / 128 * 128;
  // Of a warp: its chunks and, where rows have them, their scales, in one slot more, since those of a chunk's values are read after the
  // keys of a later one were copied.
  static constexpr size_t per_chunk = chunk * sizeof(T) + scales * sizeof(f16), per_warp = scales * sizeof(f16);
  static constexpr size_t bytes(int groups, int ring) {
    return fixed + size_t(groups) * (sizeof(Group) + team * (ring * per_chunk + per_warp));
  }
};

// The unit's queries by the block, eight rows' loads at once.
template <class T, int D>
GPU_INLINE void load_queries_together(const Args& a, const Request& r, int j, int first_row, Operand<T>* tile) {
  constexpr int kBatch = 8, threads = D < Decode<T, D>::team * 32 ? D : Decode<T, D>::team * 32;
  const int thread = int(threadIdx.x);
  if (thread >= threads) return;
  with_type(a, [&](auto type) {
    using In = decltype(type);
#pragma unroll 1
    for (int i0 = 0; i0 < kRows; i0 += kBatch) {
      float x[kBatch][D / threads];
#pragma unroll
      for (int i = 0; i < kBatch; i++) {
        const int row = first_row + i0 + i, token = row / a.G;
        const bool live = row < r.tokens * a.G;
        const In* q = static_cast<const In*>(a.q);
        if (live) q += int64_t(r.row + token) * a.q_row + int64_t(j * a.G + row - token * a.G) * a.q_head;
#pragma unroll
        for (int k = 0; k < D / threads; k++) x[i][k] = live ? to_float(q[k * threads + thread]) : 0.0f;
      }
#pragma unroll
      for (int i = 0; i < kBatch; i++)
#pragma unroll
        for (int k = 0; k < D / threads; k++)
          tile[(i0 + i) * Decode<T, D>::q_pitch + query_place<T>(k * threads + thread)] =
              from_float<Operand<T>>(x[i][k]);
    }
  });
}

// What a warp copies of a unit's chunks: its step of half a chunk's keys, its columns of half a chunk's values. What is copied
// into a slot is of the kind that was there: it goes where a stage has just been multiplied.
template <class T, int D>
struct Feed {
  using M = Decode<T, D>;
  int b, j, low, high, end;  // end: of the chunks
  Steps steps;  // of the chunk that is copied

  static GPU_INLINE int keys(int half) { return half * M::k_stage; }
  static GPU_INLINE int values(int half) { return 2 * M::k_stage + half * M::v_stage; }
  // The first stage of `chunk` comes next, and `stride` later another chunk.
  GPU_INLINE void enter(const Args& a, int chunk, int stride) {
    if (chunk >= end) return;
    steps.use(a, b, chunk * kChunk, low, high);
    if (chunk + stride < end) steps.fetch(a, b, (chunk + stride) * kChunk, low, high);
  }
  GPU_INLINE void issue_keys(const Args& a, T* slot, f16* scales, int chunk, int half) {
    const int member = int(threadIdx.x >> 5) % M::team;
    if (chunk < end)
      copy_rows<T, D, M::k_pitch, 32, M::steps * kStep>(slot + keys(half), a.k, j * a.k.head, steps,
                                                        half * kHalfSteps + member * M::steps, chunk * kChunk, low,
                                                        high);
    if (kRowScales<T> && half == 0 && chunk < end)
      copy_scales(scales, a, j, steps, 0, kSteps, kChunk, chunk * kChunk, low, high);
    copy_async_commit();
  }
  GPU_INLINE void issue_values(const Args& a, T* slot, int chunk, int half) {
    const int member = int(threadIdx.x >> 5) % M::team;
    const int64_t at = j * a.v.head + member * M::columns * int(sizeof(T));
    if (chunk < end && member < M::column_warps)
#pragma unroll 1  // registers are short
      for (int i = 0; i < kHalfSteps; i += 2)
        copy_rows<T, M::columns, M::v_pitch, 32, 2 * kStep>(slot + values(half) + i * kStep * M::v_pitch, a.v, at,
                                                            steps, half * kHalfSteps + i, chunk * kChunk, low, high);
    copy_async_commit();
  }
};

}  // namespace eyrie::cuda::attention
