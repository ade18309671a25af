// What this binary was built from, what the machine offers, and the memory of this process and of a GPU.
#include "core/allocator.h"
#include "core/ops.gen.h"
#include "core/slab.h"
#include "core/storage.h"
#include "cpu/host/levels.h"
#include "cuda/backend.h"
#include "napi/entry.h"

namespace eyrie {
namespace {

// schema() -> [{name, signature}]: what this binary was built from
Value schema(const CallbackInfo& info) {
  auto list = Napi::Array::New(info.Env());
  for (const Op& op : ops()) {
    auto o = Napi::Object::New(info.Env());
    o["name"] = op.name;
    o["signature"] = op.signature;
    list[uint32_t(op.index)] = o;
  }
  return list;
}

// machine() -> what this machine offers
Value machine(const CallbackInfo& info) {
  const Napi::Env env = info.Env();
  auto o = Napi::Object::New(env);
  o["cpu"] = cpu::cpu_name();
  o["cores"] = cpu::available_cores();
  auto levels = Napi::Array::New(env), missing = Napi::Array::New(env);
  for (const cpu::Level& l : cpu::levels()) {
    auto& list = l.supported() ? levels : missing;
    list[list.Length()] = Napi::String::New(env, l.name);
  }
  o["levels"] = levels;
  o["missingLevels"] = missing;
  const cuda::Probe p = cuda::probe();
  auto c = Napi::Object::New(env);
  c["built"] = p.built;
  c["emulated"] = p.emulated;
  c["devices"] = p.devices;
  c["driver"] = p.driver;
  c["message"] = p.message;
  o["cuda"] = c;
  return o;
}

// deviceMemory(device) -> {free, total} bytes of a GPU; zeros when there is none
Value device_memory(const CallbackInfo& info) {
  const cuda::DeviceMemory m = cuda::device_memory(int(number(info, 0, "device")));
  auto o = Napi::Object::New(info.Env());
  o["free"] = m.free;
  o["total"] = m.total;
  return o;
}

// memory() -> bytes allocated by tensors now and at most, live tensors and open streams of this environment
Value memory(const CallbackInfo& info) {
  const Environment& e = Environment::get(info.Env());
  auto o = Napi::Object::New(info.Env());
  o["allocated"] = double(Storage::allocated());
  o["peak"] = double(Storage::peak());
  o["tensors"] = double(e.live_tensors());
  o["streams"] = double(e.open_streams());
  return o;
}

// trim(): gives memory that libraries of this process have freed back to the system, where its allocator keeps it (glibc)
Value trim(const CallbackInfo& info) {
  release_freed();
  trim_slab();
  return info.Env().Undefined();
}

// boundAllocator(): freed memory goes back by itself from now on, in the whole process (glibc)
Value bound(const CallbackInfo& info) {
  bound_allocator();
  return info.Env().Undefined();
}

// externalMemory(change) -> bytes that objects of JavaScript keep alive outside of its heap, as its garbage collector counts them
Value external_memory(const CallbackInfo& info) {
  return Napi::Number::New(
      info.Env(), double(Napi::MemoryManagement::AdjustExternalMemory(info.Env(), int64_t(number(info, 0, "change")))));
}

}  // namespace

void export_process(napi_env env, napi_value exports) {
  add<schema>(env, exports, "schema");
  add<machine>(env, exports, "machine");
  add<memory>(env, exports, "memory");
  add<trim>(env, exports, "trim");
  add<external_memory>(env, exports, "externalMemory");
  add<bound>(env, exports, "boundAllocator");
  add<device_memory>(env, exports, "deviceMemory");
}

}  // namespace eyrie
