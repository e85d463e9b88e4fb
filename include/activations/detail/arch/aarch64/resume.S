/* SPDX-License-Identifier: BSL-1.0 */
/*
 * aarch64: continues a stopped context in user mode with every register
 * restored and no trap.  docs/aarch64-resume.md tells why this is right.
 *
 *   void activations_resume_own(saved_general*, saved_vector*, control*)
 *   void activations_resume_shared(saved_general*, saved_vector*, control*)
 *   void activations_resume_trap(saved_general*, saved_vector*, control*)
 *
 * `control` points to the two words `disabled` and `pending` of the caller's
 * activation (abi.h); `disabled` is not zero.  The registers are complete, and
 * ->trampoline was set by trampolines.hpp: `own` wants the one that belongs to
 * the save slot, `shared` one keyed by pc, `trap` none.
 *
 * They continue the context.  If an event came while the caller was disabled,
 * they return instead, disabled again, with the context untouched; what a call
 * may change is then changed, and d8 to d15 as well.  resume.hpp wraps them.
 *
 * Between activations_resume_begin and _end, and in the trampolines, an upcall
 * must not save what it interrupts: the context in memory is still whole and
 * the upcall names it again.  A kernel learns both ranges from the process.
 *
 * Registers: x0 general, x1 vector, x2 control, until x17 takes over as base.
 */
#include <activations/detail/arch/aarch64/saved_registers.h>

/* RESUME of abi_image.h. */
#define ACTIVATIONS_RESUME_CALL 38

#if defined(__ARM_FEATURE_BTI_DEFAULT)
#define LANDING_PAD hint #34 /* bti c */
#else
#define LANDING_PAD
#endif

/* clrex: an ldxr that the caller left behind must not let the context's stxr
 * succeed, and no exception return clears the monitor here. */
.macro restore_vector
  .irp n, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
  ldp_q \n
  .endr
  ldr x3, [x1, #ACTIVATIONS_SAVED_FPCR]
  ldr x4, [x1, #ACTIVATIONS_SAVED_FPSR]
  msr fpcr, x3
  msr fpsr, x4
  clrex
.endm

.altmacro
.macro ldp_q n
  ldp_q2 \n, %(\n + 1)
.endm
.macro ldp_q2 n, m
  ldp q\n, q\m, [x1, #16 * \n]
.endm

/* `disabled` = 0, then `pending`: the kernel that sets it runs on this
 * processor, so program order is the order. */
.macro enable
  str wzr, [x2]
  ldr w3, [x2, #4]
  cbnz w3, activations_resume_pending
.endm

.macro restore_general
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
.endm

  .section .text.resume, "ax", %progbits
  .balign 64
  .globl activations_resume_begin
activations_resume_begin:

  .globl activations_resume_own
  .type activations_resume_own, %function
activations_resume_own:
  LANDING_PAD
  restore_vector
  enable
  mov x17, x0
  ldr x2, [x17, #ACTIVATIONS_SAVED_SP]
  mov sp, x2
  restore_general
  ldr x17, [x17, #ACTIVATIONS_SAVED_TRAMPOLINE]
  br x17
  .size activations_resume_own, . - activations_resume_own

  .globl activations_resume_shared
  .type activations_resume_shared, %function
activations_resume_shared:
  LANDING_PAD
  restore_vector
  enable
  mov x17, x0
  ldr x2, [x17, #ACTIVATIONS_SAVED_SP]
  ldr x3, [x17, #136]
  mov sp, x2
  stur x3, [sp, #-16] /* x17, for the trampoline; may fault: see the page */
  restore_general
  ldr x17, [x17, #ACTIVATIONS_SAVED_TRAMPOLINE]
  br x17
  .size activations_resume_shared, . - activations_resume_shared

  .globl activations_resume_trap
  .type activations_resume_trap, %function
activations_resume_trap:
  LANDING_PAD
  restore_vector
  enable
  mov x8, #ACTIVATIONS_RESUME_CALL
  svc #0 /* x0: the slot; the kernel restores the rest */
  b activations_resume_pending
  .size activations_resume_trap, . - activations_resume_trap

activations_resume_pending:
  mov w3, #1
  str w3, [x2]
  ret

  .globl activations_resume_end
activations_resume_end:

  .section .note.GNU-stack, "", %progbits
