// Stream: an ordered queue on a device. Calls return at once; one executor thread drains the queue.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "core/backend.h"
#include "core/error.h"

namespace eyrie {

class Stream {
 public:
  explicit Stream(std::unique_ptr<Backend> backend);
  ~Stream();

  Backend& backend() { return *backend_; }
  // Enqueues, or records while a capture is open.
  void enqueue(std::unique_ptr<Launch> launch);
  // Names what the launches from here on belong to; "": nothing.
  void label(const std::string& text);
  void replay(std::shared_ptr<const Graph> graph);
  // Copies host bytes into `destination` in stream order; the bytes are copied before this returns.
  void write(std::shared_ptr<Storage> storage, void* destination, const void* bytes, size_t size);
  // done(data, error) runs on the executor thread, or on the closing thread when the stream is closed first.
  // An error of an earlier launch is delivered to the next read or sync, and thereby cleared; launches between are skipped.
  using Done = std::function<void(std::vector<char>&&, const Error*)>;
  void read(std::shared_ptr<Storage> storage, const void* source, size_t size, Done done);
  // Runs `action` on the executor thread, in stream order.
  void host(std::shared_ptr<Storage> storage, std::function<void()> action);
  // Between hold and release nothing that is enqueued starts: the threads of a CPU stream would take the core from the caller
  // who is still enqueueing, and a launch that waits in the middle of a step costs more than the start that it gains.
  void hold();
  void release();
  void begin_capture();
  std::shared_ptr<const Graph> end_capture();
  bool capturing() const { return capture_ != nullptr; }
  // Stops after the launch that runs now; queued reads fail with EYRIE_ABORTED. Idempotent.
  void close();
  bool closed() const { return stop_; }

 private:
  struct Job {
    std::unique_ptr<Launch> launch;
    std::shared_ptr<const Graph> graph;
    std::shared_ptr<Storage> storage;
    const void* source = nullptr;
    void* destination = nullptr;
    std::vector<char> bytes;
    size_t size = 0;
    Done done;
    std::function<void()> action;
  };
  void push(Job job);
  void loop();
  void execute(Job& job);
  void run(const Launch& launch);
  void run(const Graph& graph);
  template <class F>
  void guard(const char* what, F f);

  std::unique_ptr<Backend> backend_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> queue_;
  std::atomic<int> queued_{0};
  std::atomic<bool> stop_{false};
  std::unique_ptr<Error> failure_;  // executor thread only
  std::shared_ptr<Graph> capture_;  // calling thread only
  bool holding_ = false;  // calling thread only, like what it holds
  std::vector<Job> held_;
  std::shared_ptr<const std::string> label_;  // calling thread only
  std::thread thread_;
};

}  // namespace eyrie
