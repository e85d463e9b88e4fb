/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Into the kernel and out of it.  From user mode each way in stores a frame
 * (frame.hpp) at the top of this core's kernel stack and calls
 * machine_stopped, which does not return: the way out is machine_resume.  From
 * kernel mode an interrupt is expected in machine::wait only, and returns; all
 * else is a panic.
 */
#include "frame.hpp"

  .text
  .macro push_registers
  pushq %rdi
  pushq %rsi
  pushq %rdx
  pushq %rcx
  pushq %rax
  pushq %r8
  pushq %r9
  pushq %r10
  pushq %r11
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  .endm
  .macro pop_registers
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
  .endm

/* One entry point of 16 bytes for each vector; those with an error code of the
 * processor's push none. */
  .balign 16
  .globl vector_entries
vector_entries:
  .set vector, 0
  .rept 256
  .balign 16
  .if !(vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21)
  pushq $0
  .endif
  pushq $vector
  jmp stopped_common
  .set vector, vector + 1
  .endr

  .balign 16
stopped_common:
  push_registers
  cld
  movq %rsp, %rdi
  testb $3, FRAME_CS(%rsp)
  jz 1f
  xorl %ebp, %ebp           /* back-traces end here */
  call machine_stopped
  ud2
1:
  movq %rsp, %rbx
  andq $-16, %rsp
  call machine_interrupted
  movq %rbx, %rsp
  pop_registers
  addq $16, %rsp
  iretq

/* gs:0 is the top of this core's kernel stack, gs:8 a scratch word; the
 * processor has set the mask of flags. */
  .balign 16
  .globl call_entry
call_entry:
  swapgs
  movq %rsp, %gs:8
  movq %gs:0, %rsp
  pushq $USER_DATA_SELECTOR
  pushq %gs:8
  swapgs
  pushq %r11
  pushq $USER_CODE_SELECTOR
  pushq %rcx
  pushq $0
  pushq $256                /* no vector: a call */
  push_registers
  movq %rsp, %rdi
  xorl %ebp, %ebp
  call machine_stopped
  ud2

  .balign 16
  .globl machine_resume
machine_resume:
  movq %rdi, %rsp
  pop_registers
  addq $16, %rsp
  iretq

  .section .note.GNU-stack, "", @progbits
