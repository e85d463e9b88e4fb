// SPDX-License-Identifier: BSL-1.0
//
// The algorithm of activations::mutex, over the seam that the model tests put
// their own atomics and waiters into. mutex.hpp adds the interface;
// condition_variable.hpp moves its waiters to the mutex's list with requeue().
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include <activations/config.hpp>
#include <activations/detail/deadline.hpp>
#include <activations/detail/lock_owner.hpp>
#include <activations/detail/wait_list.hpp>

namespace activations::detail {

struct native_mutex : native_wait {
  using owner = lock_owner;
  // A few hundred cycles: a short critical section and its way here.
  static constexpr int spin_turns = 1;
  static constexpr std::chrono::nanoseconds overtaking_limit =
      std::chrono::milliseconds(1);
  static steady_time now() noexcept { return std::chrono::steady_clock::now(); }
};

// Source
//   The shape is that of the "designated waker" mutex of nsync (Burrows) and
//   of Go's sync.Mutex. Deviations: the list lock lies outside the object
//   (see wait_list.hpp); fairness is one hand-over at a time, not a mode.
// State
//   word_   locked  somebody holds the mutex, or it is on its way to a waiter
//                   that was given it.
//           listed  waiters_ is not empty. Written under the list lock.
//           called  a waiter was taken off the list and told to try; it has
//                   not got the mutex yet, nor gone back to the list. Set
//                   under the list lock; cleared by that waiter, in the
//                   very exchange that locks or lists it.
//   waiters_  guarded by the list lock.
//   owner_  for checks and for spinning; nothing else depends on it.
// Roles
//   Any thread: try_lock, lock, lock_until, enqueue. Owner: unlock. Whoever
//   took a waiter off a condition variable: requeue.
// Invariants
//   I1  listed implies locked or called: somebody will come to the list.
//   I2  one waiter at most is called. It alone clears the bit.
//   I3  while an owner holds the list lock too and `called` is clear, nobody
//       else writes word_: lockers need it unlocked, listers need the lock.
// Edges
//   E1  unlock: word_ exchange or store (release) -> lock: exchange (acquire)
//       publishes what the critical section wrote. Exchanges that set other
//       bits in between are read-modify-writes and pass it on.
//   E2  unlock: a waiter is given the mutex -> its wait() returns.
//       The same through notify() and wait(); word_ does not change hands.
//   E3  requeue: exchange (acquire) on behalf of a waiter, which then learns
//       of it through notify() and wait(): E1 with one more step.
//   Everything else on word_ is relaxed: `listed` and `called` say that the
//   list is worth a look, and the list lock publishes the list.
// Progress and memory
//   Lock and unlock without waiters are one exchange each; a failed one means
//   that another thread succeeded. Waiters are first in, first out; a running
//   thread may overtake them, but the first of them only for
//   `overtaking_limit`: then the next unlock gives it the mutex. An unlock
//   calls one waiter, and none while one is called. After the exchange or
//   store E1 unlock touches no member: the next owner may destroy the mutex.
//   (A called or listed waiter keeps the mutex alive, being inside lock().)
// Evidence
//   tests/model/mutex_model_test.cpp weakens E1 and checks I1.
template <class Seam = native_mutex>
class mutex_core {
  using word = std::uint32_t;
  static constexpr word locked = 1, listed = 2, called = 4;

 public:
  using waiter = typename Seam::waiter;

  enum class result : unsigned char {
    none,   // nothing: contend like a newcomer
    turn,   // it is the called waiter
    owned,  // it was given the mutex
  };

  // One waiting thread or task.
  struct node : waiter {
    using waiter::waiter;

    // Must be given the mutex, not only called: it has been overtaken for too
    // long, or it is a task and cannot go back to the list.
    bool is_due = false;
    result outcome = result::none;  // published by notify()
  };

  mutex_core() = default;
  mutex_core(mutex_core const&) = delete;
  mutex_core& operator=(mutex_core const&) = delete;
  ~mutex_core() {
    // Relaxed: nobody else may be here.
    ACTIVATIONS_ASSERT(word_.load(std::memory_order::relaxed) == 0);
  }

  [[nodiscard]] bool try_lock() noexcept {
    if (!try_take()) return false;
    owner_.set_to_caller();
    return true;
  }

