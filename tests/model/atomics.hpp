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

// std::atomic<T>, as far as it is used, and of the same layout. Its value in
// memory is the one it was constructed with; what is stored later is kept by
// the engine, by address.
template <class T>
class alignas(sizeof(T)) atomic {
  using order = std::memory_order;
  static constexpr order failure_of(order success) noexcept {
    return success == order::acq_rel   ? order::acquire
           : success == order::release ? order::relaxed
                                       : success;
  }

 public:
  using value_type = T;
  static constexpr bool is_always_lock_free = true;

  constexpr atomic() noexcept : atomic(T{}) {}
  constexpr atomic(T value) noexcept : value_(value) {
    if (!std::is_constant_evaluated() && engine::current() != nullptr)
      engine::current()->construct(this, to_word(value));
  }
  atomic(atomic const&) = delete;
  atomic& operator=(atomic const&) = delete;

  T load(order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) const noexcept {
    return from_word<T>(model().load(this, raw(), o, {file, line}));
  }
  void store(T value, order o = order::seq_cst,
             ACTIVATIONS_MODEL_SITE) noexcept {
    model().store(this, raw(), to_word(value), o, {file, line});
  }
  T exchange(T value, order o = order::seq_cst,
             ACTIVATIONS_MODEL_SITE) noexcept {
    return change(o, {file, line}, [&](T) { return value; });
  }
  bool compare_exchange_strong(T& expected, T desired, order success,
                               order failure, ACTIVATIONS_MODEL_SITE) noexcept {
    return compare(expected, desired, false, success, failure, {file, line});
  }
  bool compare_exchange_strong(T& expected, T desired, order o = order::seq_cst,
                               ACTIVATIONS_MODEL_SITE) noexcept {
    return compare(expected, desired, false, o, failure_of(o), {file, line});
  }
  bool compare_exchange_weak(T& expected, T desired, order success,
                             order failure, ACTIVATIONS_MODEL_SITE) noexcept {
    return compare(expected, desired, true, success, failure, {file, line});
  }
  bool compare_exchange_weak(T& expected, T desired, order o = order::seq_cst,
                             ACTIVATIONS_MODEL_SITE) noexcept {
    return compare(expected, desired, true, o, failure_of(o), {file, line});
  }
  T fetch_add(T by, order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) noexcept {
    return change(o, {file, line}, [&](T old) { return T(old + by); });
  }
  T fetch_sub(T by, order o = order::seq_cst, ACTIVATIONS_MODEL_SITE) noexcept {
    return change(o, {file, line}, [&](T old) { return T(old - by); });
  }
  T fetch_or(T bits, order o = order::seq_cst,
             ACTIVATIONS_MODEL_SITE) noexcept {
    return change(o, {file, line}, [&](T old) { return T(old | bits); });
  }
  T fetch_and(T bits, order o = order::seq_cst,
              ACTIVATIONS_MODEL_SITE) noexcept {
    return change(o, {file, line}, [&](T old) { return T(old & bits); });
  }

 protected:
  struct unwritten {};
  explicit atomic(unwritten) noexcept : value_{} {
    engine::current()->construct_unwritten(this);
  }

 private:
  static engine& model() noexcept { return *engine::current(); }
  word raw() const noexcept { return to_word(value_); }

  template <class Change>
  T change(order o, site where, Change next) noexcept {
    return from_word<T>(model().exchange(
        this, raw(),
        [&](word old) { return to_word<T>(next(from_word<T>(old))); }, o,
        where));
  }
  bool compare(T& expected, T desired, bool weak, order success, order failure,
               site where) noexcept {
    word found = to_word(expected);
    bool const done = model().compare_exchange(
        this, raw(), found, to_word(desired), weak, success, failure, where);
    expected = from_word<T>(found);
    return done;
  }

  T value_;
};

// An atomic whose load before its first store is an error.
template <class T>
class slot : public atomic<T> {
 public:
  slot() noexcept : atomic<T>(typename atomic<T>::unwritten{}) {}
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
// word differs. False: the deadline came first.
inline bool futex_wait(atomic<std::uint32_t> const& at, std::uint32_t expected,
                       std::uint64_t deadline_ns = UINT64_MAX,
                       ACTIVATIONS_MODEL_SITE) noexcept {
  word raw = 0;
  std::memcpy(&raw, &at, sizeof at);
  return engine::current()->futex_wait(&at, raw, expected, {file, line},
                                       deadline_ns);
}

inline int futex_wake(atomic<std::uint32_t> const& at, int count = 1,
                      ACTIVATIONS_MODEL_SITE) noexcept {
  word raw = 0;
  std::memcpy(&raw, &at, sizeof at);
  return engine::current()->futex_wake(&at, raw, count, {file, line});
}

}  // namespace activations::model
