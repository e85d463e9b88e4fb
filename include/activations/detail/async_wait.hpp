// SPDX-License-Identifier: BSL-1.0
//
// The awaiter behind the async_ members of the primitives: what a task
// co_awaits to wait without a stack.
#pragma once

#include <concepts>
#include <coroutine>
#include <optional>
#include <utility>

#include <activations/detail/runnable.hpp>

namespace activations::detail {

// One wait on one primitive:
//   node_type        derived from waiter, constructible from a runnable&
//   bool try_now()   the fast path: true if there is nothing to wait for
//   bool enqueue(node_type&)   true: the node is listed and will be notified;
//                              false: there is nothing to wait for after all
template <class Operation>
concept async_operation = requires(Operation operation,
                                   typename Operation::node_type& node,
                                   runnable& task) {
  typename Operation::node_type;
  typename std::optional<typename Operation::node_type>;
  requires std::constructible_from<typename Operation::node_type, runnable&>;
  { operation.try_now() }
  noexcept->std::same_as<bool>;
  { operation.enqueue(node) }
  noexcept->std::same_as<bool>;
};

// Lives in the frame of the awaiting task, and with it the waiter.
// Requires: co_awaited at once, by an activations::task; the task is not
// destroyed while it waits; the primitive lives until the wait has ended.
template <async_operation Operation>
class [[nodiscard]] wait_awaiter {
 public:
  explicit wait_awaiter(Operation operation) noexcept
      : operation_(std::move(operation)) {}
  wait_awaiter(wait_awaiter const&) = delete;
  wait_awaiter& operator=(wait_awaiter const&) = delete;

  bool await_ready() noexcept { return operation_.try_now(); }

  // Once the node is listed, another thread may resume the task and destroy
  // this very object: nothing of it is touched after that. Out of line, since
  // inlined into the coroutine the compiler may keep its locals in the frame.
  template <std::derived_from<runnable> Promise>
  [[gnu::noinline]] bool await_suspend(
      std::coroutine_handle<Promise> task) noexcept {
    auto operation = operation_;
    auto& node = node_.emplace(static_cast<runnable&>(task.promise()));
    return operation.enqueue(node);
  }

  void await_resume() noexcept {}

 private:
  Operation operation_;
  std::optional<typename Operation::node_type> node_;
};

}  // namespace activations::detail
