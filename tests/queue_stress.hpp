// SPDX-License-Identifier: BSL-1.0
//
// For the stress tests of the queues: runnables that notice how often they
// are taken and whether their contents came with them.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>

#include <activations/config.hpp>
#include <activations/detail/runnable.hpp>

namespace queue_stress {

// Sanitizers make everything slower: do less of it.
#if ACTIVATIONS_ASAN || ACTIVATIONS_TSAN
inline constexpr int effort = 5;
#else
inline constexpr int effort = 50;
#endif

struct numbered : activations::detail::runnable {
  numbered() noexcept
      : runnable{nullptr, activations::detail::runnable_kind::job} {}

  void fill(std::uint64_t n) noexcept { contents_ = n; }
  std::uint64_t take() noexcept {
    // Relaxed: read when the threads have been joined.
    taken_.fetch_add(1, std::memory_order::relaxed);
    if (contents_ == 0) std::abort();
    return contents_;
  }
  int times_taken() const noexcept {
    return taken_.load(std::memory_order::relaxed);
  }

 private:
  std::uint64_t contents_ = 0;  // plain: the queue must publish it
  std::atomic<int> taken_{0};
};

// Prints its seed; ACTIVATIONS_TEST_SEED sets it.
class random_source {
 public:
  random_source() {
    char const* const set = std::getenv("ACTIVATIONS_TEST_SEED");
    std::uint64_t const seed = set != nullptr ? std::strtoull(set, nullptr, 0)
                                              : std::random_device{}();
    std::printf("ACTIVATIONS_TEST_SEED=%llu\n",
                static_cast<unsigned long long>(seed));
    engine_.seed(seed);
  }
  std::uint64_t operator()() { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

}  // namespace queue_stress
