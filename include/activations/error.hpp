// SPDX-License-Identifier: BSL-1.0
//
// Errors of the set-up calls: std::system_error with the system's code and a
// text that names the operation.  Steady-state calls return statuses instead.
#pragma once

#include <activations/config.hpp>

#if defined(__cpp_exceptions)
#include <string>
#include <system_error>
#else
#include <cstdio>
#include <cstdlib>
#endif

namespace activations {

// Throws std::system_error for an errno value; without exceptions, says so and
// aborts.
[[noreturn]] inline void throw_system_error(int code, char const* operation) {
#if defined(__cpp_exceptions)
  throw std::system_error(code, std::generic_category(),
                          std::string("activations: cannot ") + operation);
#else
  std::fprintf(stderr, "activations: cannot %s: error %d\n", operation, code);
  std::abort();
#endif
}

}  // namespace activations
