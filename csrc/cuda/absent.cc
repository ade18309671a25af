#include "core/error.h"
#include "cuda/backend.h"

namespace eyrie::cuda {

Probe probe() {
  Probe p;
  p.message = "this addon was built without CUDA; rebuild with EYRIE_CUDA=ON where nvcc is (npx eyrie build --cuda)";
  return p;
}

std::unique_ptr<Backend> make_backend(int) { throw Error("EYRIE_NO_DEVICE", "device cuda: " + probe().message); }
std::unique_ptr<Backend> make_emulated(const std::string&) {
  throw Error("EYRIE_NO_DEVICE", "device emulated: only test builds have it (npm run test:emulated)");
}
DeviceMemory device_memory(int) { return {}; }

}  // namespace eyrie::cuda