  void lock() noexcept {
    // Looks first: beside a waiter that was called the free word is not zero.
    auto seen = word_.load(std::memory_order::relaxed);  // checked below
    if ((seen & locked) == 0 &&
        word_.compare_exchange_strong(seen, seen | locked,
                                      std::memory_order::acquire,
                                      std::memory_order::relaxed))  // E1
        [[likely]]
      owner_.set_to_caller();
    else
      (void)contend(result::none, nullptr);
  }

  [[nodiscard]] bool lock_until(steady_time deadline) noexcept {
    return try_lock() || contend(result::none, &deadline);
  }

  void unlock() noexcept {
    ACTIVATIONS_ASSERT(owner_.is_caller());
    owner_.clear();
    auto seen = word_.load(std::memory_order::relaxed);  // checked below
    if (must_pass_on(seen) ||
        !word_.compare_exchange_strong(seen, seen & ~locked,
                                       std::memory_order::release,
                                       std::memory_order::relaxed))  // E1
        [[unlikely]]
      unlock_slow(seen);
  }

  // The last part of a wait on a condition variable: gets the mutex for the
  // waiter that requeue() was called with, which has been notified.
  void lock_after(node& waiting) noexcept {
    if (waiting.outcome == result::owned)
      owner_.set_to_caller();
    else
      (void)contend(waiting.outcome, nullptr);
  }

  // Makes a waiter that was waiting for something else wait for the mutex, at
  // the end of the list; or notifies it if it can have the mutex now.
  void requeue(node& waiting) noexcept {
    typename Seam::disabled_region const disabled;
    if (join(disabled, waiting)) return;
    waiting.notify();
  }

  // For tasks, which cannot try again once they are resumed. True: listed; the
  // mutex is the task's when it is notified. False: the mutex is the task's.
  [[nodiscard]] bool enqueue_task(node& waiting) noexcept {
    waiting.is_due = true;
    typename Seam::disabled_region const disabled;
    if (enqueue(disabled, waiting, 0)) return true;
    owner_.set_to_absent();
    return false;
  }

  // As try_lock, for a task.
  [[nodiscard]] bool try_lock_task() noexcept {
    if (!try_take()) return false;
    owner_.set_to_absent();
    return true;
  }

 private:
  [[nodiscard]] bool try_take() noexcept {
    word seen = 0;
    do {
      if (word_.compare_exchange_strong(seen, seen | locked,
                                        std::memory_order::acquire,
                                        std::memory_order::relaxed))  // E1
        return true;
    } while ((seen & locked) == 0);
    return false;
  }

  static bool must_pass_on(word seen) noexcept {
    return (seen & (listed | called)) == listed;
  }

  // Spins, waits, or both until the mutex is the caller's (true) or the
  // deadline comes (false).
  [[gnu::noinline]] bool contend(result start,
                                 steady_time const* deadline) noexcept {
    word mine = start == result::turn ? called : 0;
    steady_time overtaken_since{};
    while (!spin(mine)) {
      node waiting;
      waiting.is_due = mine != 0 && is_overtaken_too_long(overtaken_since);
      {
        typename Seam::disabled_region const disabled;
        if (!enqueue(disabled, waiting, mine)) break;
      }
      if (!await(waiting, deadline)) return false;
      if (waiting.outcome == result::owned) break;
      mine = called;
    }
    owner_.set_to_caller();
    return true;
  }

  // Tries for as long as another thread may need for a short critical section:
  // a few hundred cycles, and only while the owner can be running.
  bool spin(word mine) noexcept {
    for (int turns = 0;; ++turns) {
      auto seen = word_.load(std::memory_order::relaxed);  // a hint
      if ((seen & locked) == 0) {
        if (word_.compare_exchange_strong(seen, (seen & ~mine) | locked,
                                          std::memory_order::acquire,
                                          std::memory_order::relaxed))  // E1
          return true;
      } else if (turns >= Seam::spin_turns || !owner_.may_be_running()) {
        return false;
      }
      Seam::pause();
    }
  }

