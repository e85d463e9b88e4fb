// SPDX-License-Identifier: BSL-1.0
//
// For tests of the stack switch: calls a function with known values in every
// register that a call keeps, and says whether all came back. Include it in
// one file of a program: it defines a symbol.
#pragma once

#include <cstdint>

// Returns 0 if f(argument) kept all call-saved registers.
extern "C" std::uint64_t call_with_marked_registers(void (*f)(void*),
                                                    void* argument);

#if defined(__x86_64__)
// clang-format off
asm(R"(
  .text
  .globl call_with_marked_registers
  .type call_with_marked_registers, @function
call_with_marked_registers:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  subq $8, %rsp
  movq %rdi, %rax
  movq %rsi, %rdi
  movabsq $0x1111111111111111, %rbx
  movabsq $0x2222222222222222, %rbp
  movabsq $0x3333333333333333, %r12
  movabsq $0x4444444444444444, %r13
  movabsq $0x5555555555555555, %r14
  movabsq $0x6666666666666666, %r15
  call *%rax
  xorl %eax, %eax
  movabsq $0x1111111111111111, %rcx
  xorq %rcx, %rbx
  orq %rbx, %rax
  movabsq $0x2222222222222222, %rcx
  xorq %rcx, %rbp
  orq %rbp, %rax
  movabsq $0x3333333333333333, %rcx
  xorq %rcx, %r12
  orq %r12, %rax
  movabsq $0x4444444444444444, %rcx
  xorq %rcx, %r13
  orq %r13, %rax
  movabsq $0x5555555555555555, %rcx
  xorq %rcx, %r14
  orq %r14, %rax
  movabsq $0x6666666666666666, %rcx
  xorq %rcx, %r15
  orq %r15, %rax
  addq $8, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size call_with_marked_registers, . - call_with_marked_registers
)");
// clang-format on

// Puts other values into them, and into the floating-point registers that a
// call does not keep; the compiler restores its caller's.
inline void overwrite_registers() noexcept {
  asm volatile(
      "movq $-1, %%rbx\n\tmovq $-1, %%r12\n\tmovq $-1, %%r13\n\t"
      "movq $-1, %%r14\n\tmovq $-1, %%r15\n\t"
      ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n\t"
      "pcmpeqd %%xmm\\n, %%xmm\\n\n\t.endr\n\t"
      "fninit"
      :
      :
      : "rbx", "r12", "r13", "r14", "r15", "xmm0", "xmm1", "xmm2", "xmm3",
        "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
        "xmm12", "xmm13", "xmm14", "xmm15", "st", "st(1)", "st(2)", "st(3)",
        "st(4)", "st(5)", "st(6)", "st(7)");
}

#elif defined(__aarch64__)
// clang-format off
asm(R"(
  .text
  .globl call_with_marked_registers
  .type call_with_marked_registers, %function
call_with_marked_registers:
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
  .irp r, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
  mov x\r, #(0x1100 + \r)
  movk x\r, #0xabcd, lsl #48
  .endr
  .irp r, 8, 9, 10, 11, 12, 13, 14, 15
  mov x9, #(0x2200 + \r)
  movk x9, #0xdcba, lsl #48
  fmov d\r, x9
  .endr
  mov x9, x0
  mov x0, x1
  blr x9
  mov x0, #0
  .irp r, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29
  mov x9, #(0x1100 + \r)
  movk x9, #0xabcd, lsl #48
  eor x9, x9, x\r
  orr x0, x0, x9
  .endr
  .irp r, 8, 9, 10, 11, 12, 13, 14, 15
  mov x9, #(0x2200 + \r)
  movk x9, #0xdcba, lsl #48
  fmov x10, d\r
  eor x9, x9, x10
  orr x0, x0, x9
  .endr
  ldp d14, d15, [sp, #144]
  ldp d12, d13, [sp, #128]
  ldp d10, d11, [sp, #112]
  ldp d8, d9, [sp, #96]
  ldp x27, x28, [sp, #80]
  ldp x25, x26, [sp, #64]
  ldp x23, x24, [sp, #48]
  ldp x21, x22, [sp, #32]
  ldp x19, x20, [sp, #16]
  ldp x29, x30, [sp], #160
  ret
  .size call_with_marked_registers, . - call_with_marked_registers
)");
// clang-format on

inline void overwrite_registers() noexcept {
  asm volatile(
      "mov x19, #-1\n\tmov x20, #-1\n\tmov x21, #-1\n\tmov x22, #-1\n\t"
      "mov x23, #-1\n\tmov x24, #-1\n\tmov x25, #-1\n\tmov x26, #-1\n\t"
      "mov x27, #-1\n\tmov x28, #-1\n\tfmov d8, x19\n\tfmov d9, x19\n\t"
      "fmov d10, x19\n\tfmov d11, x19\n\tfmov d12, x19\n\tfmov d13, x19\n\t"
      "fmov d14, x19\n\tfmov d15, x19\n\t"
      ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24,"
      "25, 26, 27, 28, 29, 30, 31\n\tfmov d\\n, x19\n\t.endr"
      :
      :
      : "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28",
        "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10",
        "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20",
        "v21", "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30",
        "v31");
}

#elif defined(__riscv)
// clang-format off
asm(R"(
  .text
  .globl call_with_marked_registers
  .type call_with_marked_registers, @function
call_with_marked_registers:
  addi sp, sp, -208
  sd ra, 200(sp)
  .irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
  sd s\r, (8 * \r)(sp)
  fsd fs\r, (96 + 8 * \r)(sp)
  li s\r, 0x11110000 + \r
  li t0, 0x22220000 + \r
  fmv.d.x fs\r, t0
  .endr
  mv t2, a0
  mv a0, a1
  jalr t2
  li a0, 0
  .irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11
  li t0, 0x11110000 + \r
  xor t0, t0, s\r
  or a0, a0, t0
  li t0, 0x22220000 + \r
  fmv.x.d t1, fs\r
  xor t0, t0, t1
  or a0, a0, t0
  ld s\r, (8 * \r)(sp)
  fld fs\r, (96 + 8 * \r)(sp)
  .endr
  ld ra, 200(sp)
  addi sp, sp, 208
  ret
  .size call_with_marked_registers, . - call_with_marked_registers
)");
// clang-format on

inline void overwrite_registers() noexcept {
  asm volatile(
      ".irp r, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n\t"
      "li s\\r, -1\n\tfmv.d.x fs\\r, s\\r\n\t.endr\n\t"
      ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n\t"
      "fmv.d.x ft\\n, s1\n\t.endr\n\tfmv.d.x fs0, s1"
      :
      :
      : "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11",
        "fs0", "fs1", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7", "fs8", "fs9",
        "fs10", "fs11", "ft0", "ft1", "ft2", "ft3", "ft4", "ft5", "ft6", "ft7",
        "ft8", "ft9", "ft10", "ft11");
}
#endif
