// Checks of values: what a schema cannot see (ids, slots, block tables, sampling columns). They read the memory of the
// arguments on the executor thread, in order with the launches before, so they run for the CPU only; a kernel relies on them.
#pragma once
#include "core/call.h"

namespace eyrie {

// Null when the op has nothing to check.
Check find_check(const char* op);

}  // namespace eyrie
