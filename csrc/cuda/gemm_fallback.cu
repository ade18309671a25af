// Stands in for gemm_sm90a.cu where the kernels are emulated: that file cannot be.
#ifdef EYRIE_EMULATED
#include "cuda/gemm_sm90a.h"
#include "cuda/tiles.cuh"

namespace eyrie::cuda {

bool gemm_sm90a(Context&, const void*, int64_t, int, const WeightView&, const GemmEpilogue&, GemmOrder) {
  return false;
}

}  // namespace eyrie::cuda
#endif
