/* SPDX-License-Identifier: BSL-1.0 */
/*
 * x86-64: continues a stopped context in user mode with every register
 * restored and no trap.  Three ways that differ in the last instruction:
 *
 *   void activations_resume_jump(saved_general const*, saved_vector const*,
 *                                control*)
 *     jmp *%fs:slot.  The address waits in thread-local storage: the fastest.
 *     Not under branch tracking: notrack and %fs are both segment prefixes.
 *   void activations_resume_return(...)
 *     ret $128, with the address put below the target's red zone: its stack
 *     must have 136 bytes more.  Not under a shadow stack.
 *   void activations_resume_iret(...)
 *     iretq from the saved registers themselves: slow, and the only way for a
 *     context with the trap flag, which popfq would raise in here.
 *
 * `control` points to the two words `disabled` and `pending` of the caller's
 * activation (abi.h); `disabled` is not zero.  Each continues the context; if
 * an event came while the caller was disabled, it returns instead, disabled
 * again, with the context untouched.
 *
 * Between activations_resume_begin and _end an upcall must not save what it
 * interrupts: the context in memory is still whole and the upcall names it
 * again.
 */
#include <activations/detail/arch/x86_64/saved_registers.h>

  .section .text.resume, "ax", @progbits
  .balign 64
  .globl activations_resume_begin
activations_resume_begin:

/* The kernel that sets `pending` runs on this processor, so program order is
 * the order. */
  .macro enable
  movl $0, (%rdx)
  cmpl $0, 4(%rdx)
  jne activations_resume_pending
  .endm
  .macro load_all_but_rdi_rsp
  movq ACTIVATIONS_SAVED_R15(%rdi), %r15
  movq ACTIVATIONS_SAVED_R14(%rdi), %r14
  movq ACTIVATIONS_SAVED_R13(%rdi), %r13
  movq ACTIVATIONS_SAVED_R12(%rdi), %r12
  movq ACTIVATIONS_SAVED_RBP(%rdi), %rbp
  movq ACTIVATIONS_SAVED_RBX(%rdi), %rbx
  movq ACTIVATIONS_SAVED_R11(%rdi), %r11
  movq ACTIVATIONS_SAVED_R10(%rdi), %r10
  movq ACTIVATIONS_SAVED_R9(%rdi), %r9
  movq ACTIVATIONS_SAVED_R8(%rdi), %r8
  movq ACTIVATIONS_SAVED_RAX(%rdi), %rax
  movq ACTIVATIONS_SAVED_RCX(%rdi), %rcx
  movq ACTIVATIONS_SAVED_RDX(%rdi), %rdx
  movq ACTIVATIONS_SAVED_RSI(%rdi), %rsi
  .endm

  .globl activations_resume_jump
  .type activations_resume_jump, @function
activations_resume_jump:
  fxrstor64 (%rsi)
  movq ACTIVATIONS_SAVED_RIP(%rdi), %rax
  movq %rax, %fs:activations_resume_slot@tpoff
  enable
  pushq ACTIVATIONS_SAVED_RFLAGS(%rdi)
  popfq
  load_all_but_rdi_rsp
  movq ACTIVATIONS_SAVED_RSP(%rdi), %rsp
  movq ACTIVATIONS_SAVED_RDI(%rdi), %rdi
  jmp *%fs:activations_resume_slot@tpoff
  .size activations_resume_jump, . - activations_resume_jump

  .globl activations_resume_return
  .type activations_resume_return, @function
activations_resume_return:
  fxrstor64 (%rsi)
  movq ACTIVATIONS_SAVED_RIP(%rdi), %rax
  movq ACTIVATIONS_SAVED_RSP(%rdi), %rcx
  movq %rax, -136(%rcx)
  enable
  pushq ACTIVATIONS_SAVED_RFLAGS(%rdi)
  popfq
  leaq -136(%rcx), %rsp
  load_all_but_rdi_rsp
  movq ACTIVATIONS_SAVED_RDI(%rdi), %rdi
  ret $128
  .size activations_resume_return, . - activations_resume_return

  .globl activations_resume_iret
  .type activations_resume_iret, @function
activations_resume_iret:
  fxrstor64 (%rsi)
  enable
  movq %rdi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  popq %r11
  popq %r10
  popq %r9
  popq %r8
  popq %rax
  popq %rcx
  popq %rdx
  popq %rsi
  popq %rdi
  leaq 16(%rsp), %rsp
  iretq
  .size activations_resume_iret, . - activations_resume_iret

activations_resume_pending:
  movl $1, (%rdx)
  ret

  .globl activations_resume_end
activations_resume_end:

  .section .tbss, "awT", @nobits
  .balign 8
  .globl activations_resume_slot
  .type activations_resume_slot, @object
  .size activations_resume_slot, 8
activations_resume_slot:
  .zero 8

  .section .note.GNU-stack, "", @progbits
