// SPDX-License-Identifier: BSL-1.0
//
// The seam between the lock-free structures and the machine. Each structure
// takes a policy such as `std_atomics` below; the model tests put their own
// in its place and run the very same code under every interleaving.
#pragma once

#include <atomic>
#include <cstddef>

#include <activations/detail/context.hpp>

namespace activations::detail {

// Words written by different threads are kept this far apart.
inline constexpr std::size_t cache_line_bytes = 64;

// An atomic word of a queue's array. Unlike std::atomic its default
// constructor writes nothing, so that the pages of a large array are first
// touched when an element is stored. Requires: stored before it is loaded.
template <class T>
class atomic_slot {
 public:
  atomic_slot() noexcept {}
  atomic_slot(atomic_slot const&) = delete;
  atomic_slot& operator=(atomic_slot const&) = delete;

  T load(std::memory_order order) noexcept {
    return std::atomic_ref<T>(value_).load(order);
  }
  void store(T value, std::memory_order order) noexcept {
    std::atomic_ref<T>(value_).store(value, order);
  }

 private:
  static_assert(std::atomic_ref<T>::is_always_lock_free);
  alignas(std::atomic_ref<T>::required_alignment) T value_;
};

struct std_atomics {
  template <class T>
  using atomic = std::atomic<T>;
  template <class T>
  using slot = atomic_slot<T>;

  // One turn of a loop that waits for another thread's next instruction.
  static void pause() noexcept { arch::cpu_relax(); }
};

}  // namespace activations::detail
