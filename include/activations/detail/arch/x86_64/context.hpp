// SPDX-License-Identifier: BSL-1.0
//
// The stack switch of x86-64 (System V). Called through detail/context.hpp,
// which also tells the sanitizers; nothing else includes this file.
//
// A suspended context is one `switch_frame` on its own stack, and the pointer
// to it is the context's handle ("sp"). The switch is extended asm that lists
// as clobbered what a call would preserve, so the compiler saves what is live
// at that point and nothing else. It pushes nothing: the frame is an ordinary
// local, so the red zone stays intact and call frame information stays exact.
// A debugger that sets rip, rsp, rbp and rbx from the frame can unwind a
// suspended context.
//
// Kept: rbx, rbp, rsp, r12 to r15, the x87 control word and all of MXCSR.
// Not kept: x87 and MMX registers, which a call does not keep either.
// Shadow stacks (CET) are not switched: see `shadow_stack_is_active`.
#pragma once

#include <cstddef>
#include <cstdint>

#include <activations/detail/switch_function.hpp>

namespace activations::detail::arch {

using context_entry = void (*)(void* argument);  // never returns

struct switch_frame {
  void* ip;
  void* sp;
  void* bp;
  // Saved, not clobbered: clang addresses locals through rbx in a function
  // that has both over-aligned and variable-sized ones.
  void* bx;
  std::uint32_t mxcsr;
  std::uint16_t x87_control;
};
static_assert(offsetof(switch_frame, ip) == 0);
static_assert(offsetof(switch_frame, sp) == 8);
static_assert(offsetof(switch_frame, bp) == 16);
static_assert(offsetof(switch_frame, bx) == 24);
static_assert(offsetof(switch_frame, mxcsr) == 32);
static_assert(offsetof(switch_frame, x87_control) == 36);

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
  auto* const return_address = reinterpret_cast<void**>(at) - 1;
  *return_address = nullptr;
  frame->resume.ip = reinterpret_cast<void*>(&start_context);
  frame->resume.sp = return_address;
  frame->resume.bp = nullptr;
  frame->resume.bx = nullptr;
  asm volatile("stmxcsr %0" : "=m"(frame->resume.mxcsr));
  asm volatile("fnstcw %0" : "=m"(frame->resume.x87_control));
  frame->entry = entry;
  frame->argument = argument;
  return frame;
}

// Under branch tracking the resumed address must be marked.
#if defined(__CET__) && (__CET__ & 1)
#define ACTIVATIONS_LANDING_PAD "endbr64\n\t"
#else
#define ACTIVATIONS_LANDING_PAD ""
#endif

// Dirty upper halves slow down SSE code in whoever runs next.
#if defined(__AVX__)
#define ACTIVATIONS_CLEAN_UPPER_HALVES "vzeroupper\n\t"
#else
#define ACTIVATIONS_CLEAN_UPPER_HALVES ""
#endif

#if defined(__AVX512F__)
#define ACTIVATIONS_AVX512_CLOBBERS                                           \
  , "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23",   \
      "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", \
      "k0", "k1", "k2", "k3", "k4", "k5", "k6", "k7"
#else
#define ACTIVATIONS_AVX512_CLOBBERS
#endif

#if defined(__APX_F__)
#define ACTIVATIONS_APX_CLOBBERS                                          \
  , "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25", \
      "r26", "r27", "r28", "r29", "r30", "r31"
#else
#define ACTIVATIONS_APX_CLOBBERS
#endif

// Suspends the caller, stores its handle in *save, and continues the context
// whose handle is `load`. Returns when somebody continues the caller.
// The handle points into the caller's frame, so it lies on the caller's stack.
ACTIVATIONS_SWITCH_FUNCTION void switch_context(void** save,
                                                void* load) noexcept {
  switch_frame own;
  auto* frame = &own;
  asm volatile(ACTIVATIONS_CLEAN_UPPER_HALVES
               "leaq 1f(%%rip), %%rax\n\t"
               "movq %%rax, (%%rsi)\n\t"
               "movq %%rsp, 8(%%rsi)\n\t"
               "movq %%rbp, 16(%%rsi)\n\t"
               "movq %%rbx, 24(%%rsi)\n\t"
               "stmxcsr 32(%%rsi)\n\t"
               "fnstcw 36(%%rsi)\n\t"
               "movq %%rsi, (%%rdx)\n\t"
               "ldmxcsr 32(%%rdi)\n\t"
               "fldcw 36(%%rdi)\n\t"
               "movq 8(%%rdi), %%rsp\n\t"
               "movq 16(%%rdi), %%rbp\n\t"
               "movq 24(%%rdi), %%rbx\n\t"
               "jmp *(%%rdi)\n"
               "1:\n\t" ACTIVATIONS_LANDING_PAD
               : "+D"(load), "+S"(frame), "+d"(save)
               :
               : "rax", "rcx", "r8", "r9", "r10", "r11", "r12", "r13", "r14",
                 "r15", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6",
                 "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13",
                 "xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)", "st(4)",
                 "st(5)", "st(6)", "st(7)", "mm0", "mm1", "mm2", "mm3", "mm4",
                 "mm5", "mm6", "mm7", "cc",
                 "memory" ACTIVATIONS_AVX512_CLOBBERS ACTIVATIONS_APX_CLOBBERS);
}

#undef ACTIVATIONS_LANDING_PAD
#undef ACTIVATIONS_CLEAN_UPPER_HALVES
#undef ACTIVATIONS_AVX512_CLOBBERS
#undef ACTIVATIONS_APX_CLOBBERS

// The stack pointer of a suspended context.
inline void* context_stack_pointer(void* handle) noexcept {
  return static_cast<switch_frame*>(handle)->sp;
}

// True if the calling kernel thread has a hardware shadow stack: a return on a
// switched stack would then fault, so the scheduler must refuse to start.
inline bool shadow_stack_is_active() noexcept {
  std::uint64_t pointer = 0;
  // rdsspq rax; a no-op where shadow stacks are off or unknown.
  asm volatile(".byte 0xf3, 0x48, 0x0f, 0x1e, 0xc8" : "+a"(pointer));
  return pointer != 0;
}

inline void cpu_relax() noexcept {
  asm volatile("pause" ::: "memory");
}

}  // namespace activations::detail::arch
