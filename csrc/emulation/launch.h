// Grids: the blocks of a launch, spread over OS threads.
#pragma once
#include <type_traits>

#include "emulation/block.h"

namespace eyrie::emulation {

// Runs body(argument) in every thread of the grid; throws Error when the launch is not one, or a block fails.
void launch_grid(dim3 grid, dim3 block, size_t shared, void (*body)(const void*), const void* argument);

// Runs callable() in every thread of the grid.
template <class F>
void launch(dim3 grid, dim3 block, size_t shared, const F& callable) {
  launch_grid(grid, block, shared, [](const void* f) { (*static_cast<const F*>(f))(); }, &callable);
}

}  // namespace eyrie::emulation
