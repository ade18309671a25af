// The CUDA backend: one stream, its workspace, staging through pinned memory, graphs.
#include <cuda_runtime.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "core/checks.h"
#include "core/error.h"
#include "cuda/backend.h"
#include "cuda/faults.h"
#include "cuda/kernels.h"
#include "cuda/staging.h"

namespace eyrie::cuda {
namespace {

struct CompiledGraph {
  cudaGraphExec_t exec = nullptr;
  ~CompiledGraph() {
    if (exec) cudaGraphExecDestroy(exec);
  }
};

// What outlives the backend: memory is freed when its last tensor goes. Allocations and frees of small pieces are work on the
// stream (cudaMallocAsync), so they neither wait for the device nor run ahead of what uses the memory.
struct StreamMemory {
  int device = 0;
  cudaStream_t stream = nullptr;
  cudaMemPool_t pool = nullptr;
  std::mutex mutex;  // held while the stream is captured: what another thread enqueued then would be recorded

  StreamMemory(int d) : device(d) {
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    cudaMemPoolProps p = {};
    p.allocType = cudaMemAllocationTypePinned;
    p.location = {cudaMemLocationTypeDevice, device};
    check(cudaMemPoolCreate(&pool, &p), "cudaMemPoolCreate");
    uint64_t keep = uint64_t(64) << 20;
    check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "cudaMemPoolSetAttribute");
  }
  ~StreamMemory() {
    cudaSetDevice(device);
    cudaStreamSynchronize(stream);
    cudaMemPoolDestroy(pool);
    cudaStreamDestroy(stream);
  }
};
constexpr size_t kSmall = size_t(8) << 20;  // larger pieces are cudaMalloc's own

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
    memory_ = std::make_shared<StreamMemory>(device_);
    stream_ = memory_->stream;
    staging_ = std::make_unique<Staging>(stream_);
    check(cudaHostAlloc(reinterpret_cast<void**>(&fault_), sizeof(Fault), cudaHostAllocMapped), "cudaHostAlloc");
    *fault_ = {};
    check(cudaHostGetDevicePointer(reinterpret_cast<void**>(&context_.fault), fault_, 0), "cudaHostGetDevicePointer");
    check(cudaMalloc(&tickets_, kTickets * 4), "cudaMalloc");
    check(cudaMemsetAsync(tickets_, 0, kTickets * 4, stream_), "cudaMemset");
    context_.stream = stream_;
    context_.sms = p.multiProcessorCount;
    context_.arch = arch;
    context_.shared_limit = p.sharedMemPerBlockOptin;
    context_.chained = !std::getenv("EYRIE_NO_CHAINING");
    context_.grow_ = [](Context* c, size_t bytes) { return self(c)->grown(self(c)->workspace_, bytes); };
    context_.scratch_ = [](Context* c, size_t bytes) { return self(c)->grown(self(c)->scratch_, bytes); };
    context_.tickets_ = [](Context* c, size_t count) { return self(c)->tickets(count); };
    context_.upload_ = [](Context* c, const void* host, size_t bytes) { return self(c)->upload(host, bytes); };
    context_.owner = this;
  }
  ~CudaBackend() override {
    cudaSetDevice(device_);
    cudaStreamSynchronize(stream_);
    staging_.reset();
    for (void* p : retired_) cudaFree(p);
    for (void* p : {workspace_.data, scratch_.data, upload_, static_cast<void*>(tickets_)}) cudaFree(p);
    cudaFreeHost(fault_);
  }
  DeviceKind device() const override { return DeviceKind::cuda; }
  std::string describe() const override { return name_; }
  bool host_memory() const override { return false; }

  void prepare(Launch& launch) override {
    require_kernel(launch);
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
    std::lock_guard lock(memory_->mutex);
    const size_t size = bytes ? bytes : 1;
    void* p = nullptr;
    const bool small = size < kSmall;
    if (small) {
      const cudaError_t e = cudaMallocFromPoolAsync(&p, size, memory_->pool, stream_);
      if (e != cudaSuccess) out_of_memory(size, e);
    } else {
      p = allocate_device(size);
    }
    check(cudaMemsetAsync(p, 0, size, stream_), "cudaMemset");
    return Storage::adopt(p, bytes, DeviceKind::cuda, [memory = memory_, small](void* q) {
      cudaSetDevice(memory->device);
      if (!small) {
        cudaFree(q);  // waits for the device
        return;
      }
      std::lock_guard held(memory->mutex);
      cudaFreeAsync(q, memory->stream);
    });
  }

 private:
  static CudaBackend* self(Context* c) { return static_cast<CudaBackend*>(c->owner); }
  void use() { check(cudaSetDevice(device_), "cudaSetDevice"); }

  void* allocate_device(size_t bytes) {
    void* p = nullptr;
    const cudaError_t e = cudaMalloc(&p, bytes);
    if (e != cudaSuccess) out_of_memory(bytes, e);
    return p;
  }
  [[noreturn]] void out_of_memory(size_t bytes, cudaError_t e) {
    cudaGetLastError();
    const DeviceMemory m = device_memory(device_);
    throw Error(e == cudaErrorMemoryAllocation ? "EYRIE_OUT_OF_MEMORY" : "EYRIE_EXECUTION",
                name_ + ": cannot allocate " + std::to_string(bytes) + " bytes (" + cudaGetErrorString(e) + "); " +
                    std::to_string(int64_t(m.free)) + " of " + std::to_string(int64_t(m.total)) +
                    " bytes are free. Take a smaller contextLength or kvTokens, a smaller model, or device 'cpu'");
  }

  std::shared_ptr<void> compile(const Graph& graph) {
    auto compiled = std::make_shared<CompiledGraph>();
    std::lock_guard lock(memory_->mutex);
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

  struct Grown {
    void* data = nullptr;
    size_t bytes = 0;
  };
  // Recorded graphs hold the address, so that what is outgrown stays.
  void* grown(Grown& g, size_t bytes) {
    if (bytes <= g.bytes) return g.data;
    const size_t wanted = std::max(bytes, g.bytes * 2);
    void* p = allocate_device(wanted);
    if (g.data) retired_.push_back(g.data);
    g = {p, wanted};
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
  std::shared_ptr<StreamMemory> memory_;
  cudaStream_t stream_ = nullptr;
  std::string name_;
  Context context_;
  std::unique_ptr<Staging> staging_;
  Fault* fault_ = nullptr;
  uint32_t* tickets_ = nullptr;
  Grown workspace_, scratch_;
  void* upload_ = nullptr;
  size_t upload_bytes_ = 0;
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
