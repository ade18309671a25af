// Fiber: a stack and what is needed to go on with it. A switch of our own on x86-64, ucontext elsewhere; AddressSanitizer is told.
#pragma once
#include <cstddef>

#if !defined(__x86_64__) || defined(EMULATION_UCONTEXT)
#define EMULATION_UCONTEXT 1
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#define EMULATION_ASAN 1
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace eyrie::emulation {

#ifdef EMULATION_ASAN
constexpr size_t kStack = 256 * 1024;  // red zones need room
#else
constexpr size_t kStack = 64 * 1024;
#endif

class Fiber {
 public:
  using Entry = void (*)(void*);  // never returns
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Takes kStack bytes at `stack`, keeps a guard page at their end, and will start at entry(argument). Callable again: whatever
  // the fiber was doing is then forgotten. `color` staggers the tops of many stacks, which would share cache sets otherwise.
  void prepare(char* stack, unsigned color, Entry entry, void* argument);
  // Leaves `from`, the running fiber, for `to`; returns when another fiber comes back to `from`.
  static void swap(Fiber& from, Fiber& to);
  // The running OS thread's own stack as a fiber: nothing to prepare.

 private:
  [[noreturn]] static void start(Fiber* fiber);
#ifndef EMULATION_UCONTEXT
  void* sp_ = nullptr;
#else
  ucontext_t context_;
#endif
  char* stack_ = nullptr;  // null: an OS thread's
  bool guarded_ = false;
  Entry entry_ = nullptr;
  void* argument_ = nullptr;
#ifdef EMULATION_ASAN
  void arrived(void* fake);
  const void* bottom_ = nullptr;
  size_t size_ = 0;
#endif
};

// Memory for `count` stacks, touched where used.
char* reserve_stacks(size_t count);

}  // namespace eyrie::emulation
