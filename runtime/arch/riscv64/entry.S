/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Into the kernel and out of it.  From user mode the way in stores a frame
 * (frame.hpp) at the top of this core's kernel stack and calls
 * machine_stopped(frame, cause, value), which does not return: the way out is
 * machine_resume.  The kernel runs with interrupts off, so whatever stops it
 * is an error: machine_broken panics.
 *
 * sscratch holds the top of this core's kernel stack in user mode and zero in
 * the kernel.  The general code of the kernel uses no floating-point register
 * and neither gp nor tp.
 */
#include "frame.hpp"

  .option norelax
  .text

#define EACH_BUT_SP \
  .irp n, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, \
      21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

  .balign 4
  .globl machine_entry
machine_entry:
  csrrw sp, sscratch, sp
  bnez sp, 1f
  csrr sp, sscratch /* from the kernel: the stack is as it was */
1:
  addi sp, sp, -FRAME_BYTES
  EACH_BUT_SP
  sd x\n, FRAME_X(\n)(sp)
  .endr
  csrr t0, sscratch
  csrr t1, sepc
  csrr a1, scause
  csrr a2, stval
  sd t0, FRAME_X(2)(sp)
  sd t1, FRAME_PC(sp)
  csrw sscratch, zero
  mv a0, sp
  li s0, 0 /* back-traces end here */
  li ra, 0
  csrr t2, sstatus
  andi t2, t2, 0x100 /* SPP: from the kernel */
  bnez t2, 2f
  call machine_stopped
  unimp
2:
  ld s0, FRAME_X(8)(sp)
  call machine_broken
  unimp

/* machine_resume(frame const*): the stack is empty again afterwards. */
  .globl machine_resume
  .type machine_resume, @function
machine_resume:
  addi t0, sp, -1
  srli t0, t0, 14
  addi t0, t0, 1
  slli t0, t0, 14
  csrw sscratch, t0
  /* No reservation of the kernel's outlives it: what comes next runs in user
   * mode and has its own. */
  addi t0, t0, -8
  sc.d zero, zero, (t0)
  ld t1, FRAME_PC(a0)
  ld sp, FRAME_X(2)(a0)
  csrw sepc, t1
  .irp n, 1, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, \
      21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 10
  ld x\n, FRAME_X(\n)(a0)
  .endr
  sret
  .size machine_resume, . - machine_resume

  .option push
  .option arch, +f, +d
#define EACH_F \
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, \
      19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

/* machine_store_vector(saved_vector*), machine_load_vector(saved_vector const*)
 * for the change from one dispatcher to another. */
  .globl machine_store_vector
  .type machine_store_vector, @function
machine_store_vector:
  EACH_F
  fsd f\n, (8 * \n)(a0)
  .endr
  frcsr t0
  sd t0, 256(a0)
  ret
  .size machine_store_vector, . - machine_store_vector

  .globl machine_load_vector
  .type machine_load_vector, @function
machine_load_vector:
  EACH_F
  fld f\n, (8 * \n)(a0)
  .endr
  ld t0, 256(a0)
  fscsr t0
  ret
  .size machine_load_vector, . - machine_load_vector
  .option pop

  .section .note.GNU-stack, "", %progbits
