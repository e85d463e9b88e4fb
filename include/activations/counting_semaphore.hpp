// SPDX-License-Identifier: BSL-1.0
//
// activations::counting_semaphore and binary_semaphore: a number of permits
// that user threads, tasks and plain kernel threads take and give back. As
// std::counting_semaphore.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include <activations/config.hpp>
#include <activations/detail/async_wait.hpp>
#include <activations/detail/deadline.hpp>
#include <activations/detail/wait_list.hpp>

namespace activations {

namespace detail {

// The algorithm, without the bound.
//
// State
//   word_  bit 0 listed: waiters_ is not empty; written under the list lock.
//          bits 1 to 63: permits that nobody has.
//   waiters_  guarded by the list lock.
// Roles
//   Any thread: everything.
// Invariants
//   I1  listed implies that there are no permits: a release gives to waiters
//       first. So while it is set only holders of the list lock write word_.
// Edges
//   E1  release: exchange or store (release) -> acquire: exchange (acquire)
//       publishes what was done before the permit was released. Exchanges of
//       others in between are read-modify-writes and pass it on.
//   E2  release gives a permit to a waiter: the same through notify() and the
//       return of wait().
//   Setting and clearing `listed` is relaxed: the list lock publishes the list.
// Progress and memory
//   Without waiters one exchange each; a failed one means that another thread
//   succeeded. Waiters are first in, first out, and are never overtaken. After
//   E1 release touches no member: who got the last permit may destroy the
//   semaphore.
// Evidence
//   tests/model/counting_semaphore_model_test.cpp weakens E1.
template <class Seam = native_wait>
class semaphore_core {
  using word = std::uint64_t;
  static constexpr word listed = 1, permit = 2;

 public:
  using node = typename Seam::waiter;

  static constexpr std::ptrdiff_t max = PTRDIFF_MAX / 2;

  constexpr explicit semaphore_core(std::ptrdiff_t permits) noexcept
      : word_(static_cast<word>(permits) * permit) {}
  semaphore_core(semaphore_core const&) = delete;
  semaphore_core& operator=(semaphore_core const&) = delete;
  ~semaphore_core() { ACTIVATIONS_ASSERT(waiters_.is_empty()); }

  [[nodiscard]] bool try_acquire() noexcept {
    auto seen = word_.load(std::memory_order::relaxed);  // checked below
    while (seen >= permit)
      if (word_.compare_exchange_weak(seen, seen - permit,
                                      std::memory_order::acquire,
                                      std::memory_order::relaxed))  // E1
        return true;
    return false;
  }

  void acquire() noexcept {
    if (try_acquire()) return;
    node waiting;
    if (enqueue(waiting)) waiting.wait();
  }

  [[nodiscard]] bool acquire_until(steady_time deadline) noexcept {
    if (try_acquire()) return true;
    node waiting;
    if (!enqueue(waiting) || waiting.wait_until(deadline)) return true;
    if (withdraw(waiting)) return false;
    waiting.wait();  // it has a permit, the notify is under way
    return true;
  }

  // True: listed, and notified when it has been given a permit. False: the
  // caller has one now.
  [[nodiscard]] bool enqueue(node& waiting) noexcept {
    typename Seam::disabled_region const disabled;
    typename Seam::list_guard const guard(disabled, this);
    auto seen = word_.load(std::memory_order::relaxed);  // checked below
    while (seen != listed) {
      if (seen == 0) {
        if (word_.compare_exchange_weak(seen, listed,
                                        std::memory_order::relaxed,
                                        std::memory_order::relaxed))
          break;
      } else if (word_.compare_exchange_weak(
                     seen, seen - permit, std::memory_order::acquire,
                     std::memory_order::relaxed)) {  // E1
        return false;
      }
    }
    waiters_.push_back(waiting);
    return true;
  }

  void release(std::ptrdiff_t permits,
               [[maybe_unused]] std::ptrdiff_t most) noexcept {
    auto seen = word_.load(std::memory_order::relaxed);  // checked below
    while ((seen & listed) == 0) {
      ACTIVATIONS_ASSERT(permits >= 0 && static_cast<std::ptrdiff_t>(
                                             seen / permit) <= most - permits);
      if (word_.compare_exchange_weak(
              seen, seen + static_cast<word>(permits) * permit,
              std::memory_order::release, std::memory_order::relaxed))  // E1
        return;
    }
    release_to_waiters(permits, most);
  }

