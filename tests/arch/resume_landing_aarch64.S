/* SPDX-License-Identifier: BSL-1.0 */
/*
 * For resume_test.cpp: 1024 places to resume at, which store every register in
 * `landed` and `landed_vector` and return from `start_resume`.
 */
#include <activations/detail/arch/aarch64/saved_registers.h>

  .text
/* start_resume(general, vector, control, resume function): returns when a
 * landing place is reached (1), or when the function returns (0). */
  .globl start_resume
  .type start_resume, %function
start_resume:
  stp x29, x30, [sp, #-160]!
  stp x19, x20, [sp, #16]
  stp x21, x22, [sp, #32]
  stp x23, x24, [sp, #48]
  stp x25, x26, [sp, #64]
  stp x27, x28, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mrs x4, tpidr_el0
  adrp x5, starter
  add x5, x5, :lo12:starter
  mov x6, sp
  stp x6, x4, [x5]
  blr x3
  mov x0, #0
finish:
  ldp x19, x20, [sp, #16]
  ldp x21, x22, [sp, #32]
  ldp x23, x24, [sp, #48]
  ldp x25, x26, [sp, #64]
  ldp x27, x28, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  ldp x29, x30, [sp], #160
  ret

land:
  str x0, [sp, #8]
  adrp x0, landed
  add x0, x0, :lo12:landed
  stp x1, x2, [x0, #8]
  stp x3, x4, [x0, #24]
  stp x5, x6, [x0, #40]
  stp x7, x8, [x0, #56]
  stp x9, x10, [x0, #72]
  stp x11, x12, [x0, #88]
  stp x13, x14, [x0, #104]
  stp x15, x16, [x0, #120]
  stp x17, x18, [x0, #136]
  stp x19, x20, [x0, #152]
  stp x21, x22, [x0, #168]
  stp x23, x24, [x0, #184]
  stp x25, x26, [x0, #200]
  stp x27, x28, [x0, #216]
  str x29, [x0, #232]
  ldp x1, x2, [sp] /* x30, x0 */
  str x2, [x0]
  str x1, [x0, #240]
  add x1, sp, #16
  str x1, [x0, #ACTIVATIONS_SAVED_SP]
  sub x1, x30, #12
  str x1, [x0, #ACTIVATIONS_SAVED_PC]
  mrs x1, nzcv
  str x1, [x0, #ACTIVATIONS_SAVED_PSTATE]
  adrp x0, landed_vector
  add x0, x0, :lo12:landed_vector
  .altmacro
  .macro store_pair n
  store_pair_at \n, %(\n + 1)
  .endm
  .macro store_pair_at n, m
  stp q\n, q\m, [x0, #16 * \n]
  .endm
  .irp n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
  store_pair \n
  .endr
  mrs x1, fpcr
  mrs x2, fpsr
  str x1, [x0, #ACTIVATIONS_SAVED_FPCR]
  str x2, [x0, #ACTIVATIONS_SAVED_FPSR]
  msr fpcr, xzr
  msr fpsr, xzr
  adrp x5, starter
  add x5, x5, :lo12:starter
  ldp x6, x4, [x5]
  mov sp, x6
  mov x0, #1
  b finish

  .balign 16
  .globl landing_places
landing_places:
  .rept 1024
  sub sp, sp, #16
  str x30, [sp]
  bl land
  .endr

/* The way that was said to be the only one without a trap: x17 is lost. */
  .globl resume_by_register
  .type resume_by_register, %function
resume_by_register:
  mov x17, x0
  ldr x3, [x17, #ACTIVATIONS_SAVED_SP]
  mov sp, x3
  ldr x2, [x17, #ACTIVATIONS_SAVED_PSTATE]
  msr nzcv, x2
  ldp x0, x1, [x17]
  ldp x2, x3, [x17, #16]
  ldp x4, x5, [x17, #32]
  ldp x6, x7, [x17, #48]
  ldp x8, x9, [x17, #64]
  ldp x10, x11, [x17, #80]
  ldp x12, x13, [x17, #96]
  ldp x14, x15, [x17, #112]
  ldp x18, x19, [x17, #144]
  ldp x20, x21, [x17, #160]
  ldp x22, x23, [x17, #176]
  ldp x24, x25, [x17, #192]
  ldp x26, x27, [x17, #208]
  ldp x28, x29, [x17, #224]
  ldr x30, [x17, #240]
  ldr x16, [x17, #128]
  ldr x17, [x17, #ACTIVATIONS_SAVED_PC]
  br x17

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
