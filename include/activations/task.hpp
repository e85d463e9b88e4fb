// SPDX-License-Identifier: BSL-1.0
//
// task<T>: a lazy coroutine.  It starts when it is awaited, forked or spawned,
// runs on whatever processor is free, and needs no stack while it waits.
//
// A task runs on the stack of a carrier, an internal user thread.  It may call
// anything: a system call that blocks hands the processor on, and a blocking
// wait (mutex::lock, this_thread::sleep_for) parks the carrier with the task
// inside.  The async_ forms wait with the frame alone.
#pragma once

#include <atomic>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <new>
#include <optional>
#include <type_traits>
#include <utility>
#include <variant>

#include <activations/detail/core.hpp>
#include <activations/detail/deadline.hpp>
#include <activations/detail/runtime.hpp>
#include <activations/detail/thread_block.hpp>
#include <activations/detail/waiter.hpp>

namespace activations {

template <class T = void>
class [[nodiscard]] task;
template <class T = void>
class join_handle;

namespace detail {

template <class T>
inline constexpr bool is_task = false;
template <class T>
inline constexpr bool is_task<task<T>> = true;

// Frames come from the activation's cache.
struct frame_allocation {
  static void* operator new(std::size_t bytes) {
    activation* const self = current_activation();
    return self == nullptr ? ::operator new(frame_cache::rounded(bytes))
                           : self->frames.allocate(bytes);
  }
  static void operator delete(void* memory, std::size_t bytes) noexcept {
    activation* const self = current_activation();
    if (self == nullptr)
      ::operator delete(memory);
    else
      self->frames.release(memory, bytes);
  }
};

// Of a spawned task: who waits for it, and who destroys it.
//
// State   word_: running; finished; abandoned (the handle let go first); else
//         the waiter of the handle.
// Roles   the task: finish, once.  The handle: listen, abandon.
// Edges   E1 finish: exchange(acq_rel) -> listen, is_done: acquire: the result.
//         E2 abandon: CAS(acq_rel) -> finish: exchange(acq_rel): the handle is
//         done with it.
class spawned_word {
 public:
  [[nodiscard]] bool is_done() const noexcept {
    return word_.load(std::memory_order::acquire) == finished;  // E1
  }
  // False: it has ended already.  Else w will be notified.
  bool listen(waiter& w) noexcept {
    std::uintptr_t expected = running;
    return word_.compare_exchange_strong(
        expected, reinterpret_cast<std::uintptr_t>(&w),
        std::memory_order::acq_rel, std::memory_order::acquire);  // E1
  }
  // True: nobody holds the task any more, the caller destroys it.  Else it is
  // the handle's from now on.
  [[nodiscard]] bool finish() noexcept {
    auto const before = word_.exchange(finished, std::memory_order::acq_rel);
    if (before > abandoned) reinterpret_cast<waiter*>(before)->notify();
    return before == abandoned;
  }
  // True: the task has ended, and the caller destroys it.
  [[nodiscard]] bool abandon() noexcept {
    std::uintptr_t expected = running;
    return !word_.compare_exchange_strong(expected, abandoned,
                                          std::memory_order::acq_rel,   // E2
                                          std::memory_order::acquire);  // E1
  }

 private:
  enum : std::uintptr_t { running, finished, abandoned };
  std::atomic<std::uintptr_t> word_{running};
};

// What follows when a task has ended.
struct task_promise_base : task_header, frame_allocation {
  // Who goes on: given the ended task, returns what to resume.
  using continuation =
      std::coroutine_handle<> (*)(task_promise_base& ended) noexcept;

  continuation then = nullptr;
  void* then_argument = nullptr;
  std::exception_ptr error;
  spawned_word spawned;

  std::suspend_always initial_suspend() noexcept { return {}; }

  struct final_awaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(
        std::coroutine_handle<Promise> ended) noexcept {
      task_promise_base& self = ended.promise();
      return self.then(self);
    }
    void await_resume() noexcept {}
  };
  final_awaiter final_suspend() noexcept { return {}; }

  void unhandled_exception() noexcept { error = std::current_exception(); }
};

template <class T>
struct task_promise : task_promise_base {
  task<T> get_return_object() noexcept;

