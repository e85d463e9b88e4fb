// SPDX-License-Identifier: BSL-1.0
//
// Fills every register that a program can see, the flags and the red zone with
// random values, lets something happen, and compares: a loop that interrupts
// land in, a system call, a fault.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "child.hpp"

namespace kernel_tests {

struct register_image {
  std::uint64_t rax, rbx, rcx, rdx, rsi, rdi, rbp;
  std::uint64_t r8_to_r15[8];
  std::uint64_t unused;
  std::uint64_t flags;
  std::uint32_t mxcsr;
  std::uint16_t fcw, unused2;
  std::uint64_t fs_word, gs_word;
  std::uint64_t x87[8][2];
  std::uint64_t ymm[16][4];
  std::uint64_t red_zone[16];
};
static_assert(offsetof(register_image, r8_to_r15) == 56);
static_assert(offsetof(register_image, flags) == 128);
static_assert(offsetof(register_image, x87) == 160);
static_assert(offsetof(register_image, ymm) == 288);
static_assert(offsetof(register_image, red_zone) == 800);
static_assert(sizeof(register_image) == 928);

// What all checkers of a test found.
struct register_findings {
  std::atomic<std::uint64_t> words = 0;    // compared
  std::atomic<std::uint64_t> corrupt = 0;  // rounds with a wrong one
  // The first wrong word of some round.
  std::atomic<int> which = -1;
  std::atomic<std::uint64_t> expected = 0;
  std::atomic<std::uint64_t> got = 0;
  std::string describe() const;
};

// For one thread, which it must be made and used on.
class register_checker {
 public:
  register_checker(register_findings& findings, std::uint64_t seed);

  // `turns` turns of a loop of two instructions.
  bool loop(std::uint64_t turns);
  // A system call; its result goes to `result`.
  bool call(long number, long a, long b, long c, long d, long& result);
  // Reads a byte.
  bool fault(void const* address, unsigned char& byte);

 private:
  void fill();
  bool same(register_image const& expected);

  register_findings& findings_;
  random_numbers random_;
  register_image in_;
  register_image out_;
  // What %gs:0 reads on this thread.
  std::uint64_t gs_word_;
};

}  // namespace kernel_tests
