// SPDX-License-Identifier: BSL-1.0
//
// User mode on aarch64: system calls, the counter, the thread pointer.
#pragma once

#include <cstdint>

#include "frame.hpp"

namespace user {

inline long call(std::uint64_t number, std::uint64_t a = 0, std::uint64_t b = 0,
                 std::uint64_t c = 0, std::uint64_t d = 0) {
  register std::uint64_t x0 asm("x0") = a;
  register std::uint64_t x1 asm("x1") = b;
  register std::uint64_t x2 asm("x2") = c;
  register std::uint64_t x3 asm("x3") = d;
  register std::uint64_t x8 asm("x8") = number;
  asm volatile("svc #0"
               : "+r"(x0), "+r"(x1)
               : "r"(x2), "r"(x3), "r"(x8)
               : "memory");
  return static_cast<long>(x0);
}

inline std::uint64_t counter() {
  std::uint64_t value;
  asm volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(value)::"memory");
  return value;
}

inline void set_thread_pointer(std::uint64_t value) {
  asm volatile("msr tpidr_el0, %0" ::"r"(value) : "memory");
}

// Thread-local storage begins 16 bytes behind the thread pointer, or as many
// as it is aligned to: 64, as start.cpp sees to.
inline std::uint64_t place_tls(unsigned char* room, std::uint64_t /*bytes*/,
                               unsigned char const* image,
                               std::uint64_t image_bytes,
                               std::uint64_t /*all_bytes*/) {
  auto const pointer =
      (reinterpret_cast<std::uint64_t>(room) + 63) & ~std::uint64_t{63};
  auto* const begin = reinterpret_cast<unsigned char*>(pointer + 64);
  for (std::uint64_t i = 0; i < image_bytes; ++i) begin[i] = image[i];
  return pointer;
}

}  // namespace user
