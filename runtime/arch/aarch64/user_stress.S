/* SPDX-License-Identifier: BSL-1.0 */
/*
 * The register check of lib/stress.hpp on aarch64: x0 the state, x1 to x3 for
 * work, x4 to x30, sp, NZCV, v0 to v31, FPCR and FPSR compared.  A mismatch is
 * counted and everything loaded anew.
 */
#include "../../lib/stress.hpp"

#define BAD_FLAGS 64
#define BAD_CONTROL 65

  .altmacro
  .macro load_general n
  ldr x\n, [x0, #STRESS_GENERAL + 8 * \n]
  .endm
  .macro check_general n
  ldr x1, [x0, #STRESS_GENERAL + 8 * \n]
  mov w3, #\n
  cmp x1, x\n
  b.ne mismatch
  .endm
  .macro load_vector n
  ldr q\n, [x0, #STRESS_VECTOR + 16 * \n]
  .endm
  .macro check_vector n
  umov x1, v\n\().d[0]
  ldr x2, [x0, #STRESS_VECTOR + 16 * \n]
  mov w3, #32 + \n
  cmp x1, x2
  b.ne mismatch
  umov x1, v\n\().d[1]
  ldr x2, [x0, #STRESS_VECTOR + 16 * \n + 8]
  cmp x1, x2
  b.ne mismatch
  .endm
#define PATTERNS 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, \
    21, 22, 23, 24, 25, 26, 27, 28, 29, 30
#define ALL 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, \
    19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

  .section .text.stress, "ax", %progbits
  .globl stress_loop
  .type stress_loop, %function
stress_loop:
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
  mov x1, sp
  str x1, [x0, #STRESS_STACK]
  str x1, [x0, #STRESS_GENERAL + 8 * 31]
load:
  ldr x1, [x0, #STRESS_STACK]
  mov sp, x1
  .irp n, PATTERNS
  load_general \n
  .endr
  .irp n, ALL
  load_vector \n
  .endr
  ldr x1, [x0, #STRESS_CONTROL]
  ldr x2, [x0, #STRESS_CONTROL + 8]
  msr fpcr, x1
  msr fpsr, x2
round:
  .irp n, PATTERNS
  check_general \n
  .endr
  ldr x1, [x0, #STRESS_GENERAL + 8 * 31]
  mov w3, #31
  cmp sp, x1
  b.ne mismatch
  ldr x1, [x0, #STRESS_FLAGS]
  msr nzcv, x1
  nop
  nop
  nop
  nop
  mrs x2, nzcv
  mov w3, #BAD_FLAGS
  cmp x1, x2
  b.ne mismatch
  .irp n, ALL
  check_vector \n
  .endr
  mov w3, #BAD_CONTROL
  ldr x1, [x0, #STRESS_CONTROL]
  mrs x2, fpcr
  cmp x1, x2
  b.ne mismatch
  ldr x1, [x0, #STRESS_CONTROL + 8]
  mrs x2, fpsr
  cmp x1, x2
  b.ne mismatch
  ldr x2, [x0, #STRESS_COUNTER]
1:
  ldxr x1, [x2]
  add x1, x1, #1
  stxr w3, x1, [x2]
  cbnz w3, 1b
  ldr x1, [x0, #STRESS_INCREMENTS]
  add x1, x1, #1
  str x1, [x0, #STRESS_INCREMENTS]
  ldr x1, [x0, #STRESS_ROUNDS]
  add x1, x1, #1
  str x1, [x0, #STRESS_ROUNDS]
  ldr x1, [x0, #STRESS_STOP]
  cbz x1, round

  ldr x1, [x0, #STRESS_STACK]
  mov sp, x1
  msr fpcr, xzr
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

mismatch:
  ldr x1, [x0, #STRESS_MISMATCHES]
  cbnz x1, 1f
  str x3, [x0, #STRESS_FIRST_BAD]
1:
  add x1, x1, #1
  str x1, [x0, #STRESS_MISMATCHES]
  ldr x1, [x0, #STRESS_STOP]
  cbz x1, load
  b round
  .size stress_loop, . - stress_loop

  .globl stress_reserve
  .type stress_reserve, %function
stress_reserve:
  ldxr x1, [x0]
  ret
  .size stress_reserve, . - stress_reserve

  .section .rodata.stress, "a", %progbits
  .balign 8
  .globl stress_flag_bits, stress_control_bits
stress_flag_bits:
  .quad 0xf0000000
stress_control_bits:
  .quad 0x03c00000 /* rounding, flush to zero, default NaN */
  .quad 0x0800009f /* the sticky exceptions */

  .section .note.GNU-stack, "", %progbits
