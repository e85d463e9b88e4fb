// SPDX-License-Identifier: BSL-1.0
//
// System calls without libc: no errno, which belongs to the code under test,
// and no cancellation point. A result below 0 is a negative errno.
#pragma once

#include <cstdint>
#include <type_traits>

namespace kernel_tests {

template <class T>
long call_argument(T value) noexcept {
  if constexpr (std::is_null_pointer_v<T>) {
    return 0;
  } else if constexpr (std::is_pointer_v<T>) {
    return static_cast<long>(reinterpret_cast<std::uintptr_t>(value));
  } else {
    return static_cast<long>(value);
  }
}

inline long raw_call6(long number, long a, long b, long c, long d, long e,
                      long f) noexcept {
  long result;
  register long r10 asm("r10") = d;
  register long r8 asm("r8") = e;
  register long r9 asm("r9") = f;
  asm volatile("syscall"
               : "=a"(result)
               : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

template <class A = long, class B = long, class C = long, class D = long,
          class E = long, class F = long>
long raw_call(long number, A a = {}, B b = {}, C c = {}, D d = {}, E e = {},
              F f = {}) noexcept {
  return raw_call6(number, call_argument(a), call_argument(b), call_argument(c),
                   call_argument(d), call_argument(e), call_argument(f));
}

}  // namespace kernel_tests
