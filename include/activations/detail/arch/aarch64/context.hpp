// SPDX-License-Identifier: BSL-1.0
//
// The stack switch of aarch64 (AAPCS64, Linux). Called through
// detail/context.hpp, which also tells the sanitizers; nothing else includes
// this file.
//
// A suspended context is one `switch_frame` on its own stack, and the pointer
// to it is the context's handle ("sp"). The switch is extended asm that lists
// as clobbered what a call would preserve, so the compiler saves what is live
// at that point and nothing else. The frame is an ordinary local, so call frame
// information stays exact: a debugger that sets pc, sp, x29 and x19 from the
// frame can unwind a suspended context.
//
// Kept: x19 to x29, sp, d8 to d15 and FPCR. Not kept: FPSR, as with a call.
// Guarded control stacks are not switched: see `shadow_stack_is_active`.
#pragma once

#include <cstddef>
#include <cstdint>

#include <activations/detail/switch_function.hpp>

namespace activations::detail::arch {

using context_entry = void (*)(void* argument);  // never returns

struct switch_frame {
  void* pc;
  void* sp;
  void* x29;
  // Saved, not clobbered: clang addresses locals through x19 in a function
  // that has both over-aligned and variable-sized ones.
  void* x19;
  std::uint64_t fpcr;
};
static_assert(offsetof(switch_frame, pc) == 0);
static_assert(offsetof(switch_frame, sp) == 8);
static_assert(offsetof(switch_frame, x29) == 16);
static_assert(offsetof(switch_frame, x19) == 24);
static_assert(offsetof(switch_frame, fpcr) == 32);

// What a context that has not started yet resumes from.
struct start_frame {
  switch_frame resume;
  context_entry entry;
  void* argument;
};

// The first switch jumps here with the handle in the first argument register.
[[noreturn]] inline void start_context(start_frame* frame) {
  frame->entry(frame->argument);
  __builtin_trap();
}

// Prepares the stack that ends at `stack_top` so that the first switch to the
// returned handle calls entry(argument). The return address and the frame
// pointer are zero: back-traces end there, and an exception that leaves
// `entry` ends in std::terminate. Floating-point control is the caller's.
inline void* make_context(void* stack_top, context_entry entry,
                          void* argument) noexcept {
  auto const top = reinterpret_cast<std::uintptr_t>(stack_top);
  auto const at = (top - sizeof(start_frame)) & ~std::uintptr_t{15};
  auto* const frame = reinterpret_cast<start_frame*>(at);
  frame->resume.pc = reinterpret_cast<void*>(&start_context);
  frame->resume.sp = frame;
  frame->resume.x29 = nullptr;
  frame->resume.x19 = nullptr;
  asm volatile("mrs %0, fpcr" : "=r"(frame->resume.fpcr));
  frame->entry = entry;
  frame->argument = argument;
  return frame;
}

#if defined(__ARM_FEATURE_BTI_DEFAULT)
#define ACTIVATIONS_LANDING_PAD "hint #36\n\t"  // bti j
#else
#define ACTIVATIONS_LANDING_PAD ""
#endif

#if defined(__ARM_FEATURE_SVE)
#define ACTIVATIONS_SVE_CLOBBERS                                              \
  , "p0", "p1", "p2", "p3", "p4", "p5", "p6", "p7", "p8", "p9", "p10", "p11", \
      "p12", "p13", "p14", "p15"
#else
#define ACTIVATIONS_SVE_CLOBBERS
#endif

// Suspends the caller, stores its handle in *save, and continues the context
// whose handle is `load`. Returns when somebody continues the caller.
// The handle points into the caller's frame, so it lies on the caller's stack.
//
// x16 holds the target because `br x16` may enter a `bti c` as well as a
// `bti j`; x30 is zero so that a new context's back-trace ends.
ACTIVATIONS_SWITCH_FUNCTION void switch_context(void** save,
                                                void* load) noexcept {
  switch_frame own;
  register void* target asm("x0") = load;
  register void* frame asm("x1") = &own;
  register void** handle asm("x2") = save;
  asm volatile(
      "adr x9, 1f\n\t"
      "mov x10, sp\n\t"
      "stp x9, x10, [x1]\n\t"
      "stp x29, x19, [x1, #16]\n\t"
      "mrs x11, fpcr\n\t"
      "str x11, [x1, #32]\n\t"
      "str x1, [x2]\n\t"
      "ldp x16, x10, [x0]\n\t"
      "ldp x29, x19, [x0, #16]\n\t"
      "ldr x12, [x0, #32]\n\t"
      "mov sp, x10\n\t"
      "mov x30, xzr\n\t"
      "cmp x11, x12\n\t"
      "b.eq 2f\n\t"
      "msr fpcr, x12\n"  // dear on several cores: only when it differs
      "2:\n\t"
      "br x16\n"
      "1:\n\t" ACTIVATIONS_LANDING_PAD
      : "+r"(target), "+r"(frame), "+r"(handle)
      :
      : "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13",
        "x14", "x15", "x16", "x17", "x18", "x20", "x21", "x22", "x23", "x24",
        "x25", "x26", "x27", "x28", "x30", "v0", "v1", "v2", "v3", "v4", "v5",
        "v6", "v7", "v8", "v9", "v10", "v11", "v12", "v13", "v14", "v15", "v16",
        "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25", "v26",
        "v27", "v28", "v29", "v30", "v31", "cc",
        "memory" ACTIVATIONS_SVE_CLOBBERS);
}

#undef ACTIVATIONS_LANDING_PAD
#undef ACTIVATIONS_SVE_CLOBBERS

// The stack pointer of a suspended context.
inline void* context_stack_pointer(void* handle) noexcept {
  return static_cast<switch_frame*>(handle)->sp;
}

// True if the calling kernel thread has a guarded control stack: a return on a
// switched stack would then fault, so the scheduler must refuse to start.
inline bool shadow_stack_is_active() noexcept {
  // chkfeat x16: clears bit 0 if the feature is on, a no-op where unknown.
  register std::uint64_t features asm("x16") = 1;
  asm volatile("hint #40" : "+r"(features));
  return (features & 1) == 0;
}

// Not `yield`: most cores take it for a nop, and QEMU gives the host's thread
// away for it, for a tenth of a second if another virtual core computes.
inline void cpu_relax() noexcept {
  asm volatile("isb" ::: "memory");
}

}  // namespace activations::detail::arch
