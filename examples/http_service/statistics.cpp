// SPDX-License-Identifier: BSL-1.0
#include "statistics.hpp"

#include <algorithm>
#include <cmath>

namespace http_service {

latency_distribution::latency_distribution(kind_result const& kind)
    : sorted_us_(kind.latencies_us), unanswered_(kind.unanswered) {
  std::sort(sorted_us_.begin(), sorted_us_.end());
}

std::size_t latency_distribution::rank(double share) const {
  auto const position = std::ceil(share * static_cast<double>(count()));
  auto const wanted = static_cast<std::size_t>(std::max(position, 1.0));
  return std::min(wanted, count()) - 1;
}

double latency_distribution::at(double share) const {
  if (sorted_us_.empty()) return 0;
  return sorted_us_[rank(share)] / 1'000.0;
}

bool latency_distribution::is_bound(double share) const {
  // Who got no answer had waited longest, or as long as others in the end.
  return unanswered_ != 0 && rank(share) + unanswered_ >= count();
}

kind_result all_kinds(std::array<kind_result, kind_count> const& kinds) {
  kind_result all;
  for (auto const& kind : kinds) {
    all.latencies_us.insert(all.latencies_us.end(), kind.latencies_us.begin(),
                            kind.latencies_us.end());
    all.unanswered += kind.unanswered;
    all.answered_in_time += kind.answered_in_time;
  }
  return all;
}

}  // namespace http_service
