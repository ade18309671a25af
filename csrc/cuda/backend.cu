// The CUDA backend: one stream, its workspace, staging through pinned memory, graphs.
#include <cuda_runtime.h>

#include <cstring>
#include <vector>

#include "core/checks.h"
#include "core/error.h"
#include "cuda/backend.h"
#include "cuda/faults.h"
#include "cuda/kernels.h"
#include "cuda/staging.h"

namespace eyrie::cuda {
namespace {

constexpr size_t kTickets = size_t(1) << 16;

struct CompiledGraph {
  cudaGraphExec_t exec = nullptr;
  ~CompiledGraph() {
    if (exec) cudaGraphExecDestroy(exec);
  }
};

class CudaBackend : public Backend {
 public:
  explicit CudaBackend(int device) : device_(device) {
    check(cudaSetDevice(device_), "cudaSetDevice");
    cudaDeviceProp p;
    check(cudaGetDeviceProperties(&p, device_), "cudaGetDeviceProperties");
    const int arch = p.major * 10 + p.minor;
    if (arch < 80)
      throw Error("EYRIE_NO_DEVICE", std::string(p.name) + " has compute capability " + std::to_string(p.major) + "." +
                                         std::to_string(p.minor) + "; eyrie needs 8.0 or newer. Use device 'cpu'");
    name_ = p.name;
    check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
    staging_ = std::make_unique<Staging>(stream_);
    check(cudaHostAlloc(reinterpret_cast<void**>(&fault_), sizeof(Fault), cudaHostAllocMapped), "cudaHostAlloc");
    *fault_ = {};
    check(cudaHostGetDevicePointer(reinterpret_cast<void**>(&context_.fault), fault_, 0), "cudaHostGetDevicePointer");
    check(cudaMalloc(&tickets_, kTickets * 4), "cudaMalloc");
    check(cudaMemset(tickets_, 0, kTickets * 4), "cudaMemset");
    context_.stream = stream_;
    context_.sms = p.multiProcessorCount;
    context_.arch = arch;
    context_.shared_limit = p.sharedMemPerBlockOptin;
    context_.chained = !std::getenv("EYRIE_NO_CHAINING");
    context_.grow_ = [](Context* c, size_t bytes) { return self(c)->workspace(bytes); };
    context_.tickets_ = [](Context* c, size_t count) { return self(c)->tickets(count); };
    context_.upload_ = [](Context* c, const void* host, size_t bytes) { return self(c)->upload(host, bytes); };
    context_.owner = this;
  }
  ~CudaBackend() override {
    cudaSetDevice(device_);
    cudaStreamSynchronize(stream_);
    staging_.reset();
    for (void* p : retired_) cudaFree(p);
    for (void* p : {workspace_, upload_, static_cast<void*>(tickets_)}) cudaFree(p);
    cudaFreeHost(fault_);
    cudaStreamDestroy(stream_);
  }
  DeviceKind device() const override { return DeviceKind::cuda; }
  std::string describe() const override { return name_; }
  bool host_memory() const override { return false; }

  void prepare(Launch& launch) override {
    require_kernel(launch.op->index);
    launch.check = find_check(launch.op->name);
  }
  void run(const Launch& launch) override {
    use();
    context_.op = launch.op->index;
    kKernels[launch.op->index](launch.call, context_);
    check(cudaGetLastError(), launch.op->name);
  }

  // The first replay records the launches into a CUDA graph.
  bool replay(const Graph& graph) override {
    use();
    if (!graph.compiled) graph.compiled = compile(graph);
    check(cudaGraphLaunch(static_cast<CompiledGraph*>(graph.compiled.get())->exec, stream_), "cudaGraphLaunch");
    return true;
  }

  void copy_in(void* device, const void* host, size_t bytes) override {
    use();
    staging_->copy_in(device, host, bytes);
  }
  void copy_out(void* host, const void* device, size_t bytes) override {
    use();
    staging_->copy_out(host, device, bytes);
    throw_fault(*fault_);
  }
  std::shared_ptr<Storage> allocate(size_t bytes) override {
    use();
    void* p = allocate_device(bytes ? bytes : 1);
    check(cudaMemset(p, 0, bytes ? bytes : 1), "cudaMemset");
    check(cudaStreamSynchronize(nullptr), "cudaMemset");  // the stream does not wait for the default stream
    return Storage::adopt(p, bytes, DeviceKind::cuda, [](void* q) { cudaFree(q); });
  }

