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
  // False: the deadline came.
  template <class News>
  bool sleep(std::atomic<std::uint32_t>& listing, News news,
             std::uint64_t deadline_ns = no_deadline) noexcept {
    listing_ = &listing;
    word_.store(listed, std::memory_order::seq_cst);
    listing.fetch_add(1, std::memory_order::seq_cst);  // E1
    bool in_time = true;
    if (!news())
      while (in_time && word_.load(std::memory_order::acquire) == listed)
        in_time = futex_wait(word_, listed, deadline_ns);
    if (word_.exchange(awake, std::memory_order::acq_rel) == listed)
      listing_->fetch_sub(1, std::memory_order::seq_cst);
    return in_time;
  }

  // Helper: sleeps until wake(), whatever is queued.
  template <class News>
  void sleep_unlisted(News news) noexcept {
    word_.store(unlisted, std::memory_order::seq_cst);
    while (!news() && word_.load(std::memory_order::acquire) == unlisted)
      futex_wait(word_, unlisted);
    word_.store(awake, std::memory_order::relaxed);
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

  std::atomic<std::uint32_t> word_{awake};
  std::atomic<std::uint32_t>* listing_ = nullptr;  // published by word_
};

}  // namespace activations::detail