  template <class U>
    requires std::convertible_to<U, T>
  void return_value(U&& value) { result.emplace(std::forward<U>(value)); }
  T take() {
    if (error != nullptr) [[unlikely]]
      std::rethrow_exception(std::move(error));
    if constexpr (std::is_reference_v<T>)
      return *result;
    else
      return std::move(*result);
  }

  struct reference_box {
    std::remove_reference_t<T>* address = nullptr;
    void emplace(T value) noexcept { address = std::addressof(value); }
    T operator*() const noexcept { return static_cast<T>(*address); }
  };
  std::conditional_t<std::is_reference_v<T>, reference_box, std::optional<T>>
      result;
};

template <>
struct task_promise<void> : task_promise_base {
  task<void> get_return_object() noexcept;
  void return_void() noexcept {}
  void take() {
    if (error != nullptr) [[unlikely]]
      std::rethrow_exception(std::move(error));
  }
};

}  // namespace detail

// Requires   awaited, forked or spawned at most once; not destroyed between
//            its start and its end.
// Errors     an exception that leaves the coroutine is rethrown to whoever
//            awaits it.
// Cost       one frame, from a cache of the processor's; start and end are
//            symmetric transfers.
template <class T>
class [[nodiscard]] task {
 public:
  using promise_type = detail::task_promise<T>;
  using value_type = T;

