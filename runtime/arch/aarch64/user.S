/* SPDX-License-Identifier: BSL-1.0 */
/*
 * User mode's own entries: the program's first instruction, and upcalls.
 * Both come with zeroes in all registers but the arguments.  An upcall first
 * saves the vector registers of what was stopped, on its own stack:
 *
 *   user_upcall(page, events, slot, saved_vector*)
 */
#include <activations/detail/arch/aarch64/resume.S>

  .text
  .globl _start
_start:
  adrp x1, initial_stack_top
  add x1, x1, :lo12:initial_stack_top
  mov sp, x1
  bl user_start
  brk #0

  .macro store_pair n
  store_pair_at \n, %(\n + 1)
  .endm
  .macro store_pair_at n, m
  stp q\n, q\m, [sp, #16 * \n]
  .endm

  .globl upcall_entry
upcall_entry:
  sub sp, sp, #ACTIVATIONS_SAVED_VECTOR_BYTES
  .irp n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
  store_pair \n
  .endr
  mrs x4, fpcr
  mrs x5, fpsr
  str x4, [sp, #ACTIVATIONS_SAVED_FPCR]
  str x5, [sp, #ACTIVATIONS_SAVED_FPSR]
  msr fpcr, xzr /* as compiled code expects it */
  mov x3, sp
  bl user_upcall
  brk #0

  .section .note.GNU-stack, "", %progbits
