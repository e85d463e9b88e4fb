/* SPDX-License-Identifier: BSL-1.0 */
/*
 * The first instructions, in supervisor mode, translation off: a0 the number
 * of this hart, a1 the device tree.  Turns translation on with an identity map
 * and calls machine_main(hart, tree) on core 0's kernel stack.
 *
 * The other harts come in at machine_boot_other with their core's index in a1.
 * OpenSBI 1.1 marks a hart as to be started before it stores where: one that
 * leaves its wfi just then comes in at the first entry, too, with its number.
 */
#define KERNEL_STACK_BYTES 16384
#define MOST_CORES 8

/* Valid, read, write, execute, global, accessed, dirty: 1 GiB on this level. */
#define LEAF_MEMORY 0xef
#define LEAF_DEVICE 0xe7
#define SV39 8

  .option norelax
  .section .boot, "ax", @progbits
  .globl boot_begin
boot_begin:
  la t0, boot_taken
  li t1, 1
  amoswap.w.aqrl t1, t1, (t0)
  bnez t1, boot_late
  mv s0, a0
  mv s1, a1
  la t0, kernel_bss_begin
  la t1, kernel_data_end
1:
  bgeu t0, t1, 2f
  sd zero, 0(t0)
  addi t0, t0, 8
  j 1b
2:
  jal set_up
  la sp, kernel_stacks
  li t0, KERNEL_STACK_BYTES
  add sp, sp, t0
  mv a0, s0
  mv a1, s1
  li s0, 0
  li ra, 0
  call machine_main
  unimp

  /* Its core's index, from what core 0 has found before it asked for it. */
boot_late:
  la t0, machine_core_hart
  li a1, 1
1:
  addi t0, t0, 8
  ld t1, (t0)
  beq t1, a0, machine_boot_other
  addi a1, a1, 1
  li t1, MOST_CORES
  bltu a1, t1, 1b
  unimp

  .globl machine_boot_other
machine_boot_other:
  mv s1, a1
  jal set_up
  la sp, kernel_stacks
  li t0, KERNEL_STACK_BYTES
  addi t1, s1, 1
  mul t0, t0, t1
  add sp, sp, t0
  mv a0, s1
  li s0, 0
  li ra, 0
  call machine_secondary
  unimp

set_up:
  csrw sie, zero
  csrw sscratch, zero
  la t0, machine_entry
  csrw stvec, t0
  li t0, 1 << 18 | 1 << 19 | 1 << 8 | 1 << 1 /* SUM, MXR, SPP, SIE: off */
  csrc sstatus, t0
  li t0, 3 << 13 /* floating point on, taken as always changed */
  csrs sstatus, t0
  li t0, 2 /* user mode may read the time */
  csrw scounteren, t0
  la t0, machine_gigabytes
  srli t0, t0, 12
  li t1, SV39 << 60
  or t0, t0, t1
  sfence.vma
  csrw satp, t0
  sfence.vma
  ret

/* The kernel's root table: two GiB of devices and the first GiB of memory;
 * machine_main adds the rest. */
  .section .data
boot_taken:
  .word 0
  .balign 4096
  .globl machine_gigabytes
machine_gigabytes:
  .dword LEAF_DEVICE
  .dword 0x40000000 >> 2 | LEAF_DEVICE
  .dword 0x80000000 >> 2 | LEAF_MEMORY
  .zero 8 * 509

  .section .note.GNU-stack, "", %progbits
