#include "emulation/fibers.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>

#include "core/error.h"

#ifndef EMULATION_UCONTEXT
// Saves what the ABI makes a callee save, and the stack pointer, in *save; goes on where `load` was saved.
extern "C" void eyrie_emulation_switch(void** save, void* load);
asm(R"(
.text
.hidden eyrie_emulation_switch
.globl eyrie_emulation_switch
.type eyrie_emulation_switch,@function
eyrie_emulation_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size eyrie_emulation_switch,.-eyrie_emulation_switch

.hidden eyrie_emulation_enter
.globl eyrie_emulation_enter
.type eyrie_emulation_enter,@function
eyrie_emulation_enter:
  movq %r12, %rdi
  call *%r13
  ud2
.size eyrie_emulation_enter,.-eyrie_emulation_enter
)");
extern "C" void eyrie_emulation_enter();
#endif

namespace eyrie::emulation {
namespace {

#ifdef EMULATION_ASAN
thread_local Fiber* leaving = nullptr;  // whose stack the one that starts next comes from
#endif

}  // namespace

char* reserve_stacks(size_t count) {
  void* p = mmap(nullptr, count * kStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw Error("EYRIE_OUT_OF_MEMORY", "emulation: no room for the stacks of the threads");
#ifdef MADV_NOHUGEPAGE
  madvise(p, count * kStack, MADV_NOHUGEPAGE);  // a stack uses a page or two
#endif
  return static_cast<char*>(p);
}

void Fiber::start(Fiber* fiber) {
#ifdef EMULATION_ASAN
  fiber->arrived(nullptr);
#endif
  fiber->entry_(fiber->argument_);
  __builtin_unreachable();
}

void Fiber::prepare(char* stack, unsigned color, Entry entry, void* argument) {
  stack_ = stack;
  entry_ = entry;
  argument_ = argument;
  if (!guarded_) {
    mprotect(stack, size_t(sysconf(_SC_PAGESIZE)), PROT_NONE);
    guarded_ = true;
  }
#ifdef EMULATION_ASAN
  bottom_ = stack;
  size_ = kStack;
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  ASAN_UNPOISON_MEMORY_REGION(stack + page, kStack - page);
#endif
  char* top = stack + kStack - 64 - color % 32 * 256;
#ifndef EMULATION_UCONTEXT
  // As eyrie_emulation_switch leaves a stack: r15 r14 r13 r12 rbx rbp, return address. The entry finds rsp a multiple of 16.
  void** frame = reinterpret_cast<void**>(top) - 7;
  memset(frame, 0, 7 * sizeof(void*));
  frame[2] = reinterpret_cast<void*>(&Fiber::start);  // r13
  frame[3] = this;  // r12
  frame[6] = reinterpret_cast<void*>(&eyrie_emulation_enter);
  sp_ = frame;
#else
  getcontext(&context_);
  context_.uc_stack.ss_sp = stack;
  context_.uc_stack.ss_size = size_t(top - stack);
  context_.uc_link = nullptr;
  const uint64_t self = reinterpret_cast<uintptr_t>(this);
  makecontext(&context_, reinterpret_cast<void (*)()>(+[](unsigned low, unsigned high) {
    start(reinterpret_cast<Fiber*>(uintptr_t(uint64_t(high) << 32 | low)));
  }),
              2, unsigned(self), unsigned(self >> 32));
#endif
}

#ifdef EMULATION_ASAN
void Fiber::arrived(void* fake) {
  Fiber* const left = leaving;
  __sanitizer_finish_switch_fiber(fake, &left->bottom_, &left->size_);
}
#endif

void Fiber::swap(Fiber& from, Fiber& to) {
#ifdef EMULATION_ASAN
  void* fake = nullptr;
  leaving = &from;
  __sanitizer_start_switch_fiber(&fake, to.bottom_, to.size_);
#endif
#ifndef EMULATION_UCONTEXT
  eyrie_emulation_switch(&from.sp_, to.sp_);
#else
  swapcontext(&from.context_, &to.context_);
#endif
#ifdef EMULATION_ASAN
  from.arrived(fake);
#endif
}

}  // namespace eyrie::emulation
