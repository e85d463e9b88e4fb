// SPDX-License-Identifier: BSL-1.0
//
// What a scheduler counts.  All are totals since it started unless they say
// "now"; they are read without stopping anybody, so sums may be off by what
// happens meanwhile.
#pragma once

#include <cstdint>

#include <activations/activation_statistics.hpp>
#include <activations/config.hpp>
#include <activations/detail/stack.hpp>
#if ACTIVATIONS_HOSTED
#include <activations/kernel_backend.hpp>
#include <activations/portable_backend.hpp>
#endif

namespace activations {

struct scheduler_statistics {
  std::uint64_t spawned = 0;               // user threads and tasks
  std::uint64_t finished = 0;              // of these
  std::uint64_t switches = 0;              // voluntary, between stacks
  std::uint64_t steals = 0;                // from another processor's queue
  activation_statistics kernel_threads{};  // whichever backend it is
#if ACTIVATIONS_HOSTED
  portable_statistics portable{};  // all 0 with another backend
  kernel_statistics kernel{};      // likewise
#endif
  detail::stack_pool_statistics stacks{};
};

}  // namespace activations
