// SPDX-License-Identifier: BSL-1.0
//
// activations::barrier: a group of threads that wait for each other, phase
// after phase. As std::barrier, for user threads, tasks and kernel threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include <activations/config.hpp>
#include <activations/detail/async_wait.hpp>
#include <activations/detail/wait_list.hpp>

namespace activations {

namespace detail {

struct no_completion {
  void operator()() const noexcept {}
};

// The algorithm, over the seam of the model tests.
//
// State
//   word_  bits 32 to 63: the phase. Bits 0 to 31: how many are yet to arrive.
//   expected_  how many arrive in the next phase.
//   waiters_  of the current phase; guarded by the list lock.
// Invariants
//   I1  between the last arrival and the store that starts the next phase
//       nobody else writes word_ or expected_: there is nobody left to arrive.
// Edges
//   E1  arrive: fetch_sub (release) -> the last arrive: fetch_sub (acquire)
//       publishes what all did before, through the chain of exchanges; and the
//       decrements of expected_.
//   E2  the last arrive: store (release) -> wait: load (acquire) that sees the
//       next phase; and the same through notify() and wait() to those on the
//       list. It also orders the arrivals of one phase before those of the
//       next: whoever arrives again has waited.
// Progress and memory
//   The phase wraps after 2^32; a token is used before. After the store E2
//   (one that is not the last: after the fetch_sub) arrive touches no member.
// Evidence
//   tests/model/barrier_model_test.cpp weakens each labelled access.
template <class CompletionFunction, class Seam = native_wait>
class barrier_core {
 public:
  using waiter = typename Seam::waiter;
  using phase_number = std::uint32_t;

  constexpr barrier_core(std::uint32_t expected, CompletionFunction completion)
      : word_(expected),
        expected_(expected),
        completion_(std::move(completion)) {}
  barrier_core(barrier_core const&) = delete;
  barrier_core& operator=(barrier_core const&) = delete;
  ~barrier_core() { ACTIVATIONS_ASSERT(waiters_.is_empty()); }

  // Returns the phase for which it arrived.
  phase_number arrive(std::uint32_t arrivals) noexcept {
    auto const seen = count_off(arrivals);
    if (left(seen) == arrivals) complete(phase(seen));
    return phase(seen);
  }

  void wait(phase_number of_phase) noexcept {
    if (is_over(of_phase)) return;
    waiter waiting;
    if (enqueue(waiting, of_phase)) waiting.wait();
  }

  void arrive_and_wait() noexcept {
    waiter waiting;
    if (arrive_listed(waiting)) waiting.wait();
  }

  void arrive_and_drop() noexcept {
    // Relaxed: E1 carries it.
    expected_.fetch_sub(1, std::memory_order::relaxed);
    (void)arrive(1);
  }

  // False: the caller was the last and has completed the phase. Else arrival
  // and listing are one step for whoever completes it, who needs the list lock.
  [[nodiscard]] bool arrive_listed(waiter& waiting) noexcept {
    std::uint64_t seen = 0;
    {
      typename Seam::disabled_region const disabled;
      typename Seam::list_guard const guard(disabled, this);
      seen = count_off(1);
      if (left(seen) > 1) {
        waiters_.push_back(waiting);
        return true;
      }
    }
    complete(phase(seen));
    return false;
  }

 private:
  static constexpr phase_number phase(std::uint64_t word) noexcept {
    return static_cast<phase_number>(word >> 32);
  }
  static constexpr std::uint32_t left(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word);
  }

  // Returns the word before.
  std::uint64_t count_off(std::uint32_t arrivals) noexcept {
    auto const seen =
        word_.fetch_sub(arrivals, std::memory_order::acq_rel);  // E1
    ACTIVATIONS_ASSERT(left(seen) >= arrivals);
    return seen;
  }

  bool is_over(phase_number of_phase) const noexcept {
    return phase(word_.load(std::memory_order::acquire)) != of_phase;  // E2
  }

  // The last to arrive.
  void complete(phase_number of_phase) noexcept {
    completion_();
    waiter* waiters = nullptr;
    {
      typename Seam::disabled_region const disabled;
      typename Seam::list_guard const guard(disabled, this);
      waiters = waiters_.take_all();
      auto const next = std::uint64_t{of_phase + 1} << 32;
      // Relaxed: nobody writes it, I1, and E1 brought it here.
      auto const expected = expected_.load(std::memory_order::relaxed);
      word_.store(next | expected, std::memory_order::release);  // E2
    }
    notify_chain(waiters);
  }

