// SPDX-License-Identifier: BSL-1.0
//
// What a sleeping activation is told: one word to sleep on, and beside it what
// the word's value needs.  The portable backend's stand-in for a dispatch.
//
// Edges     E1 send_order: token store -> wait_order: exchange: the fields that
//              belong to the order, and all that its sender did before.
// Evidence  tests/model/processor_edges_test.cpp.
#pragma once

#include <atomic>
#include <cstdint>

#include <activations/detail/activation.hpp>
#include <activations/detail/futex.hpp>

namespace activations::detail {

inline void set_activation_state(activation& a, std::uint32_t state) noexcept {
  a.info->state.store(state, std::memory_order::release);
}

// To an activation that the caller alone may wake: it took it out of a spare
// list or a queue, or made it the owner of a processor, or ends everything.
inline void send_order(activation& to, order what, processor* p = nullptr,
                       std::uint64_t expected = 0) noexcept {
  to.order_processor = p;
  to.order_expected = expected;
  to.token.store(static_cast<std::uint32_t>(what),
                 std::memory_order::release);  // E1
  futex_wake(to.token);
}

// As send_order, to any activation when everything ends: one that was granted a
// processor just before may still be reading that order's fields.
inline void send_exit(activation& to) noexcept {
  to.token.store(static_cast<std::uint32_t>(order::exit),
                 std::memory_order::release);
  futex_wake(to.token);
}

// Asks a sleeper to look at its deadline again, unless it has an order.
inline void nudge(activation& to) noexcept {
  std::uint32_t none = 0;
  if (to.token.compare_exchange_strong(
          none, static_cast<std::uint32_t>(order::look),
          // Relaxed: it says nothing beside itself.
          std::memory_order::relaxed, std::memory_order::relaxed))
    futex_wake(to.token);
}

// order::none: the deadline came.
inline order wait_order(activation& self,
                        std::uint64_t deadline_ns = no_deadline) noexcept {
  for (;;) {
    auto const told = self.token.exchange(0, std::memory_order::acquire);  // E1
    if (told != 0) return static_cast<order>(told);
    if (!futex_wait(self.token, 0, deadline_ns))
      return static_cast<order>(
          self.token.exchange(0, std::memory_order::acquire));  // E1
  }
}

}  // namespace activations::detail
