// SPDX-License-Identifier: BSL-1.0
//
// What the blocking primitives (mutex, condition_variable, counting_semaphore,
// latch, barrier, event) share: the list of waiters and the lock that guards
// it. They all follow one pattern:
//
//   One atomic word holds the primitive's state and whether its list is in
//   use. Who finds nothing to wait for and nobody to wake changes that word
//   and is done. Everybody else takes the list lock, changes word and list
//   together, releases the lock, and only then waits or notifies.
//
// The list lock is not a member of the primitive: it is one of a fixed table,
// chosen by the primitive's address. A waiter may destroy the primitive as
// soon as its own call returns, while the call that let it go is still under
// way in another thread. That call may then touch no member. With the lock
// outside, its last access to the primitive is the very change of the word
// that lets others go; after it come only the table, which is never
// destroyed, and the waiters that it took off the list, of which none can
// return before it is notified.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <activations/detail/activation.hpp>
#include <activations/detail/atomics.hpp>
#include <activations/detail/futex.hpp>
#include <activations/detail/waiter.hpp>

namespace activations::detail {

// Two primitives that share a lock delay each other by a few instructions.
inline constexpr std::size_t list_lock_bits = 8;

struct alignas(cache_line_bytes) padded_list_lock {
  futex_lock lock;
};

inline constinit std::array<padded_list_lock, std::size_t{1} << list_lock_bits>
    list_locks{};

inline futex_lock& list_lock_of(void const* primitive) noexcept {
  // Fibonacci hashing: the upper bits of the product depend on all of those
  // in which neighbouring objects differ.
  auto const address = reinterpret_cast<std::uintptr_t>(primitive);
  auto const hash = std::uint64_t{address} * 0x9E3779B97F4A7C15u;
  return list_locks[hash >> (64 - list_lock_bits)].lock;
}

// Holds the list lock of a primitive. The disabled region outlives it, so
// that the holder is not stopped; it may go on to cover the notify of a
// waiter that would otherwise be off the list and yet not runnable for as long
// as its waker is stopped.
class list_guard {
 public:
  list_guard(disabled_region const&, void const* primitive) noexcept
      : lock_(list_lock_of(primitive)) {
    lock_.lock();
  }
  ~list_guard() { lock_.unlock(); }
  list_guard(list_guard const&) = delete;
  list_guard& operator=(list_guard const&) = delete;

 private:
  futex_lock& lock_;
};

// First in, first out; any waiter can be removed. Guarded by the list lock of
// the primitive whose member it is. Links are the waiters' own: a circle, so
// that one pointer gives both ends. A waiter is listed iff `prev` is set.
template <class Waiter>
class wait_list {
 public:
  bool is_empty() const noexcept { return oldest_ == nullptr; }

  void push_back(Waiter& waiter) noexcept {
    if (oldest_ == nullptr) {
      waiter.next = waiter.prev = oldest_ = &waiter;
      return;
    }
    waiter.next = oldest_;
    waiter.prev = oldest_->prev;
    waiter.prev->next = waiter.next->prev = &waiter;
  }

  void push_front(Waiter& waiter) noexcept {
    push_back(waiter);
    oldest_ = &waiter;
  }

  Waiter* front() const noexcept { return oldest_; }

  // Requires: the waiter is in this list.
  void remove(Waiter& waiter) noexcept {
    if (waiter.next == &waiter) {
      oldest_ = nullptr;
    } else {
      waiter.prev->next = waiter.next;
      waiter.next->prev = waiter.prev;
      if (oldest_ == &waiter) oldest_ = waiter.next;
    }
    waiter.next = waiter.prev = nullptr;
  }

  // The oldest waiter, or null.
  Waiter* pop_front() noexcept {
    auto* const waiter = oldest_;
    if (waiter != nullptr) remove(*waiter);
    return waiter;
  }

  // All waiters, oldest first, linked by `next`. Takes the same time for one
  // and for a million, and so leaves their `prev` as it was.
  Waiter* take_all() noexcept {
    auto* const first = oldest_;
    if (first != nullptr) first->prev->next = nullptr;
    oldest_ = nullptr;
    return first;
  }

 private:
  Waiter* oldest_ = nullptr;
};

// Notifies a chain linked by `next`. Context: no list lock held.
template <class Waiter>
void notify_chain(Waiter* waiter) noexcept {
  while (waiter != nullptr) {
    auto* const next = waiter->next;  // the waiter may be gone once notified
    waiter->notify();
    waiter = next;
  }
}

// The seam of the primitives that the model tests run.
struct native_wait : std_atomics {
  using waiter = detail::waiter;
  using disabled_region = detail::disabled_region;
  using list_guard = detail::list_guard;
};

}  // namespace activations::detail
