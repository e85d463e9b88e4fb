// SPDX-License-Identifier: BSL-1.0
//
// What a scenario of explore.hpp shares between its threads: stand-ins for
// std::atomic, for plain data, and for the kernel's futex. `model::atomics`
// is the policy that puts them under the real structures (detail/atomics.hpp).
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "model/explore.hpp"

// Where the call is written, as a pair of default arguments: <source_location>
// does not work with clang 14.
#define ACTIVATIONS_MODEL_SITE \
  char const *file = __builtin_FILE(), int line = __builtin_LINE()

namespace activations::model {

template <class T>
word to_word(T value) noexcept {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(word));
  word bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
T from_word(word bits) noexcept {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

// std::atomic<T>, as far as it is used.
template <class T>
class atomic {
  using order = std::memory_order;
  static constexpr order failure_of(order success) noexcept {
    return success == order::acq_rel   ? order::acquire
           : success == order::release ? order::relaxed
                                       : success;
  }

 public:
  using value_type = T;

  atomic() : atomic(T{}) {}
  atomic(T value)
      : at_(engine::current()->add_location(to_word(value), true)) {}
  atomic(atomic const&) = delete;
  atomic& operator=(atomic const&) = delete;

  T load(order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) const {
    return from_word<T>(engine::current()->load(at_, o, {file, line}));
  }
  void store(T value, order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) {
    engine::current()->store(at_, to_word(value), o, {file, line});
  }
  T exchange(T value, order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) {
    return change(o, {file, line}, [&](T) { return value; });
  }
  bool compare_exchange_strong(T& expected, T desired, order success,
                               order failure, ACTIVATIONS_MODEL_SITE) {
    return compare(expected, desired, false, success, failure, {file, line});
  }
  bool compare_exchange_strong(T& expected, T desired, order o = order::seq_cst,
                               ACTIVATIONS_MODEL_SITE) {
    return compare(expected, desired, false, o, failure_of(o), {file, line});
  }
  bool compare_exchange_weak(T& expected, T desired, order success,
                             order failure, ACTIVATIONS_MODEL_SITE) {
    return compare(expected, desired, true, success, failure, {file, line});
  }
  bool compare_exchange_weak(T& expected, T desired, order o = order::seq_cst,
                             ACTIVATIONS_MODEL_SITE) {
    return compare(expected, desired, true, o, failure_of(o), {file, line});
  }
  T fetch_add(T by, order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) {
    return change(o, {file, line}, [&](T old) { return T(old + by); });
  }
  T fetch_sub(T by, order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) {
    return change(o, {file, line}, [&](T old) { return T(old - by); });
  }
  T fetch_or(T bits, order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) {
    return change(o, {file, line}, [&](T old) { return T(old | bits); });
  }
  T fetch_and(T bits, order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) {
    return change(o, {file, line}, [&](T old) { return T(old & bits); });
  }

  [[nodiscard]] int location() const noexcept { return at_; }

 protected:
  struct unwritten {};
  explicit atomic(unwritten) : at_(engine::current()->add_location(0, false)) {}

 private:
  template <class Change>
  T change(order o, site where, Change next) {
    return from_word<T>(engine::current()->exchange(
        at_, [&](word old) { return to_word(next(from_word<T>(old))); }, o,
        where));
  }
  bool compare(T& expected, T desired, bool weak, order success, order failure,
               site where) {
    word found = to_word(expected);
    bool const done = engine::current()->compare_exchange(
        at_, found, to_word(desired), weak, success, failure, where);
    expected = from_word<T>(found);
    return done;
  }

  int at_;
};

// An atomic whose load before its first store is an error.
template <class T>
class slot : public atomic<T> {
 public:
  slot() : atomic<T>(typename atomic<T>::unwritten{}) {}
};

struct atomics {
  template <class T>
  using atomic = model::atomic<T>;
  template <class T>
  using slot = model::slot<T>;

  // A loop that waits for others ends by its loads' turning up new values.
  static void pause() noexcept {}
};

// Data that atomics must protect: two unordered accesses of which one writes
// are a violation.
template <class T>
class plain {
 public:
  plain() = default;
  plain(T value) : value_(value) {}

  T get() const {
    engine::current()->read_plain(history_);
    return value_;
  }
  void set(T value) {
    engine::current()->write_plain(history_);
    value_ = value;
  }

 private:
  T value_{};
  mutable engine::history history_;
};

// Sleeps while the word is `expected`; returns when woken, at once if the
// word differs.
inline void futex_wait(atomic<std::uint32_t>& at, std::uint32_t expected,
                       ACTIVATIONS_MODEL_SITE) {
  engine::current()->futex_wait(at.location(), to_word(expected), {file, line});
}

inline int futex_wake(atomic<std::uint32_t>& at, int count = 1,
                      ACTIVATIONS_MODEL_SITE) {
  return engine::current()->futex_wake(at.location(), count, {file, line});
}

}  // namespace activations::model