  // False: the phase is over.
  bool enqueue(waiter& waiting, phase_number of_phase) noexcept {
    typename Seam::disabled_region const disabled;
    typename Seam::list_guard const guard(disabled, this);
    if (is_over(of_phase)) return false;
    waiters_.push_back(waiting);
    return true;
  }

  typename Seam::template atomic<std::uint64_t> word_;
  typename Seam::template atomic<std::uint32_t> expected_;
  [[no_unique_address]] CompletionFunction completion_;
  wait_list<waiter> waiters_;
};

}  // namespace detail

// The last to arrive in a phase calls the completion function and then lets go
// all who wait for the phase, itself included.
//
// Lifetime: who has waited for the last phase may destroy the barrier as soon
// as its wait returns, also when others are still inside arrive_and_wait() or
// arrive() for that phase.
// Context of all members: user thread, task (its carrier waits), any kernel
// thread. The completion function runs in the context of the last to arrive.
// Ordering: what was done before an arrival is visible to the completion
// function of the phase, and what that did to all who waited for the phase.
// Cost: one atomic exchange for an arrival that does not wait. No allocation.
template <class CompletionFunction = detail::no_completion>
class barrier {
  static_assert(std::is_nothrow_invocable_v<CompletionFunction&>);
  static_assert(std::is_move_constructible_v<CompletionFunction>);
  using core = detail::barrier_core<CompletionFunction>;

 public:
  // What arrive() returns, for wait(). Movable.
  class arrival_token {
   public:
    arrival_token(arrival_token&&) noexcept = default;
    arrival_token& operator=(arrival_token&&) noexcept = default;

   private:
    friend class barrier;
    explicit arrival_token(std::uint32_t phase) noexcept : phase_(phase) {}
    std::uint32_t phase_;
  };

  // 2^31 - 1.
  [[nodiscard]] static constexpr std::ptrdiff_t max() noexcept {
    return INT32_MAX;
  }

  // Requires: 0 <= expected <= max() (checked).
  constexpr explicit barrier(
      std::ptrdiff_t expected,
      CompletionFunction completion = CompletionFunction())
      : core_(static_cast<std::uint32_t>(expected), std::move(completion)) {
    ACTIVATIONS_ASSERT(expected >= 0 && expected <= max());
  }
  barrier(barrier const&) = delete;
  barrier& operator=(barrier const&) = delete;

  // Requires: nobody waits (checked).
  ~barrier() = default;

  // Counts `update` arrivals in this phase, without waiting for the others.
  // Requires: 0 < update <= those yet to arrive (checked).
  // Returns: a token to wait with, until the end of the next phase.
  [[nodiscard]] arrival_token arrive(std::ptrdiff_t update = 1) noexcept {
    ACTIVATIONS_ASSERT(update > 0 && update <= max());
    return arrival_token(core_.arrive(static_cast<std::uint32_t>(update)));
  }

  // Waits until the phase of the token is complete.
  void wait(arrival_token&& token) const noexcept { core_.wait(token.phase_); }

  // As wait(arrive()), but in one step: see Lifetime.
  void arrive_and_wait() noexcept { core_.arrive_and_wait(); }

  // As arrive(), and one less is expected in all later phases.
  void arrive_and_drop() noexcept { core_.arrive_and_drop(); }

  // For tasks: co_await barrier.async_arrive_and_wait(). As arrive_and_wait(),
  // without a stack. It arrives when it is awaited.
  // Returns: an object to be awaited at once, by an activations::task.
  [[nodiscard]] auto async_arrive_and_wait() noexcept {
    return detail::wait_awaiter(arriving{&core_});
  }

 private:
  struct arriving {
    using node_type = typename core::waiter;
    core* target;

    bool try_now() noexcept { return false; }
    bool enqueue(node_type& node) noexcept {
      return target->arrive_listed(node);
    }
  };

  // Waiting is const, as the standard has it, and puts the caller on the list.
  mutable core core_;
};

}  // namespace activations
