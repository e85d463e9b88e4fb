/* SPDX-License-Identifier: BSL-1.0 */
/*
 * User mode's own entries: the program's first instruction, and upcalls.
 * Both come with zeroes in all registers but the arguments and tp.  An upcall
 * first saves the floating-point registers of what was stopped, on its own
 * stack:
 *
 *   user_upcall(page, events, slot, saved_vector*)
 */
#include <activations/detail/arch/riscv64/resume.S>

  .option norelax
  .text
  .globl _start
_start:
  la gp, __global_pointer$
  la sp, initial_stack_top
  call user_start
  unimp

  .globl upcall_entry
upcall_entry:
  la gp, __global_pointer$
  addi sp, sp, -((ACTIVATIONS_SAVED_VECTOR_BYTES + 15) & ~15)
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, \
      19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
  fsd f\n, ACTIVATIONS_SAVED_F(\n)(sp)
  .endr
  frcsr t0
  sd t0, ACTIVATIONS_SAVED_FCSR(sp)
  fscsr zero /* as compiled code expects it */
  mv a3, sp
  call user_upcall
  unimp

  .section .note.GNU-stack, "", %progbits
