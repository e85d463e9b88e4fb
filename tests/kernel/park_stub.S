/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Park stubs as abi_linux.h describes them: a system call, and behind it the
 * tail that restores the thread from struct activations_registers at rsi in
 * user mode.  `GAP` between the instructions opens a window: an emulator takes
 * interrupts only at branches.
 *
 * The frame [old rsp - 264, old rsp - 128) lies below the red zone; rsp moves
 * first, so that a signal finds it below the frame.
 *
 * The stubs that spoil something before the call are negative controls: what
 * the module leaves in place (vector and x87 state, the red zone) comes out
 * wrong, what it saves does not.
 */

/* struct activations_registers: signal_mask, then user_regs_struct. */
#define MASK 8
#define R(word) (16 + 8 * (word))
#define FLAGS_WORD 18
#define IP_WORD 16

.macro TAIL
  GAP
  lea -264(%rsp), %rsp
  GAP
  mov %rsi, %rbx
  GAP
  mov $14, %eax           /* rt_sigprocmask(SIG_SETMASK, &mask, 0, 8) */
  mov $2, %edi
  lea MASK(%rbx), %rsi
  xor %edx, %edx
  mov $8, %r10d
  GAP
  syscall
  GAP
  .set word, 0
  .rept 15                /* r15 r14 r13 r12 rbp rbx r11 .. r8 rax rcx .. rdi */
    mov R(word)(%rbx), %rax
    GAP
    mov %rax, 8 * word(%rsp)
    GAP
    .set word, word + 1
  .endr
  mov R(FLAGS_WORD)(%rbx), %rax
  GAP
  mov %rax, 120(%rsp)
  GAP
  mov R(IP_WORD)(%rbx), %rax
  GAP
  mov %rax, 128(%rsp)
  GAP
  pop %r15
  GAP
  pop %r14
  GAP
  pop %r13
  GAP
  pop %r12
  GAP
  pop %rbp
  GAP
  pop %rbx
  GAP
  pop %r11
  GAP
  pop %r10
  GAP
  pop %r9
  GAP
  pop %r8
  GAP
  pop %rax
  GAP
  pop %rcx
  GAP
  pop %rdx
  GAP
  pop %rsi
  GAP
  pop %rdi
  GAP
  popfq
  GAP
  ret $128
.endm

.macro STUB name, before=0
  .globl \name
  .type \name, @function
  .balign 16
\name:
  .ifc \before, branches
  .rept 40
  jmp 1f
1:
  .endr
  .endif
  .ifc \before, vector
  pcmpeqd %xmm5, %xmm5
  .endif
  .ifc \before, x87
  fninit
  .endif
  .ifc \before, red_zone
  movq $0, -64(%rsp)
  .endif
  .ifc \before, general
  xor %r12, %r12
  xor %ebp, %ebp
  std
  .endif
  syscall
  TAIL
  .globl \name\()_end
\name\()_end:
  .size \name, . - \name
.endm

  .text

.macro GAP
.endm
  STUB park_stub_plain
  STUB park_stub_spoils_vector, vector
  STUB park_stub_spoils_x87, x87
  STUB park_stub_spoils_red_zone, red_zone
  STUB park_stub_spoils_general, general
.purgem GAP

.macro GAP
  jmp 2f
2:
.endm
  STUB park_stub_wide, branches
.purgem GAP

  .section .note.GNU-stack, "", @progbits
