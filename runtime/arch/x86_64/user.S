/* SPDX-License-Identifier: BSL-1.0 */
/*
 * User mode's own entries: the program's first instruction, and upcalls.
 * Both come with zeroes in all registers but the arguments.  An upcall first
 * saves the vector registers of what was stopped, on its own stack:
 *
 *   user_upcall(page, events, slot, saved_vector*)
 */
#include <activations/detail/arch/x86_64/resume.S>

  .text
  .globl _start
_start:
  leaq initial_stack_top(%rip), %rsp
  call user_start
  ud2

  .globl upcall_entry
upcall_entry:
  subq $ACTIVATIONS_SAVED_VECTOR_BYTES, %rsp
  fxsave64 (%rsp)
  ldmxcsr initial_mxcsr(%rip)   /* as compiled code expects it */
  fninit
  movq %rsp, %rcx
  call user_upcall
  ud2

  .section .rodata
  .balign 4
initial_mxcsr: .long 0x1f80

  .section .note.GNU-stack, "", @progbits
