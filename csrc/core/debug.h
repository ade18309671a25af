// EYRIE_DEBUG=1: after every launch its float outputs are read back, and the first one that is not finite is an error.
#pragma once
#include <memory>

#include "core/backend.h"

namespace eyrie {

// The backend itself, or one that checks what every launch wrote when EYRIE_DEBUG is set (and not 0). Asked once, at the creation of a
// stream: without it nothing is wrapped. Launches of a graph then run one by one.
std::unique_ptr<Backend> debugging(std::unique_ptr<Backend> backend);

}  // namespace eyrie
