// SPDX-License-Identifier: BSL-1.0
// What every consumer builds: both units include all of the library, and what
// one starts the other goes on with.
#include <activations/activations.hpp>
#include <cstdio>

#include "second_unit.hpp"

int main() {
  activations::scheduler scheduler;
  int sum = 0;
  scheduler.run([&] {
    activations::mutex mutex;
    activations::user_thread here([&] { add(mutex, sum, 20); });
    activations::user_thread there = start_adding(mutex, sum, 22);
  });
  bool const is_same_thread = scheduler.run(
      [] { return current_id() == activations::this_thread::get_id(); });
  std::printf("sum %d, same thread in both units: %s\n", sum,
              is_same_thread ? "yes" : "no");
  return sum == 42 && is_same_thread ? 0 : 1;
}
