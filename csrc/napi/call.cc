// The trampoline: one N-API function serves every op; the op is its callback data.
#include "napi/call.h"

#include <cmath>

#include "napi/environment.h"

namespace eyrie {
namespace {

[[noreturn]] void fail(const char* code, const Op& op, const Arg& a, const std::string& what) {
  throw Error(code, std::string(op.name) + ": " + a.name + " " + what + "  (" + op.signature + ")");
}

double scalar(napi_env env, const Op& op, const Arg& a, napi_value v) {
  double x;
  if (napi_get_value_double(env, v, &x) != napi_ok) fail("EYRIE_INVALID_ARGUMENT", op, a, "must be a number");
  if (a.type == Arg::Type::i32 && (x != std::floor(x) || std::fabs(x) > 2147483647.0))
    fail("EYRIE_INVALID_ARGUMENT", op, a, "must be a 32-bit integer, got " + std::to_string(x));
  if (std::isnan(x)) fail("EYRIE_INVALID_ARGUMENT", op, a, "is NaN");
  return x;
}

napi_value trampoline(napi_env env, napi_callback_info info) {
  return guarded(env, [&]() -> napi_value {
    size_t argc = kMaxArgs + 1;
    napi_value argv[kMaxArgs + 1];
    void* data;
    napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
    const Op& op = *static_cast<const Op*>(data);
    Environment& environment = Environment::get(env);
    if (argc != op.args.size() + 1)
      throw Error("EYRIE_INVALID_ARGUMENT", std::string(op.name) + ": expected a stream and " +
                                                std::to_string(op.args.size()) + " arguments, got " +
                                                std::to_string(argc) + "  (" + op.signature + ")");
    double id = 0;
    napi_get_value_double(env, argv[0], &id);
    Stream& stream = environment.stream(id);
    auto launch = std::make_unique<Launch>();
    launch->op = &op;
    Call& call = launch->call;
    launch->keep.reserve(op.args.size());
    for (size_t i = 0; i < op.args.size(); i++) {
      const Arg& a = op.args[i];
      if (!a.tensor) {
        call.scalar[i] = scalar(env, op, a, argv[i + 1]);
        continue;
      }
      double handle;
      if (napi_get_value_double(env, argv[i + 1], &handle) != napi_ok) {
        napi_valuetype type;
        napi_typeof(env, argv[i + 1], &type);
        if (a.optional && (type == napi_null || type == napi_undefined)) continue;
        fail("EYRIE_INVALID_ARGUMENT", op, a, "must be a tensor");
      }
      Slot* slot = environment.find(handle);
      if (!slot) fail("EYRIE_DISPOSED", op, a, "is disposed");
      if (a.written && !slot->storage->writable()) fail("EYRIE_INVALID_ARGUMENT", op, a, "is a read-only mapped file");
      if (slot->tensor.device != stream.backend().device() && !(a.host && slot->tensor.device == DeviceKind::cpu))
        fail("EYRIE_INVALID_ARGUMENT", op, a, "is on another device than the stream");
      call.tensor[i] = slot->tensor;
      launch->keep.push_back(slot->storage);
    }
    bind(op, call);
    stream.backend().prepare(*launch);
    stream.enqueue(std::move(launch));
    return nullptr;
  });
}

}  // namespace

void export_ops(napi_env env, napi_value exports) {
  for (const Op& op : ops()) {
    napi_value f;
    napi_create_function(env, op.name, NAPI_AUTO_LENGTH, trampoline, const_cast<Op*>(&op), &f);
    napi_set_named_property(env, exports, op.name, f);
  }
}

}  // namespace eyrie
