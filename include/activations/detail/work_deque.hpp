// SPDX-License-Identifier: BSL-1.0
//
// The fork-join deque of one activation: its owner works at the bottom, last
// in first out; thieves take the oldest job at the top. Bounded: a push that
// finds it full says so and the caller runs the job at once.
#pragma once

#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>

#include <activations/detail/atomics.hpp>
#include <activations/detail/runnable.hpp>

namespace activations::detail {

// Source
//   Chase and Lev, "Dynamic circular work-stealing deque" (SPAA 2005), in the
//   C11 form of Le, Pop, Cohen and Zappella Nardelli (PPoPP 2013), figure 1.
//   Deviations: a fixed array; no standalone fences (ThreadSanitizer does not
//   model them), instead the four accesses of the store-load pair are
//   seq_cst; the owner remembers the last `top_` it saw, so that a push does
//   not read the thieves' cache line.
// State
//   bottom_    index of the next free slot. Written by the owner, read by
//              all. Own cache line, shared with top_seen_ only.
//   top_seen_  a value top_ once had. Owner only.
//   top_       index of the oldest job. Only ever grows, by compare-exchange
//              of a thief or of the owner (last job). Own cache line.
//   slots_     job i is in slots_[i % Capacity].
//   Indices are 64 bits wide and count up for ever: at 10^9 pushes a second
//   they wrap after 292 years, so a thief may sleep between its load and its
//   compare-exchange for as long as it likes.
// Roles
//   Owner: push, pop (one thread at a time). Any thread: steal, size.
// Invariants
//   I1  top_seen_ <= top_ <= bottom_ + 1; bottom_ is below top_ only while
//       the owner is inside pop.
//   I2  bottom_ - top_ <= Capacity.
//   I3  an index is handed out once: whoever moves top_ past it owns the job,
//       or the owner does if it saw top_ < bottom_ after lowering bottom_.
// Edges
//   E1  push, pop: bottom_ store -> steal: bottom_ load
//       publishes the slot and what the job's pointer leads to.
//   E2  pop: bottom_ store, top_ load | steal: top_ load, bottom_ load
//       all four seq_cst. If the owner did not see that a thief has reached
//       index b, then that thief sees bottom_ <= b and leaves b alone: the
//       owner's load of top_ comes before the thief's in the single total
//       order, hence so does its store of bottom_ before the thief's load.
//       Likewise a thief that sees the last job gone sees bottom_ lowered.
//   E3  steal: top_ compare-exchange -> push: top_ load
//       the thief has read its slot before the owner uses the slot again.
//   E4  push(seq_cst): bottom_ store -> steal, size: bottom_ load
//       for a caller that next loads who is idle, against one that
//       announced itself idle (seq_cst) and looks here once more.
// Progress and memory
//   push and pop are wait-free. steal is lock-free: it starts again only if
//   another thread took a job. No thread can be stopped at a place where
//   another would have to wait for it. Nothing is allocated or reclaimed.
// Evidence
//   tests/model/work_deque_test.cpp weakens each labelled access.
template <class Atomics = std_atomics, std::size_t Capacity = 1024>
class work_deque {
  static_assert(std::has_single_bit(Capacity));

 public:
  work_deque() = default;
  work_deque(work_deque const&) = delete;
  work_deque& operator=(work_deque const&) = delete;

  // Owner. False: full, nothing happened. `publish` is seq_cst for a caller
  // that must not miss a thief about to sleep (E4), else release.
  [[nodiscard]] bool push(
      runnable* job,
      std::memory_order publish = std::memory_order::release) noexcept {
    auto const b = bottom_.load(std::memory_order::relaxed);  // our own word
    if (b - top_seen_ >= capacity) [[unlikely]] {
      top_seen_ = top_.load(std::memory_order::acquire);  // E3
      if (b - top_seen_ >= capacity) return false;
    }
    // Relaxed: bottom_ publishes it.
    slots_[index(b)].store(job, std::memory_order::relaxed);
    bottom_.store(b + 1, publish);  // E1 E4
    return true;
  }

  // Owner. The job pushed last, or null.
  [[nodiscard]] runnable* pop() noexcept {
    // Relaxed: our own word.
    auto const b = bottom_.load(std::memory_order::relaxed) - 1;
    bottom_.store(b, std::memory_order::seq_cst);    // E1 E2
    auto t = top_.load(std::memory_order::seq_cst);  // E2
    assert(b - t < capacity && b - t >= -1);         // I1 I2
    if (t < b) [[likely]] {
      // Relaxed: we stored it ourselves.
      return slots_[index(b)].load(std::memory_order::relaxed);
    }
    return pop_last(b, t);
  }

  // Any thread. The oldest job, or null if there was none.
  [[nodiscard]] runnable* steal() noexcept {
    for (;;) {
      auto t = top_.load(std::memory_order::seq_cst);           // E2
      auto const b = bottom_.load(std::memory_order::seq_cst);  // E1 E2 E4
      if (t >= b) return nullptr;
      // Relaxed: E1 published it. The owner may overwrite it meanwhile, but
      // then top_ has moved and the compare-exchange fails.
      auto* const job = slots_[index(t)].load(std::memory_order::relaxed);
      if (top_.compare_exchange_strong(t, t + 1,
                                       std::memory_order::release,   // E3
                                       std::memory_order::relaxed))  // retry
        return job;
      Atomics::pause();
    }
  }

  // Any thread. Exact if nobody else works here. 0: everything whose push came
  // before, in the order of the seq_cst operations (E4), has been taken.
  [[nodiscard]] std::size_t size() const noexcept {
    auto const b = bottom_.load(std::memory_order::seq_cst);  // E4
    // Relaxed: an old top only makes the deque look fuller.
    auto const t = top_.load(std::memory_order::relaxed);
    return b > t ? static_cast<std::size_t>(b - t) : 0;
  }

 private:
  using position = std::int64_t;  // signed: pop looks one below the bottom
  static constexpr position capacity = Capacity;

  static std::size_t index(position p) noexcept {
    return static_cast<std::size_t>(p) & (Capacity - 1);
  }

  // One job at most is left: thieves may want it too.
  runnable* pop_last(position b, position t) noexcept {
    runnable* job = nullptr;
    if (t == b) {
      job = slots_[index(b)].load(std::memory_order::relaxed);  // ours
      // Relaxed: the job is our own, and E2 holds off who sees top_ move.
      if (!top_.compare_exchange_strong(t, t + 1, std::memory_order::relaxed,
                                        std::memory_order::relaxed))
        job = nullptr;
    }
    bottom_.store(b + 1, std::memory_order::release);  // E1
    return job;
  }

  alignas(cache_line_bytes)
      typename Atomics::template atomic<position> bottom_{0};
  position top_seen_ = 0;
  alignas(cache_line_bytes) typename Atomics::template atomic<position> top_{0};
  alignas(cache_line_bytes)
      typename Atomics::template slot<runnable*> slots_[Capacity];
};

}  // namespace activations::detail
