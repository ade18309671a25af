#include "core/error.h"
#include "cuda/backend.h"
#include "cuda/kernels.h"

namespace eyrie::cuda {
namespace {

const CudaKernel kKernels[] = {
#define OP(name, signature) name,
#include "ops.def"
#undef OP
};

void check(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  const char* code = e == cudaErrorMemoryAllocation ? "EYRIE_OUT_OF_MEMORY" : "EYRIE_EXECUTION";
  throw Error(code, std::string("CUDA: ") + what + ": " + cudaGetErrorString(e) + " (" + std::to_string(int(e)) + ")");
}

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(int device) : device_(device) {
    check(cudaSetDevice(device_), "cudaSetDevice");
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    cudaDeviceProp p;
    check(cudaGetDeviceProperties(&p, device_), "cudaGetDeviceProperties");
    name_ = p.name;
  }
  ~CudaBackend() override { cudaStreamDestroy(stream_); }
  DeviceKind device() const override { return DeviceKind::cuda; }
  std::string describe() const override { return name_; }

  void prepare(Launch& launch) override {
    if (!kKernels[launch.op->index])
      throw Error("EYRIE_UNSUPPORTED", std::string(launch.op->name) + " has no CUDA kernel yet; use device 'cpu'");
  }
  void run(const Launch& launch) override {
    check(cudaSetDevice(device_), "cudaSetDevice");
    kKernels[launch.op->index](launch.call, stream_);
    check(cudaGetLastError(), launch.op->name);
  }
  void copy_in(void* device, const void* host, size_t bytes) override {
    check(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_), "copy to the device");
    check(cudaStreamSynchronize(stream_), "copy to the device");  // the host bytes die with the job
  }
  void copy_out(void* host, const void* device, size_t bytes) override {
    check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "copy from the device");
    check(cudaStreamSynchronize(stream_), "copy from the device");
  }
  std::shared_ptr<Storage> allocate(size_t bytes) override {
    check(cudaSetDevice(device_), "cudaSetDevice");
    void* p = nullptr;
    check(cudaMalloc(&p, bytes ? bytes : 1), "cudaMalloc");
    check(cudaMemset(p, 0, bytes ? bytes : 1), "cudaMemset");
    return Storage::adopt(p, bytes, DeviceKind::cuda, [](void* q) { cudaFree(q); });
  }

 private:
  int device_;
  cudaStream_t stream_ = nullptr;
  std::string name_;
};

}  // namespace

Probe probe() {
  Probe p;
  p.built = true;
  const cudaError_t e = cudaGetDeviceCount(&p.devices);
  p.code = int(e);
  cudaDriverGetVersion(&p.driver);
  cudaRuntimeGetVersion(&p.runtime);
  if (e == cudaSuccess) return p;
  p.devices = 0;
  cudaGetLastError();  // it would stick to the next call
  const std::string runtime = std::to_string(p.runtime / 1000) + "." + std::to_string(p.runtime % 1000 / 10);
  if (p.driver == 0)
    p.message =
        "no NVIDIA driver on this machine; install one (R580 or newer for CUDA " + runtime + ") or use device 'cpu'";
  else if (e == cudaErrorInsufficientDriver)
    p.message =
        "the NVIDIA driver is too old for CUDA " + runtime + " (needs R580 or newer); update it or use device 'cpu'";
  else if (e == cudaErrorNoDevice)
    p.message = "a driver is installed, but no GPU is visible (CUDA_VISIBLE_DEVICES?); use device 'cpu'";
  else p.message = std::string(cudaGetErrorString(e)) + " (" + std::to_string(int(e)) + ")";
  return p;
}

std::unique_ptr<Backend> make_backend(int device) {
  const Probe p = probe();
  if (p.devices == 0) throw Error("EYRIE_NO_DEVICE", "device cuda:" + std::to_string(device) + ": " + p.message);
  if (device < 0 || device >= p.devices)
    throw Error("EYRIE_NO_DEVICE",
                "device cuda:" + std::to_string(device) + " does not exist; there are " + std::to_string(p.devices));
  return std::make_unique<CudaBackend>(device);
}

}  // namespace eyrie::cuda
