// What a GPU can do at best, for the benchmarks to be judged by.
#pragma once

namespace eyrie {

// Prints {"device", "readGBs", "copyGBs", "gapUs", "gapChainedUs", …}; on a machine without CUDA says so and returns.
void print_floors(int device);

}  // namespace eyrie
