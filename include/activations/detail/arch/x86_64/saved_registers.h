/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Where a stopped context's registers lie in memory on x86-64: the kernel of
 * the image writes them, resume.S reads them.  For the assembler the offsets,
 * for C++ the struct as well.
 */
#ifndef ACTIVATIONS_DETAIL_ARCH_X86_64_SAVED_REGISTERS_H
#define ACTIVATIONS_DETAIL_ARCH_X86_64_SAVED_REGISTERS_H

#define ACTIVATIONS_SAVED_R15 0
#define ACTIVATIONS_SAVED_R14 8
#define ACTIVATIONS_SAVED_R13 16
#define ACTIVATIONS_SAVED_R12 24
#define ACTIVATIONS_SAVED_RBP 32
#define ACTIVATIONS_SAVED_RBX 40
#define ACTIVATIONS_SAVED_R11 48
#define ACTIVATIONS_SAVED_R10 56
#define ACTIVATIONS_SAVED_R9 64
#define ACTIVATIONS_SAVED_R8 72
#define ACTIVATIONS_SAVED_RAX 80
#define ACTIVATIONS_SAVED_RCX 88
#define ACTIVATIONS_SAVED_RDX 96
#define ACTIVATIONS_SAVED_RSI 104
#define ACTIVATIONS_SAVED_RDI 112
#define ACTIVATIONS_SAVED_RIP 136
#define ACTIVATIONS_SAVED_RFLAGS 152
#define ACTIVATIONS_SAVED_RSP 160
#define ACTIVATIONS_SAVED_GENERAL_BYTES 176

#define ACTIVATIONS_SAVED_VECTOR_BYTES 512 /* fxsave64's */

#ifndef __ASSEMBLER__

#include <cstddef>
#include <cstdint>

namespace activations::detail::arch {

/* What a kernel saves.  From rip on it is what iretq takes, with the selectors
 * of the system's own user mode. */
struct saved_general {
  std::uint64_t r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx,
      rsi, rdi;
  std::uint64_t reserved[2];
  std::uint64_t rip, cs, rflags, rsp, ss;
};

/* Saved by user code only: x87, SSE and their control words.  Code between a
 * stop and its resume leaves the upper halves of wider registers alone. */
struct alignas(16) saved_vector {
  unsigned char area[ACTIVATIONS_SAVED_VECTOR_BYTES];
};

static_assert(offsetof(saved_general, rdi) == ACTIVATIONS_SAVED_RDI);
static_assert(offsetof(saved_general, rip) == ACTIVATIONS_SAVED_RIP);
static_assert(offsetof(saved_general, rsp) == ACTIVATIONS_SAVED_RSP);
static_assert(sizeof(saved_general) == ACTIVATIONS_SAVED_GENERAL_BYTES);
static_assert(sizeof(saved_vector) == ACTIVATIONS_SAVED_VECTOR_BYTES);

}  // namespace activations::detail::arch

#endif /* __ASSEMBLER__ */

#endif /* ACTIVATIONS_DETAIL_ARCH_X86_64_SAVED_REGISTERS_H */
