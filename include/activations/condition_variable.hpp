// SPDX-License-Identifier: BSL-1.0
//
// activations::condition_variable: waiting for a change of what an
// activations::mutex guards. As std::condition_variable, with the stop_token
// forms of std::condition_variable_any.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <utility>

#include <activations/config.hpp>
#include <activations/detail/activation.hpp>
#include <activations/detail/async_wait.hpp>
#include <activations/detail/deadline.hpp>
#include <activations/detail/wait_list.hpp>
#include <activations/mutex.hpp>

namespace activations {

// Waiters are notified first in, first out, and never without cause: a wait
// returns because of a notify, its deadline, or its stop token. A notified
// kernel thread or task whose mutex is locked, as it is when the notifier still
// holds it, is not woken in vain: it moves to the mutex's queue. A user thread
// is woken, which is cheaper than to move it: mostly the mutex is free by the
// time that it runs.
//
// Requires, of every wait: the lock owns its mutex. Waiters may use different
// mutexes.
// Lifetime: it may be destroyed as soon as all waiters have been notified; they
// need not have returned.
// Ordering: through the mutex alone.
// Context: user thread, task (its carrier waits), any kernel thread.
// Cost: a notify without waiters is one load. No allocation.
class condition_variable {
 public:
  constexpr condition_variable() noexcept = default;
  condition_variable(condition_variable const&) = delete;
  condition_variable& operator=(condition_variable const&) = delete;

  // Requires: nobody waits who has not been notified (checked).
  ~condition_variable() { ACTIVATIONS_ASSERT(waiters_.is_empty()); }

  // Notifies the thread that has waited longest, if any waits. The caller may
  // hold the mutex or not.
  void notify_one() noexcept {
    if (!is_unused()) notify_first();
  }

  // Notifies all who wait now.
  void notify_all() noexcept {
    if (!is_unused()) notify_listed();
  }

  // Unlocks, waits for a notify, locks. No notify after the unlock is missed.
  void wait(std::unique_lock<mutex>& lock) noexcept {
    (void)wait_until_deadline(lock, nullptr);
  }

  // Waits until the predicate, called with the mutex locked, returns true.
  template <class Predicate>
  void wait(std::unique_lock<mutex>& lock, Predicate holds) {
    while (!holds()) wait(lock);
  }

  // As wait(lock), but until `when` at the latest, by any clock. The mutex is
  // locked in either case, which may take longer.
  template <class Clock, class Duration>
  std::cv_status wait_until(
      std::unique_lock<mutex>& lock,
      std::chrono::time_point<Clock, Duration> const& when) {
    bool const notified =
        detail::attempt_until(when, [&](detail::steady_time deadline) {
          return wait_until_deadline(lock, &deadline);
        });
    return notified ? std::cv_status::no_timeout : std::cv_status::timeout;
  }

  // Returns: what the predicate returned last.
  template <class Clock, class Duration, class Predicate>
  bool wait_until(std::unique_lock<mutex>& lock,
                  std::chrono::time_point<Clock, Duration> const& when,
                  Predicate holds) {
    while (!holds())
      if (wait_until(lock, when) == std::cv_status::timeout) return holds();
    return true;
  }

  // As wait_until(), for no longer than `timeout` by the steady clock.
  template <class Rep, class Period>
  std::cv_status wait_for(std::unique_lock<mutex>& lock,
                          std::chrono::duration<Rep, Period> const& timeout) {
    return wait_until(lock, detail::deadline_after(timeout));
  }
  template <class Rep, class Period, class Predicate>
  bool wait_for(std::unique_lock<mutex>& lock,
                std::chrono::duration<Rep, Period> const& timeout,
                Predicate holds) {
    return wait_until(lock, detail::deadline_after(timeout), std::move(holds));
  }

  // As the forms above, and a request to stop ends the wait too.
  // Returns: what the predicate returned last.
  template <class Predicate>
  bool wait(std::unique_lock<mutex>& lock, std::stop_token token,
            Predicate holds) {
    while (!token.stop_requested()) {
      if (holds()) return true;
      (void)wait_until_stopped(lock, token, nullptr);
    }
    return holds();
  }
  template <class Clock, class Duration, class Predicate>
  bool wait_until(std::unique_lock<mutex>& lock, std::stop_token token,
                  std::chrono::time_point<Clock, Duration> const& when,
                  Predicate holds) {
    while (!token.stop_requested()) {
      if (holds()) return true;
      bool const notified =
          detail::attempt_until(when, [&](detail::steady_time deadline) {
            return wait_until_stopped(lock, token, &deadline);
          });
      if (!notified) break;
    }
    return holds();
  }
  template <class Rep, class Period, class Predicate>
  bool wait_for(std::unique_lock<mutex>& lock, std::stop_token token,
                std::chrono::duration<Rep, Period> const& timeout,
                Predicate holds) {
    return wait_until(lock, std::move(token), detail::deadline_after(timeout),
                      std::move(holds));
  }

  // For tasks that locked `owned` with async_lock(): unlocks, waits for a
  // notify without a stack, and has the mutex again afterwards.
  //   while (!holds()) co_await changed.async_wait(owned);
  // Returns: an object to be awaited at once, by an activations::task.
  [[nodiscard]] auto async_wait(mutex& owned) noexcept {
    return detail::wait_awaiter(waiting_without_stack{this, &owned.core_});
  }

