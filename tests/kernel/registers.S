/* SPDX-License-Identifier: BSL-1.0 */
/*
 * void hold_in_*(register_image const* in, register_image* out):
 * every register, the flags and the red zone take the values of `in`,
 * something happens, and what they hold then goes to `out`.  From the last
 * load to the first store only that something runs.  registers.hpp has the
 * struct; the offsets here are asserted there.
 */
#define RAX 0
#define RBX 8
#define RCX 16
#define RDX 24
#define RSI 32
#define RDI 40
#define RBP 48
#define GPR8(n) (56 + 8 * ((n) - 8))
#define RSP_SLOT 120
#define FLAGS 128
#define MXCSR 136
#define FCW 140
#define FS_WORD 144
#define GS_WORD 152
#define X87 160
#define YMM 288
#define RED 800
#define IMAGE 928

.macro FOR_GPR8 op
  .irp n, 8, 9, 10, 11, 12, 13, 14, 15
  \op \n
  .endr
.endm
.macro LOAD_GPR8 n
  mov (56 + 8 * (\n - 8))(%rdi), %r\n
.endm
.macro STORE_GPR8 n
  mov %r\n, (56 + 8 * (\n - 8))(%rsp)
.endm

.macro ENTER
  push %rbp
  push %rbx
  push %r12
  push %r13
  push %r14
  push %r15
  push %rsi
  sub $8, %rsp
  stmxcsr (%rsp)
  sub $IMAGE, %rsp
  fninit
  fldcw FCW(%rdi)
  .irp k, 7, 6, 5, 4, 3, 2, 1, 0
  fldt (X87 + 16 * \k)(%rdi)
  .endr
  ldmxcsr MXCSR(%rdi)
  cmpl $0, registers_have_avx(%rip)
  je 1f
  .irp k, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovdqu (YMM + 32 * \k)(%rdi), %ymm\k
  .endr
  jmp 2f
1:
  .irp k, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  movdqu (YMM + 32 * \k)(%rdi), %xmm\k
  .endr
2:
  pushq FLAGS(%rdi)
  popfq
  .irp k, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  mov (RED + 8 * \k)(%rdi), %rax
  mov %rax, (-128 + 8 * \k)(%rsp)
  .endr
  mov RAX(%rdi), %rax
  mov RBX(%rdi), %rbx
  mov RCX(%rdi), %rcx
  mov RDX(%rdi), %rdx
  mov RSI(%rdi), %rsi
  mov RBP(%rdi), %rbp
  FOR_GPR8 LOAD_GPR8
  mov RDI(%rdi), %rdi
.endm

.macro LEAVE_
  mov %rax, RAX(%rsp)
  mov %rbx, RBX(%rsp)
  mov %rcx, RCX(%rsp)
  mov %rdx, RDX(%rsp)
  mov %rsi, RSI(%rsp)
  mov %rdi, RDI(%rsp)
  mov %rbp, RBP(%rsp)
  FOR_GPR8 STORE_GPR8
  .irp k, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  mov (-128 + 8 * \k)(%rsp), %rax
  mov %rax, (RED + 8 * \k)(%rsp)
  .endr
  pushfq
  popq FLAGS(%rsp)
  cld
  movq $0, RSP_SLOT(%rsp)
  movq $0, MXCSR(%rsp)
  mov %fs:0, %rax
  mov %rax, FS_WORD(%rsp)
  mov %gs:0, %rax
  mov %rax, GS_WORD(%rsp)
  fnstcw FCW(%rsp)
  .irp k, 0, 1, 2, 3, 4, 5, 6, 7
  fstpt (X87 + 16 * \k)(%rsp)
  .endr
  stmxcsr MXCSR(%rsp)
  cmpl $0, registers_have_avx(%rip)
  je 1f
  .irp k, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  vmovdqu %ymm\k, (YMM + 32 * \k)(%rsp)
  .endr
  vzeroupper
  jmp 2f
1:
  .irp k, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15
  movdqu %xmm\k, (YMM + 32 * \k)(%rsp)
  .endr
2:
  fninit
  mov %rsp, %rsi
  mov (IMAGE + 8)(%rsp), %rdi
  mov $(IMAGE / 8), %ecx
  rep movsq
  add $IMAGE, %rsp
  ldmxcsr (%rsp)
  add $16, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbx
  pop %rbp
  ret
.endm

.macro HOLD name
  .globl \name
  .type \name, @function
  .balign 16
\name:
.endm

  .text

/* rcx turns, each adding one to rdx; changes no flag. */
HOLD hold_in_loop
  ENTER
3:
  lea 1(%rdx), %rdx
  loop 3b
  LEAVE_
  .size hold_in_loop, . - hold_in_loop

HOLD hold_in_call
  ENTER
  syscall
  .globl hold_in_call_return
hold_in_call_return:
  LEAVE_
  .size hold_in_call, . - hold_in_call

/* Reads the byte at rsi into al. */
HOLD hold_in_fault
  ENTER
  mov (%rsi), %al
  LEAVE_
  .size hold_in_fault, . - hold_in_fault

  .section .note.GNU-stack, "", @progbits
