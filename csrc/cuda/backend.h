// The CUDA backend as the rest of the addon sees it: no CUDA headers. Built as absent.cc when there is no CUDA compiler; the
// emulation (csrc/emulation) is in test builds only.
#pragma once
#include <memory>
#include <string>

#include "core/backend.h"

namespace eyrie::cuda {

struct Probe {
  bool built = false;  // compiled into this addon
  bool emulated = false;  // the kernels run on the CPU here, as device 'emulated'
  int devices = 0;  // usable devices
  int code = 0;  // cudaError_t of the probe
  int driver = 0;  // driver's CUDA version, 0: no driver
  int runtime = 0;
  std::string message;  // why no device is usable, and what to do
};

struct DeviceMemory {
  double free = 0, total = 0;  // bytes
};

Probe probe();
// Throws EYRIE_NO_DEVICE with the probe's message.
std::unique_ptr<Backend> make_backend(int device);
// The CUDA kernels on the CPU (test builds), under a schedule: "order=0..4,eager=0|1,seed=N,workers=N", or "" for the environment's.
std::unique_ptr<Backend> make_emulated(const std::string& schedule);
DeviceMemory device_memory(int device);

}  // namespace eyrie::cuda
