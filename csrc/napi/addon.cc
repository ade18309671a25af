// The addon's entry: everything but the ops themselves (call.cc). Cold calls, so node-addon-api's comfort is used.
#include <napi.h>

#include <cstring>

#include "core/checks.h"
#include "core/debug.h"
#include "core/tiles.h"
#include "cpu/host/cpu_backend.h"
#include "cuda/backend.h"
#include "napi/call.h"
#include "napi/entry.h"
#include "napi/environment.h"

namespace eyrie {
namespace {

DType dtype(const std::string& name) {
  for (int i = 0; i < int(DType::count); i++)
    if (name == dtype_info(DType(i)).name) return DType(i);
  std::string known;
  for (int i = 0; i < int(DType::count); i++) known += std::string(i ? ", " : "") + dtype_info(DType(i)).name;
  throw Error("EYRIE_DTYPE", "dtype " + name + " does not exist; expected one of " + known);
}

std::vector<int64_t> integers(const CallbackInfo& info, size_t i, const char* what) {
  if (info.Length() <= i || !info[i].IsArray()) invalid(std::string(what) + " must be an array of integers");
  const auto array = info[i].As<Napi::Array>();
  std::vector<int64_t> out;
  if (array.Length() > kMaxRank)
    throw Error("EYRIE_SHAPE", std::string(what) + " has " + std::to_string(array.Length()) + " dimensions, at most 5");
  for (uint32_t k = 0; k < array.Length(); k++) {
    const Value v = array[k];
    const double x = v.IsNumber() ? v.As<Napi::Number>().DoubleValue() : -1;
    if (!(x >= 0 && x <= 9007199254740991.0) || x != double(int64_t(x)))
      throw Error("EYRIE_SHAPE", std::string(what) + "[" + std::to_string(k) + "] must be an integer >= 0");
    out.push_back(int64_t(x));
  }
  return out;
}

// Elements of a shape; throws when they overflow.
int64_t count(const std::vector<int64_t>& shape) {
  int64_t n = 1;
  for (int64_t d : shape)
    if (__builtin_mul_overflow(n, d, &n) || n > (int64_t(1) << 50))
      throw Error("EYRIE_SHAPE", "the shape has too many elements");
  return n;
}

Slot& slot(const CallbackInfo& info, size_t i) {
  Slot* s = Environment::get(info.Env()).find(number(info, i, "tensor"));
  if (!s) throw Error("EYRIE_DISPOSED", "the tensor is disposed");
  return *s;
}

Stream& stream(const CallbackInfo& info, size_t i) {
  return Environment::get(info.Env()).stream(number(info, i, "stream"));
}

size_t dense_bytes(const Tensor& t) {
  return size_t(numel(t)) / dtype_info(t.dtype).block * dtype_info(t.dtype).block_bytes;
}

// alloc(stream, dtype, shape, packed) -> handle
Value alloc(const CallbackInfo& info) {
  Stream& s = stream(info, 0);
  Tensor t;
  t.dtype = dtype(text(info, 1, "dtype"));
  const auto shape = integers(info, 2, "shape");
  const bool packed = info.Length() > 3 && info[3].ToBoolean();
  const int64_t n = count(shape);
  t.rank = uint8_t(shape.size());
  for (size_t i = 0; i < shape.size(); i++) t.shape[i] = shape[i];
  size_t bytes;
  if (packed) {
    if (shape.size() != 2)
      throw Error("EYRIE_SHAPE", "a packed weight has 2 dimensions, got " + std::to_string(shape.size()));
    const DTypeInfo d = dtype_info(t.dtype);
    if (t.dtype == DType::i32 || t.dtype == DType::u8 || t.dtype == DType::u16)
      throw Error("EYRIE_DTYPE", std::string(d.name) + " is no weight format");
    t.layout = Layout::tiles;
    bytes = size_t(tile_bytes(t.dtype, shape[0], shape[1]));
  } else {
    if (dtype_info(t.dtype).block != 1)
      throw Error("EYRIE_DTYPE", std::string(dtype_info(t.dtype).name) + " exists as a packed weight only");
    int64_t stride = 1;
    for (int i = t.rank - 1; i >= 0; i--) {
      t.stride[i] = stride;
      stride *= t.shape[i] ? t.shape[i] : 1;
    }
    bytes = size_t(n) * dtype_info(t.dtype).block_bytes;
  }
  auto storage = packed ? s.backend().allocate_weight(bytes) : s.backend().allocate(bytes);
  t.data = storage->data();
  t.device = s.backend().device();
  return Napi::Number::New(info.Env(), Environment::get(info.Env()).add(t, std::move(storage)));
}

// weightFormat(format, outputs, inputs) -> what a packed matrix takes, and whether devices other than the CPU have the format
Value weight_format(const CallbackInfo& info) {
  const DType t = dtype(text(info, 0, "format"));
  const double n = number(info, 1, "outputs"), k = number(info, 2, "inputs");
  if (!(n >= 0 && k >= 0 && n * k < double(int64_t(1) << 50)))
    throw Error("EYRIE_SHAPE", "the shape has too many elements");
  auto out = Napi::Object::New(info.Env());
  out.Set("bytes", double(tile_bytes(t, int64_t(n), int64_t(k))));
  out.Set("onDevices", on_devices(t));
  return out;
}

// mapFile(path, bytes) -> handle of u8[bytes]
Value map_file(const CallbackInfo& info) {
  const double bytes = number(info, 1, "bytes");
  auto storage = Storage::map_file(text(info, 0, "path"), size_t(bytes));
  Tensor t;
  t.data = storage->data();
  t.dtype = DType::u8;
  t.rank = 1;
  t.shape[0] = int64_t(bytes);
  t.stride[0] = 1;
  return Napi::Number::New(info.Env(), Environment::get(info.Env()).add(t, std::move(storage)));
}

// view(handle, dtype, shape, strides | null, offsetBytes) -> handle; must stay inside the tensor viewed
Value view(const CallbackInfo& info) {
  Slot& s = slot(info, 0);
  if (s.tensor.layout != Layout::dense) throw Error("EYRIE_INVALID_ARGUMENT", "a packed weight has no views");
  Tensor t = s.tensor;
  t.dtype = dtype(text(info, 1, "dtype"));
  const auto shape = integers(info, 2, "shape");
  count(shape);
  t.rank = uint8_t(shape.size());
  const DTypeInfo d = dtype_info(t.dtype);
  if (d.block != 1) throw Error("EYRIE_DTYPE", std::string(d.name) + " exists as a packed weight only");
  std::vector<int64_t> strides;
  if (info.Length() > 3 && info[3].IsArray()) {
    strides = integers(info, 3, "strides");
    if (strides.size() != shape.size()) throw Error("EYRIE_SHAPE", "strides must have as many entries as shape");
  } else {
    strides.resize(shape.size());
    int64_t stride = 1;
    for (size_t i = shape.size(); i-- > 0;) {
      strides[i] = stride;
      stride *= shape[i] ? shape[i] : 1;
    }
  }
  const double offset = number(info, 4, "offset");
  // The parent's own extent bounds the view; the parent must be dense unless it keeps its strides' extent.
  int64_t parent = numel(s.tensor) ? 1 : 0, last = 0;
  bool empty = false;
  for (int i = 0; i < s.tensor.rank && parent; i++) parent += (s.tensor.shape[i] - 1) * s.tensor.stride[i];
  const double parent_bytes = double(parent) * dtype_info(s.tensor.dtype).block_bytes;
  for (size_t i = 0; i < shape.size(); i++) {
    t.shape[i] = shape[i];
    t.stride[i] = strides[i];
    int64_t step;
    empty |= shape[i] == 0;
    if (__builtin_mul_overflow(shape[i] ? shape[i] - 1 : 0, strides[i], &step) ||
        __builtin_add_overflow(last, step, &last))
      throw Error("EYRIE_SHAPE", "the view is too large");
  }
  const double end = offset + (empty ? 0 : double(last + 1) * d.block_bytes);
  if (!(offset >= 0) || offset != double(int64_t(offset)) || end > parent_bytes)
    throw Error("EYRIE_SHAPE", "the view ends at byte " + std::to_string(int64_t(end)) + " of a tensor of " +
                                   std::to_string(int64_t(parent_bytes)) + " bytes");
  t.data = static_cast<char*>(s.tensor.data) + int64_t(offset);
  if (s.storage->writable() && int64_t(offset) % d.block_bytes)
    throw Error("EYRIE_SHAPE", "the view's offset is not aligned to its dtype");
  auto storage = s.storage;
  return Napi::Number::New(info.Env(), Environment::get(info.Env()).add(t, std::move(storage)));
}

Value dispose(const CallbackInfo& info) {
  Environment::get(info.Env()).remove(number(info, 0, "tensor"));
  return info.Env().Undefined();
}

void require_dense(const Tensor& t, const char* what) {
  if (t.layout == Layout::dense && !is_dense(t))
    throw Error("EYRIE_SHAPE", std::string(what) + ": the tensor is a strided view");
}

// write(stream, handle, typedArray): the whole tensor, in stream order
Value write(const CallbackInfo& info) {
  Stream& st = stream(info, 0);
  Slot& s = slot(info, 1);
  if (!s.storage->writable()) invalid("write: the tensor is a read-only mapped file");
  if (s.tensor.layout != Layout::dense)
    invalid("write: the tensor is a packed weight; use pack_weight or quantize_weight");
  require_dense(s.tensor, "write");
  if (info.Length() < 3 || !info[2].IsTypedArray()) invalid("write: data must be a typed array");
  const auto array = info[2].As<Napi::TypedArray>();
  const size_t bytes = dense_bytes(s.tensor);
  if (array.ByteLength() != bytes)
    throw Error("EYRIE_SHAPE", "write: data has " + std::to_string(array.ByteLength()) + " bytes, the tensor " +
                                   shape_text(s.tensor) + " has " + std::to_string(bytes));
  void* data = nullptr;  // raw call: napi.h's accessor does not take SharedArrayBuffer
  napi_get_typedarray_info(info.Env(), array, nullptr, nullptr, &data, nullptr, nullptr);
  st.write(s.storage, s.tensor.data, data, bytes);
  return info.Env().Undefined();
}

Value start_read(const CallbackInfo& info, Stream& st, std::shared_ptr<Storage> storage, const void* source,
                 size_t bytes) {
  Environment& e = Environment::get(info.Env());
  if (st.capturing())
    throw Error("EYRIE_INVALID_ARGUMENT", "read during capture: a graph records launches only; read after it");
  napi_value promise;
  Environment::Completion* c = e.start(&promise);
  st.read(std::move(storage), source, bytes, [&e, c](std::vector<char>&& out, const Error* error) {
    if (error) {
      c->failed = true;
      c->code = error->code();
      c->message = error->what();
    } else {
      c->bytes = std::move(out);
    }
    e.finish(c);
  });
  return Value(info.Env(), promise);
}

// read(stream, handle) -> Promise<ArrayBuffer>
Value read(const CallbackInfo& info) {
  Stream& st = stream(info, 0);
  Slot& s = slot(info, 1);
  require_dense(s.tensor, "read");
  const size_t bytes = s.tensor.layout == Layout::tiles ? s.storage->bytes() : dense_bytes(s.tensor);
  return start_read(info, st, s.storage, s.tensor.data, bytes);
}

// sync(stream) -> Promise<ArrayBuffer of length 0>: resolves when everything enqueued so far has run
Value sync(const CallbackInfo& info) { return start_read(info, stream(info, 0), nullptr, nullptr, 0); }

// discard(stream, handle): gives the pages of a mapped file's view back, in stream order
Value discard(const CallbackInfo& info) {
  Slot& s = slot(info, 1);
  const size_t offset = size_t(static_cast<char*>(s.tensor.data) - static_cast<char*>(s.storage->data()));
  const size_t bytes = dense_bytes(s.tensor);
  auto storage = s.storage;
  stream(info, 0).host(storage, [storage, offset, bytes] { storage->discard(offset, bytes); });
  return info.Env().Undefined();
}

// createStream({device, threads, level}) -> id
Value create_stream(const CallbackInfo& info) {
  const std::string device = text(info, 0, "device");
  std::unique_ptr<Backend> backend;
  if (device == "cpu") {
    backend = cpu::make_backend(int(number(info, 1, "threads")), text(info, 2, "level"));
  } else if (device.rfind("cuda", 0) == 0 && (device.size() == 4 || (device.size() > 5 && device[4] == ':'))) {
    backend = cuda::make_backend(device.size() == 4 ? 0 : std::atoi(device.c_str() + 5));
  } else if (device == "emulated") {
    backend = cuda::make_emulated(text(info, 2, "level"));
  } else {
    invalid("device must be 'cpu', 'cuda' or 'cuda:N', got '" + device + "'");
  }
  return Napi::Number::New(
      info.Env(), Environment::get(info.Env()).add_stream(std::make_unique<Stream>(debugging(std::move(backend)))));
}

Value stream_info(const CallbackInfo& info) {
  Stream& s = stream(info, 0);
  auto o = Napi::Object::New(info.Env());
  o["name"] = s.backend().describe();
  o["threads"] = s.backend().threads();
  o["debug"] = s.backend().debug();
  return o;
}

// waits(stream): what the first worker has waited for the others since the first such call
Value waits(const CallbackInfo& info) {
  const Waits w = stream(info, 0).backend().waits();
  auto o = Napi::Object::New(info.Env());
  o["launches"] = double(w.launches);
  o["barriers"] = double(w.barriers);
  o["ms"] = double(w.nanoseconds) / 1e6;
  return o;
}

// label(stream, text): names what the op calls that follow belong to, for EYRIE_DEBUG
Value label(const CallbackInfo& info) {
  stream(info, 0).label(text(info, 1, "label"));
  return info.Env().Undefined();
}

Value close_stream(const CallbackInfo& info) {
  Environment::get(info.Env()).close_stream(number(info, 0, "stream"));
  return info.Env().Undefined();
}

// hold(stream, on): while it is on, nothing that is enqueued starts
Value hold(const CallbackInfo& info) {
  Stream& s = stream(info, 0);
  number(info, 1, "on") != 0 ? s.hold() : s.release();
  return info.Env().Undefined();
}

Value begin_capture(const CallbackInfo& info) {
  stream(info, 0).begin_capture();
  return info.Env().Undefined();
}
Value end_capture(const CallbackInfo& info) {
  return Napi::Number::New(info.Env(), Environment::get(info.Env()).add_graph(stream(info, 0).end_capture()));
}
Value launch_graph(const CallbackInfo& info) {
  stream(info, 0).replay(Environment::get(info.Env()).graph(number(info, 1, "graph")));
  return info.Env().Undefined();
}
Value dispose_graph(const CallbackInfo& info) {
  Environment::get(info.Env()).remove_graph(number(info, 0, "graph"));
  return info.Env().Undefined();
}

// onError(function (code, message)): makes the errors that this addon throws and rejects with
Value on_error(const CallbackInfo& info) {
  if (info.Length() < 1 || !info[0].IsFunction()) invalid("onError: expected a function");
  Environment::get(info.Env()).set_error_factory(info[0]);
  return info.Env().Undefined();
}

}  // namespace
}  // namespace eyrie

NAPI_MODULE_INIT() {
  using namespace eyrie;
  new Environment(env);  // owned by the instance data
  napi_value table;
  napi_create_object(env, &table);
  export_ops(env, table);
  napi_set_named_property(env, exports, "ops", table);
  add<alloc>(env, exports, "alloc");
  add<weight_format>(env, exports, "weightFormat");
  add<map_file>(env, exports, "mapFile");
  add<view>(env, exports, "view");
  add<dispose>(env, exports, "dispose");
  add<write>(env, exports, "write");
  add<read>(env, exports, "read");
  add<sync>(env, exports, "sync");
  add<discard>(env, exports, "discard");
  add<create_stream>(env, exports, "createStream");
  add<stream_info>(env, exports, "streamInfo");
  add<waits>(env, exports, "waits");
  add<label>(env, exports, "label");
  add<close_stream>(env, exports, "closeStream");
  add<hold>(env, exports, "hold");
  add<begin_capture>(env, exports, "beginCapture");
  add<end_capture>(env, exports, "endCapture");
  add<launch_graph>(env, exports, "launchGraph");
  add<dispose_graph>(env, exports, "disposeGraph");
  add<on_error>(env, exports, "onError");
  export_process(env, exports);
  return exports;
}
