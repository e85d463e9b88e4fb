// SPDX-License-Identifier: BSL-1.0
//
// Parked activations of one processor, last in first out: the one that ran
// last has the warmest caches, and those at the bottom can be ended.
#pragma once

#include <atomic>
#include <cstdint>

#include <activations/detail/core.hpp>

namespace activations::detail {

// Source      Treiber's stack with a tagged head; links are indices into the
//             activation table, whose entries never go away.
// State       head_: bits 0..31 index of the top (INDEX_NONE: empty), bits
//             32..63 tag, one more at each change (no ABA: it wraps after
//             2^32 changes within one pop).
// Roles       push, pop: any thread, also the preempt handler.
// Edges       E1 push: CAS -> pop: load, failed CAS: the link, and what the
//             activation wrote before it parked.
// Progress    lock-free; a thread stopped anywhere stops nobody.
// Evidence    tests/model/processor_edges_test.cpp.
class spare_list {
 public:
  void push(activation& a) noexcept {
    auto head = head_.load(std::memory_order::relaxed);
    do {
      // Relaxed: published by E1; a stale reader fails on the tag.
      a.next_spare.store(static_cast<std::uint32_t>(head),
                         std::memory_order::relaxed);
    } while (!head_.compare_exchange_weak(head, successor(head, a.index),
                                          std::memory_order::release,  // E1
                                          std::memory_order::relaxed));
    size_.fetch_add(1, std::memory_order::relaxed);
  }

  // Null: none.
  [[nodiscard]] activation* pop(core& home) noexcept {
    auto head = head_.load(std::memory_order::acquire);  // E1
    for (;;) {
      auto const index = static_cast<std::uint32_t>(head);
      if (index == ACTIVATIONS_INDEX_NONE) return nullptr;
      activation* const top = home.activation_at(index);
      if (top == nullptr) return nullptr;  // never: entries do not go away
      auto const below = top->next_spare.load(std::memory_order::relaxed);
      if (head_.compare_exchange_weak(head, successor(head, below),
                                      std::memory_order::relaxed,     // as seen
                                      std::memory_order::acquire)) {  // E1
        size_.fetch_sub(1, std::memory_order::relaxed);
        return top;
      }
    }
  }

  // A hint; briefly one too few.
  [[nodiscard]] std::uint32_t size() const noexcept {
    auto const n = size_.load(std::memory_order::relaxed);
    return n < 0 ? 0 : static_cast<std::uint32_t>(n);
  }

 private:
  static std::uint64_t successor(std::uint64_t head,
                                 std::uint32_t top) noexcept {
    return (((head >> 32) + 1) << 32) | top;
  }

  std::atomic<std::uint64_t> head_{ACTIVATIONS_INDEX_NONE};
  std::atomic<std::int32_t> size_{0};
};

}  // namespace activations::detail
