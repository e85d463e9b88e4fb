// SPDX-License-Identifier: BSL-1.0
//
// Counters that many threads raise and few read: one set for each activation,
// raised by it alone with plain adds, and one for everybody else.
#pragma once

#include <atomic>
#include <cstdint>

namespace activations::detail {

// State   each word: W: its activation (or anybody, by add_shared).  R: any.
struct counters {
  std::atomic<std::uint64_t> spawned{0};   // user threads and tasks
  std::atomic<std::uint64_t> finished{0};  // of these; stored with release
  std::atomic<std::uint64_t> switches{0};
  std::atomic<std::uint64_t> steals{0};

  using member = std::atomic<std::uint64_t> counters::*;

  // The only writer.  Release: what finished did, to who sees it counted.
  void add(member which) noexcept {
    auto& counter = this->*which;
    counter.store(counter.load(std::memory_order::relaxed) + 1,
                  std::memory_order::release);
  }
  // One of several writers.
  void add_shared(member which) noexcept {
    (this->*which).fetch_add(1, std::memory_order::release);
  }
  [[nodiscard]] std::uint64_t get(member which) const noexcept {
    return (this->*which).load(std::memory_order::acquire);
  }
};

}  // namespace activations::detail
