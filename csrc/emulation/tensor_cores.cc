#include "emulation/tensor_cores.h"

#include <bit>
#include <cstring>
#include <string>

namespace eyrie::emulation {
namespace {

void land(const AsyncCopy& c) {
  memcpy(c.shared, c.global, size_t(c.source_bytes));
  memset(static_cast<char*>(c.shared) + c.source_bytes, 0, size_t(c.bytes - c.source_bytes));
}

void require_warp(uint32_t lanes, const char* name) {
  if (lanes != ~0u) running->block->fail(std::string(name) + ": a lane of the warp has ended");
}

struct Operands {
  uint32_t a[4], b[2];
  float d[4];
};
struct Sums {
  float d[4];
};

float from_bf16(uint32_t bits) { return std::bit_cast<float>(bits << 16); }
float from_f16(uint32_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, exponent = bits >> 10 & 31, fraction = bits & 0x3ffu;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  if (exponent) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
  const float small = float(fraction) * 0x1p-24f;
  return sign ? -small : small;
}

template <float (*from)(uint32_t)>
void run_mma(uint32_t, uint32_t lanes, void* const* in, void* const* out) {
  require_warp(lanes, "mma");
  float a[16][16], b[16][8], d[16][8];
  for (int l = 0; l < kWarp; l++) {
    const Operands& x = *static_cast<const Operands*>(in[l]);
    const int g = l / 4, t = l % 4 * 2;
    for (int r = 0; r < 4; r++)
      for (int e = 0; e < 2; e++) a[g + r % 2 * 8][t + r / 2 * 8 + e] = from(x.a[r] >> 16 * e & 0xffffu);
    for (int r = 0; r < 2; r++)
      for (int e = 0; e < 2; e++) {
        b[t + r * 8 + e][g] = from(x.b[r] >> 16 * e & 0xffffu);
        d[g + r * 8][t + e] = x.d[r * 2 + e];
      }
  }
  using Four = float __attribute__((vector_size(16)));  // n, four at a time
  Four columns[16][2];
  memcpy(columns, b, sizeof b);
  for (int m = 0; m < 16; m++) {
    Four sums[2];
    memcpy(sums, d[m], sizeof sums);
    for (int k = 0; k < 16; k++) {
      sums[0] += a[m][k] * columns[k][0];
      sums[1] += a[m][k] * columns[k][1];
    }
    memcpy(d[m], sums, sizeof sums);
  }
  for (int l = 0; l < kWarp; l++)
    for (int r = 0; r < 4; r++) static_cast<Sums*>(out[l])->d[r] = d[l / 4 + r / 2 * 8][l % 4 * 2 + r % 2];
}

template <float (*from)(uint32_t)>
void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site) {
  Operands in;
  memcpy(in.a, a, sizeof a);
  memcpy(in.b, b, sizeof b);
  memcpy(in.d, d, sizeof d);
  running->block->meet(~0u, "mma", run_mma<from>, &in, &d, site);
}

template <bool transposed>
void run_load_matrix(uint32_t, uint32_t lanes, void* const* in, void* const* out) {
  require_warp(lanes, "ldmatrix");
  for (int l = 0; l < kWarp; l++)
    for (int m = 0; m < 4; m++) {
      const auto element = [&](int row, int column) {
        uint16_t e;
        memcpy(&e, static_cast<const char*>(in[m * 8 + row]) + 2 * column, 2);
        return uint32_t(e);
      };
      const int i = l / 4, j = l % 4 * 2;
      static_cast<uint32_t*>(out[l])[m] =
          transposed ? element(j, i) | element(j + 1, i) << 16 : element(i, j) | element(i, j + 1) << 16;
    }
}

}  // namespace

void copy_async(void* shared, const void* global, int bytes, int source_bytes) {
  Thread& t = *running;
  if (bytes != 4 && bytes != 8 && bytes != 16) t.block->fail("cp.async: of " + std::to_string(bytes) + " bytes");
  t.block->require_shared(shared, size_t(bytes), size_t(bytes), "cp.async");
  if (reinterpret_cast<uintptr_t>(global) % size_t(bytes))
    t.block->fail("cp.async: the global address is not a multiple of " + std::to_string(bytes));
  const AsyncCopy copy = {shared, global, bytes, source_bytes, t.groups};
  if (t.block->eager_copies) land(copy);
  else t.copies.push_back(copy);
}

void copy_async_commit() { running->groups++; }

void copy_async_wait(int pending) {
  Thread& t = *running;
  size_t landed = 0;
  while (landed < t.copies.size() && t.copies[landed].group < t.groups - pending) land(t.copies[landed++]);
  t.copies.erase(t.copies.begin(), t.copies.begin() + ptrdiff_t(landed));
}

void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site) {
  mma<from_bf16>(d, a, b, site);
}
void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site) {
  mma<from_f16>(d, a, b, site);
}

void load_matrix4(uint32_t (&r)[4], const void* row, bool transposed, const Site& site) {
  Block& block = *running->block;
  block.require_shared(row, 16, 16, "ldmatrix");
  block.meet(~0u, "ldmatrix", transposed ? run_load_matrix<true> : run_load_matrix<false>, row, &r, site);
}

}  // namespace eyrie::emulation
