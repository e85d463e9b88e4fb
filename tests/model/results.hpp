// SPDX-License-Identifier: BSL-1.0
//
// What one asks of the explorer and what it answers: see explore.hpp.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace activations::model {

// Where in the source an operation is: how mutations and reports name it.
struct site {
  char const* file;
  int line;
};

enum class operation : unsigned char {
  load,
  store,
  exchange,  // and fetch_add and the like
  compare_exchange,
  futex_wait,
  futex_wake,
  resume,  // of a thread that was woken, or starts
};

constexpr char const* name_of(operation kind) noexcept {
  constexpr char const* names[] = {
      "load", "store", "exchange", "compare_exchange",
      "wait", "wake",  "resume"};
  return names[static_cast<int>(kind)];
}

constexpr char const* name_of(std::memory_order order) noexcept {
  constexpr char const* names[] = {"relaxed", "consume", "acquire",
                                   "release", "acq_rel", "seq_cst"};
  return names[static_cast<int>(order)];
}

// What is done to the operations of one site, to see whether a test notices.
struct mutation {
  enum class kind : unsigned char {
    none,
    order,          // use `order` in place of the one written there
    failure_order,  // the same for a compare-exchange that fails
    skip,           // leave a store, exchange or wake out
    blind,          // a compare-exchange that stores whatever it finds
    refuse,         // a compare-exchange that never stores
  };
  kind what = kind::none;
  site where{"", 0};
  operation on = operation::load;
  std::memory_order from = std::memory_order::relaxed;  // if it was this one
  std::memory_order order = std::memory_order::relaxed;
  int last_line = 0;  // of a statement that begins at `where`; 0: that line
};

struct options {
  // Values that relaxed loads may take from stores yet to come: 0 or 1 an
  // execution. See memory.hpp.
  int future_reads = 0;
  // compare_exchange_weak may fail for no reason so often in an execution,
  // and futex_wait may return for no reason.
  int spurious = 0;
  // Loads return the newest value: for what is about schedules only.
  bool sequential = false;
  // At most so many switches away from a thread that could go on; -1: any
  // number. With a bound there are no sleep sets.
  int preemptions = -1;
  // Not 0: so many executions at random, made from this seed, in place of all.
  std::uint64_t seed = 0;
  std::uint64_t random_executions = 0;
  int change_points = 3;
  // Deadlines that may come in an execution: when no thread can go on; and at
  // any time.
  int timeouts = 0;
  int early_timeouts = 0;
  std::uint64_t look_ns = 0;  // how much time passes from look to look
  bool large = false;         // many atomics are made, few are used
  int max_steps = 2000;       // of one execution; more is a violation
  std::uint64_t max_executions = 50'000'000;
  std::size_t arena_bytes = 64 * 1024;  // for the objects of the scenario
  bool reduce = true;  // false: every interleaving, to test the explorer
  mutation mutate{};
  std::string replay;  // run just this branch
};

// An operation as it was seen at some site, for making mutations.
struct sighting {
  site where;
  operation on;
  std::memory_order order;
  std::memory_order failure;
};

struct result {
  bool complete = false;  // everything was explored
  std::string violation;  // empty: none
  std::string report;     // the violation, the replay string and the steps
  std::string replay;
  std::uint64_t executions = 0;  // to the end
  std::uint64_t cut = 0;         // abandoned as equal to others
  std::uint64_t steps = 0;
  std::vector<sighting> sightings;

  [[nodiscard]] bool ok() const noexcept {
    return complete && violation.empty();
  }
};

}  // namespace activations::model
