// SPDX-License-Identifier: BSL-1.0
//
// A histogram of durations by powers of two.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace activations {

// counts[i]: durations of at least 2^i and less than 2^(i+1) ns; counts[0]
// also those of 0, the last also all that are longer.
struct duration_histogram {
  std::array<std::uint64_t, 36> counts{};

  [[nodiscard]] std::uint64_t total() const noexcept {
    std::uint64_t sum = 0;
    for (auto const count : counts) sum += count;
    return sum;
  }
  // A bound, in ns, that `share` (0 to 1) of the durations stay below.
  [[nodiscard]] std::uint64_t bound(double share) const noexcept {
    auto const wanted = share * static_cast<double>(total());
    double sum = 0;
    for (std::size_t i = 0; i < counts.size(); ++i)
      if ((sum += static_cast<double>(counts[i])) >= wanted)
        return std::uint64_t{2} << i;
    return std::uint64_t{2} << (counts.size() - 1);
  }
};

}  // namespace activations

namespace activations::detail {

class shared_histogram {
 public:
  void add(std::uint64_t ns, std::uint64_t weight = 1) noexcept {
    auto const log = static_cast<std::size_t>(std::bit_width(ns | 1) - 1);
    counts_[log < counts_.size() ? log : counts_.size() - 1].fetch_add(
        weight, std::memory_order::relaxed);
  }
  [[nodiscard]] duration_histogram snapshot() const noexcept {
    duration_histogram copy;
    for (std::size_t i = 0; i < counts_.size(); ++i)
      copy.counts[i] = counts_[i].load(std::memory_order::relaxed);
    return copy;
  }

 private:
  std::array<std::atomic<std::uint64_t>, 36> counts_{};
};

}  // namespace activations::detail
