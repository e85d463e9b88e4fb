// SPDX-License-Identifier: BSL-1.0
//
// user_thread: std::jthread on a stack of its own, run by a scheduler.  Any
// code may run inside, and may block in any way: its processor goes to others.
#pragma once

#include <cerrno>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <ostream>
#include <span>
#include <stop_token>
#include <string_view>
#include <system_error>
#include <tuple>
#include <type_traits>
#include <utility>

#include <activations/detail/thread_block.hpp>
#include <activations/error.hpp>

namespace activations {

class scheduler;

// Identifies a user thread within its scheduler: a small number that is not
// used twice.  The default one names no thread.
class thread_id {
 public:
  constexpr thread_id() noexcept = default;
  [[nodiscard]] constexpr std::uint64_t value() const noexcept {
    return value_;
  }
  friend constexpr auto operator<=>(thread_id, thread_id) noexcept = default;
  friend std::ostream& operator<<(std::ostream& out, thread_id id) {
    return out << id.value_;
  }

 private:
  friend class user_thread;
  friend thread_id make_thread_id(std::uint64_t) noexcept;
  explicit constexpr thread_id(std::uint64_t value) noexcept : value_(value) {}
  std::uint64_t value_ = 0;
};

inline thread_id make_thread_id(std::uint64_t value) noexcept {
  return thread_id(value);
}

// Properties of one user thread.
struct thread_options {
  // Shown by debuggers and in messages; cut to 15 characters.
  std::string_view name{};
  // Size in bytes; 0: the scheduler's.  At least minimum_stack_bytes.
  std::size_t stack_bytes = 0;
  // Memory to use as the stack, for the life of the thread; it has no guard,
  // but is checked at each switch.  Empty: the scheduler's own.
  std::span<std::byte> stack{};
};

// A thread of control with a stack, like std::jthread: the destructor requests
// a stop and joins.
//
// Requires   the scheduler outlives its threads (its destructor waits).
// Context    constructor: a user thread or task (the new one joins its
//            scheduler), or any kernel thread through scheduler::spawn; join:
//            any thread but itself.
// Errors     std::system_error: not enough memory for a stack (ENOMEM), a
//            stack that is too small (EINVAL), no scheduler here (EPERM).
// Cost       construct and join: about 150 ns when the stack is cached.
class user_thread {
 public:
  using id = thread_id;

  user_thread() noexcept = default;

  // Runs std::invoke(f, token, args...) if that is well-formed, else
  // std::invoke(f, args...), on decayed copies, on the current scheduler.
  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, user_thread> &&
             !std::is_same_v<std::remove_cvref_t<F>, thread_options> &&
             !std::is_same_v<std::remove_cvref_t<F>, detail::thread_block*>)
  explicit user_thread(F&& f, Args&&... args)
      : user_thread(thread_options{}, std::forward<F>(f),
                    std::forward<Args>(args)...) {}

  template <class F, class... Args>
    requires(!std::is_same_v<std::remove_cvref_t<F>, user_thread>)
  user_thread(thread_options const& options, F&& f, Args&&... args)
      : block_(start(current_runtime(), options, std::forward<F>(f),
                     std::forward<Args>(args)...)) {}

  user_thread(user_thread&& other) noexcept
      : block_(std::exchange(other.block_, nullptr)) {}
  user_thread& operator=(user_thread&& other) {
    if (this != &other) {
      finish();
      block_ = std::exchange(other.block_, nullptr);
    }
    return *this;
  }

  // Requests a stop, then waits.  An exception of the thread that nobody
  // joined for ends the program, as one out of a std::thread does.
  ~user_thread() { finish(); }

  [[nodiscard]] bool joinable() const noexcept { return block_ != nullptr; }

  // Waits for the end and rethrows what left the thread's function.
  // Errors: std::system_error invalid_argument (not joinable),
  //         resource_deadlock_would_occur (its own thread).
  // Ordering: all that the thread did happens before the return.
  void join() {
    if (block_ == nullptr)
      throw_system_error(EINVAL, "join a user thread that is not joinable");
    if (block_->is_current())
      throw_system_error(EDEADLK, "join a user thread from itself");
    detail::thread_block& block = *std::exchange(block_, nullptr);
    block.wait();
    std::exception_ptr const error = std::move(block.error);
    block.drop();
    if (error != nullptr) std::rethrow_exception(error);
  }

  // Lets it run on its own; its scheduler still waits for it at the end.  An
  // exception that leaves its function then ends the program.
  void detach() {
    if (block_ == nullptr)
      throw_system_error(EINVAL, "detach a user thread that is not joinable");
    std::exchange(block_, nullptr)->detach();
  }

  [[nodiscard]] id get_id() const noexcept {
    return id(block_ == nullptr ? 0 : block_->id);
  }
  // At most 15 characters.
  [[nodiscard]] std::string_view name() const noexcept {
    return block_ == nullptr ? "" : block_->name;
  }

  [[nodiscard]] std::stop_source get_stop_source() {
    return block_ == nullptr ? std::stop_source(std::nostopstate)
                             : block_->stop_source();
  }
  [[nodiscard]] std::stop_token get_stop_token() {
    return get_stop_source().get_token();
  }
  bool request_stop() { return block_ != nullptr && block_->request_stop(); }

  void swap(user_thread& other) noexcept { std::swap(block_, other.block_); }
  friend void swap(user_thread& a, user_thread& b) noexcept { a.swap(b); }

 private:
  friend class scheduler;

  static detail::runtime& current_runtime() {
    detail::runtime* const here = detail::current_runtime();
    if (here == nullptr)
      throw_system_error(EPERM,
                         "start a user thread outside a scheduler (use spawn)");
    return *here;
  }

  explicit user_thread(detail::thread_block* started) noexcept
      : block_(started) {}

  template <class F, class... Args>
  static detail::thread_block* start(detail::runtime& home,
                                     thread_options const& options, F&& f,
                                     Args&&... args) {
    detail::thread_block* const made = detail::make_thread(
        home, options.name,
        options.stack_bytes == 0 ? home.stack_bytes() : options.stack_bytes,
        options.stack, std::forward<F>(f), std::forward<Args>(args)...);
    detail::start_thread(*made);
    return made;
  }

  void finish() {
    if (block_ == nullptr) return;
    request_stop();
    detail::thread_block& block = *std::exchange(block_, nullptr);
    block.wait();
    if (block.error != nullptr) detail::terminate_with(block.error);
    block.drop();
  }

  detail::thread_block* block_ = nullptr;
};

}  // namespace activations

template <>
struct std::hash<activations::thread_id> {
  std::size_t operator()(activations::thread_id id) const noexcept {
    return std::hash<std::uint64_t>{}(id.value());
  }
};
