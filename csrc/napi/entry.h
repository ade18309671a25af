// What the files of the addon share: arguments out of a call, and functions into the addon's object.
#pragma once
#include <napi.h>

#include <string>

#include "core/error.h"
#include "napi/environment.h"

namespace eyrie {

using Napi::CallbackInfo;
using Napi::Value;

[[noreturn]] inline void invalid(const std::string& message) { throw Error("EYRIE_INVALID_ARGUMENT", message); }

inline double number(const CallbackInfo& info, size_t i, const char* what) {
  if (info.Length() <= i || !info[i].IsNumber()) invalid(std::string(what) + " must be a number");
  return info[i].As<Napi::Number>().DoubleValue();
}

inline std::string text(const CallbackInfo& info, size_t i, const char* what) {
  if (info.Length() <= i || !info[i].IsString()) invalid(std::string(what) + " must be a string");
  return info[i].As<Napi::String>().Utf8Value();
}

template <Value (*F)(const CallbackInfo&)>
napi_value entry(napi_env env, napi_callback_info raw) {
  return guarded(env, [&]() -> napi_value { return F(CallbackInfo(env, raw)); });
}

template <Value (*F)(const CallbackInfo&)>
void add(napi_env env, napi_value exports, const char* name) {
  napi_value f;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, entry<F>, nullptr, &f);
  napi_set_named_property(env, exports, name, f);
}

// What this machine and this process have: process.cc.
void export_process(napi_env env, napi_value exports);

}  // namespace eyrie
