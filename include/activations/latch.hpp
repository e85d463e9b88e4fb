// SPDX-License-Identifier: BSL-1.0
//
// activations::latch: a count that goes down to zero once, and lets go all who
// wait for that. As std::latch, for user threads, tasks and kernel threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <activations/config.hpp>
#include <activations/detail/async_wait.hpp>
#include <activations/detail/wait_list.hpp>

namespace activations {

// Lifetime: who has waited may destroy the latch as soon as its wait returns,
// also when others are still inside count_down() or arrive_and_wait(): a latch
// on the stack of the thread that waits is safe.
// Context of all members: user thread, task (its carrier waits), any kernel
// thread.
// Ordering: what was done before any count_down is visible after each wait.
// Cost: one atomic exchange for a count_down, one load for a wait that need not
// wait. No allocation.
//
// State
//   word_  bit 0 listed: waiters_ is not empty; set under the list lock.
//          bits 1 to 63: the count.
//   waiters_  guarded by the list lock.
// Invariants
//   I1  the count only goes down. Whoever takes it from above zero to zero is
//       alone in doing so, and with `listed` set nobody but it writes word_.
// Edges
//   E1  count_down: exchange or store (release) -> wait: load (acquire)
//       that sees zero; earlier exchanges are passed on by the later ones.
//   E2  count_down: load or exchange (acquire) of the last of them, after the
//       E1 releases of the others: it tells the waiters through notify().
//   Setting `listed` is relaxed: the list lock publishes the list.
// Progress and memory
//   After the exchange or store that makes the count zero, count_down touches
//   no member.
// Evidence
//   tests/latch_test.cpp under ThreadSanitizer and AddressSanitizer.
class latch {
 public:
  [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept {
    return PTRDIFF_MAX / 2;
  }

  // Requires: 0 <= expected <= max() (checked).
  constexpr explicit latch(std::ptrdiff_t expected)
      : word_(static_cast<word>(expected) * one) {
    ACTIVATIONS_ASSERT(expected >= 0 && expected <= max());
  }
  latch(latch const&) = delete;
  latch& operator=(latch const&) = delete;

  // Requires: nobody waits (checked).
  ~latch() { ACTIVATIONS_ASSERT(waiters_.is_empty()); }

  // Takes `update` off the count; all waiters become runnable if that makes it
  // zero. Never waits.
  // Requires: 0 <= update <= the count (checked).
  void count_down(std::ptrdiff_t update = 1) noexcept {
    auto seen = word_.load(std::memory_order::acquire);  // E2
    for (;;) {
      auto const rest = after(seen, update);
      if (rest == listed) break;
      if (word_.compare_exchange_weak(seen, rest, std::memory_order::release,
                                      std::memory_order::acquire))  // E1, E2
        return;
    }
    detail::waiter* waiters = nullptr;
    {
      detail::disabled_region const disabled;
      detail::list_guard const guard(disabled, this);
      waiters = finish();
    }
    detail::notify_chain(waiters);
  }

  // Returns: whether the count is zero.
  [[nodiscard]] bool try_wait() const noexcept {
    return word_.load(std::memory_order::acquire) < one;  // E1
  }

  // Waits until the count is zero.
  void wait() const noexcept {
    if (try_wait()) return;
    detail::waiter waiting;
    if (enqueue(waiting)) waiting.wait();
  }

  // As count_down(update), then wait(); but in one step, so that the latch may
  // be destroyed as soon as any of those who wait has returned.
  void arrive_and_wait(std::ptrdiff_t update = 1) noexcept {
    detail::waiter waiting;
    detail::waiter* others = nullptr;
    if (arrive(waiting, update, others))
      waiting.wait();
    else
      detail::notify_chain(others);
  }

  // For tasks: co_await latch.async_wait(). As wait(), without a stack.
  // Returns: an object to be awaited at once, by an activations::task.
  [[nodiscard]] auto async_wait() const noexcept {
    return detail::wait_awaiter(waiting_for{this});
  }

 private:
  using word = std::uint64_t;
  static constexpr word listed = 1, one = 2;

  struct waiting_for {
    using node_type = detail::waiter;
    latch const* target;

    bool try_now() noexcept { return target->try_wait(); }
    bool enqueue(node_type& node) noexcept { return target->enqueue(node); }
  };

  static word after(word seen, std::ptrdiff_t update) noexcept {
    ACTIVATIONS_ASSERT(update >= 0 &&
                       update <= static_cast<std::ptrdiff_t>(seen / one));
    return seen - static_cast<word>(update) * one;
  }

  // Under the list lock: the last change.
  detail::waiter* finish() noexcept {
    auto* const waiters = waiters_.take_all();
    word_.store(0, std::memory_order::release);  // E1
    return waiters;
  }

  // False: the count is zero.
  bool enqueue(detail::waiter& waiting) const noexcept {
    detail::disabled_region const disabled;
    detail::list_guard const guard(disabled, this);
    auto seen = word_.load(std::memory_order::acquire);  // E1
    do {
      if (seen < one) return false;
    } while ((seen & listed) == 0 &&
             !word_.compare_exchange_weak(seen, seen | listed,
                                          std::memory_order::relaxed,
                                          std::memory_order::acquire));  // E1
    waiters_.push_back(waiting);
    return true;
  }

  // False: the caller was the last; `others` are to be notified.
  bool arrive(detail::waiter& waiting, std::ptrdiff_t update,
              detail::waiter*& others) noexcept {
    detail::disabled_region const disabled;
    detail::list_guard const guard(disabled, this);
    auto seen = word_.load(std::memory_order::acquire);  // E2
    for (;;) {
      auto const rest = after(seen, update);
      if (rest < one) {
        others = finish();
        return false;
      }
      if (word_.compare_exchange_weak(seen, rest | listed,
                                      std::memory_order::release,
                                      std::memory_order::acquire))  // E1, E2
        break;
    }
    waiters_.push_back(waiting);
    return true;
  }

  // Waiting is const, as the standard has it, and puts the caller on the list.
  mutable std::atomic<word> word_;
  mutable detail::wait_list<detail::waiter> waiters_;
};

}  // namespace activations
