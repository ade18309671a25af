// The emulation by itself (csrc/emulation): what CUDA promises holds under every schedule, and what it forbids is reported.
// Built and run by emulation.test.ts; prints one line a failure, exits with 0 when there is none.
#include <cstdio>
#include <functional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "cuda/gpu.cuh"
#include "emulation/config.h"
#include "emulation/launch.h"

namespace {

using namespace eyrie;
using emulation::Config;
using emulation::Order;

int failures = 0;
std::string now;  // the test and its schedule

void expect(bool ok, const std::string& what) {
  if (ok) return;
  failures++;
  if (failures <= 20) printf("%s: %s\n", now.c_str(), what.c_str());
}
template <class T>
void expect_equal(const std::vector<T>& got, const std::vector<T>& want, const char* what) {
  expect(got.size() == want.size(), std::string(what) + ": size");
  for (size_t i = 0; i < got.size() && i < want.size(); i++)
    if (memcmp(&got[i], &want[i], sizeof(T)))
      return expect(false, std::string(what) + "[" + std::to_string(i) + "] is " + std::to_string(got[i]) +
                               ", expected " + std::to_string(want[i]));
}
uint32_t hash(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ x >> 16;
}

template <class... P, class... A>
void run(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... arguments) {
  cuda::Context context;
  cuda::launch(context, kernel, grid, block, shared, arguments...);
}

// ---- barriers ----

__global__ void reverse_kernel(int* out, int rounds) {
  GPU_SHARED(shared);
  int* s = reinterpret_cast<int*>(shared);
  const int i = int(threadIdx.x), n = int(blockDim.x);
  int v = i + 1000 * int(blockIdx.x);
  for (int r = 0; r < rounds; r++) {
    s[i] = v;
    __syncthreads();
    v = s[n - 1 - i] + 1;
    __syncthreads();
  }
  out[int(blockIdx.x) * n + i] = v;
}
void barriers() {
  for (int n : {1, 31, 32, 33, 256, 1024}) {
    std::vector<int> out(size_t(n) * 5), want(out.size());
    run(reverse_kernel, 5, n, size_t(n) * 4, out.data(), 3);
    for (int b = 0; b < 5; b++)
      for (int i = 0; i < n; i++) want[size_t(b * n + i)] = 1000 * b + n - 1 - i + 3;
    expect_equal(out, want, "reversed three times");
  }
}
__global__ void votes_kernel(uint32_t* out) {
  const int i = int(threadIdx.x);
  uint32_t bits = 0;
  for (int r = 0; r < 4; r++) {
    bits = bits * 2 + uint32_t(__syncthreads_or(i == r * 30));
    bits = bits * 2 + uint32_t(__syncthreads_and(i != 99 || r == 2));
    bits = bits * 512 + uint32_t(__syncthreads_count(i <= r));
    bits ^= bits >> 11;
  }
  out[i] = bits;
}
void votes() {
  std::vector<uint32_t> out(100), want(100);
  run(votes_kernel, 1, 100, 0, out.data());
  uint32_t bits = 0;
  for (int r = 0; r < 4; r++) {
    bits = bits * 2 + 1;
    bits = bits * 2 + (r == 2);
    bits = bits * 512 + uint32_t(r + 1);
    bits ^= bits >> 11;
  }
  for (uint32_t& w : want) w = bits;
  expect_equal(out, want, "votes of barriers");
}
__global__ void exits_kernel(int* out) {
  const int i = int(threadIdx.x);
  if (i % 3 == 0) return;
  if (i >= 64 && i < 96) return;  // a whole warp
  const int first = __syncthreads_count(1);
  if (i % 3 == 1) return;
  __syncwarp();  // the lanes that ended are not waited for
  out[i] = first * 1000 + __syncthreads_count(1) + 100000 * __popc(__ballot_sync(~0u, 1));
}
void exits() {
  std::vector<int> out(128), want(128);
  run(exits_kernel, 1, 128, 0, out.data());
  int first = 0, second = 0;
  const auto lives = [](int i, int mod) { return i % 3 >= mod && (i < 64 || i >= 96); };
  for (int i = 0; i < 128; i++) first += lives(i, 1), second += lives(i, 2);
  for (int i = 0; i < 128; i++) {
    int lanes = 0;
    for (int j = i / 32 * 32; j < i / 32 * 32 + 32; j++) lanes += lives(j, 2);
    if (lives(i, 2)) want[size_t(i)] = first * 1000 + second + 100000 * lanes;
  }
  expect_equal(out, want, "threads that ended count as arrived");
}

// ---- warps ----

__global__ void shuffles_kernel(uint32_t* out) {
  const int l = int(threadIdx.x);
  const uint32_t v = uint32_t(l) * 7 + 1;
  uint32_t* o = out + l * 12;
  o[0] = __shfl_sync(~0u, v, 5);
  o[1] = __shfl_sync(~0u, v, l * 3, 8);
  o[2] = __shfl_up_sync(~0u, v, 3);
  o[3] = __shfl_up_sync(~0u, v, 3, 8);
  o[4] = __shfl_down_sync(~0u, v, 5);
  o[5] = __shfl_down_sync(~0u, v, 5, 16);
  o[6] = __shfl_xor_sync(~0u, v, 9);
  o[7] = __shfl_xor_sync(~0u, v, 9, 8);  // earlier segments may be read, later ones not
  o[8] = uint32_t(__shfl_xor_sync(~0u, uint64_t(v) << 32 | 77, 31) >> 32);
  o[9] = __float_as_uint(__shfl_down_sync(~0u, float(v), 1));
  o[10] = uint32_t(__shfl_xor_sync(~0u, double(v) * 0.5, 2) * 2);
  o[11] = l < 16 ? __shfl_xor_sync(0xffffu, v, 1) : __shfl_xor_sync(0xffff0000u, v, 2);  // two masks at a time
}
void shuffles() {
  std::vector<uint32_t> out(32 * 12), want(32 * 12);
  run(shuffles_kernel, 1, 32, 0, out.data());
  const auto v = [](int l) { return uint32_t(l) * 7 + 1; };
  for (int l = 0; l < 32; l++) {
    uint32_t* w = &want[size_t(l) * 12];
    w[0] = v(5);
    w[1] = v(l / 8 * 8 + l * 3 % 8);
    w[2] = v(l >= 3 ? l - 3 : l);
    w[3] = v(l % 8 >= 3 ? l - 3 : l);
    w[4] = v(l + 5 < 32 ? l + 5 : l);
    w[5] = v(l % 16 + 5 < 16 ? l + 5 : l);
    w[6] = v(l ^ 9);
    w[7] = v((l ^ 9) <= (l | 7) ? l ^ 9 : l);
    w[8] = v(l ^ 31);
    w[9] = __float_as_uint(float(v(l < 31 ? l + 1 : l)));
    w[10] = v(l ^ 2);
    w[11] = v(l < 16 ? l ^ 1 : l ^ 2);
  }
  expect_equal(out, want, "shuffles");
}
__global__ void collectives_kernel(uint32_t* out) {
  const int l = int(threadIdx.x) % 32;
  uint32_t* o = out + threadIdx.x * 12;
  if (l >= 20) return;
  const uint32_t mask = (1u << 20) - 1;
  o[0] = __ballot_sync(mask, l % 3 == 0);
  o[1] = uint32_t(__any_sync(mask, l == 19)) * 2 + uint32_t(__any_sync(mask, l == 20));
  o[2] = uint32_t(__all_sync(mask, l < 20)) * 2 + uint32_t(__all_sync(mask, l < 19));
  o[3] = __match_any_sync(mask, l / 7);
  int all = 0;
  o[4] = __match_all_sync(mask, 3ull << 40, &all) + uint32_t(all);
  o[5] = __match_all_sync(mask, l == 3, &all) + uint32_t(all);
  o[6] = __reduce_add_sync(mask, uint32_t(l));
  o[7] = uint32_t(__reduce_min_sync(mask, l - 10));
  o[8] = __reduce_max_sync(mask, uint32_t(l - 10));
  o[9] = __reduce_or_sync(mask, 1u << l);
  o[10] = __reduce_and_sync(mask, ~(1u << l));
  o[11] = __reduce_xor_sync(mask, uint32_t(l));
}
void warp_collectives() {
  std::vector<uint32_t> out(96 * 12), want(96 * 12);
  run(collectives_kernel, 1, 96, 0, out.data());
  for (int i = 0; i < 96; i++) {
    const int l = i % 32;
    if (l >= 20) continue;
    const uint32_t mask = (1u << 20) - 1;
    const uint32_t row[12] = {0x49249u,     2,    2,     l / 7 == 0 ? 0x7fu : l / 7 == 1 ? 0x3f80u : 0xfc000u,
                              mask + 1,     0,    190,   uint32_t(-10),
                              uint32_t(-1), mask, ~mask, 0};
    memcpy(&want[size_t(i) * 12], row, sizeof row);
  }
  expect_equal(out, want, "votes, matches and reductions");
}

// ---- tensor cores ----

template <bool half>
__global__ void mma_kernel(const uint16_t* a, const uint16_t* b, float* d) {
  const int g = int(threadIdx.x) / 4, t = int(threadIdx.x) % 4 * 2;
  const auto at_a = [&](int row, int k) { return uint32_t(a[row * 16 + k]) | uint32_t(a[row * 16 + k + 1]) << 16; };
  const auto at_b = [&](int k, int n) { return uint32_t(b[k * 8 + n]) | uint32_t(b[(k + 1) * 8 + n]) << 16; };
  const uint32_t fa[4] = {at_a(g, t), at_a(g + 8, t), at_a(g, t + 8), at_a(g + 8, t + 8)};
  const uint32_t fb[2] = {at_b(t, g), at_b(t + 8, g)};
  float fd[4];
  for (int r = 0; r < 4; r++) fd[r] = d[(g + r / 2 * 8) * 8 + t + r % 2];
  if (half) cuda::mma_f16(fd, fa, fb);
  else cuda::mma_bf16(fd, fa, fb);
  for (int r = 0; r < 4; r++) d[(g + r / 2 * 8) * 8 + t + r % 2] = fd[r];
}
void products() {
  for (const bool half : {false, true}) {
    std::vector<uint16_t> a(256), b(128);
    std::vector<float> fa(256), fb(128), d(128), want(128);
    const auto fill = [&](std::vector<uint16_t>& bits, std::vector<float>& values, uint32_t seed) {
      for (size_t i = 0; i < bits.size(); i++) {
        values[i] = float(int(hash(uint32_t(i) + seed) % 33) - 16) / 8;  // exact in both formats, and so are the sums
        bits[i] = half ? cuda::to_f16(values[i]).bits : cuda::to_bf16(values[i]).bits;
      }
    };
    fill(a, fa, 1);
    fill(b, fb, 1000);
    for (size_t i = 0; i < 128; i++) d[i] = float(i);
    for (size_t m = 0; m < 16; m++)
      for (size_t n = 0; n < 8; n++) {
        want[m * 8 + n] = d[m * 8 + n];
        for (size_t k = 0; k < 16; k++) want[m * 8 + n] += fa[m * 16 + k] * fb[k * 8 + n];
      }
    if (half) run(mma_kernel<true>, 1, 32, 0, a.data(), b.data(), d.data());
    else run(mma_kernel<false>, 1, 32, 0, a.data(), b.data(), d.data());
    expect_equal(d, want, half ? "mma_f16" : "mma_bf16");
  }
  std::vector<uint16_t> a(256, 0x0001), b(128, 0x3c00);  // f16: the smallest denormal, 1
  std::vector<float> d(128), want(128, 16 * 0x1p-24f);
  run(mma_kernel<true>, 1, 32, 0, a.data(), b.data(), d.data());
  expect_equal(d, want, "mma_f16 of denormals");
}
__global__ void load_matrix_kernel(uint32_t* out, int pitch) {
  GPU_SHARED(shared);
  const int l = int(threadIdx.x);
  for (int i = l; i < 32 * 8; i += 32) reinterpret_cast<uint16_t*>(shared)[i / 8 * pitch + i % 8] = uint16_t(i);
  __syncwarp();
  uint32_t r[4];
  cuda::load_matrix4<false>(r, shared + l * pitch * 2);
  for (int m = 0; m < 4; m++) out[l * 8 + m] = r[m];
  cuda::load_matrix4<true>(r, shared + l * pitch * 2);
  for (int m = 0; m < 4; m++) out[l * 8 + 4 + m] = r[m];
}
void matrix_loads() {
  std::vector<uint32_t> out(256), want(256);
  run(load_matrix_kernel, 1, 32, 32 * 24 * 2, out.data(), 24);
  for (uint32_t l = 0; l < 32; l++)
    for (uint32_t m = 0; m < 4; m++) {
      const uint32_t i = l / 4, j = l % 4 * 2;
      want[l * 8 + m] = (m * 64 + i * 8 + j) | (m * 64 + i * 8 + j + 1) << 16;
      want[l * 8 + 4 + m] = (m * 64 + j * 8 + i) | (m * 64 + (j + 1) * 8 + i) << 16;
    }
  expect_equal(out, want, "load_matrix4");
}

// ---- asynchronous copies ----

__global__ void pipeline_kernel(const uint32_t* in, uint32_t* out, int tiles, int last) {
  GPU_SHARED(shared);
  constexpr int kStages = 3, kTile = 64 * 4;
  uint32_t* s = reinterpret_cast<uint32_t*>(shared);
  const int i = int(threadIdx.x);
  const auto issue = [&](int tile) {
    if (tile < tiles)
      cuda::copy_async16(s + tile % kStages * kTile + i * 4, in + tile * kTile + i * 4, tile * 64 + i < last);
    cuda::copy_async_commit();
  };
  for (int t = 0; t < kStages - 1; t++) issue(t);
  uint32_t sum = 0;
  for (int t = 0; t < tiles; t++) {
    cuda::copy_async_wait<kStages - 2>();
    __syncthreads();
    issue(t + kStages - 1);
    for (int k = 0; k < 4; k++) sum = sum * 31 + s[t % kStages * kTile + (i * 4 + k * 37) % kTile];
  }
  out[i] = sum;
}
void copies() {
  constexpr int kTiles = 11, kLast = kTiles * 64 - 20;
  std::vector<uint32_t> in(size_t(kLast) * 4), out(64), want(64);
  for (size_t i = 0; i < in.size(); i++) in[i] = hash(uint32_t(i));
  run(pipeline_kernel, 1, 64, 3 * 64 * 16, in.data(), out.data(), kTiles, kLast);
  for (uint32_t i = 0; i < 64; i++)
    for (uint32_t t = 0; t < kTiles; t++)
      for (uint32_t k = 0; k < 4; k++) {
        const size_t at = t * 256 + (i * 4 + k * 37) % 256;
        want[i] = want[i] * 31 + (at < in.size() ? in[at] : 0);
      }
  expect_equal(out, want, "three stages of copies");
}
__global__ void landing_kernel(const uint32_t* in, uint32_t* out) {
  GPU_SHARED(shared);
  const volatile uint32_t* s = reinterpret_cast<const volatile uint32_t*>(shared);
  cuda::copy_async16(shared, in, true);
  cuda::copy_async_commit();
  cuda::copy_async16(shared + 16, in + 4, true);
  cuda::copy_async_commit();
  out[0] = s[0];
  cuda::copy_async_wait<1>();
  out[1] = s[0];
  out[2] = s[4];
  cuda::copy_async_wait<0>();
  out[3] = s[4];
}
void landing() {
  const std::vector<uint32_t> in = {1, 2, 3, 4, 5, 6, 7, 8};
  std::vector<uint32_t> out(4);
  run(landing_kernel, 1, 1, 32, in.data(), out.data());
  const bool eager = emulation::config().eager;
  expect((out[0] == 1) == eager && out[1] == 1 && (out[2] == 5) == eager && out[3] == 5, "when copies land");
}

// ---- grids ----

__global__ void indices_kernel(uint32_t* out) {
  const uint32_t block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const uint32_t thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const uint32_t lane = __reduce_max_sync(~0u, thread) - thread;
  out[block * 42 + thread] = block * 10000 + thread * 100 + lane;
}
void indices() {
  std::vector<uint32_t> out(24 * 42), want(24 * 42);
  run(indices_kernel, dim3(2, 3, 4), dim3(7, 3, 2), 0, out.data());
  for (uint32_t b = 0; b < 24; b++)
    for (uint32_t t = 0; t < 42; t++) want[b * 42 + t] = b * 10000 + t * 100 + (t < 32 ? 31 : 41) - t;
  expect_equal(out, want, "blockIdx and threadIdx");
}
__global__ void last_block_kernel(const uint32_t* in, uint32_t* partial, uint32_t* ticket, uint32_t* out) {
  GPU_SHARED(shared);
  uint32_t* last = reinterpret_cast<uint32_t*>(shared);
  const uint32_t sum = __reduce_add_sync(~0u, in[blockIdx.x * 32 + threadIdx.x]);
  if (threadIdx.x == 0) {
    partial[blockIdx.x] = sum;
    __threadfence();
    *last = atomicInc(ticket, gridDim.x - 1) == gridDim.x - 1;
  }
  __syncthreads();
  if (!*last || threadIdx.x) return;
  uint32_t all = 0;
  for (uint32_t b = 0; b < gridDim.x; b++) all += __ldcg(partial + b) * (b + 1);
  *out = all;
}
void tickets() {
  const uint32_t n = 77;
  std::vector<uint32_t> in(n * 32), partial(n, ~0u), ticket(1), out(1), want(1);
  for (uint32_t i = 0; i < n * 32; i++) in[i] = hash(i), want[0] += in[i] * (i / 32 + 1);
  run(last_block_kernel, n, 32, 16, in.data(), partial.data(), ticket.data(), out.data());
  expect_equal(out, want, "the sum of the last block");
  expect(ticket[0] == 0, "the ticket is zero again");
}
__global__ void atomics_kernel(uint32_t* u, int* i, unsigned long long* w) {
  const int x = int(blockIdx.x * blockDim.x + threadIdx.x);
  atomicAdd(u, 3);
  atomicSub(u + 1, 1);
  atomicMax(u + 2, uint32_t(x));
  atomicMin(u + 3, uint32_t(x + 5));
  atomicOr(u + 4, 1u << x % 32);
  atomicAnd(u + 5, ~(1u << x % 32));
  atomicXor(u + 6, 1u << x % 32);
  atomicDec(u + 7, 9);
  atomicMax(i, -x);
  atomicMin(i + 1, -x);
  atomicAdd(i + 2, -1);
  atomicExch(i + 3, 12);
  atomicAdd(w, 1ull << 33);
  atomicMax(w + 1, 1ull << 40);
  if (atomicCAS(w + 2, 0ull, 1ull) == 0) atomicAdd(w + 3, 1);
}
void atomics() {
  std::vector<uint32_t> u = {0, 0, 0, ~0u, 0, ~0u, 0, 0};
  std::vector<int> i = {-1000, 5, 0, 0};
  std::vector<unsigned long long> w(4);
  run(atomics_kernel, 10, 64, 0, u.data(), i.data(), w.data());
  expect_equal(u, {1920, uint32_t(-640), 639, 5, ~0u, 0, 0, 0}, "atomics of u32");
  expect_equal(i, {0, -639, -640, 12}, "atomics of i32");
  expect_equal(w, {640ull << 33, 1ull << 40, 1, 1}, "atomics of u64");
}
void intrinsics() {
  expect(__byte_perm(0x33221100, 0x77665544, 0x7405) == 0x77440055, "__byte_perm");
  expect(__byte_perm(0x80, 0, 0x0008) == 0x808080ff, "__byte_perm with a sign");
  expect(__funnelshift_l(0x80000001u, 0x40000000u, 1) == 0x80000001u, "__funnelshift_l");
  expect(__funnelshift_r(0x80000001u, 0x40000001u, 1) == 0xc0000000u, "__funnelshift_r");
  expect(__brev(0x00000013u) == 0xc8000000u && __popc(0xf0f0u) == 8 && __ffs(8) == 4 && __ffs(0) == 0, "bits");
  expect(__clz(1) == 31 && __clz(0) == 32 && __popcll(~0ull) == 64 && __umulhi(~0u, ~0u) == ~0u - 1, "more bits");
  expect(__dp4a(0x01ff02fe, 0x7f80017f, 5) == 5 + 127 + 128 + 2 - 254, "__dp4a");
  expect(min(3u, 2) == 2 && max(-1, 1u) == ~0u && min(1.0f, NAN) == 1.0f && max(int64_t(4), int64_t(5)) == 5,
         "min and max");
}

// ---- what is forbidden ----

template <class... P, class... A>
void expect_error(const char* words, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, A... arguments) {
  try {
    run(kernel, grid, block, shared, arguments...);
    expect(false, std::string("no error; expected: ") + words);
  } catch (const Error& e) {
    expect(std::string(e.code()) == "EYRIE_EXECUTION", "the code of the error");
    expect(std::string(e.what()).find(words) != std::string::npos,
           std::string("expected '") + words + "' in '" + e.what() + "'");
  }
}
__global__ void half_barrier_kernel() {
  if (threadIdx.x < 40) __syncthreads();
  else __syncwarp();
}
__global__ void two_barriers_kernel() {
  if (threadIdx.x < 40) __syncthreads();
  else __syncthreads();
}
__global__ void narrow_mask_kernel(int* out) { out[threadIdx.x] = __shfl_xor_sync(0xffffu, 1, 1); }
__global__ void outside_kernel(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 20);
}
__global__ void mixed_kernel(int* out) {
  if (threadIdx.x & 1) out[0] = __shfl_sync(~0u, 1, 2);
  else out[1] = __any_sync(~0u, 1);
}
__global__ void ended_kernel(float* out) {
  if (threadIdx.x == 7) return;
  float d[4] = {};
  const uint32_t a[4] = {}, b[2] = {};
  cuda::mma_bf16(d, a, b);
  out[0] = d[0];
}
__global__ void misaligned_kernel(int offset) {
  GPU_SHARED(shared);
  uint32_t r[4];
  cuda::load_matrix4<false>(r, shared + offset);
}
__global__ void copy_kernel(const void* from, int to, int from_offset) {
  GPU_SHARED(shared);
  cuda::copy_async16(shared + to, static_cast<const char*>(from) + from_offset, true);
}
[[maybe_unused]] __global__ void overrun_kernel() {
  GPU_SHARED(shared);
  reinterpret_cast<volatile float*>(shared)[16 + threadIdx.x] = 1;
}
__global__ void throwing_kernel() { throw std::runtime_error("out of a kernel"); }
void forbidden() {
  std::vector<float> f(128);
  std::vector<int> i(64);
  alignas(16) static char bytes[512];
  expect_error("deadlock: threads 0-39 wait at __syncthreads (emulation_test.cc:", half_barrier_kernel, 3, 64, 0);
  expect_error("threads 40-63 wait at __syncwarp (emulation_test.cc:", half_barrier_kernel, 3, 64, 0);
  expect_error("while other threads of the warp are at that of", two_barriers_kernel, 1, 64, 0);
  expect_error("the mask 0x0000ffff leaves out its caller", narrow_mask_kernel, 1, 32, 0, i.data());
  expect_error("reads lane 20, which takes no part", outside_kernel, 1, 32, 0, i.data());
  expect_error("while other lanes of the mask 0xffffffff are in __", mixed_kernel, 1, 32, 0, i.data());
  expect_error("a lane of the warp has ended", ended_kernel, 1, 32, 0, f.data());
  expect_error("a lane of the warp has ended", mma_kernel<false>, 1, 16, 0, reinterpret_cast<uint16_t*>(bytes),
               reinterpret_cast<uint16_t*>(bytes), f.data());
  expect_error("ldmatrix: the address is not a multiple of 16", misaligned_kernel, 1, 32, 64, 8);
  expect_error("ldmatrix: the address is outside of the block's shared memory", misaligned_kernel, 1, 32, 64, 64);
  expect_error("cp.async: the address is outside", copy_kernel, 1, 1, 64, static_cast<const void*>(bytes), 56, 0);
  expect_error("cp.async: the address is not", copy_kernel, 1, 1, 64, static_cast<const void*>(bytes), 24, 0);
  expect_error("cp.async: the global address is not", copy_kernel, 1, 1, 64, static_cast<const void*>(bytes), 16, 8);
#ifndef EMULATION_ASAN
  expect_error("past its 64 bytes of shared memory", overrun_kernel, 1, 8, 64);
#endif
  expect_error("out of a kernel", throwing_kernel, 4, 64, 0);
  expect_error("invalid launch, grid 1x1x1, block 1025x1x1", misaligned_kernel, 1, 1025, 64, 0);
  expect_error("invalid launch", misaligned_kernel, dim3(1, 65536), 32, 64, 0);
  expect_error("invalid launch", misaligned_kernel, 1, 32, 228 * 1024, 0);
  barriers();  // and the next launch is none the worse
}

