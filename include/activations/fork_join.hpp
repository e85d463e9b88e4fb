// SPDX-License-Identifier: BSL-1.0
//
// fork_join: two or more pieces of work, perhaps at the same time.  The caller
// runs the first itself and offers the others to idle processors; what nobody
// took by then it runs as well.  Nothing is allocated per fork but the tasks'
// own frames.
//
//   auto [a, b] = fork_join([&] { return f(); }, [&] { return g(); });
//   auto [a, b] = co_await fork_join(f(), g());      // f, g return task<T>
//
// How it works.  Each strand (user thread or carrier) has one deque of offered
// work, made at its first fork.  Whoever runs the first piece pops the second
// when it is done: usually it is still there, and no other thread was ever
// involved.  If it is gone, a thief has it, and so everything older, since
// thieves take the oldest first: the deque is empty.  Hence a pop that follows
// a piece's end returns that piece's sibling or nothing (I1).
//
// For tasks I1 needs one more rule: a carrier takes up new work only when its
// deque is empty (core.hpp, carrier_entry).  A task that waits in between may
// go on under another carrier, whose deque is empty then; what it left behind
// is popped by its old carrier or stolen.
//
// Errors: an exception of any piece is rethrown after all have ended, the
// first in order if there are several.
#pragma once

#include <array>
#include <atomic>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <tuple>
#include <type_traits>
#include <utility>

#include <activations/detail/core.hpp>
#include <activations/detail/waiter.hpp>
#include <activations/task.hpp>

namespace activations {
namespace detail {

// What a piece returns, or a unit for void.
struct unit {
  friend constexpr bool operator==(unit, unit) noexcept { return true; }
};
template <class T>
using regular = std::conditional_t<std::is_void_v<T>, unit, T>;

template <class F>
regular<std::invoke_result_t<F&>> call_regular(F& f) {
  if constexpr (std::is_void_v<std::invoke_result_t<F&>>) {
    f();
    return {};
  } else {
    return f();
  }
}

// A forked callable: on the forking stack, run by a thief or not at all.
//
// State   word_: 0 offered or running; 1 done; else the waiting forker's
//         waiter.
// Edges   E1 thief: exchange(acq_rel) -> forker: load(acquire): the result.
template <class F>
class forked_call : public job {
 public:
  using result = regular<std::invoke_result_t<F&>>;

  explicit forked_call(F& f) noexcept : job(&run_stolen), function_(f) {}

  void wait_for_thief() noexcept {
    if (word_.load(std::memory_order::acquire) == done) return;  // E1
    waiter self;
    std::uintptr_t expected = 0;
    if (word_.compare_exchange_strong(
            expected, reinterpret_cast<std::uintptr_t>(&self),
            std::memory_order::acq_rel, std::memory_order::acquire))  // E1
      self.wait();
  }

  result take() {
    if (error_ != nullptr) std::rethrow_exception(error_);
    return std::move(*value_);
  }
  [[nodiscard]] std::exception_ptr error() const noexcept { return error_; }

 private:
  static constexpr std::uintptr_t done = 1;

  static void run_stolen(job& offered) noexcept {
    auto& self = static_cast<forked_call&>(offered);
    ACTIVATIONS_TRY {
      self.value_.emplace(call_regular(self.function_));
    }
    ACTIVATIONS_CATCH_ALL {
      self.error_ = std::current_exception();
    }
    auto const waiting =
        self.word_.exchange(done, std::memory_order::acq_rel);  // E1
    // The forker may be gone, unless it waits.
    if (waiting != 0) reinterpret_cast<waiter*>(waiting)->notify();
  }

  F& function_;
  std::atomic<std::uintptr_t> word_{0};
  std::optional<result> value_;
  std::exception_ptr error_;
};

// Where the calling strand offers work.
struct fork_place {
  work_deque<>* deque = nullptr;  // null: nowhere
  core* home = nullptr;

