/* SPDX-License-Identifier: BSL-1.0 */
/*
 * The first instructions.  A PVH loader (QEMU -kernel) and a multiboot2 loader
 * (GRUB) both enter here in 32-bit protected mode without paging; eax and ebx
 * say which it was and where its description is.  The other cores begin in
 * real mode at core_begin, copied to a free page below 1 MiB.  Both paths meet in
 * enter_long_mode, and end in machine_main or machine_secondary on the core's
 * own kernel stack.
 */
#define STACK_BYTES 16384

  .section .note.pvh, "a", @note
  .balign 4
  .long 4, 4, 18            /* name and description sizes, PHYS32_ENTRY */
  .asciz "Xen"
  .long boot_begin

  .section .multiboot, "a"
  .balign 8
multiboot_begin:
  .long 0xe85250d6, 0, multiboot_end - multiboot_begin
  .long -(0xe85250d6 + 0 + (multiboot_end - multiboot_begin))
  .balign 8
  .word 0, 0                /* end of tags */
  .long 8
multiboot_end:

  .section .boot, "ax"
  .code32
  .globl boot_begin
boot_begin:
  cli
  cld
  movl %eax, %esi           /* loader's magic; ebx: its description */
  lgdt boot_gdt_pointer
  movl $(kernel_stacks + STACK_BYTES), %esp

  /* Identity map of the first 4 GiB by 2 MiB pages, for the kernel alone. */
  movl $boot_2m_tables, %edi
  movl $0x83, %eax          /* present, writable, 2 MiB */
  xorl %edx, %edx
1:
  movl %eax, (%edi)
  movl %edx, 4(%edi)
  addl $0x200000, %eax
  addl $8, %edi
  cmpl $(boot_2m_tables + 4 * 4096), %edi
  jne 1b
  movl $boot_gigabytes, %edi
  movl $(boot_2m_tables + 7), %eax
  movl $4, %ecx
1:
  movl %eax, (%edi)
  addl $4096, %eax
  addl $8, %edi
  loop 1b
  movl $(boot_gigabytes + 7), boot_root

  movl $boot_long, %edi
  jmp enter_long_mode

/* To 64-bit code at edi.  Keeps ebx, esi, esp. */
enter_long_mode:
  movl %cr4, %eax
  orl $0x6a0, %eax          /* PAE, PGE, OSFXSR, OSXMMEXCPT */
  movl %eax, %cr4
  movl $boot_root, %eax
  movl %eax, %cr3
  movl $0xc0000080, %ecx    /* EFER: SCE, LME, NXE */
  rdmsr
  orl $0x901, %eax
  wrmsr
  movl $0x80010033, %eax    /* PG, WP, NE, ET, MP, PE */
  movl %eax, %cr0
  ljmp $0x08, $1f
  .code64
1:
  movl $0x10, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  xorl %eax, %eax
  movl %eax, %fs
  movl %eax, %gs
  movl %edi, %edi
  jmp *%rdi

boot_long:
  movl %esi, %edi
  movl %ebx, %esi
  xorl %ebp, %ebp
  call machine_main
  ud2

/* A secondary core; cs is the page that this was copied to. */
  .code16
  .globl core_begin, core_end
core_begin:
  cli
  movw %cs, %ax
  movw %ax, %ds
  lgdtl core_gdt_pointer - core_begin
  movl $0x11, %eax
  movl %eax, %cr0
  ljmpl $0x18, $core_protected
  .balign 8
core_gdt_pointer:
  .word boot_gdt_end - boot_gdt - 1
  .long boot_gdt
core_end:

  .code32
core_protected:
  movw $0x10, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl starting_core, %ebx
  movl %ebx, %eax
  incl %eax
  imull $STACK_BYTES, %eax
  leal kernel_stacks(%eax), %esp
  movl $core_long, %edi
  jmp enter_long_mode
  .code64
core_long:
  movl %ebx, %edi
  xorl %ebp, %ebp
  call machine_secondary
  ud2

  .balign 8
boot_gdt:
  .quad 0
  .quad 0x00af9b000000ffff  /* 0x08: 64-bit code */
  .quad 0x00cf93000000ffff  /* 0x10: data */
  .quad 0x00cf9b000000ffff  /* 0x18: 32-bit code */
boot_gdt_end:
boot_gdt_pointer:
  .word boot_gdt_end - boot_gdt - 1
  .quad boot_gdt

  .section .bss.boot, "aw", @nobits
  .balign 4096
  .globl boot_root, boot_gigabytes
boot_root: .skip 4096
boot_gigabytes: .skip 4096
boot_2m_tables: .skip 4 * 4096

  .section .note.GNU-stack, "", @progbits
