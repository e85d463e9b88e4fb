// SPDX-License-Identifier: BSL-1.0
//
// I/O ports and model-specific registers.
#pragma once

#include "../../kernel/types.hpp"

namespace machine {

inline void out8(kernel::u16 port, kernel::u8 value) {
  asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
inline void out32(kernel::u16 port, u32 value) {
  asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
inline kernel::u8 in8(kernel::u16 port) {
  kernel::u8 value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}

inline u64 read_msr(u32 which) {
  u32 low, high;
  asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(which));
  return static_cast<u64>(high) << 32 | low;
}
inline void write_msr(u32 which, u64 value) {
  asm volatile("wrmsr" ::"c"(which), "a"(static_cast<u32>(value)),
               "d"(static_cast<u32>(value >> 32))
               : "memory");
}

inline u64 read_tsc() {
  u32 low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
  return static_cast<u64>(high) << 32 | low;
}

}  // namespace machine
