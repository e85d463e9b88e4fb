// SPDX-License-Identifier: BSL-1.0
//
// activations::mutex: mutual exclusion among user threads, tasks and plain
// kernel threads, in any mixture. Meets the requirements Lockable and
// TimedLockable, so that std::lock_guard, std::unique_lock and
// std::scoped_lock work with it.
#pragma once

#include <chrono>

#include <activations/detail/async_wait.hpp>
#include <activations/detail/deadline.hpp>
#include <activations/detail/mutex_core.hpp>

namespace activations {

class condition_variable;

// Not recursive. Who waits does so in a queue, first in first out, and costs
// its virtual processor nothing: other threads run there. A running thread may
// take a free mutex before those in the queue, but the first of them waits at
// most a millisecond longer for that; nobody starves.
//
// Lifetime: the last thread to unlock the mutex may destroy it at once, even
// if the unlock before that has not returned yet in another thread.
// Size: 32 bytes. A mutex with static storage duration needs no constructor.
class mutex {
 public:
  constexpr mutex() noexcept = default;
  mutex(mutex const&) = delete;
  mutex& operator=(mutex const&) = delete;

  // Requires: nobody holds it or waits for it (checked).
  ~mutex() = default;

  // Waits until the mutex is the caller's.
  // Requires: the caller does not hold it. It unlocks it itself.
  // Context: user thread, task (its carrier waits), any kernel thread.
  // Ordering: what was written before an unlock is visible after the next lock.
  // Cost: one atomic exchange if nobody holds it. Else a few hundred cycles of
  // spinning, if the owner may be running, then a switch to other work (a
  // system call on a plain kernel thread). No allocation.
  void lock() noexcept { core_.lock(); }

  // Returns: whether the mutex is now the caller's; true if nobody held it.
  // Requires, Context, Ordering: as lock(). Never waits.
  [[nodiscard]] bool try_lock() noexcept { return core_.try_lock(); }

  // As lock(), but for no longer than `timeout` by the steady clock.
  // Returns: whether the mutex is now the caller's. Tries at least once.
  template <class Rep, class Period>
  [[nodiscard]] bool try_lock_for(
      std::chrono::duration<Rep, Period> const& timeout) {
    return core_.try_lock() ||
           core_.lock_until(detail::deadline_after(timeout));
  }

  // As lock(), but until `when` at the latest, by any clock.
  // Returns: whether the mutex is now the caller's. Tries at least once.
  template <class Clock, class Duration>
  [[nodiscard]] bool try_lock_until(
      std::chrono::time_point<Clock, Duration> const& when) {
    return core_.try_lock() ||
           detail::attempt_until(when, [this](detail::steady_time deadline) {
             return core_.lock_until(deadline);
           });
  }

  // Lets the mutex go, and makes the first waiter run if there is one.
  // Requires: the caller holds it (checked): the thread that locked it, or the
  // task that did so with async_lock().
  // Context: as lock(). Never waits.
  // Cost: one atomic exchange if nobody waits.
  void unlock() noexcept { core_.unlock(); }

  // For tasks: co_await mutex.async_lock(). The task waits without a stack; the
  // mutex is its own afterwards, also across further suspensions, until it
  // calls unlock(). A task that has to wait is given the mutex in its turn.
  // (A mutex locked by lock() in a task must be unlocked before the task
  // suspends: it belongs to the carrier.)
  // Returns: an object to be awaited at once, by an activations::task.
  // Ordering: as lock(). Cost: as lock(), without the spinning.
  [[nodiscard]] auto async_lock() noexcept {
    return detail::wait_awaiter(locking{&core_});
  }

 private:
  friend class condition_variable;
  using core = detail::mutex_core<>;

  struct locking {
    using node_type = core::node;
    core* mutex;

    bool try_now() noexcept { return mutex->try_lock_task(); }
    bool enqueue(node_type& node) noexcept { return mutex->enqueue_task(node); }
  };

  core core_;
};

}  // namespace activations
