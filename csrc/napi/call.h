#pragma once
#include <node_api.h>

namespace eyrie {

// Adds one function per row of the op table to `exports`.
void export_ops(napi_env env, napi_value exports);

}  // namespace eyrie