  [[nodiscard]] bool offer(runnable& piece) const noexcept {
    if (deque == nullptr || !deque->push(&piece, home->fork_order()))
      return false;
    home->notify();
    return true;
  }
};

// Not inlined: the thread_local is read once per fork, and never kept across
// a piece, which may end on another kernel thread.
[[gnu::noinline]] inline fork_place current_fork_place() noexcept {
  activation* const self = current_activation_pointer;
  if (self == nullptr) return {};
  strand& here = *self->current;
  return {here.deque != nullptr ? here.deque : self->home->deque_of(here),
          self->home};
}

}  // namespace detail

// Runs f here and g here or on an idle processor; returns both results, with
// std::tuple_element void replaced by an empty struct.
// Context: user thread or task; on a plain kernel thread f, then g.
// Cost: about 15 ns when nobody steals; no allocation, no system call.
template <class F, class G>
  requires std::invocable<F&> && std::invocable<G&>
auto fork_join(F&& f, G&& g) {
  using f_result = detail::regular<std::invoke_result_t<F&>>;
  using g_result = detail::regular<std::invoke_result_t<G&>>;
  using both = std::pair<f_result, g_result>;
  detail::fork_place const place = detail::current_fork_place();
  detail::forked_call<std::remove_reference_t<G>> offered(g);
  if (!place.offer(offered)) [[unlikely]] {
    f_result first = detail::call_regular(f);
    return both(std::move(first), detail::call_regular(g));
  }
  // Also when f throws, g has ended or never started before we leave.
  struct settle {
    detail::work_deque<>& deque;
    detail::forked_call<std::remove_reference_t<G>>& offered;
    bool settled = false;
    ~settle() {
      if (!settled && deque.pop() == nullptr) offered.wait_for_thief();
    }
  } end{*place.deque, offered};
  f_result first = detail::call_regular(f);
  end.settled = true;
  if (place.deque->pop() != nullptr) [[likely]]  // I1: it is ours
    return both(std::move(first), detail::call_regular(g));
  offered.wait_for_thief();
  return both(std::move(first), offered.take());
}

namespace detail {

// State of one co_await fork_join, in the awaiting frame.
//
// The chain: whoever runs the first task goes on with its siblings as long as
// they are still in the deque, and counts them in `by_chain`, a plain word.
// Siblings run by others, and the chain when it finds the deque empty, are
// settled on `open`, and the last one resumes the parent.
// Edges   E1 fetch_sub(acq_rel) -> fetch_sub(acq_rel): results of one side to
//         the side that resumes the parent.
struct fork_state {
  std::atomic<std::uint32_t> open;
  std::uint32_t count;
  std::uint32_t offered = 0;  // siblings that went into the deque
  std::uint32_t by_chain = 0;
  void* parent = nullptr;

  // `n` more pieces have ended; what to resume.
  std::coroutine_handle<> settle(std::uint32_t n) noexcept {
    if (open.fetch_sub(n, std::memory_order::acq_rel) == n)  // E1
      return std::coroutine_handle<>::from_address(parent);
    return std::noop_coroutine();
  }

  static std::coroutine_handle<> child_ended(
      task_promise_base& ended) noexcept {
    fork_state& self = *static_cast<fork_state*>(ended.then_argument);
    if (!ended.in_chain) return self.settle(1);
    if (++self.by_chain == self.count)
      return std::coroutine_handle<>::from_address(self.parent);
    if (self.by_chain <= self.offered) [[likely]] {
      work_deque<>* const deque = current_fork_place().deque;
      runnable* const next = deque == nullptr ? nullptr : deque->pop();
      if (next != nullptr) [[likely]] {  // I1
        auto& sibling = static_cast<task_header&>(*next);
        sibling.in_chain = true;
        return std::coroutine_handle<>::from_address(sibling.frame);
      }
    }
    return self.settle(self.by_chain);
  }
};

template <class... T>
class fork_awaiter {
 public:
  explicit fork_awaiter(task<T>&&... children) noexcept
      : children_(std::move(children)...) {}

  bool await_ready() noexcept { return false; }

  std::coroutine_handle<> await_suspend(
      std::coroutine_handle<> parent) noexcept {
    state_.parent = parent.address();
    std::array<task_promise_base*, sizeof...(T)> promises;
    std::apply(
        [&](auto&... child) {
          promises = {&child.native_handle().promise()...};
        },
        children_);
    for (task_promise_base* each : promises) {
      each->then = &fork_state::child_ended;
      each->then_argument = &state_;
    }
    promises[0]->in_chain = true;
    auto const first =
        std::coroutine_handle<>::from_address(promises[0]->frame);
    fork_place const place = current_fork_place();
    // The last is offered first: thieves take the oldest, the chain goes on
    // with the second.  What does not fit is queued like any other task.
    for (std::size_t i = promises.size() - 1; i > 0; --i) {
      if (place.offer(*promises[i])) [[likely]]
        ++state_.offered;
      else
        current_activation()->home->make_runnable(*promises[i]);
    }
    return first;
  }

  std::tuple<regular<T>...> await_resume() {
    return std::apply(
        [](auto&... child) {
          return std::tuple<regular<T>...>{take(child)...};
        },
        children_);
  }

 private:
  template <class U>
  static regular<U> take(task<U>& child) {
    if constexpr (std::is_void_v<U>) {
      child.native_handle().promise().take();
      return {};
    } else {
      return child.native_handle().promise().take();
    }
  }

  std::tuple<task<T>...> children_;
  fork_state state_{.open = sizeof...(T), .count = sizeof...(T)};
};

}  // namespace detail

// co_await fork_join(a, b, ...): runs the tasks, perhaps at the same time;
// yields a tuple of their results.  Context: a task.
// Cost: about 40 ns for two when nobody steals, frames included.
template <class First, class... Rest>
[[nodiscard]] auto fork_join(task<First> first, task<Rest>... rest) noexcept {
  return detail::fork_awaiter<First, Rest...>(std::move(first),
                                              std::move(rest)...);
}

}  // namespace activations
