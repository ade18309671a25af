// The C library's allocator as a whole, for a process that holds a model.
#pragma once

namespace eyrie {

// Gives memory that was freed, and kept for later, back to the system (glibc; elsewhere nothing).
void release_freed();

// From now on freed memory goes back by itself: glibc otherwise raises its thresholds to twice the largest buffer that was ever freed,
// and a vocabulary is read through buffers of many megabytes. Does nothing where the environment says what malloc should do.
void bound_allocator();

}  // namespace eyrie
