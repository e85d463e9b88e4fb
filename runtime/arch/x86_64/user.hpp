// SPDX-License-Identifier: BSL-1.0
//
// User mode on x86-64: system calls, the counter, the thread pointer.
#pragma once

#include <cstdint>

#include "frame.hpp"

namespace user {

inline long call(std::uint64_t number, std::uint64_t a = 0, std::uint64_t b = 0,
                 std::uint64_t c = 0, std::uint64_t d = 0) {
  register std::uint64_t r10 asm("r10") = d;
  long result;
  asm volatile("syscall"
               : "=a"(result), "+D"(a), "+S"(b)
               : "a"(number), "d"(c), "r"(r10)
               : "rcx", "r11", "memory");
  return result;
}

inline std::uint64_t counter() {
  std::uint32_t low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high)::"memory");
  return static_cast<std::uint64_t>(high) << 32 | low;
}

inline void set_thread_pointer(std::uint64_t value) {
  asm volatile("wrfsbase %0" ::"r"(value) : "memory");
}

// Thread-local storage ends at the thread pointer, which points to itself.
inline std::uint64_t place_tls(unsigned char* room, std::uint64_t room_bytes,
                               unsigned char const* image,
                               std::uint64_t image_bytes,
                               std::uint64_t all_bytes) {
  auto const pointer =
      (reinterpret_cast<std::uint64_t>(room) + room_bytes - 64) &
      ~std::uint64_t{63};
  auto* const begin = reinterpret_cast<unsigned char*>(
      pointer - ((all_bytes + 63) & ~std::uint64_t{63}));
  for (std::uint64_t i = 0; i < image_bytes; ++i) begin[i] = image[i];
  *reinterpret_cast<std::uint64_t*>(pointer) = pointer;
  return pointer;
}

}  // namespace user
