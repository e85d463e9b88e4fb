// SPDX-License-Identifier: BSL-1.0
//
// The smallest test frame, for what must hold on Linux and on the bare-metal
// image alike: a program is a table of cases, and prints "ok NAME" for each
// that holds.  The lines of both are compared (tools/image_conformance.sh), so
// nothing else may be printed.
#pragma once

#include <activations/activations.hpp>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <vector>

namespace conformance {

struct test_case {
  char const* name;
  void (*body)();
};

inline std::atomic<int> failed_expectations{0};

// Any thread.  The case goes on, and is not ok.
inline void expect(bool holds, int line = __builtin_LINE()) {
  if (holds) return;
  failed_expectations.fetch_add(1, std::memory_order::relaxed);
  std::printf("line %d: does not hold\n", line);
}

// Runs the cases in their order; the program's status.
template <std::size_t N>
int run(test_case const (&cases)[N]) {
  int bad_cases = 0;
  for (auto const& each : cases) {
    failed_expectations = 0;
    each.body();
    bool const is_ok = failed_expectations == 0;
    std::printf("%s %s\n", is_ok ? "ok" : "FAILED", each.name);
    std::fflush(stdout);
    bad_cases += !is_ok;
  }
  std::printf("%zu cases, %d failed\n", N, bad_cases);
  return bad_cases == 0 ? 0 : 1;
}

// Runs f on a scheduler of its own, and once more with the other number of
// processors.
template <class F>
void on_one_and_two(F f) {
  for (unsigned processors : {1u, 2u}) {
    activations::scheduler there({.processors = processors});
    there.run([&] { f(there); });
  }
}

// f(i) on each of `count` user threads, all at once; waits for them.
template <class F>
void run_all(int count, F f) {
  std::vector<activations::user_thread> threads;
  threads.reserve(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) threads.emplace_back([&f, i] { f(i); });
}

// Yields until it holds: no time is too short.
template <class Predicate>
void wait_until(Predicate holds) {
  while (!holds()) activations::this_thread::yield();
}

}  // namespace conformance
