// SPDX-License-Identifier: BSL-1.0
//
// What the firmware says of the machine (the device tree) and does for it: the
// calls of the Supervisor Binary Interface, version 0.3 or later.
#pragma once

#include "../../kernel/device_tree.hpp"
#include "../../kernel/types.hpp"

namespace machine {

// Memory, cores, command line.  Core 0 is the hart that runs here.
void firmware_read(kernel::device_tree const& tree, u64 boot_hart,
                   kernel::machine_description& machine);
u64 firmware_hart(unsigned core);
u32 firmware_local_controller(unsigned core);  // its phandle

}  // namespace machine

namespace machine::sbi {

using kernel::u64;

// Returns the error: 0 or negative.
inline long call(u64 extension, u64 function, u64 a = 0, u64 b = 0, u64 c = 0,
                 u64 d = 0) {
  register u64 a0 asm("a0") = a;
  register u64 a1 asm("a1") = b;
  register u64 a2 asm("a2") = c;
  register u64 a3 asm("a3") = d;
  register u64 a6 asm("a6") = function;
  register u64 a7 asm("a7") = extension;
  asm volatile("ecall"
               : "+r"(a0), "+r"(a1)
               : "r"(a2), "r"(a3), "r"(a6), "r"(a7)
               : "memory");
  return static_cast<long>(a0);
}

// At this time; never: off. Takes back one that is pending.
inline void set_timer(u64 ticks) {
  call(0x54494d45, 0, ticks);
}

inline void send_interrupt(u64 hart) {
  call(0x735049, 0, 1, hart);
}

// Instruction fetches of all harts see what was written before.
inline void remote_fence_code() {
  call(0x52464e43, 0, 0, ~u64{0});
}

// Enters `address` with the hart's number in a0 and `argument` in a1.
[[nodiscard]] inline long start_hart(u64 hart, u64 address, u64 argument) {
  return call(0x48534d, 0, hart, address, argument);
}

inline void shut_down() {
  call(0x53525354, 0, 0, 0);
}

}  // namespace machine::sbi
