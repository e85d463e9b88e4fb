// SPDX-License-Identifier: BSL-1.0
//
// Where a thread waits that the kernel module stopped in user mode: a bare
// `syscall`, reached by nothing but the module's change of its registers.
// abi_linux.h says what that call is and when it returns to the stub.
#pragma once

#include <cstdint>

namespace activations::detail::arch {

inline constexpr bool has_park_stub = true;

struct park_stub {
  std::uint64_t address;
  std::uint32_t bytes;
};

// The code lies in the function that knows where it is, jumped over, so that
// it is one whole wherever linkers and link-time optimizers put it.
//
// The fallback tail.  rsi still is the address of the activation's
// activations_registers: the mask at 8, r15 ... rdi (15 registers, in the order
// of user_regs_struct) from 16 on, rip at 144, flags at 160.  rsp is as it was
// at the stop, with up to 128 bytes below it in use.  The mask goes first: a
// handler that then runs finds a stack pointer below all that is copied.
[[gnu::noinline]] inline park_stub find_park_stub() noexcept {
  std::uintptr_t first;
  std::uintptr_t last;
  asm volatile(
      "leaq 1f(%%rip), %[first]\n\t"
      "leaq 2f(%%rip), %[last]\n\t"
      "jmp 2f\n"
      "1:\n\t"
      "syscall\n\t"
      "movq %%rsi, %%r8\n\t"
      "leaq 8(%%rsi), %%rsi\n\t"
      "movl $14, %%eax\n\t"  // rt_sigprocmask(SIG_SETMASK, rsi, 0, 8)
      "movl $2, %%edi\n\t"
      "xorl %%edx, %%edx\n\t"
      "movl $8, %%r10d\n\t"
      "syscall\n\t"
      "leaq -264(%%rsp), %%rsp\n\t"
      "leaq 16(%%r8), %%rsi\n\t"
      "movq %%rsp, %%rdi\n\t"
      "movl $15, %%ecx\n\t"
      "cld\n\t"
      "rep movsq\n\t"
      "movq 160(%%r8), %%rax\n\t"
      "movq %%rax, (%%rdi)\n\t"
      "movq 144(%%r8), %%rax\n\t"
      "movq %%rax, 8(%%rdi)\n\t"
      "popq %%r15\n\t"
      "popq %%r14\n\t"
      "popq %%r13\n\t"
      "popq %%r12\n\t"
      "popq %%rbp\n\t"
      "popq %%rbx\n\t"
      "popq %%r11\n\t"
      "popq %%r10\n\t"
      "popq %%r9\n\t"
      "popq %%r8\n\t"
      "popq %%rax\n\t"
      "popq %%rcx\n\t"
      "popq %%rdx\n\t"
      "popq %%rsi\n\t"
      "popq %%rdi\n\t"
      "popfq\n\t"
      "ret $128\n"  // 264 = 15 registers, flags, rip, and these 128
      "2:\n"
      : [first] "=&r"(first), [last] "=&r"(last));
  return {first, static_cast<std::uint32_t>(last - first)};
}

}  // namespace activations::detail::arch
