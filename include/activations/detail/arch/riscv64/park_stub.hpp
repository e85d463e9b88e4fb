// SPDX-License-Identifier: BSL-1.0
//
// The kernel module knows no way yet to stop a thread of this architecture.
#pragma once

#include <cstdint>

namespace activations::detail::arch {

inline constexpr bool has_park_stub = false;

struct park_stub {
  std::uint64_t address;
  std::uint32_t bytes;
};

inline park_stub find_park_stub() noexcept {
  return {0, 0};
}

}  // namespace activations::detail::arch
