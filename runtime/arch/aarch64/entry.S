/* SPDX-License-Identifier: BSL-1.0 */
/*
 * Into the kernel and out of it.  From user mode each way in stores a frame
 * (frame.hpp) at the top of this core's kernel stack and calls
 * machine_stopped(frame, kind), which does not return: the way out is
 * machine_resume.  The kernel runs with interrupts off, so whatever stops it
 * is an error: machine_broken panics.
 *
 * The general code of the kernel uses no vector register.
 */
#include "frame.hpp"

#define KIND_SYNCHRONOUS 0
#define KIND_INTERRUPT 1
#define KIND_ERROR 2

  .text

.macro store_registers
  sub sp, sp, #FRAME_BYTES
  stp x0, x1, [sp]
  stp x2, x3, [sp, #16]
  stp x4, x5, [sp, #32]
  stp x6, x7, [sp, #48]
  stp x8, x9, [sp, #64]
  stp x10, x11, [sp, #80]
  stp x12, x13, [sp, #96]
  stp x14, x15, [sp, #112]
  stp x16, x17, [sp, #128]
  stp x18, x19, [sp, #144]
  stp x20, x21, [sp, #160]
  stp x22, x23, [sp, #176]
  stp x24, x25, [sp, #192]
  stp x26, x27, [sp, #208]
  stp x28, x29, [sp, #224]
.endm

.macro from_user kind
  .balign 128
  store_registers
  mov w1, #\kind
  b stopped_user
.endm

.macro from_kernel kind
  .balign 128
  store_registers
  mov w1, #\kind
  b stopped_kernel
.endm

  .balign 2048
  .globl machine_vectors
machine_vectors:
  /* From the kernel, on the user's stack pointer: never selected. */
  from_kernel KIND_SYNCHRONOUS
  from_kernel KIND_INTERRUPT
  from_kernel KIND_INTERRUPT
  from_kernel KIND_ERROR
  /* From the kernel. */
  from_kernel KIND_SYNCHRONOUS
  from_kernel KIND_INTERRUPT
  from_kernel KIND_INTERRUPT
  from_kernel KIND_ERROR
  /* From user mode. */
  from_user KIND_SYNCHRONOUS
  from_user KIND_INTERRUPT
  from_user KIND_INTERRUPT
  from_user KIND_ERROR
  /* From 32-bit user mode: a frame never selects it. */
  from_kernel KIND_SYNCHRONOUS
  from_kernel KIND_INTERRUPT
  from_kernel KIND_INTERRUPT
  from_kernel KIND_ERROR

stopped_user:
  mrs x2, sp_el0
  mrs x3, elr_el1
  mrs x4, spsr_el1
  stp x30, x2, [sp, #240]
  stp x3, x4, [sp, #FRAME_PC]
  stp xzr, xzr, [sp, #FRAME_PSTATE + 8]
  mov x0, sp
  mov x29, xzr /* back-traces end here */
  mov x30, xzr
  bl machine_stopped
  brk #0

stopped_kernel:
  mrs x3, elr_el1
  mrs x4, spsr_el1
  add x2, sp, #FRAME_BYTES
  stp x30, x2, [sp, #240]
  stp x3, x4, [sp, #FRAME_PC]
  stp xzr, xzr, [sp, #FRAME_PSTATE + 8]
  mov x0, sp
  bl machine_broken
  brk #0

/* machine_resume(frame const*): the stack is empty again afterwards. */
  .globl machine_resume
  .type machine_resume, %function
machine_resume:
  mov x1, sp
  sub x1, x1, #1
  orr x1, x1, #0x3fff
  add sp, x1, #1
  ldp x30, x2, [x0, #240]
  ldp x3, x4, [x0, #FRAME_PC]
  msr sp_el0, x2
  msr elr_el1, x3
  msr spsr_el1, x4
  ldp x2, x3, [x0, #16]
  ldp x4, x5, [x0, #32]
  ldp x6, x7, [x0, #48]
  ldp x8, x9, [x0, #64]
  ldp x10, x11, [x0, #80]
  ldp x12, x13, [x0, #96]
  ldp x14, x15, [x0, #112]
  ldp x16, x17, [x0, #128]
  ldp x18, x19, [x0, #144]
  ldp x20, x21, [x0, #160]
  ldp x22, x23, [x0, #176]
  ldp x24, x25, [x0, #192]
  ldp x26, x27, [x0, #208]
  ldp x28, x29, [x0, #224]
  ldp x0, x1, [x0]
  eret
  .size machine_resume, . - machine_resume

.altmacro
.macro vector_pair instruction, n
  vector_pair_at \instruction, \n, %(\n + 1)
.endm
.macro vector_pair_at instruction, n, m
  \instruction q\n, q\m, [x0, #16 * \n]
.endm
#define EACH_PAIR \
  .irp n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30

/* machine_store_vector(saved_vector*), machine_load_vector(saved_vector const*)
 * for the change from one dispatcher to another. */
  .globl machine_store_vector
  .type machine_store_vector, %function
machine_store_vector:
  EACH_PAIR
  vector_pair stp, \n
  .endr
  mrs x1, fpcr
  mrs x2, fpsr
  str x1, [x0, #ACTIVATIONS_SAVED_FPCR]
  str x2, [x0, #ACTIVATIONS_SAVED_FPSR]
  ret
  .size machine_store_vector, . - machine_store_vector

  .globl machine_load_vector
  .type machine_load_vector, %function
machine_load_vector:
  ldr x1, [x0, #ACTIVATIONS_SAVED_FPCR]
  ldr x2, [x0, #ACTIVATIONS_SAVED_FPSR]
  msr fpcr, x1
  msr fpsr, x2
  EACH_PAIR
  vector_pair ldp, \n
  .endr
  ret
  .size machine_load_vector, . - machine_load_vector

  .section .note.GNU-stack, "", %progbits
