// Environment: what one JavaScript environment (main thread or worker) owns. It is instance data, never a static, so that
// workers and repeated loads are independent.
#pragma once
#include <node_api.h>

#include <memory>
#include <vector>

#include "core/error.h"
#include "core/stream.h"

namespace eyrie {

struct Slot {
  Tensor tensor;
  std::shared_ptr<Storage> storage;
  uint32_t generation = 1;
  bool live = false;
};

class Environment {
 public:
  explicit Environment(napi_env env);
  ~Environment();
  static Environment& get(napi_env env);

  // A handle is generation * 2^20 + slot: a stale one is a clean error.
  double add(const Tensor& t, std::shared_ptr<Storage> storage);
  Slot* find(double handle);  // null: disposed or never there
  void remove(double handle);
  size_t live_tensors() const { return live_; }

  double add_stream(std::unique_ptr<Stream> stream);
  Stream& stream(double id);  // throws EYRIE_DISPOSED
  void close_stream(double id);
  size_t open_streams() const;

  double add_graph(std::shared_ptr<const Graph> graph);
  std::shared_ptr<const Graph> graph(double id);
  void remove_graph(double id);

  // A promise that an executor thread settles. `finish` runs on the JavaScript thread and makes the value.
  struct Completion {
    Environment* environment;
    napi_deferred deferred;
    std::vector<char> bytes;
    bool failed = false;
    const char* code = nullptr;
    std::string message;
  };
  Completion* start(napi_value* promise);
  void finish(Completion* completion);  // any thread

  // How errors are made: a function (code, message) of the JavaScript side; without one they are plain Errors with a code.
  void set_error_factory(napi_value function);
  napi_value make_error(const char* code, const std::string& message);

  void close();
  napi_env env;

 private:
  static void call_js(napi_env env, napi_value, void* context, void* data);
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_;
  size_t live_ = 0;
  std::vector<std::unique_ptr<Stream>> streams_;
  std::vector<std::shared_ptr<const Graph>> graphs_;
  napi_threadsafe_function completions_ = nullptr;
  napi_ref error_factory_ = nullptr;
  int pending_ = 0;
  bool closed_ = false;
};

// Runs f and turns what it throws into a pending JavaScript exception.
napi_value throw_error(napi_env env, const char* code, const std::string& message);
template <class F>
napi_value guarded(napi_env env, F f) {
  try {
    return f();
  } catch (const Error& e) {
    return throw_error(env, e.code(), e.what());
  } catch (const std::bad_alloc&) {
    return throw_error(env, "EYRIE_OUT_OF_MEMORY", "out of memory");
  } catch (const std::exception& e) {
    return throw_error(env, "EYRIE_EXECUTION", e.what());
  }
}

}  // namespace eyrie
