// SPDX-License-Identifier: BSL-1.0
#include "second_unit.hpp"

#include <chrono>
#include <mutex>
#include <thread>

void add(activations::mutex& mutex, int& sum, int amount) {
  for (int i = 0; i < amount; ++i) {
    std::lock_guard const lock(mutex);
    int const before = sum;
    if (i % 8 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    activations::this_thread::yield();
    sum = before + 1;
  }
}

activations::user_thread start_adding(activations::mutex& mutex, int& sum,
                                      int amount) {
  return activations::user_thread([&, amount] { add(mutex, sum, amount); });
}

activations::user_thread::id current_id() {
  return activations::this_thread::get_id();
}