// ---- schedules ----

__global__ void race_kernel(int* out) {
  GPU_SHARED(shared);
  int* s = reinterpret_cast<int*>(shared);
  s[threadIdx.x] = int(threadIdx.x);
  out[threadIdx.x] = s[(threadIdx.x + 40) % 128];  // no barrier
}
__global__ void reuse_kernel(int* out) {
  GPU_SHARED(shared);
  volatile int* s = reinterpret_cast<volatile int*>(shared);
  for (int r = 0; r < 3; r++) {
    s[threadIdx.x] = int(threadIdx.x) + r;
    __syncthreads();
    out[threadIdx.x] += s[(threadIdx.x + 40) % 128];  // no barrier before the next round
  }
}
template <class F>
size_t results(F&& f) {
  std::set<std::vector<int>> seen;
  for (int order = 0; order < emulation::kOrders; order++) {
    emulation::config().order = Order(order);
    seen.insert(f());
  }
  emulation::config().order = Order::forward;
  return seen.size();
}
void schedules() {
  const auto of = [](void (*kernel)(int*)) {
    return results([&] {
      std::vector<int> out(128);
      run(kernel, 1, 128, 512, out.data());
      return out;
    });
  };
  expect(of(race_kernel) >= 4, "a missing barrier gives different results");
  expect(of(reuse_kernel) >= 3, "a missing second barrier gives different results");
  const Config c = emulation::parse_config("order=3,eager=1,seed=7,workers=2", {});
  expect(c.order == Order::first_warp && c.eager && c.seed == 7 && c.workers == 2, "parse_config");
  for (const char* text : {"order=5", "eager", "eager=2", "seed=x", "order=", "speed=1", "order=-1"}) try {
      emulation::parse_config(text, {});
      expect(false, std::string("accepted ") + text);
    } catch (const Error&) {
    }
  {
    Config four;
    four.order = Order::last_warp;
    emulation::ConfigScope scope(four);
    expect(emulation::scoped_config().order == Order::last_warp, "ConfigScope");
  }
  expect(emulation::scoped_config().order == Order::forward, "the end of a ConfigScope");
}
void two_launchers() {
  std::thread other([] {
    for (int i = 0; i < 50; i++) barriers();
  });
  for (int i = 0; i < 50; i++) tickets();
  other.join();
}

}  // namespace

int main() {
  const std::pair<const char*, void (*)()> tests[] = {{"barriers", barriers},
                                                      {"votes", votes},
                                                      {"exits", exits},
                                                      {"shuffles", shuffles},
                                                      {"warps", warp_collectives},
                                                      {"products", products},
                                                      {"matrix loads", matrix_loads},
                                                      {"copies", copies},
                                                      {"landing", landing},
                                                      {"indices", indices},
                                                      {"tickets", tickets},
                                                      {"atomics", atomics},
                                                      {"intrinsics", intrinsics},
                                                      {"forbidden", forbidden}};
  for (int order = 0; order < emulation::kOrders; order++)
    for (const bool eager : {false, true})
      for (const int workers : {1, 3}) {
        emulation::config() = {Order(order), eager, uint64_t(order * 3 + workers), workers};
        for (const auto& [name, test] : tests) {
          now = std::string(name) + ", order " + std::to_string(order) + (eager ? ", eager" : "");
          test();
        }
      }
  emulation::config() = {};
  now = "schedules";
  schedules();
  now = "two launchers";
  two_launchers();
  printf("%d failures\n", failures);
  return failures ? 1 : 0;
}
