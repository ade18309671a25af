#include "napi/environment.h"

#include <cmath>
#include <cstring>

namespace eyrie {
namespace {

constexpr uint64_t kSlotBits = 20;

void cleanup(void* data) { static_cast<Environment*>(data)->close(); }
void destroy(napi_env env, void* data, void*) {
  napi_remove_env_cleanup_hook(env, cleanup, data);
  delete static_cast<Environment*>(data);
}

}  // namespace

napi_value throw_error(napi_env env, const char* code, const std::string& message) {
  bool pending = false;
  napi_is_exception_pending(env, &pending);
  if (!pending) napi_throw(env, Environment::get(env).make_error(code, message));
  return nullptr;
}

Environment::Environment(napi_env e) : env(e) {
  slots_.emplace_back();  // handle 0 is never valid
  napi_value name;
  napi_create_string_utf8(env, "eyrie", NAPI_AUTO_LENGTH, &name);
  napi_create_threadsafe_function(env, nullptr, nullptr, name, 0, 1, nullptr, nullptr, this, call_js, &completions_);
  napi_unref_threadsafe_function(env, completions_);  // an idle engine does not keep the process alive
  napi_add_env_cleanup_hook(env, cleanup, this);
  napi_set_instance_data(env, this, destroy, nullptr);
}

Environment::~Environment() { close(); }

Environment& Environment::get(napi_env env) {
  void* data = nullptr;
  napi_get_instance_data(env, &data);
  return *static_cast<Environment*>(data);
}

void Environment::set_error_factory(napi_value function) {
  if (error_factory_) napi_delete_reference(env, error_factory_);
  napi_create_reference(env, function, 1, &error_factory_);
}

napi_value Environment::make_error(const char* code, const std::string& message) {
  napi_value args[2], factory = nullptr, undefined, error = nullptr;
  napi_create_string_utf8(env, code, NAPI_AUTO_LENGTH, &args[0]);
  napi_create_string_utf8(env, message.data(), message.size(), &args[1]);
  if (error_factory_) napi_get_reference_value(env, error_factory_, &factory);
  napi_get_undefined(env, &undefined);
  if (!factory || napi_call_function(env, undefined, factory, 2, args, &error) != napi_ok)
    napi_create_error(env, args[0], args[1], &error);
  return error;
}

void Environment::close() {
  if (closed_) return;
  closed_ = true;
  for (auto& s : streams_)
    if (s) s->close();  // their completions find the function closing and are freed
  napi_release_threadsafe_function(completions_, napi_tsfn_abort);
  streams_.clear();
  graphs_.clear();
  slots_.clear();
}

double Environment::add(const Tensor& t, std::shared_ptr<Storage> storage) {
  uint32_t index;
  if (!free_.empty()) {
    index = free_.back();
    free_.pop_back();
  } else {
    if (slots_.size() >> kSlotBits) throw Error("EYRIE_OUT_OF_MEMORY", "more than 1048575 live tensors; dispose some");
    index = uint32_t(slots_.size());
    slots_.emplace_back();
  }
  Slot& s = slots_[index];
  s.tensor = t;
  s.storage = std::move(storage);
  s.live = true;
  live_++;
  return double((uint64_t(s.generation) << kSlotBits) | index);
}

Slot* Environment::find(double handle) {
  if (!(handle >= 1 && handle < 9007199254740992.0) || handle != std::floor(handle)) return nullptr;
  const uint64_t h = uint64_t(handle), index = h & ((1u << kSlotBits) - 1), generation = h >> kSlotBits;
  if (index >= slots_.size()) return nullptr;
  Slot& s = slots_[index];
  return s.live && s.generation == generation ? &s : nullptr;
}

void Environment::remove(double handle) {
  Slot* s = find(handle);
  if (!s) return;
  s->storage.reset();
  s->live = false;
  s->generation++;
  live_--;
  free_.push_back(uint32_t(s - slots_.data()));
}

double Environment::add_stream(std::unique_ptr<Stream> stream) {
  streams_.push_back(std::move(stream));
  return double(streams_.size());
}

Stream& Environment::stream(double id) {
  if (!(id >= 1 && id <= double(streams_.size())) || !streams_[size_t(id) - 1])
    throw Error("EYRIE_DISPOSED", "the stream is closed or was never open; create one with new Stream()");
  return *streams_[size_t(id) - 1];
}

void Environment::close_stream(double id) {
  if (!(id >= 1 && id <= double(streams_.size())) || !streams_[size_t(id) - 1]) return;
  const std::unique_ptr<Stream> s = std::move(streams_[size_t(id) - 1]);
  s->close();
}

size_t Environment::open_streams() const {
  size_t n = 0;
  for (auto& s : streams_) n += s != nullptr;
  return n;
}

double Environment::add_graph(std::shared_ptr<const Graph> graph) {
  graphs_.push_back(std::move(graph));
  return double(graphs_.size());
}

std::shared_ptr<const Graph> Environment::graph(double id) {
  if (!(id >= 1 && id <= double(graphs_.size())) || !graphs_[size_t(id) - 1])
    throw Error("EYRIE_DISPOSED", "the graph is disposed or was never captured");
  return graphs_[size_t(id) - 1];
}

void Environment::remove_graph(double id) {
  if (id >= 1 && id <= double(graphs_.size())) graphs_[size_t(id) - 1].reset();
}

Environment::Completion* Environment::start(napi_value* promise) {
  auto* c = new Completion{this, nullptr, {}, false, nullptr, {}};
  napi_create_promise(env, &c->deferred, promise);
  if (pending_++ == 0) napi_ref_threadsafe_function(env, completions_);  // a pending read keeps the process alive
  return c;
}

void Environment::finish(Completion* completion) {
  if (napi_call_threadsafe_function(completions_, completion, napi_tsfn_nonblocking) != napi_ok) delete completion;
}

void Environment::call_js(napi_env env, napi_value, void* context, void* data) {
  const std::unique_ptr<Completion> c(static_cast<Completion*>(data));
  if (!env) return;  // the environment is gone: only free
  auto* self = static_cast<Environment*>(context);
  napi_handle_scope scope;
  napi_open_handle_scope(env, &scope);
  if (c->failed) {
    napi_reject_deferred(env, c->deferred, self->make_error(c->code, c->message));
  } else {
    void* out = nullptr;
    napi_value buffer;
    if (napi_create_arraybuffer(env, c->bytes.size(), &out, &buffer) == napi_ok) {
      if (!c->bytes.empty()) memcpy(out, c->bytes.data(), c->bytes.size());
      napi_resolve_deferred(env, c->deferred, buffer);
    } else {
      napi_reject_deferred(env, c->deferred,
                           self->make_error("EYRIE_OUT_OF_MEMORY", "no memory for the result of a read"));
    }
  }
  if (--self->pending_ == 0) napi_unref_threadsafe_function(env, self->completions_);
  napi_close_handle_scope(env, scope);
}

}  // namespace eyrie
