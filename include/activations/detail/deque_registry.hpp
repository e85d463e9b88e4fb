// SPDX-License-Identifier: BSL-1.0
//
// The deques of forked work: lent to strands that fork, found by thieves.  A
// deque belongs to a strand and not to a processor, so a strand that waits,
// moves or is stopped in the middle of its forks stops nobody from taking
// them.  Deques live as long as the scheduler, so a thief may look at any.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <new>

#include <activations/detail/futex.hpp>
#include <activations/detail/work_deque.hpp>

namespace activations::detail {

class deque_registry {
 public:
  static constexpr std::uint32_t most = 4096;

  deque_registry()
      : all_(std::make_unique<std::atomic<work_deque<>*>[]>(most)),
        free_(std::make_unique<work_deque<>*[]>(most)) {}
  ~deque_registry() {
    auto const count = count_.load(std::memory_order::acquire);
    for (std::uint32_t i = 0; i < count; ++i) delete &at(i);
  }
  deque_registry(deque_registry const&) = delete;
  deque_registry& operator=(deque_registry const&) = delete;

  // One that was returned.  Context: disabled.
  [[nodiscard]] work_deque<>* borrow() noexcept {
    lock_.lock();
    work_deque<>* const found =
        free_count_ > 0 ? free_[--free_count_] : nullptr;
    lock_.unlock();
    return found;
  }

  // An empty one.  Context: disabled.
  void give_back(work_deque<>& unused) noexcept {
    lock_.lock();
    free_[free_count_++] = &unused;
    lock_.unlock();
  }

  // Enters a new one.  False: there are too many, it stays the caller's.
  // Context: disabled.
  [[nodiscard]] bool enter(work_deque<>& made) noexcept {
    lock_.lock();
    auto const index = count_.load(std::memory_order::relaxed);  // under lock
    bool const fits = index < most;
    if (fits) {
      // Release, both: the deque, to thieves who load them with acquire.
      all_[index].store(&made, std::memory_order::release);
      count_.store(index + 1, std::memory_order::release);
    }
    lock_.unlock();
    return fits;
  }

  // The oldest work of some deque, or null.  Starts anywhere: `from`.
  [[nodiscard]] runnable* steal(std::uint32_t from) noexcept {
    auto const count = count_.load(std::memory_order::acquire);
    for (std::uint32_t i = 0; i < count; ++i) {
      work_deque<>& victim = at((from + i) % count);
      if (victim.size() == 0) continue;
      if (runnable* const stolen = victim.steal()) return stolen;
    }
    return nullptr;
  }

  // Context: any thread.  A hint, but for one who has made the pushes before
  // it visible: core::barrier_for_forks.
  [[nodiscard]] bool has_work() const noexcept {
    auto const count = count_.load(std::memory_order::acquire);
    for (std::uint32_t i = 0; i < count; ++i)
      if (at(i).size() != 0) return true;
    return false;
  }

 private:
  [[nodiscard]] work_deque<>& at(std::uint32_t i) const noexcept {
    return *all_[i].load(std::memory_order::acquire);
  }

  std::unique_ptr<std::atomic<work_deque<>*>[]> all_;
  std::atomic<std::uint32_t> count_{0};
  futex_lock lock_;
  std::unique_ptr<work_deque<>*[]> free_;  // lock_
  std::uint32_t free_count_ = 0;           // lock_
};

}  // namespace activations::detail
