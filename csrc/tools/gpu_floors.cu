// What the device can do at best: reading memory, copying it, and the time from one kernel of a graph to the next.
#include <algorithm>
#include <cstdio>
#include <vector>

#include "cuda/gpu.cuh"
#include "tools/floors.h"

namespace eyrie::cuda {
namespace {

constexpr int kThreads = 256;
constexpr size_t kBytes = size_t(2) << 30;

void require(cudaError_t e, const char* what) {
  if (e != cudaSuccess)
    throw Error("EYRIE_EXECUTION",
                std::string(what) + ": " + cudaGetErrorString(e) + " (" + std::to_string(int(e)) + ")");
}

// Reads `count` words of 16 bytes, `unroll` loads in flight a thread; the sum is stored so that no load can be dropped.
template <int unroll>
__global__ void __launch_bounds__(kThreads) read_kernel(const uint4* words, size_t count, uint32_t* out) {
  const size_t stride = size_t(gridDim.x) * kThreads;
  uint32_t sum = 0;
  for (size_t i = size_t(blockIdx.x) * kThreads + threadIdx.x; i < count; i += stride * unroll) {
    uint4 v[unroll];
#pragma unroll
    for (int u = 0; u < unroll; u++)
      v[u] = i + u * stride < count ? load_stream(words + i + u * stride) : uint4{0, 0, 0, 0};
#pragma unroll
    for (int u = 0; u < unroll; u++) sum += v[u].x ^ v[u].y ^ v[u].z ^ v[u].w;
  }
  if (sum == 0x12345678u) *out = sum;
}

__global__ void __launch_bounds__(kThreads) empty_kernel(uint32_t* word) {
  dependency_wait();
  dependency_release();
  if (word && blockIdx.x > 0x7ffffff0u) *word = 1;
}

struct Timer {
  cudaEvent_t begin, end;
  cudaStream_t stream;
  explicit Timer(cudaStream_t s) : stream(s) {
    require(cudaEventCreate(&begin), "cudaEventCreate");
    require(cudaEventCreate(&end), "cudaEventCreate");
  }
  ~Timer() {
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
  }
  // Least milliseconds of `repeats` runs.
  template <class F>
  double least(int repeats, F f) {
    float best = 1e30f;
    for (int i = 0; i < repeats + 2; i++) {
      require(cudaEventRecord(begin, stream), "cudaEventRecord");
      f();
      require(cudaEventRecord(end, stream), "cudaEventRecord");
      require(cudaEventSynchronize(end), "floor kernel");
      float ms = 0;
      require(cudaEventElapsedTime(&ms, begin, end), "cudaEventElapsedTime");
      if (i >= 2) best = std::min(best, ms);
    }
    return double(best);
  }
};

// µs of one of `count` dependent empty kernels in a graph.
double graph_gap(Context& context, Timer& timer, bool chained) {
  constexpr int kCount = 1000;
  context.chained = chained;
  require(cudaStreamBeginCapture(timer.stream, cudaStreamCaptureModeRelaxed), "capture");
  for (int i = 0; i < kCount; i++)
    launch(context, empty_kernel, dim3(unsigned(context.sms)), dim3(kThreads), 0, static_cast<uint32_t*>(nullptr));
  cudaGraph_t graph = nullptr;
  require(cudaStreamEndCapture(timer.stream, &graph), "capture");
  cudaGraphExec_t exec = nullptr;
  require(cudaGraphInstantiate(&exec, graph, 0), "cudaGraphInstantiate");
  const double ms = timer.least(5, [&] { require(cudaGraphLaunch(exec, timer.stream), "cudaGraphLaunch"); });
  cudaGraphExecDestroy(exec);
  cudaGraphDestroy(graph);
  return ms * 1e3 / kCount;
}

}  // namespace
}  // namespace eyrie::cuda

void eyrie::print_floors(int device) {
  using namespace eyrie::cuda;
  require(cudaSetDevice(device), "cudaSetDevice");
  cudaDeviceProp p;
  require(cudaGetDeviceProperties(&p, device), "cudaGetDeviceProperties");
  int driver = 0;
  cudaDriverGetVersion(&driver);
  cudaStream_t stream;
  require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
  char *a = nullptr, *b = nullptr;
  require(cudaMalloc(&a, kBytes + 256), "cudaMalloc");
  require(cudaMalloc(&b, kBytes), "cudaMalloc");
  require(cudaMemset(a, 1, kBytes + 256), "cudaMemset");
  require(cudaMemset(b, 1, kBytes), "cudaMemset");
  require(cudaDeviceSynchronize(), "cudaMemset");
  Context context;
  context.stream = stream;
  context.sms = p.multiProcessorCount;
  context.arch = p.major * 10 + p.minor;
  Timer timer(stream);
  const size_t words = kBytes / 16;
  auto* out = reinterpret_cast<uint32_t*>(a + kBytes);
  double read = 1e30;
  for (int waves : {4, 8, 16, 32})
    read = std::min(read, timer.least(5, [&] {
      read_kernel<8>
          <<<unsigned(p.multiProcessorCount * waves), kThreads, 0, stream>>>(reinterpret_cast<uint4*>(a), words, out);
    }));
  require(cudaGetLastError(), "read_kernel");
  // In pieces that fit no cache: what a weight matrix of a layer is.
  const double small = timer.least(20, [&] {
    for (int i = 0; i < 16; i++)
      read_kernel<8><<<unsigned(p.multiProcessorCount * 8), kThreads, 0, stream>>>(
          reinterpret_cast<uint4*>(a) + words / 16 * size_t(i), (size_t(16) << 20) / 16, out);
  });
  const double copy = timer.least(5, [&] { cudaMemcpyAsync(b, a, kBytes, cudaMemcpyDeviceToDevice, stream); });
  const double gap = graph_gap(context, timer, false), chained = graph_gap(context, timer, true);
  std::printf(
      "{\"device\": \"%s\", \"sms\": %d, \"l2MB\": %.0f, \"driver\": %d, \"readGBs\": %.1f, \"read16MBus\": %.2f, "
      "\"copyGBs\": %.1f, "
      "\"gapUs\": %.3f, \"gapChainedUs\": %.3f}\n",
      p.name, p.multiProcessorCount, double(p.l2CacheSize) / 1048576, driver, double(kBytes) / read / 1e6,
      small * 1e3 / 16, 2 * double(kBytes) / copy / 1e6, gap, chained);
  std::fflush(stdout);
  cudaFree(a);
  cudaFree(b);
  cudaStreamDestroy(stream);
}
