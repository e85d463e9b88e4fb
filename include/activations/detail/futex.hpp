// SPDX-License-Identifier: BSL-1.0
//
// The kernel's futex, and the one lock that the runtime itself uses.  Any
// thread may call these; none of them allocates or touches errno of the caller.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstdint>

#include <activations/detail/context.hpp>

namespace activations::detail {

using steady_time = std::chrono::steady_clock::time_point;

// CLOCK_MONOTONIC in nanoseconds: what steady_clock reads on Linux.
inline std::uint64_t monotonic_ns() noexcept {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// Never: the deadline of a wait that has none.
inline constexpr std::uint64_t no_deadline = UINT64_MAX;

// Sleeps while word == expected, until a wake, the deadline (monotonic ns) or
// a signal.  Returns false only when the deadline came.  May return early: the
// caller tests its word again.
inline bool futex_wait(std::atomic<std::uint32_t>& word, std::uint32_t expected,
                       std::uint64_t deadline_ns = no_deadline) noexcept {
  int const saved = errno;
  timespec until;
  timespec* timeout = nullptr;
  if (deadline_ns != no_deadline) {
    until.tv_sec = static_cast<time_t>(deadline_ns / 1'000'000'000u);
    until.tv_nsec = static_cast<long>(deadline_ns % 1'000'000'000u);
    timeout = &until;
  }
  // WAIT_BITSET takes an absolute CLOCK_MONOTONIC time.
  long const result =
      syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE, expected, timeout,
              nullptr, FUTEX_BITSET_MATCH_ANY);
  bool const timed_out = result < 0 && errno == ETIMEDOUT;
  errno = saved;
  return !timed_out;
}

inline void futex_wake(std::atomic<std::uint32_t>& word,
                       int count = 1) noexcept {
  int const saved = errno;
  syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
  errno = saved;
}

// Mutual exclusion inside the runtime.  Taken in a disabled region only, so
// that its holder is never stopped by the runtime; a holder that the kernel
// deschedules is waited for on the futex, not by spinning.
//
// State   word_: 0 free, 1 held, 2 held and somebody sleeps.
// Edges   E1  unlock: exchange(release) -> lock: CAS/exchange(acquire)
//         publishes what the holder wrote.
class futex_lock {
 public:
  void lock() noexcept {
    std::uint32_t free = 0;
    if (word_.compare_exchange_strong(free, 1, std::memory_order::acquire,
                                      std::memory_order::relaxed))  // E1
      return;
    lock_slow();
  }

  [[nodiscard]] bool try_lock() noexcept {
    std::uint32_t free = 0;
    return word_.compare_exchange_strong(free, 1, std::memory_order::acquire,
                                         std::memory_order::relaxed);  // E1
  }

  void unlock() noexcept {
    if (word_.exchange(0, std::memory_order::release) == 2)  // E1
      futex_wake(word_);
  }

 private:
  [[gnu::noinline]] void lock_slow() noexcept {
    for (int spin = 0; spin < 64; ++spin) {
      arch::cpu_relax();
      if (word_.load(std::memory_order::relaxed) == 0 && try_lock()) return;
    }
    while (word_.exchange(2, std::memory_order::acquire) != 0)  // E1
      futex_wait(word_, 2);
  }

  std::atomic<std::uint32_t> word_{0};
};

}  // namespace activations::detail
