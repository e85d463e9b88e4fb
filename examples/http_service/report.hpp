// SPDX-License-Identifier: BSL-1.0
// What was measured, for people (a table and two sentences) and for programs
// (JSON).
#pragma once

#include "measure.hpp"
#include "statistics.hpp"

#include <array>
#include <string>
#include <vector>

namespace http_service {

// The distributions of one mode, by kind of request.
struct mode_curves {
  explicit mode_curves(mode_result const&);
  std::array<latency_distribution, kind_count> kinds;
};

struct report {
  run_options options;
  unsigned rounds = 1;
  double load_before = 0;  // of the machine: the load average of a minute
  std::vector<mode_result> modes;
  std::vector<mode_curves> curves;  // of the same modes
};

report make_report(run_options const&, unsigned rounds, double load_before,
                   std::vector<mode_result>);

std::string table(report const&);

// What the numbers show; says so when they do not show what they should.
std::string finding(report const&);

// Which backend ran, and what the kernel module would add.
std::string backend_note(report const&);

std::string checks_note(report const&);

std::string to_json_text(report const&);

}  // namespace http_service
