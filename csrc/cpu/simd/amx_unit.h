// The instructions of AMX: eight tiles of at most 16 rows of 64 bytes. In assembly, since GCC 12's intrinsics do not say which memory they read, and stores
// before them vanish. With EYRIE_EMULATE_AMX (test builds) in software, which refuses what the processor would refuse.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

namespace eyrie::cpu::EYRIE_LEVEL {
namespace {

// What LDTILECFG reads.
struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};

#ifdef EYRIE_EMULATE_AMX

struct SoftTiles {
  TileConfig config;  // palette 0: not configured
  alignas(64) uint32_t at[8][16][16];
};
thread_local SoftTiles soft;

inline void soft_check(bool ok) {
  if (!ok) abort();
}

EYRIE_INLINE void tile_configure(const TileConfig& c) {
  soft_check(c.palette == 1);
  for (int t = 0; t < 8; t++) soft_check(c.rows[t] >= 1 && c.rows[t] <= 16 && c.row_bytes[t] <= 64);
  memset(&soft, 0, sizeof soft);
  soft.config = c;
}
EYRIE_INLINE void tile_release() { soft.config.palette = 0; }
template <int T>
EYRIE_INLINE void tile_zero() {
  soft_check(soft.config.palette == 1);
  memset(soft.at[T], 0, sizeof soft.at[T]);
}
template <int T>
EYRIE_INLINE void tile_load(const void* p, int64_t stride) {
  tile_zero<T>();
  for (int r = 0; r < soft.config.rows[T]; r++)
    memcpy(soft.at[T][r], (const char*)p + r * stride, soft.config.row_bytes[T]);
}
template <int T>
EYRIE_INLINE void tile_store(void* p, int64_t stride) {
  soft_check(soft.config.palette == 1);
  for (int r = 0; r < soft.config.rows[T]; r++) memcpy((char*)p + r * stride, soft.at[T][r], soft.config.row_bytes[T]);
}
// c + (e + o), e and o chains of fused multiply-adds from 0 over the even and the odd numbers of the pairs, ascending; subnormals flushed.
template <int C, int A, int B>
EYRIE_INLINE void tile_multiply() {
  const TileConfig& f = soft.config;
  const int pairs = f.row_bytes[A] / 4;
  soft_check(f.palette == 1 && f.rows[A] == f.rows[C] && f.rows[B] == pairs && f.row_bytes[B] == f.row_bytes[C]);
  const __m512i odd = _mm512_set1_epi32(int(0xffff0000));
  for (int r = 0; r < f.rows[C]; r++) {
    __m512 e = _mm512_setzero_ps(), o = e;
    for (int j = 0; j < pairs; j++) {
      const __m512i a = _mm512_set1_epi32(int(soft.at[A][r][j])), b = _mm512_load_si512(soft.at[B][j]);
      e = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)), _mm512_castsi512_ps(_mm512_slli_epi32(b, 16)),
                          e);
      o = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(a, odd)), _mm512_castsi512_ps(_mm512_and_si512(b, odd)),
                          o);
    }
    float* c = (float*)soft.at[C][r];
    _mm512_store_ps(c, _mm512_add_ps(_mm512_load_ps(c), _mm512_add_ps(e, o)));
  }
}

#else

EYRIE_INLINE void tile_configure(const TileConfig& c) { asm volatile("ldtilecfg %0" ::"m"(c)); }
EYRIE_INLINE void tile_release() { asm volatile("tilerelease"); }
template <int T>
EYRIE_INLINE void tile_zero() {
  asm volatile("tilezero %%tmm%c0" ::"n"(T));
}
template <int T>
EYRIE_INLINE void tile_load(const void* p, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(p), "r"(stride), "n"(T) : "memory");
}
template <int T>
EYRIE_INLINE void tile_store(void* p, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(p), "r"(stride), "n"(T) : "memory");
}
template <int C, int A, int B>
EYRIE_INLINE void tile_multiply() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"n"(C), "n"(A), "n"(B));
}

#endif

}  // namespace
}  // namespace eyrie::cpu::EYRIE_LEVEL
