#pragma once
#include <memory>
#include <string>

#include "core/backend.h"

namespace eyrie::cpu {

// threads <= 0: the cores that are there (EYRIE_THREADS overrides). level "": the best one.
std::unique_ptr<Backend> make_backend(int threads, const std::string& level);

}  // namespace eyrie::cpu
