// SPDX-License-Identifier: BSL-1.0
//
// The seam under the cores of mutex, counting_semaphore and event for model
// tests: a waiter and a list lock made of model atomics.
#pragma once

#include <chrono>
#include <cstdint>

#include <activations/detail/deadline.hpp>

#include "model/atomics.hpp"

namespace activations::model {

// The words of a scenario's waiters and of its one list lock. Made in the
// set-up, so that a word belongs to the same thread in each execution.
struct wait_words {
  static constexpr int of_each_thread = 6;
  atomic<std::uint32_t> list_lock{0};
  atomic<std::uint32_t> notified[max_threads * of_each_thread];
  int used[max_threads] = {};

  static wait_words*& current() noexcept {
    static wait_words* one = nullptr;
    return one;
  }
  atomic<std::uint32_t>& next() noexcept {
    // Those that the set-up makes come from behind the threads'.
    int const running = engine::current()->running();
    int const thread = running < 0 ? max_threads - 1 : running;
    return notified[thread * of_each_thread + used[thread]++];
  }
};

inline void make_wait_words(run& r) {
  wait_words::current() = &r.make<wait_words>();
}

struct disabled_region {
  disabled_region() noexcept {}
  ~disabled_region() {}
};

struct wait_seam : atomics {
  // Its orders are those that detail/waiter.hpp promises.
  class waiter {
   public:
    waiter() : notified_(wait_words::current()->next()) {}

    void wait() {
      while (notified_.load(std::memory_order::acquire) == 0)
        futex_wait(notified_, 0);
    }
    // The deadline comes at once, wherever that is.
    bool wait_until(detail::steady_time) {
      return notified_.load(std::memory_order::acquire) != 0;
    }
    void notify() {
      auto& word = notified_;  // the waiter may be gone after the store
      word.store(1, std::memory_order::release);
      futex_wake(word);
    }

    waiter* next = nullptr;
    waiter* prev = nullptr;

   private:
    atomic<std::uint32_t>& notified_;
  };

  using disabled_region = model::disabled_region;

  class list_guard {
   public:
    list_guard(disabled_region const&, void const*) {
      while (lock().exchange(1, std::memory_order::acquire) != 0)
        futex_wait(lock(), 1);
    }
    ~list_guard() {
      lock().store(0, std::memory_order::release);
      futex_wake(lock());
    }

   private:
    static atomic<std::uint32_t>& lock() {
      return wait_words::current()->list_lock;
    }
  };
};

}  // namespace activations::model
