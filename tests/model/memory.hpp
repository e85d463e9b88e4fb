// SPDX-License-Identifier: BSL-1.0
//
// A memory that is as weak as the C++ model lets it be, for model tests:
// what a load may return is a choice, made by the explorer (explore.hpp).
//
// Each location keeps every store ever made to it, in modification order. A
// thread has a view: for each location the oldest store it may still read,
// and a vector clock for happens-before. A release store carries its thread's
// view, an acquire load joins the view of the store it reads. Read-modify-
// writes read the newest store and pass on the view that it carried (release
// sequences, as C++20 has them: a later plain store of the same thread does
// not continue one). seq_cst: each location has a floor, the newest store
// that a seq_cst operation wrote or read; a seq_cst load reads nothing older.
//
// Weaker than some hardware, on purpose: every stale read that the standard
// permits is tried. Stronger than the standard, so a bug may be missed:
//   - a new store is the newest in modification order (no 2+2W);
//   - the total order of seq_cst operations extends happens-before, as in
//     C++17; C++20 exempts some mixtures with release and acquire;
//   - a load takes its value from an earlier step, except that a relaxed load
//     may be given the value of a store yet to come, once in an execution, if
//     that store then is made and does not happen after the load. No check is
//     made that the store does not depend on the load, so this part alone may
//     raise an alarm that is false ("out of thin air").
// docs/memory-ordering.md compares this with the known litmus tests.
//
// A sequential memory forgets all but the newest stores: for searches that are
// about schedules only.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <vector>

namespace activations::model {

using word = std::uint64_t;

inline constexpr int max_threads = 12;
inline constexpr int max_locations = 96;  // of a memory that is not sequential

struct view {
  std::array<std::int16_t, max_locations> seen{};  // index of a store
  std::array<std::int16_t, max_threads> clock{};

  void join(view const& other) noexcept {
    for (int i = 0; i < max_locations; ++i)
      seen[i] = std::max(seen[i], other.seen[i]);
    for (int i = 0; i < max_threads; ++i)
      clock[i] = std::max(clock[i], other.clock[i]);
  }
};

constexpr bool is_acquire(std::memory_order order) noexcept {
  return order == std::memory_order::acquire ||
         order == std::memory_order::consume ||
         order == std::memory_order::acq_rel ||
         order == std::memory_order::seq_cst;
}

constexpr bool is_release(std::memory_order order) noexcept {
  return order == std::memory_order::release ||
         order == std::memory_order::acq_rel ||
         order == std::memory_order::seq_cst;
}

constexpr bool is_seq_cst(std::memory_order order) noexcept {
  return order == std::memory_order::seq_cst;
}

class memory {
 public:
  void reset(bool sequential) noexcept {
    used_ = 0;
    sequential_ = sequential;
  }

  // A location whose first store is part of what every thread sees at start.
  // Not `written`: reading it before the first store is an error.
  int add(word initial, bool written) {
    if (used_ == static_cast<int>(locations_.size())) locations_.emplace_back();
    location& made = locations_[used_];
    made.stores.clear();
    made.stores.push_back({initial, written, view{}});
    made.floor = 0;
    return used_++;
  }

  [[nodiscard]] int size() const noexcept { return used_; }
  [[nodiscard]] bool is_sequential() const noexcept { return sequential_; }
  [[nodiscard]] int newest(int at) const noexcept {
    return static_cast<int>(locations_[at].stores.size()) - 1;
  }
  [[nodiscard]] word value(int at, int store) const noexcept {
    return locations_[at].stores[store].value;
  }
  [[nodiscard]] bool is_written(int at, int store) const noexcept {
    return locations_[at].stores[store].written;
  }

  // The oldest store that a load may read.
  [[nodiscard]] int oldest(int at, view const& own,
                           std::memory_order order) const noexcept {
    if (sequential_) return 0;
    int const seen = own.seen[at];
    return is_seq_cst(order) ? std::max(seen, locations_[at].floor) : seen;
  }

  word load(int at, int store, view& own, std::memory_order order) noexcept {
    location& l = locations_[at];
    if (sequential_) return l.stores[store].value;
    own.seen[at] = static_cast<std::int16_t>(store);
    if (is_acquire(order)) own.join(l.stores[store].released);
    if (is_seq_cst(order)) l.floor = std::max(l.floor, store);
    return l.stores[store].value;
  }

  void store(int at, word value, view& own, std::memory_order order) {
    append(at, value, own, order, nullptr);
  }

  // Reads the newest store, writes `value`, returns what it read.
  word exchange(int at, word value, view& own, std::memory_order order) {
    location& l = locations_[at];
    word const old = l.stores.back().value;
    if (sequential_) {
      l.stores.back().value = value;
      return old;
    }
    if (is_acquire(order)) own.join(l.stores.back().released);
    view const carried = l.stores.back().released;
    append(at, value, own, order, &carried);
    return old;
  }

 private:
  struct stored {
    word value;
    bool written;
    view released;  // what an acquire load of it learns
  };
  struct location {
    std::vector<stored> stores;
    int floor = 0;
  };

  void append(int at, word value, view& own, std::memory_order order,
              view const* carried) {
    location& l = locations_[at];
    if (sequential_) {
      l.stores.back().value = value;
      l.stores.back().written = true;
      return;
    }
    int const index = static_cast<int>(l.stores.size());
    own.seen[at] = static_cast<std::int16_t>(index);
    stored made{value, true, carried != nullptr ? *carried : view{}};
    if (is_release(order)) made.released.join(own);
    l.stores.push_back(made);
    if (is_seq_cst(order)) l.floor = index;
  }

  std::vector<location> locations_;
  int used_ = 0;
  bool sequential_ = false;
};

}  // namespace activations::model
