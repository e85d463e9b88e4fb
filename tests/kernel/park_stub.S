/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Park stubs as abi_linux.h describes them: a system call, and behind it the
 * tail that restores the thread from struct activations_registers at rsi in
 * user mode.  `GAP` between the instructions opens a window: an emulator takes
 * interrupts only at branches.
 *
 * The frame [old rsp - 264, old rsp - 128) lies below the red zone; rsp moves
 * first, so that a signal finds it below the frame.
 */

/* struct activations_registers: signal_mask, then user_regs_struct. */
#define MASK 8
#define R(word) (16 + 8 * (word))
#define FLAGS_WORD 18
#define IP_WORD 16

.macro TAIL skip_flags=0, skip_r12=0, into_red_zone=0
  GAP
  lea -(264 - 128 * \into_red_zone)(%rsp), %rsp
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
  .if \skip_r12
  lea 8(%rsp), %rsp
  .else
  pop %r12
  .endif
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
  .if \skip_flags
  lea 8(%rsp), %rsp
  cmp %rsp, %rsp
  .else
  popfq
  .endif
  GAP
  .if \into_red_zone
  ret $0
  .else
  ret $128
  .endif
.endm

.macro STUB name, widen=0, skip_flags=0, skip_r12=0, into_red_zone=0
  .globl \name
  .type \name, @function
  .balign 16
\name:
  .if \widen
  .rept 40
  jmp 1f
1:
  .endr
  .endif
  syscall
  TAIL \skip_flags, \skip_r12, \into_red_zone
  .globl \name\()_end
\name\()_end:
  .size \name, . - \name
.endm

  .text

.macro GAP
.endm
  STUB park_stub_plain
  STUB park_stub_skips_flags, skip_flags=1
  STUB park_stub_skips_r12, skip_r12=1
  STUB park_stub_uses_red_zone, into_red_zone=1
.purgem GAP

.macro GAP
  jmp 2f
2:
.endm
  STUB park_stub_wide, widen=1
.purgem GAP

  .section .note.GNU-stack, "", @progbits
