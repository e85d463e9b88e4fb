// SPDX-License-Identifier: BSL-1.0
// For tests: kernel threads, user threads and tasks that all work on the same
// object, and the seed of their random choices.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include <activations/config.hpp>
#include <activations/scheduler.hpp>
#include <activations/task.hpp>
#include <activations/user_thread.hpp>

namespace testing_crew {

using namespace std::chrono_literals;

// Sanitizers make everything slower: do less of it.
#if ACTIVATIONS_ASAN || ACTIVATIONS_TSAN
inline constexpr int effort = 1;
#else
inline constexpr int effort = 5;
#endif

// Members of three kinds; join() or the destructor waits for all of them.
class crew {
 public:
  // f(i) on each of `count` plain kernel threads, i from 0.
  template <class F>
  void kernel_threads(int count, F f) {
    for (int i = 0; i < count; ++i) kernel_.emplace_back([f, i] { f(i); });
  }

  template <class F>
  void user_threads(int count, F f) {
    for (int i = 0; i < count; ++i)
      user_.push_back(scheduler_.spawn([f, i] { f(i); }));
  }

  // f(i) returns an activations::task<>.
  template <class F>
  void tasks(int count, F f) {
    for (int i = 0; i < count; ++i)
      tasks_.push_back(scheduler_.spawn(call(f, i)));
  }

  // The same on threads of both kinds.
  template <class F>
  void threads(int of_each_kind, F f) {
    kernel_threads(of_each_kind, f);
    user_threads(of_each_kind, f);
  }

  activations::scheduler& scheduler() { return scheduler_; }

  void join() {
    for (auto& thread : kernel_) thread.join();
    for (auto& thread : user_) thread.join();
    for (auto& task : tasks_) task.join();
    kernel_.clear();
    user_.clear();
    tasks_.clear();
  }

  ~crew() { join(); }

 private:
  // Keeps what the lambda captured for as long as its task runs.
  template <class F>
  static activations::task<> call(F f, int i) {
    co_await f(i);
  }

  activations::scheduler scheduler_{
      activations::scheduler_options{.processors = 2}};
  std::vector<std::thread> kernel_;
  std::vector<activations::user_thread> user_;
  std::vector<activations::join_handle<void>> tasks_;
};

// A new one for each run; ACTIVATIONS_TEST_SEED repeats a run. Printed, so that
// a failure can be repeated.
inline std::uint64_t seed() {
  static std::uint64_t const chosen = [] {
    char const* const given = std::getenv("ACTIVATIONS_TEST_SEED");
    std::uint64_t const value = given != nullptr
                                    ? std::strtoull(given, nullptr, 0)
                                    : std::random_device()();
    std::printf("ACTIVATIONS_TEST_SEED=%llu\n",
                static_cast<unsigned long long>(value));
    return value;
  }();
  return chosen;
}

// Differs for each `stream`.
inline std::minstd_rand random_stream(int stream) {
  std::seed_seq sequence{seed(), static_cast<std::uint64_t>(stream)};
  return std::minstd_rand(sequence);
}

// Time enough, as a rule, for another thread to get to its wait. A test that
// uses it may pass wrongly on a busy machine, but must not fail wrongly: where
// that matters it is an attempt of succeeds_in_some_attempt.
inline void let_others_wait() {
  std::this_thread::sleep_for(20ms);
}

// For what can be observed only if other threads have come far enough, which
// on a busy machine takes them any time. `attempt` takes how long to wait.
template <class Attempt>
bool succeeds_in_some_attempt(Attempt attempt) {
  for (auto patience = 10ms; patience < 1000ms; patience *= 3)
    if (attempt(patience)) return true;
  return false;
}

template <class Condition>
void wait_until(Condition holds) {
  while (!holds()) std::this_thread::sleep_for(100us);
}

class stopwatch {
 public:
  [[nodiscard]] std::chrono::nanoseconds time() const {
    return std::chrono::steady_clock::now() - start_;
  }

 private:
  std::chrono::steady_clock::time_point start_ =
      std::chrono::steady_clock::now();
};

// A clock that is neither steady nor the system's: an hour late, in ms.
struct late_clock {
  using rep = std::int64_t;
  using period = std::milli;
  using duration = std::chrono::duration<rep, period>;
  using time_point = std::chrono::time_point<late_clock>;
  static constexpr bool is_steady = false;
  static time_point now() {
    return time_point(std::chrono::duration_cast<duration>(
                          std::chrono::system_clock::now().time_since_epoch()) -
                      1h);
  }
};

}  // namespace testing_crew
