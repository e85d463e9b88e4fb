// SPDX-License-Identifier: BSL-1.0
//
// The stack switch of riscv64 (LP64 and LP64D). Called through
// detail/context.hpp, which also tells the sanitizers; nothing else includes
// this file.
//
// A suspended context is one `switch_frame` on its own stack, and the pointer
// to it is the context's handle ("sp"). The switch is extended asm that lists
// as clobbered what a call would preserve, so the compiler saves what is live
// at that point and nothing else. The frame is an ordinary local, so call frame
// information stays exact: a debugger that sets pc, sp, s0 and s1 from the
// frame can unwind a suspended context.
//
// Kept: sp, s0 to s11, fs0 to fs11 and fcsr (rounding mode and flags).
// gp and tp belong to the kernel thread and are not touched.
#pragma once

#include <cstddef>
#include <cstdint>

#include <activations/detail/switch_function.hpp>

namespace activations::detail::arch {

using context_entry = void (*)(void* argument);  // never returns

struct switch_frame {
  void* pc;
  void* sp;
  void* s0;
  // Saved, not clobbered: clang addresses locals through s1 in a function
  // that has both over-aligned and variable-sized ones.
  void* s1;
  std::uint64_t fcsr;
};
static_assert(offsetof(switch_frame, pc) == 0);
static_assert(offsetof(switch_frame, sp) == 8);
static_assert(offsetof(switch_frame, s0) == 16);
static_assert(offsetof(switch_frame, s1) == 24);
static_assert(offsetof(switch_frame, fcsr) == 32);

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
  frame->resume.s0 = nullptr;
  frame->resume.s1 = nullptr;
#if defined(__riscv_flen)
  asm volatile("frcsr %0" : "=r"(frame->resume.fcsr));
#else
  frame->resume.fcsr = 0;
#endif
  frame->entry = entry;
  frame->argument = argument;
  return frame;
}

#if defined(__riscv_flen)
#define ACTIVATIONS_SWITCH_FCSR \
  "frcsr t1\n\t"                \
  "sd t1, 32(a1)\n\t"           \
  "ld t3, 32(a0)\n\t"           \
  "beq t1, t3, 2f\n\t"          \
  "fscsr t3\n"                  \
  "2:\n\t"
#define ACTIVATIONS_FLOAT_CLOBBERS                                            \
  , "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7", "ft8", "ft9",     \
      "ft10", "ft11", "fa0", "fa1", "fa2", "fa3", "fa4", "fa5", "fa6", "fa7", \
      "fs0", "fs1", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9",   \
      "fs10", "fs11"
#else
#define ACTIVATIONS_SWITCH_FCSR ""
#define ACTIVATIONS_FLOAT_CLOBBERS
#endif

#if defined(__riscv_vector)
#define ACTIVATIONS_VECTOR_CLOBBERS                                            \
  , "vl", "vtype", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", \
      "v10", "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19",    \
      "v20", "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29",    \
      "v30", "v31"
#else
#define ACTIVATIONS_VECTOR_CLOBBERS
#endif

// Suspends the caller, stores its handle in *save, and continues the context
// whose handle is `load`. Returns when somebody continues the caller.
// The handle points into the caller's frame, so it lies on the caller's stack.
//
// The jump goes through t2: a jump through ra or t0 would be predicted as a
// return. ra is zero so that a new context's back-trace ends.
ACTIVATIONS_SWITCH_FUNCTION void switch_context(void** save,
                                                void* load) noexcept {
  switch_frame own;
  register void* target asm("a0") = load;
  register void* frame asm("a1") = &own;
  register void** handle asm("a2") = save;
  asm volatile(
      "lla t0, 1f\n\t"
      "sd t0, 0(a1)\n\t"
      "sd sp, 8(a1)\n\t"
      "sd s0, 16(a1)\n\t"
      "sd s1, 24(a1)\n\t"
      "sd a1, (a2)\n\t" ACTIVATIONS_SWITCH_FCSR
      "ld t2, 0(a0)\n\t"
      "ld sp, 8(a0)\n\t"
      "ld s0, 16(a0)\n\t"
      "ld s1, 24(a0)\n\t"
      "li ra, 0\n\t"
      "jr t2\n"
      "1:\n\t"
      : "+r"(target), "+r"(frame), "+r"(handle)
      :
      : "ra", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "a3", "a4", "a5", "a6",
        "a7", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11",
        "memory" ACTIVATIONS_FLOAT_CLOBBERS ACTIVATIONS_VECTOR_CLOBBERS);
}

#undef ACTIVATIONS_SWITCH_FCSR
#undef ACTIVATIONS_FLOAT_CLOBBERS
#undef ACTIVATIONS_VECTOR_CLOBBERS

// The stack pointer of a suspended context.
inline void* context_stack_pointer(void* handle) noexcept {
  return static_cast<switch_frame*>(handle)->sp;
}

// Shadow stacks (Zicfiss) have no unprivileged test that older cores ignore;
// Linux turns them on only for programs built for them.
inline bool shadow_stack_is_active() noexcept {
  return false;
}

inline void cpu_relax() noexcept {
  // The `pause` hint (Zihintpause); a no-op elsewhere.
  asm volatile(".insn i 0x0f, 0, x0, x0, 0x010" ::: "memory");
}

}  // namespace activations::detail::arch
