// SPDX-License-Identifier: BSL-1.0
//
// A context: a stack and where on it to continue. Picks the architecture, also
// for the park stub, and is the one place that tells AddressSanitizer and
// ThreadSanitizer of stack switches. The scheduler calls it; user code does
// not.
//
// The life of a context that has a stack of its own:
//
//   context_make(c, base, bytes, entry, argument)   any context
//   context_switch(self, c)                         first and later switches
//     entry(argument) { context_enter(c); ...       before anything else
//       context_switch(c, other) ...
//       context_switch_final(c, other) }            does not return
//   context_finish(c)                               any other context, then
//                                                   the stack may be reused
//
// A kernel thread's own stack takes part after context_init_native(c) and
// needs no context_enter or context_finish.
//
// A context is continued by one thread at a time, and only after the switch
// away from it has completed: whoever publishes it does so from the context
// that was switched to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <activations/detail/arch/x86_64/context.hpp>
#include <activations/detail/arch/x86_64/park_stub.hpp>
#elif defined(__aarch64__)
#include <activations/detail/arch/aarch64/context.hpp>
#include <activations/detail/arch/aarch64/park_stub.hpp>
#elif defined(__riscv) && __riscv_xlen == 64
#include <activations/detail/arch/riscv64/context.hpp>
#include <activations/detail/arch/riscv64/park_stub.hpp>
#else
#error "activations: needs x86_64, aarch64 or riscv64"
#endif

#include <activations/detail/switch_function.hpp>

#if ACTIVATIONS_ASAN
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if ACTIVATIONS_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
}
#endif

namespace activations::detail {

struct context {
  // Handle of the suspended context, nullptr while it runs. It points into
  // the innermost frame, so a value outside the stack is an overflow.
  void* sp = nullptr;
#if ACTIVATIONS_ASAN
  void* fake_stack = nullptr;  // while suspended
  void const* stack_base = nullptr;
  std::size_t stack_bytes = 0;
#endif
#if ACTIVATIONS_TSAN
  void* fiber = nullptr;
#endif
};

#if ACTIVATIONS_ASAN
// Clears the marks of frames that were abandoned, not left. Looks first, since
// clearing what is clear would give each stack 34 KB of shadow memory.
inline void asan_forget_frames(void* base, std::size_t bytes) noexcept {
  if (__asan_region_is_poisoned(base, bytes) != nullptr)
    __asan_unpoison_memory_region(base, bytes);
}
#endif

// Adopts the calling kernel thread's own stack.
// Context: that kernel thread, on its own stack, before its first switch.
// Cost: under ASan, pthread_getattr_np, which may allocate.
inline void context_init_native([[maybe_unused]] context& self) noexcept {
  self = context{};
#if ACTIVATIONS_ASAN
  pthread_attr_t attributes;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    void* base = nullptr;
    pthread_attr_getstack(&attributes, &base, &self.stack_bytes);
    self.stack_base = base;
    pthread_attr_destroy(&attributes);
  }
#endif
#if ACTIVATIONS_TSAN
  self.fiber = __tsan_get_current_fiber();
#endif
}

// Makes a context on [stack_base, stack_base + bytes) whose first run calls
// entry(argument). `entry` never returns and calls context_enter first.
// Requires: stack_base is not null; bytes is at least 1 KiB.
// Cost: writes the top 96 bytes of the stack; under TSan, allocates.
inline void context_make(context& made, void* stack_base, std::size_t bytes,
                         arch::context_entry entry, void* argument) noexcept {
  made = context{};
#if ACTIVATIONS_ASAN
  asan_forget_frames(stack_base, bytes);  // of an earlier thread
  made.stack_base = stack_base;
  made.stack_bytes = bytes;
#endif
#if ACTIVATIONS_TSAN
  made.fiber = __tsan_create_fiber(0);
#endif
  made.sp = arch::make_context(static_cast<std::byte*>(stack_base) + bytes,
                               entry, argument);
}

// The first statement of an entry function, with its own context.
ACTIVATIONS_SWITCH_FUNCTION void context_enter(
    [[maybe_unused]] context& self) noexcept {
#if ACTIVATIONS_ASAN
  __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
}

// Suspends `from`, which must be the running context, and continues `to`.
// Returns when `from` is continued, perhaps by another kernel thread: an
// address of a thread_local from before is then wrong.
// Cost: 4.1 ns on a Zen 5 at 2.6 GHz, of which reading MXCSR is 3.3, beside
// 4.6 for Boost 1.74's jump_fcontext (build target switch_cost).
ACTIVATIONS_SWITCH_FUNCTION void context_switch(context& from,
                                                context& to) noexcept {
#if ACTIVATIONS_ASAN
  __sanitizer_start_switch_fiber(&from.fake_stack, to.stack_base,
                                 to.stack_bytes);
#endif
#if ACTIVATIONS_TSAN
  // Flag 0: the switch orders what both sides do, as it does in fact.
  __tsan_switch_to_fiber(to.fiber, 0);
#endif
  arch::switch_context(&from.sp, to.sp);
#if ACTIVATIONS_ASAN
  __sanitizer_finish_switch_fiber(from.fake_stack, nullptr, nullptr);
#endif
}

// The last switch of `dead`: it is never continued.
[[noreturn]] ACTIVATIONS_SWITCH_FUNCTION void context_switch_final(
    context& dead, context& to) noexcept {
#if ACTIVATIONS_ASAN
  // No place for the fake stack: it is freed.
  __sanitizer_start_switch_fiber(nullptr, to.stack_base, to.stack_bytes);
#endif
#if ACTIVATIONS_TSAN
  __tsan_switch_to_fiber(to.fiber, 0);
#endif
  arch::switch_context(&dead.sp, to.sp);
  __builtin_trap();
}

// Frees what a sanitizer keeps for a context that has made its final switch,
// or that never ran. Context: any other. Afterwards its stack may be reused.
inline void context_finish([[maybe_unused]] context& dead) noexcept {
#if ACTIVATIONS_TSAN
  if (dead.fiber != nullptr) __tsan_destroy_fiber(dead.fiber);
#endif
  dead = context{};
}

}  // namespace activations::detail
