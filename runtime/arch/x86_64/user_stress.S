/* SPDX-License-Identifier: BSL-1.0 */
/*
 * The register check of lib/stress.hpp on x86-64: rdi the state, rax for work;
 * all other general registers, the flags, the red zone, xmm0 to xmm15, MXCSR
 * and the x87 control word are compared.  A mismatch is counted and everything
 * loaded anew.
 */
#include "../../lib/stress.hpp"

#define BAD_FLAGS 64
#define BAD_CONTROL 65
#define BAD_RED_ZONE 66
#define SCRATCH 512
#define EXPECTED_MXCSR 528
#define EXPECTED_X87 532
#define EACH_XMM \
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
#define EACH_RED .irp n, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16

  .macro each_general what
  \what rcx, 1
  \what rdx, 2
  \what rbx, 3
  \what rbp, 5
  \what rsi, 6
  \what r8, 8
  \what r9, 9
  \what r10, 10
  \what r11, 11
  \what r12, 12
  \what r13, 13
  \what r14, 14
  \what r15, 15
  .endm
  .macro load_general r, n
  movq STRESS_GENERAL + 8 * \n(%rdi), %\r
  .endm
  .macro check_general r, n
  movl $\n, %eax
  cmpq STRESS_GENERAL + 8 * \n(%rdi), %\r
  jne mismatch
  .endm

  .section .text.stress, "ax", @progbits
  .globl stress_loop
  .type stress_loop, @function
stress_loop:
  pushq %rbx
  pushq %rbp
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  subq $1032, %rsp
  movq %rsp, STRESS_STACK(%rdi)
  movq %rsp, STRESS_GENERAL + 8 * 4(%rdi)
  movl STRESS_CONTROL(%rdi), %eax
  orl $0x1f80, %eax
  movl %eax, EXPECTED_MXCSR(%rsp)
  movl STRESS_CONTROL + 8(%rdi), %eax
  orl $0x37f, %eax
  movl %eax, EXPECTED_X87(%rsp)
load:
  each_general load_general
  EACH_XMM
  movdqu STRESS_VECTOR + 16 * \n(%rdi), %xmm\n
  .endr
  EACH_RED
  movq STRESS_VECTOR + 256 + 8 * (\n % 8)(%rdi), %rax
  movq %rax, -8 * \n(%rsp)
  .endr
  ldmxcsr EXPECTED_MXCSR(%rsp)
  fldcw EXPECTED_X87(%rsp)
round:
  /* The flags, below the red zone, for some instructions. */
  leaq -256(%rsp), %rsp
  pushq STRESS_FLAGS(%rdi)
  popfq
  leaq 256(%rsp), %rsp
  .rept 8
  movq %rdi, %rax
  .endr
  leaq -256(%rsp), %rsp
  pushfq
  cld
  popq %rax
  leaq 256(%rsp), %rsp
  andq stress_flag_bits(%rip), %rax
  cmpq STRESS_FLAGS(%rdi), %rax
  movl $BAD_FLAGS, %eax
  jne mismatch
  each_general check_general
  movl $4, %eax
  cmpq STRESS_GENERAL + 8 * 4(%rdi), %rsp
  jne mismatch
  EACH_XMM
  movdqu %xmm\n, SCRATCH(%rsp)
  movq SCRATCH(%rsp), %rax
  cmpq STRESS_VECTOR + 16 * \n(%rdi), %rax
  movl $(32 + \n), %eax
  jne mismatch
  movq SCRATCH + 8(%rsp), %rax
  cmpq STRESS_VECTOR + 16 * \n + 8(%rdi), %rax
  movl $(32 + \n), %eax
  jne mismatch
  .endr
  EACH_RED
  movq STRESS_VECTOR + 256 + 8 * (\n % 8)(%rdi), %rax
  cmpq %rax, -8 * \n(%rsp)
  movl $BAD_RED_ZONE, %eax
  jne mismatch
  .endr
  stmxcsr SCRATCH(%rsp)
  movl SCRATCH(%rsp), %eax
  cmpl EXPECTED_MXCSR(%rsp), %eax
  movl $BAD_CONTROL, %eax
  jne mismatch
  fnstcw SCRATCH(%rsp)
  movzwl SCRATCH(%rsp), %eax
  cmpl EXPECTED_X87(%rsp), %eax
  movl $BAD_CONTROL, %eax
  jne mismatch
  movq STRESS_COUNTER(%rdi), %rax
  lock incq (%rax)
  incq STRESS_INCREMENTS(%rdi)
  incq STRESS_ROUNDS(%rdi)
  cmpq $0, STRESS_STOP(%rdi)
  je round
1:
  movq STRESS_STACK(%rdi), %rsp
  addq $1032, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbp
  popq %rbx
  ldmxcsr stress_mxcsr(%rip)
  fninit
  ret

mismatch:
  cmpq $0, STRESS_MISMATCHES(%rdi)
  jne 2f
  movq %rax, STRESS_FIRST_BAD(%rdi)
2:
  incq STRESS_MISMATCHES(%rdi)
  movq STRESS_STACK(%rdi), %rsp
  cmpq $0, STRESS_STOP(%rdi)
  je load
  jmp 1b
  .size stress_loop, . - stress_loop

/* No reservations on this machine. */
  .globl stress_reserve
  .type stress_reserve, @function
stress_reserve:
  ret
  .size stress_reserve, . - stress_reserve

  .section .rodata.stress, "a", @progbits
  .balign 8
  .globl stress_flag_bits, stress_control_bits
stress_flag_bits:
  .quad 0xcd5     /* CF PF AF ZF SF DF OF */
stress_control_bits:
  .quad 0x603f    /* rounding and exceptions */
  .quad 0xc00     /* rounding */
stress_mxcsr:
  .long 0x1f80

  .section .note.GNU-stack, "", @progbits
