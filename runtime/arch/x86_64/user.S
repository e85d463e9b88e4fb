/* SPDX-License-Identifier: BSL-1.0 */
/*
 * User mode's own entries: the program's first instruction, and upcalls.
 * Both come with zeroes in all registers but the arguments.
 */
  .text
  .globl _start
_start:
  leaq initial_stack_top(%rip), %rsp
  call user_start
  ud2

  .globl upcall_entry
upcall_entry:
  call user_upcall
  ud2

  .section .note.GNU-stack, "", @progbits
