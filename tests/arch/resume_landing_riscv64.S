/* SPDX-License-Identifier: BSL-1.0 */
/*
 * For resume_test.cpp: 1024 places to resume at, which store every register in
 * `landed` and `landed_vector` and return from `start_resume`.
 */
#include <activations/detail/arch/riscv64/saved_registers.h>

  .option norelax
  .option nopic
  .text
#define EACH_SAVED_S \
  .irp n, 8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27
#define EACH_F \
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, \
      19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

/* start_resume(general, vector, control, resume function): returns when a
 * landing place is reached (1), or when the function returns (0). */
  .globl start_resume
  .type start_resume, @function
start_resume:
  addi sp, sp, -512
  sd ra, 0(sp)
  EACH_SAVED_S
  sd x\n, 8 * \n(sp)
  fsd f\n, 256 + 8 * \n(sp)
  .endr
  la t0, starter
  sd sp, 0(t0)
  jalr a3
  li a0, 0
finish:
  ld ra, 0(sp)
  EACH_SAVED_S
  ld x\n, 8 * \n(sp)
  fld f\n, 256 + 8 * \n(sp)
  .endr
  addi sp, sp, 512
  ret

land:
  sd t0, 8(sp)
  la t0, landed
  .irp n, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, \
      21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
  sd x\n, ACTIVATIONS_SAVED_X(\n)(t0)
  .endr
  ld t1, 0(sp)
  ld t2, 8(sp)
  sd t1, ACTIVATIONS_SAVED_X(1)(t0)
  sd t2, ACTIVATIONS_SAVED_X(5)(t0)
  addi t1, sp, 16
  sd t1, ACTIVATIONS_SAVED_X(2)(t0)
  addi t1, ra, -12
  sd t1, ACTIVATIONS_SAVED_PC(t0)
  la t0, landed_vector
  EACH_F
  fsd f\n, ACTIVATIONS_SAVED_F(\n)(t0)
  .endr
  frcsr t1
  sd t1, ACTIVATIONS_SAVED_FCSR(t0)
  fscsr zero
  la t0, starter
  ld sp, 0(t0)
  li a0, 1
  j finish

  .section .text.landing, "ax", @progbits
  .option norvc
  .balign 16
  .globl landing_places
landing_places:
  .rept 1024
  addi sp, sp, -16
  sd ra, 0(sp)
  jal land
  .endr

  .bss
  .balign 16
starter:
  .zero 16
  .globl landed
landed:
  .zero ACTIVATIONS_SAVED_GENERAL_BYTES
  .globl landed_vector
landed_vector:
  .zero ACTIVATIONS_SAVED_VECTOR_BYTES

  .section .note.GNU-stack, "", %progbits
