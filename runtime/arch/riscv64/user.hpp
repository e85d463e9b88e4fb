// SPDX-License-Identifier: BSL-1.0
//
// User mode on riscv64: system calls, the time, the thread pointer.
#pragma once

#include <cstdint>

#include "frame.hpp"

namespace user {

inline long call(std::uint64_t number, std::uint64_t a = 0, std::uint64_t b = 0,
                 std::uint64_t c = 0, std::uint64_t d = 0) {
  register std::uint64_t a0 asm("a0") = a;
  register std::uint64_t a1 asm("a1") = b;
  register std::uint64_t a2 asm("a2") = c;
  register std::uint64_t a3 asm("a3") = d;
  register std::uint64_t a7 asm("a7") = number;
  asm volatile("ecall"
               : "+r"(a0), "+r"(a1)
               : "r"(a2), "r"(a3), "r"(a7)
               : "memory");
  return static_cast<long>(a0);
}

inline std::uint64_t counter() {
  std::uint64_t value;
  asm volatile("rdtime %0" : "=r"(value)::"memory");
  return value;
}

inline void set_thread_pointer(std::uint64_t value) {
  asm volatile("mv tp, %0" ::"r"(value) : "memory");
}

// Thread-local storage begins at the thread pointer.
inline std::uint64_t place_tls(unsigned char* room, std::uint64_t /*bytes*/,
                               unsigned char const* image,
                               std::uint64_t image_bytes,
                               std::uint64_t /*all_bytes*/) {
  auto const pointer =
      (reinterpret_cast<std::uint64_t>(room) + 63) & ~std::uint64_t{63};
  auto* const begin = reinterpret_cast<unsigned char*>(pointer);
  for (std::uint64_t i = 0; i < image_bytes; ++i) begin[i] = image[i];
  return pointer;
}

}  // namespace user
