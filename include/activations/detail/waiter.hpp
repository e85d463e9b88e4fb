// SPDX-License-Identifier: BSL-1.0
//
// One thread of control that waits for one notification: a user thread, a
// suspended task, or a kernel thread that knows nothing of schedulers.  It
// lives in the waiting frame; the primitives in include/activations keep lists
// of them.  Context: wait and wait_until by the thread that made it, notify by
// any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include <activations/detail/core.hpp>

namespace activations::detail {

// State       state_: empty -> waiting (the strand's stack is free, or the
//             kernel thread sleeps); any -> notified; empty, waiting ->
//             timed_out; timed_out -> waiting (a second wait, for a notify
//             that is already under way).
// Roles       the waiting side makes empty/timed_out -> waiting; one notifier
//             makes -> notified; the timer makes -> timed_out.
// Invariants  I1 whoever moves it from waiting makes the waiter runnable, and
//                nobody else does.
//             I2 after the exchange to notified that found `empty` or
//                `timed_out` the notifier touches the waiter no more.
// Edges       E1 notify: exchange(acq_rel) -> wait: load/CAS(acquire):
//                publishes what the notifier wrote before it.
//             E2 wait: CAS to waiting (acq_rel) -> notify: exchange(acq_rel):
//                publishes the saved context.
// Progress    notify is wait-free but for what making runnable costs.
// Evidence    tests/waiter_test.cpp.
class waiter {
 public:
  // Binds to the caller: its strand, or its kernel thread.
  waiter() noexcept {
    if (activation* const self = current_activation();
        self != nullptr && self->current != &self->base) {
      who_ = self->current;
      home_ = self->home;
    }
  }

  // Binds to a task that is suspended already: notify makes it runnable.
  // Context: the task's await_suspend.
  explicit waiter(runnable& task) noexcept
      : state_(waiting), who_(&task), home_(current_activation()->home) {}

  waiter(waiter const&) = delete;
  waiter& operator=(waiter const&) = delete;

  // Returns when notify() was called; at once if it was already.
  void wait() noexcept {
    if (state_.load(std::memory_order::acquire) == notified) return;  // E1
    if (who_ != nullptr) return wait_strand();
    for (;;) {
      auto seen = state_.load(std::memory_order::acquire);  // E1
      if (seen == notified) return;
      if (seen != waiting && !state_.compare_exchange_strong(
                                 seen, waiting, std::memory_order::acq_rel,
                                 std::memory_order::relaxed))
        continue;
      futex_wait(state_, waiting);
    }
  }

  // False: the deadline came first.  Should a notify() be under way then, by
  // somebody who has this waiter in hand, the caller must wait() for it before
  // the waiter dies.
  [[nodiscard]] bool wait_until(steady_time deadline) noexcept {
    auto const since = deadline.time_since_epoch().count();
    auto const deadline_ns = since < 0 ? 0 : static_cast<std::uint64_t>(since);
    if (state_.load(std::memory_order::acquire) == notified) return true;
    if (who_ != nullptr) return wait_strand_until(deadline_ns);
    for (;;) {
      auto seen = state_.load(std::memory_order::acquire);  // E1
      if (seen == notified) return true;
      if (seen == empty && !state_.compare_exchange_strong(
                               seen, waiting, std::memory_order::acq_rel,
                               std::memory_order::relaxed))
        continue;
      if (!futex_wait(state_, waiting, deadline_ns)) break;
    }
    auto seen = std::uint32_t{waiting};
    return !state_.compare_exchange_strong(seen, timed_out,
                                           std::memory_order::acq_rel,
                                           std::memory_order::acquire);
  }

  // Once.  The waiter may be gone as soon as this has taken effect.
  void notify() noexcept {
    runnable* const who = who_;
    core* const home = home_;
    // E1, E2.  After this, if it did not wait, it is not ours (I2).
    if (state_.exchange(notified, std::memory_order::acq_rel) != waiting)
      return;
    ACTIVATIONS_TEST_POINT(notified);
    release(who, home);
  }

  waiter* next = nullptr;
  waiter* prev = nullptr;

 protected:
  // For waits of tasks that have a deadline: false if notify came first.
  bool expire() noexcept {
    auto seen = state_.load(std::memory_order::relaxed);
    do {
      if (seen != waiting && seen != empty) return false;
    } while (!state_.compare_exchange_weak(seen, timed_out,
                                           std::memory_order::acq_rel,
                                           std::memory_order::relaxed));
    if (seen == waiting) release(who_, home_);
    return true;
  }
  [[nodiscard]] core* home() const noexcept { return home_; }
  [[nodiscard]] bool has_expired() const noexcept {
    return state_.load(std::memory_order::acquire) == timed_out;
  }

 private:
  enum : std::uint32_t { empty, waiting, notified, timed_out };

  struct timed_wait : timer_node {
    waiter* who;
  };

  void release(runnable* who, core* home) noexcept {
    if (who == nullptr)
      // The waiter may be gone already; the kernel looks at the address only.
      futex_wake(state_);
    else if (who->kind == runnable_kind::strand)
      home->resume(static_cast<strand&>(*who));
    else
      home->make_runnable(*who);
  }

  void wait_strand() noexcept {
    again_ = true;
    activation& self = *current_activation();
    disabled_region::enter(self);
    core::suspend(self, &publish, this);
  }

  bool wait_strand_until(std::uint64_t deadline_ns) noexcept {
    timed_wait timer;
    timer.deadline_ns = deadline_ns;
    timer.who = this;
    timer.expire = [](timer_node& due) noexcept {
      static_cast<timed_wait&>(due).who->expire();
    };
    activation& self = *current_activation();
    disabled_region::enter(self);
    if (home_->timers().add(timer)) home_->lender().timer_set(deadline_ns);
    core::suspend(self, &publish, this);
    {
      disabled_region const region;
      home_->timers().remove(timer);
    }
    return state_.load(std::memory_order::acquire) == notified;  // E1
  }

  // The strand's stack is free now: from here on it may be woken.
  static void publish(void* argument, activation&) noexcept {
    waiter& self = *static_cast<waiter*>(argument);
    runnable* const who = self.who_;
    core* const home = self.home_;
    // From empty in a first wait, from timed_out in a second.
    auto seen = self.state_.load(std::memory_order::acquire);  // E1
    for (;;) {
      if (seen == notified || (seen == timed_out && !self.again_)) break;
      if (self.state_.compare_exchange_weak(seen, waiting,
                                            std::memory_order::acq_rel,   // E2
                                            std::memory_order::acquire))  // E1
        return;
    }
    // It came while we were leaving.
    home->resume(static_cast<strand&>(*who));
  }

  std::atomic<std::uint32_t> state_{empty};
  bool again_ = false;  // this wait has no deadline
  runnable* who_ = nullptr;
  core* home_ = nullptr;
};

}  // namespace activations::detail
