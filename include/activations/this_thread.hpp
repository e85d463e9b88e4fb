// SPDX-License-Identifier: BSL-1.0
//
// What a thread of control does to itself.  Everything here also works on a
// plain kernel thread, where it does what std::this_thread would.
#pragma once

#include <chrono>
#include <thread>

#include <activations/detail/deadline.hpp>
#include <activations/detail/thread_block.hpp>
#include <activations/detail/waiter.hpp>
#include <activations/user_thread.hpp>

namespace activations::this_thread {

// The calling user thread's id; the default one on other threads, and in tasks.
[[nodiscard]] inline thread_id get_id() noexcept {
  if (detail::activation* const self = detail::current_activation())
    return make_thread_id(self->current->id);
  auto const* const block = detail::current_kernel_user_thread();
  return make_thread_id(block == nullptr ? 0 : block->id);
}

// Lets others run.  Returns at once when nobody waits.
// Context: any thread; in a task the carrying stack yields (see async_yield).
// Cost: about 30 ns with one other thread waiting; no system call.
inline void yield() noexcept {
  if (detail::activation* const self = detail::current_activation())
    detail::core::yield(*self);
  else
    std::this_thread::yield();
}

// Waits without a kernel thread.  Late by scheduling only, never early.
template <class Clock, class Duration>
void sleep_until(std::chrono::time_point<Clock, Duration> const& when) {
  detail::attempt_until(when, [](detail::steady_time deadline) {
    detail::waiter self;  // nobody notifies it
    (void)self.wait_until(deadline);
    return false;
  });
}

template <class Rep, class Period>
void sleep_for(std::chrono::duration<Rep, Period> const& duration) {
  if (duration > duration.zero()) sleep_until(detail::deadline_after(duration));
}

// While one exists the calling user thread stays on its kernel thread, also
// across waits: for code that keeps something per kernel thread while it waits
// (a locked pthread mutex, some client libraries).  A wait then costs a kernel
// thread, as it would without a scheduler.  Nests.  Does nothing on a plain
// kernel thread.
class [[nodiscard]] pinned_scope {
 public:
  pinned_scope() noexcept {
    detail::activation* const self = detail::current_activation();
    if (self == nullptr) return;
    strand_ = self->current;
    strand_->pinned_to = self;
    ++strand_->pins;
  }
  ~pinned_scope() {
    if (strand_ != nullptr) --strand_->pins;
  }
  pinned_scope(pinned_scope const&) = delete;
  pinned_scope& operator=(pinned_scope const&) = delete;

 private:
  detail::strand* strand_ = nullptr;
};

}  // namespace activations::this_thread
