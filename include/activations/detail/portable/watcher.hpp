// SPDX-License-Identifier: BSL-1.0
//
// A helper thread's sleep: cheap to test from outside, woken by one store and
// one system call, and only when it does sleep.
#pragma once

#include <atomic>
#include <cstdint>

#include <activations/detail/futex.hpp>

namespace activations::detail {

// State   word_: awake, listed (asleep, and counted in `listing` so that
//         those with news call wake), unlisted (asleep until wake alone).
//         W: the helper -> asleep; whoever wakes it -> awake.
// Edges   E1 sleep: count up (seq_cst), then the caller's condition is read;
//         those with news write it, then read the count (seq_cst): one of the
//         two sees the other.
class watcher {
 public:
  // Helper: sleeps unless news() says otherwise, until woken or the deadline.
  template <class News>
  void sleep(std::atomic<std::uint32_t>& listing, News news,
             std::uint64_t deadline_ns = no_deadline) noexcept {
    listing_ = &listing;
    word_.store(listed, std::memory_order::seq_cst);
    listing.fetch_add(1, std::memory_order::seq_cst);  // E1
    if (!news())
      while (word_.load(std::memory_order::acquire) == listed)
        if (!futex_wait(word_, listed, deadline_ns)) break;
    leave();
  }

  // Helper: sleeps until wake(), whatever the news.
  void sleep_unlisted() noexcept {
    word_.store(unlisted, std::memory_order::seq_cst);
    while (word_.load(std::memory_order::acquire) == unlisted)
      futex_wait(word_, unlisted);
  }

  // Helper: a plain pause that nobody cuts short.
  void nap_until(std::uint64_t deadline_ns) noexcept {
    std::atomic<std::uint32_t> nobody{0};
    while (futex_wait(nobody, 0, deadline_ns)) {
    }
  }
  void nap(std::uint64_t ns) noexcept { nap_until(monotonic_ns() + ns); }

  // Any thread.  Cost: a load when the helper is awake.
  void wake() noexcept {
    if (word_.load(std::memory_order::seq_cst) == awake) return;
    auto const was = word_.exchange(awake, std::memory_order::acq_rel);
    if (was == awake) return;
    if (was == listed) listing_->fetch_sub(1, std::memory_order::seq_cst);
    futex_wake(word_);
  }

 private:
  enum : std::uint32_t { awake, listed, unlisted };

  void leave() noexcept {
    if (word_.exchange(awake, std::memory_order::acq_rel) == listed)
      listing_->fetch_sub(1, std::memory_order::seq_cst);
  }

  std::atomic<std::uint32_t> word_{awake};
  std::atomic<std::uint32_t>* listing_ = nullptr;  // published by word_
};

}  // namespace activations::detail
