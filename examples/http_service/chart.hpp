// SPDX-License-Identifier: BSL-1.0
// The latency curves as a picture.
#pragma once

#include "report.hpp"

#include <string>

namespace http_service {

// One panel for each kind of request, one curve for each mode: latency, on a
// logarithmic axis, by percentile, on an axis on which each step to the right
// is ten times rarer.
std::string to_svg(report const&);

}  // namespace http_service
