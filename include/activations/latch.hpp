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

namespace detail {

// The algorithm, over the seam of the model tests.
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
//   E2  count_down: exchange (release) -> the last count_down or arrive: load
//       or failed exchange (acquire), which tells those on the list through
//       notify() and wait() what all did before.
//   Setting `listed` is relaxed: the list lock publishes the list.
// Progress and memory
//   After the exchange or store that makes the count zero, count_down touches
//   no member.
// Evidence
//   tests/model/latch_model_test.cpp weakens each labelled access.
template <class Seam = native_wait>
class latch_core {
  using word = std::uint64_t;
  static constexpr word listed = 1, one = 2;

 public:
  using waiter = typename Seam::waiter;

  static constexpr std::ptrdiff_t max = PTRDIFF_MAX / 2;

  constexpr explicit latch_core(std::ptrdiff_t expected) noexcept
      : word_(static_cast<word>(expected) * one) {}
  latch_core(latch_core const&) = delete;
  latch_core& operator=(latch_core const&) = delete;
  ~latch_core() { ACTIVATIONS_ASSERT(waiters_.is_empty()); }

  void count_down(std::ptrdiff_t update) noexcept {
    auto seen = word_.load(std::memory_order::acquire);  // E2
    for (;;) {
      auto const rest = after(seen, update);
      if (rest == listed) break;
      if (word_.compare_exchange_weak(seen, rest, std::memory_order::release,
                                      std::memory_order::acquire))  // E1, E2
        return;
    }
    waiter* waiters = nullptr;
    {
      typename Seam::disabled_region const disabled;
      typename Seam::list_guard const guard(disabled, this);
      waiters = finish();
    }
    notify_chain(waiters);
  }

  [[nodiscard]] bool try_wait() const noexcept {
    return word_.load(std::memory_order::acquire) < one;  // E1
  }

  void wait() noexcept {
    if (try_wait()) return;
    waiter waiting;
    if (enqueue(waiting)) waiting.wait();
  }

  void arrive_and_wait(std::ptrdiff_t update) noexcept {
    waiter waiting;
    waiter* others = nullptr;
    if (arrive(waiting, update, others))
      waiting.wait();
    else
      notify_chain(others);
  }

  // False: the count is zero.
  [[nodiscard]] bool enqueue(waiter& waiting) noexcept {
    typename Seam::disabled_region const disabled;
    typename Seam::list_guard const guard(disabled, this);
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

 private:
  static word after(word seen, std::ptrdiff_t update) noexcept {
    ACTIVATIONS_ASSERT(update >= 0 &&
                       update <= static_cast<std::ptrdiff_t>(seen / one));
    return seen - static_cast<word>(update) * one;
  }

  // Under the list lock: the last change.
  waiter* finish() noexcept {
    auto* const waiters = waiters_.take_all();
    word_.store(0, std::memory_order::release);  // E1
    return waiters;
  }

  // False: the caller was the last; `others` are to be notified.
  bool arrive(waiter& waiting, std::ptrdiff_t update,
              waiter*& others) noexcept {
    typename Seam::disabled_region const disabled;
    typename Seam::list_guard const guard(disabled, this);
    auto seen = word_.load(std::memory_order::acquire);  // E2
    for (;;) {
      auto const rest = after(seen, update);
      if (rest < one) {
        others = finish();
        return false;
      }
      // Relaxed: with `listed` set whoever comes last takes the list lock.
      if (word_.compare_exchange_weak(seen, rest | listed,
                                      std::memory_order::relaxed,
                                      std::memory_order::acquire))  // E2
        break;
    }
    waiters_.push_back(waiting);
    return true;
  }

  typename Seam::template atomic<word> word_;
  wait_list<waiter> waiters_;
};

}  // namespace detail

// Lifetime: who has waited may destroy the latch as soon as its wait returns,
// also when others are still inside count_down() or arrive_and_wait(): a latch
// on the stack of the thread that waits is safe.
// Context of all members: user thread, task (its carrier waits), any kernel
// thread.
// Ordering: what was done before any count_down is visible after each wait.
// Cost: one atomic exchange for a count_down, one load for a wait that need not
// wait. No allocation.
class latch {
  using core = detail::latch_core<>;

 public:
  [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept {
    return core::max;
  }

  // Requires: 0 <= expected <= max() (checked).
  constexpr explicit latch(std::ptrdiff_t expected) : core_(expected) {
    ACTIVATIONS_ASSERT(expected >= 0 && expected <= max());
  }
  latch(latch const&) = delete;
  latch& operator=(latch const&) = delete;

  // Requires: nobody waits (checked).
  ~latch() = default;

  // Takes `update` off the count; all waiters become runnable if that makes it
  // zero. Never waits.
  // Requires: 0 <= update <= the count (checked).
  void count_down(std::ptrdiff_t update = 1) noexcept {
    core_.count_down(update);
  }

  // Returns: whether the count is zero.
  [[nodiscard]] bool try_wait() const noexcept { return core_.try_wait(); }

  // Waits until the count is zero.
  void wait() const noexcept { core_.wait(); }

  // As count_down(update), then wait(); but in one step, so that the latch may
  // be destroyed as soon as any of those who wait has returned.
  void arrive_and_wait(std::ptrdiff_t update = 1) noexcept {
    core_.arrive_and_wait(update);
  }

  // For tasks: co_await latch.async_wait(). As wait(), without a stack.
  // Returns: an object to be awaited at once, by an activations::task.
  [[nodiscard]] auto async_wait() const noexcept {
    return detail::wait_awaiter(waiting_for{&core_});
  }

 private:
  struct waiting_for {
    using node_type = core::waiter;
    core* target;

    bool try_now() noexcept { return target->try_wait(); }
    bool enqueue(node_type& node) noexcept { return target->enqueue(node); }
  };

  // Waiting is const, as the standard has it, and puts the caller on the list.
  mutable core core_;
};

}  // namespace activations
