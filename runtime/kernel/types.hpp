// SPDX-License-Identifier: BSL-1.0
//
// What the common kernel and the targets say to each other: why user mode
// stopped, and what machine this is.
#pragma once

#include <cstdint>

namespace kernel {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

inline constexpr u64 page_bytes = 4096;
inline constexpr u64 kernel_stack_bytes = 16 * 1024;
inline constexpr unsigned most_cores = 8;
inline constexpr u64 never = ~u64{0};

// Not the compiler's, which calls a library for it on some targets.
inline unsigned count_bits(u64 mask) {
  unsigned count = 0;
  for (; mask != 0; mask &= mask - 1) ++count;
  return count;
}

// Found by the target before kernel::main.
struct machine_description {
  struct range {
    u64 begin, end;
  };
  range memory[8];  // free for use, page-aligned
  unsigned memory_count;
  unsigned cores;
  char command_line[256];
};

// What user mode sees on the console before it can print: milestones.
void print(char const* text);
void print_hex(u64 value);
void print_decimal(u64 value);

// Prints cause, core and a back-trace, and ends the machine with status 255.
[[noreturn]] void panic(char const* what, u64 a = 0, u64 b = 0);

}  // namespace kernel

namespace machine {

using kernel::u32;
using kernel::u64;

enum class cause : u32 {
  call,    // a system call
  timer,   // this core's timer
  kick,    // another core has sent a message
  device,  // number: which
  fault,   // access to address was refused; access: what it wanted
  trap     // number: the target's code of anything else
};

struct stop {
  cause why;
  u32 number;
  u32 access;  // ACTIVATIONS_ACCESS_*
  u64 address;
};

}  // namespace machine
