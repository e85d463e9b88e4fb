/* SPDX-License-Identifier: BSL-1.0 */
/*
 * riscv64: continues a stopped context in user mode with every register
 * restored and no trap.
 *
 *   void activations_resume(saved_general const*, saved_vector const*, control*)
 *
 * The last jump goes through gp and links into gp: `jalr gp, 0(gp)`.  It leaves
 * in gp the address behind itself, and the program is linked such that this is
 * gp's constant value: its linker script says
 *
 *   __global_pointer$ = activations_gp_anchor;
 *
 * (--defsym does not override the assignment in a default script).  So every
 * context's gp is that address, and is restored by being the link.  The jump
 * has no compressed form, hence the link is the same with and without C.
 *
 * The target's address waits in a slot of the target's own thread-local block,
 * found from its tp with gp as the only scratch register.
 *
 * `control` points to the two words `disabled` and `pending` of the caller's
 * activation (abi.h); `disabled` is not zero.  Continues the context; if an
 * event came while the caller was disabled, returns instead, disabled again,
 * with the context untouched; what a call may change is then changed, and fs0
 * to fs11 as well.  resume.hpp wraps it.
 *
 * Between activations_resume_begin and _end an upcall must not save what it
 * interrupts: the context in memory is still whole and the upcall names it
 * again.  It must load gp before any compiled code runs.
 */
#include <activations/detail/arch/riscv64/saved_registers.h>

  .option push
  .option norelax
  .option nopic

  .section .text.resume, "ax", %progbits
  .balign 64
  .globl activations_resume_begin
activations_resume_begin:

  .globl activations_resume
  .type activations_resume, %function
activations_resume:
#ifdef __riscv_flen
  .irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, \
      19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31
  fld f\n, ACTIVATIONS_SAVED_F(\n)(a1)
  .endr
  ld t0, ACTIVATIONS_SAVED_FCSR(a1)
  fscsr t0
#endif
  ld t0, ACTIVATIONS_SAVED_PC(a0)
  ld t1, ACTIVATIONS_SAVED_X(4)(a0)
  lui t2, %tprel_hi(activations_resume_slot)
  add t2, t2, t1, %tprel_add(activations_resume_slot)
  addi t2, t2, %tprel_lo(activations_resume_slot)
  /* Gives up the caller's reservation, so that the context's stale sc fails. */
  sc.d zero, zero, (t2)
  sd t0, 0(t2)
  /* The kernel that sets `pending` runs on this processor, so program order
   * is the order. */
  sw zero, 0(a2)
  lw t0, 4(a2)
  bnez t0, activations_resume_pending
  .irp n, 1, 2, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, \
      22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 10
  ld x\n, ACTIVATIONS_SAVED_X(\n)(a0)
  .endr
  lui gp, %tprel_hi(activations_resume_slot)
  add gp, gp, tp, %tprel_add(activations_resume_slot)
  ld gp, %tprel_lo(activations_resume_slot)(gp)
  jalr gp, 0(gp)
  .globl activations_gp_anchor
activations_gp_anchor:
  .size activations_resume, . - activations_resume

activations_resume_pending:
  li t0, 1
  sw t0, 0(a2)
  ret

  .globl activations_resume_end
activations_resume_end:
  .option pop

  .section .tbss, "awT", %nobits
  .balign 8
  .globl activations_resume_slot
  .type activations_resume_slot, %object
  .size activations_resume_slot, 8
activations_resume_slot:
  .zero 8

  .section .note.GNU-stack, "", %progbits
