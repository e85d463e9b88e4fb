// SPDX-License-Identifier: BSL-1.0
//
// The seam under the cores of the blocking primitives for model tests: a
// waiter and a list lock made of model atomics, and atomics that notice an
// access after the end of the primitive.
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
  int waits[max_threads] = {};
  bool is_over = false;  // the primitive has been destroyed

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

// How often a thread has started to wait on one of its waiters.
inline int waits_of(int thread) {
  return wait_words::current()->waits[thread];
}

// By a thread that may now destroy the scenario's primitive. Its destructor is
// not run: what another thread still does there is to be seen.
inline void end_of_primitive() {
  wait_words::current()->is_over = true;
}

// A member of a primitive.
template <class T>
class mortal : public atomic<T> {
  using order = std::memory_order;

 public:
  using atomic<T>::atomic;

  T load(order o, ACTIVATIONS_MODEL_SITE) const {
    return alive(atomic<T>::load(o, file, line));
  }
  void store(T value, order o, ACTIVATIONS_MODEL_SITE) {
    atomic<T>::store(value, o, file, line);
    alive(value);
  }
  T exchange(T value, order o, ACTIVATIONS_MODEL_SITE) {
    return alive(atomic<T>::exchange(value, o, file, line));
  }
  bool compare_exchange_strong(T& expected, T desired, order success,
                               order failure, ACTIVATIONS_MODEL_SITE) {
    return alive(atomic<T>::compare_exchange_strong(expected, desired, success,
                                                    failure, file, line));
  }
  bool compare_exchange_weak(T& expected, T desired, order success,
                             order failure, ACTIVATIONS_MODEL_SITE) {
    return alive(atomic<T>::compare_exchange_weak(expected, desired, success,
                                                  failure, file, line));
  }
  T fetch_and(T bits, order o, ACTIVATIONS_MODEL_SITE) {
    return alive(atomic<T>::fetch_and(bits, o, file, line));
  }
  T fetch_sub(T by, order o, ACTIVATIONS_MODEL_SITE) {
    return alive(atomic<T>::fetch_sub(by, o, file, line));
  }

 private:
  // In the same step as the access that gave `value`.
  template <class V>
  static V alive(V value) {
    check(!wait_words::current()->is_over, "a primitive is used after its end");
    return value;
  }
};

struct disabled_region {
  disabled_region() noexcept {}
  ~disabled_region() {}
};

struct wait_seam : atomics {
  template <class T>
  using atomic = mortal<T>;

  // Its orders are those that detail/waiter.hpp promises.
  class waiter {
   public:
    waiter() : notified_(wait_words::current()->next()) {}

    void wait() {
      ++wait_words::current()->waits[engine::current()->running()];
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
    model::atomic<std::uint32_t>& notified_;
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
    static model::atomic<std::uint32_t>& lock() {
      return wait_words::current()->list_lock;
    }
  };
};

}  // namespace activations::model
