// SPDX-License-Identifier: BSL-1.0
//
// Errors of the set-up calls: std::system_error with the system's code and a
// text that names the operation.  Steady-state calls return statuses instead.
#pragma once

#include <string>
#include <system_error>

namespace activations {

// Throws std::system_error for an errno value.
[[noreturn]] inline void throw_system_error(int code, char const* operation) {
  throw std::system_error(code, std::generic_category(),
                          std::string("activations: cannot ") + operation);
}

}  // namespace activations
