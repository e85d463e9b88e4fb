// SPDX-License-Identifier: BSL-1.0
//
// Which processors are idle, for those who look for one to wake: a count that
// every pusher reads, and a bit for each.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include <activations/detail/atomics.hpp>

namespace activations::detail {

inline constexpr std::uint32_t most_processors = 1024;

// State   count_, bits_: hints that follow the processor words, which alone
//         say who owns what.  W: whoever changed a word from or to idle.
//         A bit may stay behind when a processor is claimed before it was
//         added; count_ may then wrap below zero for a moment.
//         Where a kernel keeps such words itself (abi.h: idle_count and the
//         bits at idle_offset), its words are read in place of ours, which
//         nobody writes then.
// Edges   E1 add: count_, bits_, then the queues are read; a pusher writes its
//         queue, then reads count_ and, to wake one, bits_ (all seq_cst): one
//         of the two sees the other.
class idle_set {
 public:
  idle_set() = default;
  idle_set(idle_set const&) = delete;
  idle_set& operator=(idle_set const&) = delete;

  void add(std::uint32_t processor) noexcept {
    bits_[processor / 64].fetch_or(bit(processor),
                                   std::memory_order::seq_cst);  // E1
    count_.fetch_add(1, std::memory_order::seq_cst);             // E1
  }
  void remove(std::uint32_t processor) noexcept {
    // Relaxed, both: who sees it late looks at a word in vain.
    bits_[processor / 64].fetch_and(~bit(processor),
                                    std::memory_order::relaxed);
    count_.fetch_sub(1, std::memory_order::relaxed);
  }
  // From here on the kernel's words count.  Context: before the start.
  void follow(std::atomic<std::uint32_t> const& count,
              std::atomic<std::uint64_t> const* bits,
              std::uint32_t words) noexcept {
    seen_count_ = &count;
    seen_bits_ = bits;
    words_ = words;
  }
  [[nodiscard]] std::uint32_t count() const noexcept {
    return seen_count_->load(std::memory_order::seq_cst);  // E1
  }
  // Calls visit(processor index) until it returns true; returns whether it
  // did.
  template <class Visit>
  bool any(Visit visit) const noexcept {
    for (std::uint32_t word = 0; word < words_; ++word) {
      auto bits = seen_bits_[word].load(std::memory_order::seq_cst);  // E1
      for (; bits != 0; bits &= bits - 1)
        if (visit(word * 64 +
                  static_cast<std::uint32_t>(__builtin_ctzll(bits))))
          return true;
    }
    return false;
  }

 private:
  static std::uint64_t bit(std::uint32_t processor) noexcept {
    return std::uint64_t{1} << (processor % 64);
  }

  alignas(cache_line_bytes) std::atomic<std::uint32_t> count_{0};
  std::uint32_t words_ = most_processors / 64;
  std::atomic<std::uint32_t> const* seen_count_ = &count_;
  std::array<std::atomic<std::uint64_t>, most_processors / 64> bits_{};
  std::atomic<std::uint64_t> const* seen_bits_ = bits_.data();
};

}  // namespace activations::detail
