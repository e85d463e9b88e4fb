// SPDX-License-Identifier: BSL-1.0
#include "registers.hpp"

#include <asm/prctl.h>
#include <sys/syscall.h>

#include <cstdio>
#include <cstring>

#include "raw_call.hpp"

extern "C" {
extern int registers_have_avx;
int registers_have_avx = __builtin_cpu_supports("avx");
void hold_in_loop(kernel_tests::register_image const*,
                  kernel_tests::register_image*);
void hold_in_call(kernel_tests::register_image const*,
                  kernel_tests::register_image*);
void hold_in_fault(kernel_tests::register_image const*,
                   kernel_tests::register_image*);
extern char hold_in_call_return[];
}

namespace kernel_tests {
namespace {

// Carry, parity, adjust, zero, sign, direction, overflow, ID.
constexpr std::uint64_t tested_flags = 0x200cd5;
constexpr std::uint64_t trap_flag = 0x100;

std::string name_of(int word) {
  static char const* const names[] = {"rax", "rbx",   "rcx",       "rdx", "rsi",
                                      "rdi", "rbp",   "r8",        "r9",  "r10",
                                      "r11", "r12",   "r13",       "r14", "r15",
                                      "-",   "flags", "mxcsr,fcw", "fs",  "gs"};
  if (word < 0) return "nothing";
  if (word < 20) return names[word];
  if (word < 36) return "st" + std::to_string((word - 20) / 2);
  if (word < 100) return "ymm" + std::to_string((word - 36) / 4);
  return "red zone word " + std::to_string(word - 100);
}

}  // namespace

std::string register_findings::describe() const {
  char text[160];
  std::snprintf(text, sizeof(text),
                "%llu words compared, %llu rounds corrupt, first %s: %#llx "
                "instead of %#llx",
                static_cast<unsigned long long>(words.load()),
                static_cast<unsigned long long>(corrupt.load()),
                name_of(which.load()).c_str(),
                static_cast<unsigned long long>(got.load()),
                static_cast<unsigned long long>(expected.load()));
  return text;
}

register_checker::register_checker(register_findings& findings,
                                   std::uint64_t seed)
    : findings_(findings), random_(seed), gs_word_(random_()) {
  std::memset(&in_, 0, sizeof(in_));
  raw_call(SYS_arch_prctl, ARCH_SET_GS, &gs_word_);
}

void register_checker::fill() {
  auto* words = reinterpret_cast<std::uint64_t*>(&in_);
  for (std::size_t i = 0; i < sizeof(in_) / 8; ++i) words[i] = random_();
  in_.unused = 0;
  // Bit 1 always reads as one, interrupts are on in user mode.
  in_.flags = (in_.flags & tested_flags) | 0x202;
  // All exceptions masked; rounding and flushing at random.
  in_.mxcsr = 0x1f80 | (in_.mxcsr & 0xe040);
  in_.fcw = static_cast<std::uint16_t>(0x037f | (in_.fcw & 0x0c00));
  in_.unused2 = 0;
  asm("mov %%fs:0, %0" : "=r"(in_.fs_word));
  in_.gs_word = gs_word_;
  for (auto& value : in_.x87) {  // ordinary numbers
    value[0] |= std::uint64_t{1} << 63;
    value[1] = 0x3fff + (value[1] & 0xff);
  }
  if (!registers_have_avx) {
    for (auto& value : in_.ymm) value[2] = value[3] = 0;
  }
  out_ = in_;
}

bool register_checker::same(register_image const& expected) {
  // A debugger that steps shows itself in the flags.
  out_.flags &= ~trap_flag;
  // An x87 register is stored in ten bytes.
  for (auto& value : out_.x87) value[1] &= 0xffff;
  if (!registers_have_avx) {
    for (auto& value : out_.ymm) value[2] = value[3] = 0;
  }
  auto const* a = reinterpret_cast<std::uint64_t const*>(&expected);
  auto const* b = reinterpret_cast<std::uint64_t const*>(&out_);
  constexpr std::size_t count = sizeof(out_) / 8;
  findings_.words.fetch_add(count, std::memory_order::relaxed);
  for (std::size_t i = 0; i < count; ++i) {
    if (a[i] == b[i]) continue;
    if (findings_.corrupt.fetch_add(1) == 0) {
      findings_.which = static_cast<int>(i);
      findings_.expected = a[i];
      findings_.got = b[i];
    }
    return false;
  }
  return true;
}

bool register_checker::loop(std::uint64_t turns) {
  fill();
  in_.rcx = turns;
  hold_in_loop(&in_, &out_);
  register_image expected = in_;
  expected.rcx = 0;
  expected.rdx += turns;
  return same(expected);
}

bool register_checker::call(long number, long a, long b, long c, long d,
                            long& result) {
  fill();
  in_.rax = static_cast<std::uint64_t>(number);
  in_.rdi = static_cast<std::uint64_t>(a);
  in_.rsi = static_cast<std::uint64_t>(b);
  in_.rdx = static_cast<std::uint64_t>(c);
  in_.r8_to_r15[2] = static_cast<std::uint64_t>(d);
  hold_in_call(&in_, &out_);
  out_.r8_to_r15[3] &= ~trap_flag;
  result = static_cast<long>(out_.rax);
  register_image expected = in_;
  expected.rax = out_.rax;
  expected.rcx = reinterpret_cast<std::uint64_t>(hold_in_call_return);
  expected.r8_to_r15[3] = in_.flags;
  return same(expected);
}

bool register_checker::fault(void const* address, unsigned char& byte) {
  fill();
  in_.rsi = reinterpret_cast<std::uint64_t>(address);
  hold_in_fault(&in_, &out_);
  byte = static_cast<unsigned char>(out_.rax);
  register_image expected = in_;
  expected.rax = (in_.rax & ~std::uint64_t{0xff}) | byte;
  return same(expected);
}

}  // namespace kernel_tests
