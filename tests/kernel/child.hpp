// SPDX-License-Identifier: BSL-1.0
//
// Each test runs in a process of its own: what it breaks dies with it, and one
// that hangs is reported with the state of its threads instead of stopping the
// suite.
//
//   KERNEL_TEST(suite, guarantee) { ... EXPECT_...; found("%d stops", n); }
#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

namespace kernel_tests {

struct outcome {
  bool hung = false;
  int status = 0;  // as waitpid gives it
  bool exited_with(int code) const;
  bool killed_by(int signal) const;
  std::string describe() const;
};

// A forked process; the destructor kills it.
class child {
 public:
  // Its exit status is 1 if an expectation failed in it.
  explicit child(std::function<void()> const& body);
  ~child();
  child(child const&) = delete;
  child& operator=(child const&) = delete;

  pid_t pid() const noexcept { return pid_; }
  // Prints where its threads are and kills it if it takes longer.
  outcome wait(std::chrono::seconds limit = std::chrono::seconds(180));
  // Until it called reached(step), ended, or the limit passed.
  bool wait_for(unsigned step,
                std::chrono::seconds limit = std::chrono::seconds(120));
  // How often it called count().
  std::uint64_t counted() const noexcept;

 private:
  pid_t pid_ = -1;
};

// Called in the child, for the parent, or the other way round.
void reached(unsigned step) noexcept;
bool has_reached(unsigned step) noexcept;
void count(std::uint64_t n = 1) noexcept;

// One line about what the test saw.
void found(char const* format, ...) __attribute__((format(printf, 1, 2)));

// Where each thread of a process is, as the kernel says it.
void print_threads(pid_t pid);

// Seconds of each long test, from ACTIVATIONS_SECONDS; 2 by default.
std::chrono::milliseconds budget();

// How long a test goes on: for its budget, and on a machine that is too busy
// for anything to have happened by then, until it has seen enough or a minute
// is over.
class patience {
 public:
  bool lasts(bool has_seen_enough) const {
    auto const now = std::chrono::steady_clock::now();
    return now < start_ + budget() ||
           (!has_seen_enough && now < start_ + std::chrono::minutes(1));
  }

 private:
  std::chrono::steady_clock::time_point start_ =
      std::chrono::steady_clock::now();
};

// From ACTIVATIONS_SEED, else from the clock; printed by main.
std::uint64_t seed();

// xorshift64*, one for each thread.
class random_numbers {
 public:
  explicit random_numbers(std::uint64_t start) noexcept
      : state_(start * 0x9e3779b97f4a7c15ull | 1) {}
  std::uint64_t operator()() noexcept {
    state_ ^= state_ >> 12;
    state_ ^= state_ << 25;
    state_ ^= state_ >> 27;
    return state_ * 0x2545f4914f6cdd1dull;
  }
  std::uint64_t below(std::uint64_t n) noexcept { return (*this)() % n; }

 private:
  std::uint64_t state_;
};

void run_test_in_child(std::function<void()> const& body);

}  // namespace kernel_tests

#define KERNEL_TEST(suite, name)                              \
  static void suite##_##name##_body();                        \
  TEST(suite, name) {                                         \
    ::kernel_tests::run_test_in_child(suite##_##name##_body); \
  }                                                           \
  static void suite##_##name##_body()
