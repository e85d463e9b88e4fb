// SPDX-License-Identifier: BSL-1.0
//
// processor_backend: what a scheduler needs from whoever lends it processors,
// as a concept.  The portable backend models it; so do the kernel module's
// client and the image.  detail/backend.hpp says what each call means, and is
// the form in which the scheduler holds its backend: the calls are made where
// a processor changes hands, never on the way of a switch or a fork.
#pragma once

#include <concepts>
#include <cstdint>
#include <string>

#include <activations/detail/activation.hpp>
#include <activations/detail/backend.hpp>

namespace activations {

template <class B>
concept processor_backend = std::derived_from<B, detail::backend> &&
    requires(B backend, B const& described, detail::activation& self,
             detail::activation& other, std::uint64_t deadline_ns,
             detail::after_switch after, void* argument) {
  // Lost its processor while blocked: may it have one again?
  { backend.reclaim(self) }
  noexcept->std::same_as<bool>;
  // Becomes a spare; false when the scheduler ends.
  { backend.park(self) }
  noexcept->std::same_as<bool>;
  // Owns a processor and has no work.
  { backend.idle(self, deadline_ns) }
  noexcept->std::same_as<void>;
  // One call: the processor to `other`, then park.
  { backend.switch_to(self, other) }
  noexcept->std::same_as<bool>;
  // Stops here, on behalf of a slice or a kick.
  { backend.stop(self, after, argument) }
  noexcept->std::same_as<bool>;
  { backend.wait_pinned(self, after, argument) }
  noexcept;
  { backend.resume_pinned(other) }
  noexcept;
  // News for processors that are not looking.
  { backend.wake_idle() }
  noexcept->std::same_as<bool>;
  { backend.watch() }
  noexcept->std::same_as<void>;
  { backend.timer_set(deadline_ns) }
  noexcept->std::same_as<void>;
  { described.describe() } -> std::convertible_to<std::string>;
};

}  // namespace activations
