// SPDX-License-Identifier: BSL-1.0
// The three ways to run the same blocking handlers.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

namespace http_service {

enum class mode {
  many_to_one,   // user threads on one kernel thread: one blocks, all stall
  one_to_one,    // a kernel thread for each connection
  many_to_many,  // user threads on as many activations as the work needs
};

inline constexpr std::array all_modes{mode::many_to_one, mode::one_to_one,
                                      mode::many_to_many};
inline constexpr std::array<std::string_view, 3> mode_names{
    "many-to-one", "one-to-one", "many-to-many"};

constexpr std::string_view name_of(mode m) {
  return mode_names[static_cast<std::size_t>(m)];
}

}  // namespace http_service