  // True: the waiter is listed, and no longer `mine`. False: the caller got
  // the mutex instead.
  bool enqueue(typename Seam::disabled_region const& disabled, node& waiting,
               word mine) noexcept {
    typename Seam::list_guard const guard(disabled, this);
    auto seen = word_.load(std::memory_order::relaxed);  // checked below
    for (;;) {
      if ((seen & locked) == 0) {
        if (word_.compare_exchange_strong(seen, (seen & ~mine) | locked,
                                          std::memory_order::acquire,
                                          std::memory_order::relaxed))  // E1
          return false;
      } else if (word_.compare_exchange_strong(seen, (seen & ~mine) | listed,
                                               std::memory_order::relaxed,
                                               std::memory_order::relaxed)) {
        break;
      }
    }
    // Who was called keeps its place before those that came later.
    if (mine != 0)
      waiters_.push_front(waiting);
    else
      waiters_.push_back(waiting);
    return true;
  }

  // True: notified. False: the deadline came and the waiter is off the list.
  bool await(node& waiting, steady_time const* deadline) noexcept {
    if (deadline == nullptr) {
      waiting.wait();
      return true;
    }
    if (waiting.wait_until(*deadline)) return true;
    if (withdraw(waiting)) return false;
    waiting.wait();  // an unlock has it: the notify is under way
    return true;
  }

  bool withdraw(node& waiting) noexcept {
    typename Seam::disabled_region const disabled;
    typename Seam::list_guard const guard(disabled, this);
    if (waiting.prev == nullptr) return false;
    waiters_.remove(waiting);
    if (waiters_.is_empty())
      word_.fetch_and(~listed, std::memory_order::relaxed);
    return true;
  }

  [[gnu::noinline]] void unlock_slow(word seen) noexcept {
    for (;;) {
      ACTIVATIONS_ASSERT(seen & locked);
      if (!must_pass_on(seen)) {
        if (word_.compare_exchange_weak(seen, seen & ~locked,
                                        std::memory_order::release,
                                        std::memory_order::relaxed))  // E1
          return;
        continue;
      }
      typename Seam::disabled_region const disabled;
      auto* const next = pass_on(disabled);
      if (next != nullptr) {
        next->notify();
        return;
      }
      seen = word_.load(std::memory_order::relaxed);
    }
  }

  // Calls the first waiter and unlocks, or gives it the mutex. Null: the list
  // is empty after all, and nothing has changed.
  node* pass_on(typename Seam::disabled_region const& disabled) noexcept {
    typename Seam::list_guard const guard(disabled, this);
    auto* const first = static_cast<node*>(waiters_.pop_front());
    if (first == nullptr) return nullptr;
    word const rest = waiters_.is_empty() ? 0 : listed;
    // A store is enough: I3.
    if (first->is_due) {
      first->outcome = result::owned;
      // Until it runs, nobody need spin for it.
      owner_.set_to_absent();
      word_.store(locked | rest, std::memory_order::relaxed);
    } else {
      first->outcome = result::turn;
      word_.store(called | rest, std::memory_order::release);  // E1
    }
    return first;
  }

  // The part of requeue under the list lock. True: listed.
  bool join(typename Seam::disabled_region const& disabled,
            node& waiting) noexcept {
    typename Seam::list_guard const guard(disabled, this);
    auto seen = word_.load(std::memory_order::relaxed);  // checked below
    for (;;) {
      if ((seen & (locked | called)) != 0) {
        if (word_.compare_exchange_weak(seen, seen | listed,
                                        std::memory_order::relaxed,
                                        std::memory_order::relaxed))
          break;
        continue;
      }
      // Free, and by I1 nobody is listed.
      waiting.outcome = waiting.is_due ? result::owned : result::turn;
      if (word_.compare_exchange_weak(seen, waiting.is_due ? locked : called,
                                      std::memory_order::acquire,
                                      std::memory_order::relaxed)) {  // E3
        if (waiting.is_due) owner_.set_to_absent();
        return false;
      }
    }
    waiting.outcome = result::none;
    waiters_.push_back(waiting);
    return true;
  }

  static bool is_overtaken_too_long(steady_time& since) noexcept {
    auto const now = Seam::now();
    if (since == steady_time{}) since = now;
    return now - since >= Seam::overtaking_limit;
  }

  typename Seam::template atomic<word> word_{0};
  wait_list<waiter> waiters_;
  typename Seam::owner owner_;
};

}  // namespace activations::detail
