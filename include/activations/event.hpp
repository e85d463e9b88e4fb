// SPDX-License-Identifier: BSL-1.0
//
// activations::event: a flag that is set and reset by hand, and that any number
// of user threads, tasks and kernel threads can wait for.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include <activations/config.hpp>
#include <activations/detail/async_wait.hpp>
#include <activations/detail/deadline.hpp>
#include <activations/detail/wait_list.hpp>

namespace activations {

namespace detail {

// The algorithm, over the seam of the model tests.
//
// State
//   word_   bit 0 raised: the event is set.
//           bit 1 listed: waiters_ is not empty; written under the list lock.
//   waiters_, round_  guarded by the list lock. A set() takes all waiters at
//           once and starts a round; a waiter is in waiters_ iff its own round
//           is the current one and it has not withdrawn.
// Invariants
//   I1  raised and listed are never both set. With `listed` set only holders
//       of the list lock write word_, except for reset, which changes nothing.
// Edges
//   E1  set: exchange or store (release) -> wait, is_set: load (acquire)
//       publishes what was done before the set.
//   E2  set: exchange (release), also of an event that is set already ->
//       reset: exchange (acquire). What was done before a set that comes
//       before a reset in the order of word_ is visible after the reset; a set
//       that comes after lets go who waits after the reset. So "reset, look
//       for work, wait" loses nothing: that is why a set that changes nothing
//       still is an exchange.
//   E3  set, with waiters: the same as E1 through notify() and wait().
//   Setting and clearing `listed` is relaxed: the list lock publishes the list.
// Progress and memory
//   Without waiters one exchange each. After E1 set touches no member.
// Evidence
//   tests/model/event_model_test.cpp weakens E1 and E2.
template <class Seam = native_wait>
class event_core {
  using word = std::uint32_t;
  static constexpr word raised = 1, listed = 2;

 public:
  using waiter = typename Seam::waiter;
  struct node : waiter {
    using waiter::waiter;
    std::uint32_t round = 0;
  };

  constexpr explicit event_core(bool is_set) noexcept
      : word_(is_set ? raised : 0) {}
  event_core(event_core const&) = delete;
  event_core& operator=(event_core const&) = delete;
  ~event_core() { ACTIVATIONS_ASSERT(waiters_.is_empty()); }

  void set() noexcept {
    auto seen = word_.load(std::memory_order::relaxed);  // checked below
    while ((seen & listed) == 0)
      if (word_.compare_exchange_weak(seen, raised, std::memory_order::release,
                                      std::memory_order::relaxed))  // E1, E2
        return;
    waiter* waiters = nullptr;
    {
      typename Seam::disabled_region const disabled;
      typename Seam::list_guard const guard(disabled, this);
      waiters = waiters_.take_all();
      ++round_;
      word_.exchange(raised, std::memory_order::release);  // E1, E2
    }
    notify_chain(waiters);
  }

  void reset() noexcept {
    word_.fetch_and(~raised, std::memory_order::acquire);  // E2
  }

  [[nodiscard]] bool is_set() const noexcept {
    return (word_.load(std::memory_order::acquire) & raised) != 0;  // E1
  }

  void wait() noexcept {
    if (is_set()) return;
    node waiting;
    if (enqueue(waiting)) waiting.wait();
  }

  [[nodiscard]] bool wait_until(steady_time deadline) noexcept {
    if (is_set()) return true;
    node waiting;
    if (!enqueue(waiting) || waiting.wait_until(deadline)) return true;
    if (withdraw(waiting)) return false;
    waiting.wait();  // the notify is under way
    return true;
  }

  // False: the event is set.
  [[nodiscard]] bool enqueue(node& waiting) noexcept {
    typename Seam::disabled_region const disabled;
    typename Seam::list_guard const guard(disabled, this);
    auto seen = word_.load(std::memory_order::acquire);  // E1
    do {
      if ((seen & raised) != 0) return false;
    } while (seen != listed && !word_.compare_exchange_weak(
                                   seen, listed, std::memory_order::relaxed,
                                   std::memory_order::acquire));  // E1
    waiting.round = round_;
    waiters_.push_back(waiting);
    return true;
  }

 private:
  // A member access, though the event may have been set: this waiter has not
  // returned, so the event is alive.
  bool withdraw(node& waiting) noexcept {
    typename Seam::disabled_region const disabled;
    typename Seam::list_guard const guard(disabled, this);
    if (waiting.round != round_) return false;
    waiters_.remove(waiting);
    if (waiters_.is_empty())
      word_.fetch_and(~listed, std::memory_order::relaxed);
    return true;
  }

  typename Seam::template atomic<word> word_;
  std::uint32_t round_ = 0;  // wraps after 2^32 sets with waiters
  wait_list<waiter> waiters_;
};

}  // namespace detail

// Lifetime: who has waited may destroy the event as soon as its wait returns,
// if nobody else waits, even while the set() that let it go has not returned.
// Context of all members: user thread, task (its carrier waits), any kernel
// thread.
// Ordering: what was done before a set is visible to whoever finds the event
// set, and to a reset that undoes the set.
// Cost: one atomic exchange without waiters, one load for a wait that need not
// wait. No allocation.
class event {
 public:
  // Starts reset, or set if the argument says so.
  constexpr explicit event(bool is_set = false) noexcept : core_(is_set) {}
  event(event const&) = delete;
  event& operator=(event const&) = delete;

  // Requires: nobody waits (checked).
  ~event() = default;

  // Sets the event. All who wait become runnable, also if it is reset before
  // they run. Never waits.
  void set() noexcept { core_.set(); }

  // Resets the event: who comes after that waits.
  void reset() noexcept { core_.reset(); }

  // Returns: whether the event is set.
  [[nodiscard]] bool is_set() const noexcept { return core_.is_set(); }

  // Waits until the event is set.
  void wait() noexcept { core_.wait(); }

  // As wait(), for no longer than `timeout` by the steady clock, or until
  // `when` at the latest by any clock. Returns: whether the event was set.
  template <class Rep, class Period>
  [[nodiscard]] bool wait_for(
      std::chrono::duration<Rep, Period> const& timeout) {
    return core_.is_set() || core_.wait_until(detail::deadline_after(timeout));
  }
  template <class Clock, class Duration>
  [[nodiscard]] bool wait_until(
      std::chrono::time_point<Clock, Duration> const& when) {
    return core_.is_set() ||
           detail::attempt_until(when, [this](detail::steady_time deadline) {
             return core_.wait_until(deadline);
           });
  }

  // For tasks: co_await event.async_wait(). As wait(), without a stack.
  // Returns: an object to be awaited at once, by an activations::task.
  [[nodiscard]] auto async_wait() noexcept {
    return detail::wait_awaiter(waiting_for{&core_});
  }

 private:
  struct waiting_for {
    using node_type = detail::event_core<>::node;
    detail::event_core<>* target;

    bool try_now() noexcept { return target->is_set(); }
    bool enqueue(node_type& node) noexcept { return target->enqueue(node); }
  };

  detail::event_core<> core_;
};

}  // namespace activations