 private:
  [[gnu::noinline]] void release_to_waiters(
      std::ptrdiff_t permits, [[maybe_unused]] std::ptrdiff_t most) noexcept {
    ACTIVATIONS_ASSERT(permits >= 0 && permits <= most);
    node* chain = nullptr;
    node** end = &chain;
    {
      typename Seam::disabled_region const disabled;
      typename Seam::list_guard const guard(disabled, this);
      while (permits > 0 && !waiters_.is_empty()) {
        auto* const waiting = waiters_.pop_front();
        *end = waiting;
        end = &waiting->next;
        --permits;
      }
      if (waiters_.is_empty()) give_rest(static_cast<word>(permits) * permit);
    }
    notify_chain(chain);
  }

  // The list is empty, and perhaps was before: then others write word_ too.
  void give_rest(word permits) noexcept {
    auto seen = word_.load(std::memory_order::relaxed);  // checked below
    while (!word_.compare_exchange_weak(seen, (seen & ~listed) + permits,
                                        std::memory_order::release,
                                        std::memory_order::relaxed))  // E1
      continue;
  }

  bool withdraw(node& waiting) noexcept {
    typename Seam::disabled_region const disabled;
    typename Seam::list_guard const guard(disabled, this);
    if (waiting.prev == nullptr) return false;
    waiters_.remove(waiting);
    if (waiters_.is_empty()) word_.store(0, std::memory_order::relaxed);  // I1
    return true;
  }

  typename Seam::template atomic<word> word_;
  wait_list<node> waiters_;
};

}  // namespace detail

// Permits go to waiters first in, first out, and nobody takes one while others
// wait for it.
//
// Lifetime: who got the last permit that will be released may destroy the
// semaphore at once, even if that release has not returned yet.
// Context of all members: user thread, task (its carrier waits), any kernel
// thread.
// Ordering: what was done before a release is visible to who got the permit.
// Cost: one atomic exchange if nobody waits. No allocation.
template <std::ptrdiff_t LeastMaxValue = detail::semaphore_core<>::max>
class counting_semaphore {
  static_assert(LeastMaxValue >= 0 &&
                LeastMaxValue <= detail::semaphore_core<>::max);

 public:
  // The most permits there can be.
  [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept {
    return LeastMaxValue;
  }

  // Requires: 0 <= permits <= max() (checked).
  constexpr explicit counting_semaphore(std::ptrdiff_t permits)
      : core_(permits) {
    ACTIVATIONS_ASSERT(permits >= 0 && permits <= max());
  }
  counting_semaphore(counting_semaphore const&) = delete;
  counting_semaphore& operator=(counting_semaphore const&) = delete;

  // Requires: nobody waits (checked).
  ~counting_semaphore() = default;

  // Adds permits. As many waiters become runnable.
  // Requires: 0 <= permits <= max() minus those that nobody has (checked).
  void release(std::ptrdiff_t permits = 1) noexcept {
    core_.release(permits, max());
  }

  // Waits for a permit and takes it.
  void acquire() noexcept { core_.acquire(); }

  // Takes a permit if there is one. Returns: whether there was. Never waits.
  [[nodiscard]] bool try_acquire() noexcept { return core_.try_acquire(); }

  // As acquire(), for no longer than `timeout` by the steady clock, or until
  // `when` at the latest by any clock. Returns: whether it got a permit. Tries
  // at least once.
  template <class Rep, class Period>
  [[nodiscard]] bool try_acquire_for(
      std::chrono::duration<Rep, Period> const& timeout) {
    return core_.try_acquire() ||
           core_.acquire_until(detail::deadline_after(timeout));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool try_acquire_until(
      std::chrono::time_point<Clock, Duration> const& when) {
    return core_.try_acquire() ||
           detail::attempt_until(when, [this](detail::steady_time deadline) {
             return core_.acquire_until(deadline);
           });
  }

  // For tasks: co_await semaphore.async_acquire(). As acquire(), without a
  // stack. Returns: an object to be awaited at once, by an activations::task.
  [[nodiscard]] auto async_acquire() noexcept {
    return detail::wait_awaiter(acquiring{&core_});
  }

 private:
  struct acquiring {
    using node_type = detail::semaphore_core<>::node;
    detail::semaphore_core<>* semaphore;

    bool try_now() noexcept { return semaphore->try_acquire(); }
    bool enqueue(node_type& node) noexcept { return semaphore->enqueue(node); }
  };

  detail::semaphore_core<> core_;
};

using binary_semaphore = counting_semaphore<1>;

}  // namespace activations
