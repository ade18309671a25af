// The CUDA backend as the rest of the addon sees it: no CUDA headers. Built as absent.cc when there is no CUDA compiler.
#pragma once
#include <memory>
#include <string>

#include "core/backend.h"

namespace eyrie::cuda {

struct Probe {
  bool built = false;  // compiled into this addon
  int devices = 0;  // usable devices
  int code = 0;  // cudaError_t of the probe
  int driver = 0;  // driver's CUDA version, 0: no driver
  int runtime = 0;
  std::string message;  // why no device is usable, and what to do
};

Probe probe();
// Throws EYRIE_NO_DEVICE with the probe's message.
std::unique_ptr<Backend> make_backend(int device);

}  // namespace eyrie::cuda
