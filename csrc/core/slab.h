// Weights in slabs of huge pages. Most matrices of a small model are smaller than a huge page, or end inside one; through pages of 4 KB they
// are read several percent slower.
#pragma once
#include "core/storage.h"

namespace eyrie {

// Zeroed memory, 64-byte aligned, that lies behind what was allocated before and lives as long as any of its slab: for what is
// allocated and freed together. Any thread. Throws EYRIE_OUT_OF_MEMORY.
std::shared_ptr<Storage> allocate_in_slab(size_t bytes);

// Gives back what the last slab's last huge page holds beyond its pieces.
void trim_slab();

}  // namespace eyrie