 private:
  static CudaBackend* self(Context* c) { return static_cast<CudaBackend*>(c->owner); }
  void use() { check(cudaSetDevice(device_), "cudaSetDevice"); }

  void* allocate_device(size_t bytes) {
    void* p = nullptr;
    const cudaError_t e = cudaMalloc(&p, bytes);
    if (e == cudaSuccess) return p;
    cudaGetLastError();
    const DeviceMemory m = device_memory(device_);
    throw Error(e == cudaErrorMemoryAllocation ? "EYRIE_OUT_OF_MEMORY" : "EYRIE_EXECUTION",
                name_ + ": cannot allocate " + std::to_string(bytes) + " bytes (" + cudaGetErrorString(e) + "); " +
                    std::to_string(int64_t(m.free)) + " of " + std::to_string(int64_t(m.total)) +
                    " bytes are free. Take a smaller contextLength or kvTokens, a smaller model, or device 'cpu'");
  }

  std::shared_ptr<void> compile(const Graph& graph) {
    auto compiled = std::make_shared<CompiledGraph>();
    check(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeRelaxed), "cudaStreamBeginCapture");
    cudaGraph_t recorded = nullptr;
    try {
      for (const auto& launch : graph.launches) {
        if (launch->check) launch->check(launch->call, false);
        run(*launch);
      }
    } catch (...) {
      cudaStreamEndCapture(stream_, &recorded);
      if (recorded) cudaGraphDestroy(recorded);
      cudaGetLastError();
      throw;
    }
    check(cudaStreamEndCapture(stream_, &recorded), "cudaStreamEndCapture");
    const cudaError_t e = cudaGraphInstantiate(&compiled->exec, recorded, 0);
    cudaGraphDestroy(recorded);
    check(e, "cudaGraphInstantiate");
    return compiled;
  }

  // Recorded graphs hold the address, so that what is outgrown stays.
  void* workspace(size_t bytes) {
    if (bytes <= workspace_bytes_) return workspace_;
    const size_t wanted = std::max(bytes, workspace_bytes_ * 2);
    void* p = allocate_device(wanted);
    if (workspace_) retired_.push_back(workspace_);
    workspace_ = p;
    workspace_bytes_ = wanted;
    return p;
  }
  uint32_t* tickets(size_t count) {
    if (count > kTickets) throw Error("EYRIE_EXECUTION", "too many tickets: " + std::to_string(count));
    return tickets_;
  }
  const void* upload(const void* host, size_t bytes) {
    if (bytes > upload_bytes_) {
      check(cudaStreamSynchronize(stream_), "upload");
      cudaFree(upload_);
      upload_ = nullptr;
      upload_bytes_ = 0;
      upload_ = allocate_device(bytes);
      upload_bytes_ = bytes;
    }
    staging_->copy_in(upload_, host, bytes);
    return upload_;
  }

  int device_;
  cudaStream_t stream_ = nullptr;
  std::string name_;
  Context context_;
  std::unique_ptr<Staging> staging_;
  Fault* fault_ = nullptr;
  uint32_t* tickets_ = nullptr;
  void *workspace_ = nullptr, *upload_ = nullptr;
  size_t workspace_bytes_ = 0, upload_bytes_ = 0;
  std::vector<void*> retired_;
};

}  // namespace

void check(cudaError_t e, const char* what) {
  if (e == cudaSuccess) return;
  const char* code = e == cudaErrorMemoryAllocation ? "EYRIE_OUT_OF_MEMORY" : "EYRIE_EXECUTION";
  std::string text = std::string("CUDA: ") + what + ": " + cudaGetErrorString(e) + " (" + std::to_string(int(e)) + ")";
  if (e == cudaErrorNoKernelImageForDevice)
    text += "; this addon holds no code for the GPU's architecture: rebuild with EYRIE_CUDA_ARCHS set for it";
  throw Error(code, text);
}

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

std::unique_ptr<Backend> make_emulated(const std::string&) {
  throw Error("EYRIE_NO_DEVICE", "device emulated: only test builds have it (npm run test:emulated)");
}

DeviceMemory device_memory(int device) {
  size_t free = 0, total = 0;
  if (cudaSetDevice(device) != cudaSuccess || cudaMemGetInfo(&free, &total) != cudaSuccess) cudaGetLastError();
  return {double(free), double(total)};
}

}  // namespace eyrie::cuda
