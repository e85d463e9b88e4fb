// SPDX-License-Identifier: BSL-1.0
// What one wants to know of many latencies.
#pragma once

#include "load.hpp"

#include <cstdint>
#include <vector>

namespace http_service {

class latency_distribution {
 public:
  explicit latency_distribution(kind_result const&);

  // The smallest latency that is not exceeded by this share (0 to 1) of the
  // requests, in milliseconds; 0 if there were none.
  double at(double share) const;

  // Whether that one is only a lower bound, because requests were never
  // answered.
  bool is_bound(double share) const;

  std::size_t count() const { return sorted_us_.size(); }

 private:
  std::size_t rank(double share) const;

  std::vector<std::uint32_t> sorted_us_;
  std::uint64_t unanswered_;
};

// All kinds of request together.
kind_result all_kinds(std::array<kind_result, kind_count> const&);

}  // namespace http_service
