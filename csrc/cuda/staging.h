// Copies between pageable host memory and the device through pinned buffers: a write does not wait for the device unless both
// buffers are on their way.
#pragma once
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace eyrie::cuda {

// Throws with the CUDA error's text unless e is a success.
void check(cudaError_t e, const char* what);

class Staging {
 public:
  explicit Staging(cudaStream_t stream) : stream_(stream) {
    for (Buffer& b : buffers_) {
      check(cudaMallocHost(reinterpret_cast<void**>(&b.data), kBytes), "cudaMallocHost");
      check(cudaEventCreateWithFlags(&b.sent, cudaEventDisableTiming), "cudaEventCreate");
    }
  }
  ~Staging() {
    for (Buffer& b : buffers_) {
      cudaFreeHost(b.data);
      cudaEventDestroy(b.sent);
    }
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // The host bytes are read before this returns.
  void copy_in(void* device, const void* host, size_t bytes) {
    auto* to = static_cast<char*>(device);
    auto* from = static_cast<const char*>(host);
    while (bytes > 0) {
      Buffer* b = &buffers_[current_];
      if (b->used + std::min<size_t>(bytes, 256) > kBytes) {
        check(cudaEventRecord(b->sent, stream_), "copy to the device");
        current_ = 1 - current_;
        b = &buffers_[current_];
        check(cudaEventSynchronize(b->sent), "copy to the device");
        b->used = 0;
      }
      const size_t n = std::min(bytes, kBytes - b->used);
      memcpy(b->data + b->used, from, n);
      check(cudaMemcpyAsync(to, b->data + b->used, n, cudaMemcpyHostToDevice, stream_), "copy to the device");
      b->used = std::min(kBytes, (b->used + n + 255) / 256 * 256);
      to += n;
      from += n;
      bytes -= n;
    }
  }

  // Waits for everything enqueued before.
  void copy_out(void* host, const void* device, size_t bytes) {
    if (bytes > 0 && bytes <= kSmall) {
      if (!small_) check(cudaMallocHost(&small_, kSmall), "cudaMallocHost");
      check(cudaMemcpyAsync(small_, device, bytes, cudaMemcpyDeviceToHost, stream_), "copy from the device");
    } else if (bytes > 0) {
      check(cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, stream_), "copy from the device");
    }
    check(cudaStreamSynchronize(stream_), "waiting for the device");
    if (bytes > 0 && bytes <= kSmall) memcpy(host, small_, bytes);
  }

 private:
  static constexpr size_t kBytes = size_t(8) << 20, kSmall = size_t(64) << 10;
  struct Buffer {
    char* data = nullptr;
    size_t used = 0;
    cudaEvent_t sent = nullptr;
  };
  cudaStream_t stream_;
  Buffer buffers_[2];
  int current_ = 0;
  void* small_ = nullptr;
};

}  // namespace eyrie::cuda
