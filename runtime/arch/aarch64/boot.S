/* SPDX-License-Identifier: BSL-1.0 */
/*
 * The first instructions: exception level 2 or 1, translation off, x0 the
 * device tree (or 0 when an ELF file was loaded as it is).  Turns translation
 * on with an identity map, since without it every access counts as device
 * memory, and calls machine_main(x0) on core 0's kernel stack.
 *
 * The other cores come in at machine_boot_other with their index in x0.
 */
#define KERNEL_STACK_BYTES 16384

#define BLOCK_NORMAL (1 << 54 | 1 << 10 | 3 << 8 | 0 << 2 | 1)
#define BLOCK_DEVICE (1 << 54 | 1 << 53 | 1 << 10 | 1 << 2 | 1)

/* Write-back memory, and device memory without gathering or reordering. */
#define MAIR 0x04ff
/* 39-bit addresses in TTBR0 only, 4 KiB granule, inner shareable write-back
 * walks, 36-bit physical addresses. */
#define TCR (1 << 32 | 1 << 23 | 3 << 12 | 1 << 10 | 1 << 8 | 25)
/* Translation, caches, stack alignment in both levels; user mode may read
 * CTR_EL0, clean and invalidate caches for code it wrote, zero blocks, wait. */
#define SCTLR (0x30d00800 | 1 << 26 | 1 << 18 | 1 << 16 | 1 << 15 | 1 << 14 \
    | 1 << 12 | 1 << 4 | 1 << 3 | 1 << 2 | 1 << 0)

  .section .boot, "ax", %progbits
  .globl boot_begin
boot_begin:
  mov x20, x0
  bl enter_kernel_level
  ldr x1, =kernel_data_end
  ldr x2, =kernel_bss_begin
1:
  cmp x2, x1
  b.hs 2f
  stp xzr, xzr, [x2], #16
  b 1b
2:
  bl turn_translation_on
  ldr x1, =kernel_stacks + KERNEL_STACK_BYTES
  mov sp, x1
  mov x29, xzr
  mov x30, xzr
  mov x0, x20
  bl machine_main
  brk #0

  .globl machine_boot_other
machine_boot_other:
  mov x20, x0
  bl enter_kernel_level
  bl turn_translation_on
  ldr x1, =kernel_stacks + KERNEL_STACK_BYTES
  mov x2, #KERNEL_STACK_BYTES
  madd x1, x20, x2, x1
  mov sp, x1
  mov x29, xzr
  mov x30, xzr
  mov x0, x20
  bl machine_secondary
  brk #0

/* From level 2 down to level 1; keeps x20. */
enter_kernel_level:
  msr daifset, #15
  mrs x1, CurrentEL
  cmp x1, #8
  b.ne 1f
  mov x1, #1 << 31 /* level 1 is 64-bit */
  msr hcr_el2, x1
  mov x1, #3 /* level 1 may use the timers */
  msr cnthctl_el2, x1
  msr cntvoff_el2, xzr
  mov x1, #0x33ff
  msr cptr_el2, x1
  mov x1, #0x3c5
  msr spsr_el2, x1
  msr elr_el2, x30
  eret
1:
  ret

turn_translation_on:
  ldr x1, =MAIR
  msr mair_el1, x1
  ldr x1, =TCR
  msr tcr_el1, x1
  ldr x1, =machine_gigabytes
  msr ttbr0_el1, x1
  ldr x1, =machine_vectors
  msr vbar_el1, x1
  mov x1, #3 << 20 /* vector registers in both levels */
  msr cpacr_el1, x1
  mov x1, #2 /* user mode may read the virtual counter */
  msr cntkctl_el1, x1
  msr tpidr_el0, xzr
  tlbi vmalle1
  ic iallu
  dsb nsh
  isb
  ldr x1, =SCTLR
  msr sctlr_el1, x1
  isb
  ret
  .ltorg

/* The kernel's root table: a GiB of devices and the first GiB of memory;
 * machine_main adds the rest. */
  .section .data
  .balign 4096
  .globl machine_gigabytes
machine_gigabytes:
  .quad BLOCK_DEVICE
  .quad 0x40000000 | BLOCK_NORMAL
  .zero 8 * 510

  .section .note.GNU-stack, "", %progbits
