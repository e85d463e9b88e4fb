/* SPDX-License-Identifier: BSL-1.0 */
/*
 * The register check of lib/stress.hpp on riscv64: a0 the state, t0 to t2 for
 * work, all others, f0 to f31 and fcsr compared.  A mismatch is counted and
 * everything loaded anew, but for sp, gp and tp.
 */
#include "../../lib/stress.hpp"

#define BAD_CONTROL 65
#define PATTERNS 1, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, \
    24, 25, 26, 27, 28, 29, 30, 31
#define CONSTANTS 2, 3, 4
#define EACH_KEPT \
  .irp n, 8, 9, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27
#define EACH_F \
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, \
      19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31

  .macro check_general n
  ld t0, STRESS_GENERAL + 8 * \n(a0)
  li t2, \n
  beq t0, x\n, 1f
  j mismatch
1:
  .endm

  .section .text.stress, "ax", @progbits
  .globl stress_loop
  .type stress_loop, @function
stress_loop:
  addi sp, sp, -512
  sd ra, 0(sp)
  EACH_KEPT
  sd x\n, 8 * \n(sp)
  fsd f\n, 256 + 8 * \n(sp)
  .endr
  sd sp, STRESS_STACK(a0)
  .irp n, CONSTANTS
  sd x\n, STRESS_GENERAL + 8 * \n(a0)
  .endr
load:
  .irp n, PATTERNS
  ld x\n, STRESS_GENERAL + 8 * \n(a0)
  .endr
  EACH_F
  fld f\n, STRESS_VECTOR + 8 * \n(a0)
  .endr
  ld t0, STRESS_CONTROL(a0)
  fscsr t0
round:
  .irp n, PATTERNS
  check_general \n
  .endr
  .irp n, CONSTANTS
  check_general \n
  .endr
  EACH_F
  fmv.x.d t0, f\n
  ld t1, STRESS_VECTOR + 8 * \n(a0)
  li t2, 32 + \n
  beq t0, t1, 1f
  j mismatch
1:
  .endr
  li t2, BAD_CONTROL
  frcsr t0
  ld t1, STRESS_CONTROL(a0)
  beq t0, t1, 1f
  j mismatch
1:
  ld t1, STRESS_COUNTER(a0)
1:
  lr.d t0, (t1)
  addi t0, t0, 1
  sc.d t2, t0, (t1)
  bnez t2, 1b
  ld t0, STRESS_INCREMENTS(a0)
  addi t0, t0, 1
  sd t0, STRESS_INCREMENTS(a0)
  ld t0, STRESS_ROUNDS(a0)
  addi t0, t0, 1
  sd t0, STRESS_ROUNDS(a0)
  ld t0, STRESS_STOP(a0)
  bnez t0, 1f
  j round
1:
  ld sp, STRESS_STACK(a0)
  fscsr zero
  ld ra, 0(sp)
  EACH_KEPT
  ld x\n, 8 * \n(sp)
  fld f\n, 256 + 8 * \n(sp)
  .endr
  addi sp, sp, 512
  ret

mismatch:
  ld t0, STRESS_MISMATCHES(a0)
  bnez t0, 1f
  sd t2, STRESS_FIRST_BAD(a0)
1:
  addi t0, t0, 1
  sd t0, STRESS_MISMATCHES(a0)
  ld t0, STRESS_STOP(a0)
  bnez t0, 1f
  j load
1:
  j round
  .size stress_loop, . - stress_loop

  .globl stress_reserve
  .type stress_reserve, @function
stress_reserve:
  lr.d t0, (a0)
  ret
  .size stress_reserve, . - stress_reserve

  .section .rodata.stress, "a", @progbits
  .balign 8
  .globl stress_flag_bits, stress_control_bits
stress_flag_bits:
  .quad 0
stress_control_bits:
  .quad 0x3f /* exceptions, and the rounding modes 0 and 1 */
  .quad 0

  .section .note.GNU-stack, "", %progbits
