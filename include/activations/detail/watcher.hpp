// SPDX-License-Identifier: BSL-1.0
//
// A helper thread's sleep: cheap to test from outside (by the count), ended by
// one exchange, and one system call only when it does sleep.
#pragma once

#include <atomic>
#include <cstdint>

#include <activations/detail/futex.hpp>

namespace activations::detail {

// State   word_: awake, listed (asleep, and counted in `listing` so that
//         those with news call wake), unlisted (asleep until wake alone).
//         W: the helper -> asleep; whoever wakes it -> awake.
// Edges   E1 sleep: count up, then the news are read; those with news write
//            them, then read the count (all seq_cst): one sees the other.
//         E2 sleep: exchange to asleep | wake: exchange to awake.  The second
//            of the two sees what went before the first: the helper the news,
//            whatever their order, or the waker where the helper is counted.
//         E3 wake: exchange -> sleep: last exchange; sleep_unlisted: load.
//            The woken helper sees the news.
// Evidence  tests/model/processor_edges_test.cpp.
class watcher {
 public:
  // Helper: sleeps unless news() says otherwise, until woken or the deadline; a
  // signal lets it ask again.  False: the deadline came.
  template <class News>
  bool sleep(std::atomic<std::uint32_t>& listing, News news,
             std::uint64_t deadline_ns = no_deadline) noexcept {
    // Once: a waker of the last sleep may be reading it still.
    if (listing_ == nullptr) listing_ = &listing;
    word_.exchange(listed, std::memory_order::acq_rel);  // E2
    listing.fetch_add(1, std::memory_order::seq_cst);    // E1
    bool in_time = true;
    // Relaxed: the exchange below acquires what ended it.
    while (in_time && !news() &&
           word_.load(std::memory_order::relaxed) == listed)
      in_time = futex_wait(word_, listed, deadline_ns);
    if (word_.exchange(awake, std::memory_order::acquire) == listed)  // E3
      // Relaxed: who sees it late wakes us in vain.
      listing_->fetch_sub(1, std::memory_order::relaxed);
    return in_time;
  }

  // Helper: sleeps until wake(), whatever is queued.
  template <class News>
  void sleep_unlisted(News news) noexcept {
    word_.exchange(unlisted, std::memory_order::acquire);                  // E2
    while (!news() && word_.load(std::memory_order::acquire) == unlisted)  // E3
      futex_wait(word_, unlisted);
    word_.store(awake, std::memory_order::relaxed);  // our own word again
  }

  // Helper: a plain pause that nobody cuts short.
  void nap_until(std::uint64_t deadline_ns) noexcept {
    std::atomic<std::uint32_t> nobody{0};
    while (futex_wait(nobody, 0, deadline_ns)) {
    }
  }
  void nap(std::uint64_t ns) noexcept { nap_until(monotonic_ns() + ns); }

  // Any thread.
  void wake() noexcept {
    auto const was =
        word_.exchange(awake, std::memory_order::acq_rel);  // E2 E3
    if (was == awake) return;
    // Relaxed: as in sleep.
    if (was == listed) listing_->fetch_sub(1, std::memory_order::relaxed);
    futex_wake(word_);
  }

 private:
  enum : std::uint32_t { awake, listed, unlisted };

  std::atomic<std::uint32_t> word_{awake};
  std::atomic<std::uint32_t>* listing_ = nullptr;  // published by word_
};

}  // namespace activations::detail
