#include "core/stream.h"

#include <string.h>

#include "core/pool.h"

namespace eyrie {
namespace {

Error aborted() { return Error("EYRIE_ABORTED", "the stream was closed before this operation ran"); }

}  // namespace

Stream::Stream(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {
  thread_ = std::thread([this] { loop(); });
}

Stream::~Stream() { close(); }

void Stream::push(Job job) {
  if (stop_) throw Error("EYRIE_DISPOSED", "the stream is closed; create a new one");
  if (holding_) {
    held_.push_back(std::move(job));
    return;
  }
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(job));
    queued_.fetch_add(1, std::memory_order_release);
  }
  wake_.notify_one();
}

void Stream::hold() { holding_ = true; }

void Stream::release() {
  holding_ = false;
  if (held_.empty()) return;
  {
    std::lock_guard lock(mutex_);
    for (Job& job : held_) queue_.push_back(std::move(job));
    queued_.fetch_add(int(held_.size()), std::memory_order_release);
  }
  held_.clear();
  wake_.notify_one();
}

void Stream::label(const std::string& text) {
  label_ = text.empty() ? nullptr : std::make_shared<const std::string>(text);
}

void Stream::enqueue(std::unique_ptr<Launch> launch) {
  launch->label = label_;
  if (capture_) {
    capture_->launches.push_back(std::move(launch));
    return;
  }
  Job job;
  job.launch = std::move(launch);
  push(std::move(job));
}

void Stream::replay(std::shared_ptr<const Graph> graph) {
  if (capture_) throw Error("EYRIE_INVALID_ARGUMENT", "a graph cannot be launched while another one is captured");
  Job job;
  job.graph = std::move(graph);
  push(std::move(job));
}

void Stream::write(std::shared_ptr<Storage> storage, void* destination, const void* bytes, size_t size) {
  if (capture_)
    throw Error("EYRIE_INVALID_ARGUMENT", "write during capture: a graph records launches only; write before or after");
  Job job;
  job.storage = std::move(storage);
  job.destination = destination;
  job.bytes.assign(static_cast<const char*>(bytes), static_cast<const char*>(bytes) + size);
  push(std::move(job));
}

void Stream::read(std::shared_ptr<Storage> storage, const void* source, size_t size, Done done) {
  if (capture_)
    throw Error("EYRIE_INVALID_ARGUMENT", "read during capture: a graph records launches only; read after it");
  Job job;
  job.storage = std::move(storage);
  job.source = source;
  job.size = size;
  job.done = std::move(done);
  push(std::move(job));
}

void Stream::host(std::shared_ptr<Storage> storage, std::function<void()> action) {
  Job job;
  job.storage = std::move(storage);
  job.action = std::move(action);
  push(std::move(job));
}

void Stream::begin_capture() {
  if (capture_) throw Error("EYRIE_INVALID_ARGUMENT", "a capture is already open on this stream");
  capture_ = std::make_shared<Graph>();
}

std::shared_ptr<const Graph> Stream::end_capture() {
  if (!capture_) throw Error("EYRIE_INVALID_ARGUMENT", "no capture is open on this stream");
  return std::move(capture_);
}

void Stream::close() {
  if (!thread_.joinable()) return;
  stop_ = true;
  {
    std::lock_guard lock(mutex_);  // pairs with the wait: no lost wake-up
  }
  wake_.notify_all();
  thread_.join();
  const Error error = aborted();
  release();
  for (Job& job : queue_)
    if (job.done) job.done({}, &error);
  queue_.clear();
}

void Stream::loop() {
  for (;;) {
    // A decode loop comes back within microseconds: look a little before sleeping.
    for (int i = 0; i < 2000 && queued_.load(std::memory_order_acquire) == 0 && !stop_; i++) spin_pause();
    Job job;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return stop_ || !queue_.empty(); });
      if (stop_) return;
      job = std::move(queue_.front());
      queue_.pop_front();
      queued_.fetch_sub(1, std::memory_order_relaxed);
    }
    execute(job);
  }
}

// Runs f; what it throws is kept for the next read.
template <class F>
void Stream::guard(const char* what, F f) {
  if (failure_ || stop_) return;
  try {
    f();
  } catch (const Error& e) {
    failure_ = std::make_unique<Error>(e);
  } catch (const std::exception& e) {
    failure_ = std::make_unique<Error>("EYRIE_EXECUTION", std::string(what) + ": " + e.what());
  }
}

void Stream::run(const Launch& launch) {
  guard(launch.op->name, [&] {
    if (launch.check) launch.check(launch.call, backend_->host_memory());
    backend_->run(launch);
  });
}

void Stream::run(const Graph& graph) {
  bool done = false;
  guard("graph", [&] { done = backend_->replay(graph); });
  if (done) return;
  for (const auto& launch : graph.launches) run(*launch);
}

void Stream::execute(Job& job) {
  if (job.launch) return run(*job.launch);
  if (job.action) return job.action();
  if (job.graph) return run(*job.graph);
  try {
    if (!job.done) {
      backend_->copy_in(job.destination, job.bytes.data(), job.bytes.size());
      return;
    }
    std::vector<char> out(job.size);
    backend_->copy_out(out.data(), job.source, job.size);  // also the place where a device reports late errors
    const std::unique_ptr<Error> failure = std::move(failure_);
    if (failure) job.done({}, failure.get());
    else job.done(std::move(out), nullptr);
  } catch (const Error& e) {
    if (job.done) job.done({}, &e);
    else failure_ = std::make_unique<Error>(e);
  } catch (const std::exception& e) {
    const Error error("EYRIE_EXECUTION", e.what());
    if (job.done) job.done({}, &error);
    else failure_ = std::make_unique<Error>(error);
  }
}

}  // namespace eyrie