 private:
  using core = mutex::core;

  struct node : core::node {
    explicit node(core& owned) noexcept
        : mutex(&owned),
          is_user_thread(detail::current_activation() != nullptr) {}
    explicit node(detail::runnable& task) noexcept : core::node(task) {
      is_due = true;
    }

    // It is off the list here. It keeps the mutex alive.
    void go_on() noexcept {
      if (is_user_thread)
        notify();
      else
        mutex->requeue(*this);
    }

    core* mutex = nullptr;
    bool is_user_thread = false;
    bool is_listed = false;  // here; guarded by this list's lock
  };

  struct waiting_without_stack {
    using node_type = node;
    condition_variable* condition;
    core* mutex;

    bool try_now() noexcept { return false; }
    bool enqueue(node_type& waiting) noexcept {
      // The task may go on elsewhere as soon as the mutex is unlocked.
      auto* const owned = mutex;
      waiting.mutex = owned;
      condition->enqueue(waiting);
      owned->unlock();
      return true;
    }
  };

  // Relaxed: a waiter is counted before it unlocks the mutex. Whoever locked
  // that mutex later, to change what the waiter waits for, sees it counted; to
  // anybody else the waiter may just as well have come after the notify.
  bool is_unused() const noexcept {
    return waiting_.load(std::memory_order::relaxed) == 0;
  }

  void enqueue(node& waiting) noexcept {
    detail::disabled_region const disabled;
    detail::list_guard const guard(disabled, this);
    waiters_.push_back(waiting);
    waiting.is_listed = true;
    count(+1);
  }

  // True: it was waiting here and does so no more. If it was not, it has been
  // notified, and `this` may be gone: only the address is used.
  bool withdraw(node& waiting) noexcept {
    detail::disabled_region const disabled;
    detail::list_guard const guard(disabled, this);
    if (!waiting.is_listed) return false;
    waiters_.remove(waiting);
    waiting.is_listed = false;
    count(-1);
    return true;
  }

  void notify_first() noexcept;
  void notify_listed() noexcept;

  bool wait_until_deadline(std::unique_lock<mutex>& lock,
                           detail::steady_time const* deadline) noexcept {
    ACTIVATIONS_ASSERT(lock.owns_lock());
    node waiting(lock.mutex()->core_);
    enqueue(waiting);
    waiting.mutex->unlock();
    return await(waiting, deadline);
  }

  bool wait_until_stopped(std::unique_lock<mutex>& lock,
                          std::stop_token const& token,
                          detail::steady_time const* deadline) {
    ACTIVATIONS_ASSERT(lock.owns_lock());
    node waiting(lock.mutex()->core_);
    enqueue(waiting);
    waiting.mutex->unlock();
    // Called here and now if the stop was requested meanwhile. Its destructor
    // waits for a call that is under way, so `waiting` outlives that.
    std::stop_callback const stop(token, [this, &waiting] {
      if (withdraw(waiting)) waiting.notify();
    });
    return await(waiting, deadline);
  }

  // False: the deadline came first. The mutex is locked in either case.
  bool await(node& waiting, detail::steady_time const* deadline) noexcept {
    bool notified = true;
    if (deadline == nullptr) {
      waiting.wait();
    } else if (!waiting.wait_until(*deadline)) {
      notified = !withdraw(waiting);
      if (notified) waiting.wait();  // it is in the mutex's hands
    }
    waiting.mutex->lock_after(waiting);
    return notified;
  }

  // A plain add: writers hold the list lock.
  void count(int change) noexcept {
    waiting_.store(waiting_.load(std::memory_order::relaxed) +
                       static_cast<std::uint32_t>(change),
                   std::memory_order::relaxed);
  }

  // How many are listed. Written under the list lock, read by any notifier.
  std::atomic<std::uint32_t> waiting_{0};
  detail::wait_list<detail::waiter> waiters_;  // guarded by the list lock
};

inline void condition_variable::notify_first() noexcept {
  node* waiting = nullptr;
  {
    detail::disabled_region const disabled;
    detail::list_guard const guard(disabled, this);
    waiting = static_cast<node*>(waiters_.pop_front());
    if (waiting == nullptr) return;
    waiting->is_listed = false;
    count(-1);
  }
  // The waiter keeps the mutex alive; this object may be gone.
  waiting->go_on();
}

inline void condition_variable::notify_listed() noexcept {
  detail::waiter* chain = nullptr;
  {
    detail::disabled_region const disabled;
    detail::list_guard const guard(disabled, this);
    chain = waiters_.take_all();
    // Each must be able to tell without looking at this object, which may be
    // gone by the time that its deadline comes.
    for (auto* each = chain; each != nullptr; each = each->next)
      static_cast<node*>(each)->is_listed = false;
    waiting_.store(0, std::memory_order::relaxed);  // as in count()
  }
  while (chain != nullptr) {
    auto* const waiting = static_cast<node*>(chain);
    chain = chain->next;
    waiting->go_on();
  }
}

}  // namespace activations