  task() noexcept = default;
  task(task&& other) noexcept
      : handle_(std::exchange(other.handle_, nullptr)) {}
  task& operator=(task&& other) noexcept {
    if (this != &other) {
      if (handle_) handle_.destroy();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  ~task() {
    if (handle_) handle_.destroy();
  }

  [[nodiscard]] explicit operator bool() const noexcept {
    return handle_ != nullptr;
  }

  auto operator co_await() && noexcept {
    struct awaiter {
      std::coroutine_handle<promise_type> child;

      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(
          std::coroutine_handle<> parent) noexcept {
        auto& promise = child.promise();
        promise.then_argument = parent.address();
        promise.then = [](detail::task_promise_base& ended) noexcept {
          return std::coroutine_handle<>::from_address(ended.then_argument);
        };
        return child;
      }
      T await_resume() { return child.promise().take(); }
    };
    return awaiter{handle_};
  }

  // For the library: the coroutine, not yet started, and with release() the
  // duty to destroy it.
  [[nodiscard]] std::coroutine_handle<promise_type> native_handle()
      const noexcept {
    return handle_;
  }
  std::coroutine_handle<promise_type> release() noexcept {
    return std::exchange(handle_, nullptr);
  }

 private:
  friend promise_type;
  explicit task(std::coroutine_handle<promise_type> handle) noexcept
      : handle_(handle) {}
  std::coroutine_handle<promise_type> handle_ = nullptr;
};

namespace detail {

template <class T>
task<T> task_promise<T>::get_return_object() noexcept {
  auto const handle =
      std::coroutine_handle<task_promise<T>>::from_promise(*this);
  frame = handle.address();
  return task<T>(handle);
}
inline task<void> task_promise<void>::get_return_object() noexcept {
  auto const handle =
      std::coroutine_handle<task_promise<void>>::from_promise(*this);
  frame = handle.address();
  return task<void>(handle);
}

}  // namespace detail

// The other end of scheduler::spawn(task).  Destroying it lets the task run
// on; an exception of the task is then dropped with its result.
template <class T>
class [[nodiscard]] join_handle {
 public:
  join_handle() noexcept = default;
  join_handle(join_handle&& other) noexcept
      : task_(std::exchange(other.task_, nullptr)) {}
  join_handle& operator=(join_handle&& other) noexcept {
    if (this != &other) {
      detach();
      task_ = std::exchange(other.task_, nullptr);
    }
    return *this;
  }
  ~join_handle() { detach(); }

  [[nodiscard]] bool joinable() const noexcept { return task_ != nullptr; }
  [[nodiscard]] bool is_done() const noexcept {
    return task_ != nullptr && task_->spawned.is_done();
  }

  // Waits for the end; returns the result or rethrows.  Once.
  // Requires: joinable.
  // Context: user thread, task (parks the carrier), plain kernel thread.
  T join() {
    ACTIVATIONS_ASSERT(task_ != nullptr);
    detail::waiter self;
    if (task_->spawned.listen(self)) self.wait();
    return take();
  }

  // co_await std::move(handle): as join, for tasks.
  auto operator co_await() && noexcept {
    ACTIVATIONS_ASSERT(task_ != nullptr);
    return awaiter{*this, std::nullopt};
  }

  // Lets it run on; its result is dropped.
  void detach() noexcept {
    detail::task_promise<T>* const left = std::exchange(task_, nullptr);
    if (left != nullptr && left->spawned.abandon()) destroy(*left);
  }

 private:
  friend class scheduler;
  explicit join_handle(detail::task_promise<T>& started) noexcept
      : task_(&started) {}

  struct awaiter {
    join_handle& handle;
    std::optional<detail::waiter> self;

    bool await_ready() noexcept { return handle.is_done(); }
    // Out of line: see detail/async_wait.hpp.
    template <std::derived_from<detail::runnable> Promise>
    [[gnu::noinline]] bool await_suspend(
        std::coroutine_handle<Promise> waiting) noexcept {
      self.emplace(static_cast<detail::runnable&>(waiting.promise()));
      return handle.task_->spawned.listen(*self);
    }
    T await_resume() { return handle.take(); }
  };

  T take() {
    struct release {
      detail::task_promise<T>& ended;
      ~release() { destroy(ended); }
    } const at_end{*std::exchange(task_, nullptr)};
    return at_end.ended.take();
  }
  static void destroy(detail::task_promise<T>& ended) noexcept {
    std::coroutine_handle<>::from_address(ended.frame).destroy();
  }

  detail::task_promise<T>* task_ = nullptr;
};

namespace detail {

// Starts a task on its own.  Context: any thread.
template <class T>
task_promise<T>& start_task(core& home, task<T>&& work) noexcept {
  ACTIVATIONS_ASSERT(static_cast<bool>(work));
  auto& promise = work.release().promise();  // it owns itself from here
  promise.then_argument = &home;
  promise.then =
      [](task_promise_base& ended) noexcept -> std::coroutine_handle<> {
    core& scheduler = *static_cast<core*>(ended.then_argument);
    if (ended.spawned.finish())
      std::coroutine_handle<>::from_address(ended.frame).destroy();
    scheduler.count_finished();
    return std::noop_coroutine();
  };
  home.count_spawned();
  home.make_runnable(promise);
  return promise;
}

struct yield_awaiter {
  bool await_ready() noexcept { return false; }
  // Out of line: another processor may resume the task, and free the frame,
  // while this still runs.
  template <std::derived_from<runnable> Promise>
  [[gnu::noinline]] void await_suspend(
      std::coroutine_handle<Promise> self) noexcept {
    current_activation()->home->make_runnable(self.promise());
  }
  void await_resume() noexcept {}
};

}  // namespace detail

// co_await async_yield(): other work goes first.  Context: a task.
[[nodiscard]] inline detail::yield_awaiter async_yield() noexcept {
  return {};
}

namespace detail {

struct task_sleep : waiter, timer_node {
  task_sleep(runnable& task, std::uint64_t when) noexcept : waiter(task) {
    deadline_ns = when;
    timer_node::expire = [](timer_node& due) noexcept {
      static_cast<task_sleep&>(due).waiter::expire();
    };
  }
  void start() noexcept {
    core& scheduler = *home();
    auto const when = deadline_ns;
    disabled_region const region;
    // Once added it may expire, and the task free this node, at any time.
    if (scheduler.timers().add(*this)) scheduler.lender().timer_set(when);
  }
};

struct sleep_awaiter {
  steady_time when;
  std::optional<task_sleep> node;

  bool await_ready() noexcept {
    return when <= std::chrono::steady_clock::now();
  }
  template <std::derived_from<runnable> Promise>
  [[gnu::noinline]] void await_suspend(
      std::coroutine_handle<Promise> self) noexcept {
    node.emplace(self.promise(),
                 static_cast<std::uint64_t>(when.time_since_epoch().count()));
    node->start();
  }
  void await_resume() noexcept {}
};

}  // namespace detail

// co_await async_sleep_until(t), async_sleep_for(d): waits with the frame
// alone.  Context: a task.
[[nodiscard]] inline detail::sleep_awaiter async_sleep_until(
    detail::steady_time when) noexcept {
  return {when, std::nullopt};
}

template <class Rep, class Period>
[[nodiscard]] auto async_sleep_for(
    std::chrono::duration<Rep, Period> const& duration) {
  return async_sleep_until(detail::deadline_after(duration));
}

}  // namespace activations
