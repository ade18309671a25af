#include "core/error.h"
#include "cuda/backend.h"

namespace eyrie::cuda {

Probe probe() {
  Probe p;
  p.message = "this addon was built without CUDA; rebuild with EYRIE_CUDA=ON where nvcc is (npx eyrie build --cuda)";
  return p;
}

std::unique_ptr<Backend> make_backend(int) { throw Error("EYRIE_NO_DEVICE", "device cuda: " + probe().message); }

}  // namespace eyrie::cuda
