// SPDX-License-Identifier: BSL-1.0
// Doubly recursive Fibonacci with one fork for each call and no cut-off: the
// field's usual measure of a fork. The time is divided by the forks.
#pragma once

#include <cstdint>

#include "measure.hpp"

namespace bench {

// Forks of fib(n): every call with n >= 2 makes one.
inline double fib_forks(long n) {
  double before = 0, forks = 0;  // of fib(n - 1), of fib(n)
  for (long i = 2; i <= n; ++i) {
    double const next = before + forks + 1;
    before = forks;
    forks = next;
  }
  return forks;
}

template <class Fib>
void measure_fib(char const* peer, long n, Fib fib) {
  stopwatch const watch;
  sink += static_cast<std::uint64_t>(fib(n));
  emit_each(peer, "fib", watch.stop(), fib_forks(n), "ns/fork");
}

}  // namespace bench
