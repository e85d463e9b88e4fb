// SPDX-License-Identifier: BSL-1.0
//
// Turns the durations and time points of user code, of any clock and any
// representation, into deadlines of the steady clock. Used by every timed
// member function. Nothing here overflows: what lies beyond the range of the
// steady clock becomes its last moment, which is 292 years after boot.
#pragma once

#include <chrono>
#include <type_traits>

#include <activations/detail/futex.hpp>

namespace activations::detail {

using double_seconds = std::chrono::duration<double>;

// Far enough from the end that the rounding of a double does not matter.
inline constexpr auto last_deadline =
    steady_time::max() - std::chrono::hours(1);

// A timeout of zero or less, and a floating-point one that is not a number,
// give a deadline that has passed.
template <class Rep, class Period>
[[nodiscard]] steady_time deadline_after(
    std::chrono::duration<Rep, Period> const& timeout) {
  auto const now = std::chrono::steady_clock::now();
  if (!(timeout > timeout.zero())) return now;
  if (double_seconds(timeout) >= double_seconds(last_deadline - now))
    return last_deadline;
  return now + std::chrono::ceil<steady_time::duration>(timeout);
}

template <class Duration>
[[nodiscard]] steady_time steady_deadline(
    std::chrono::time_point<std::chrono::steady_clock, Duration> const& when) {
  auto const since_boot = when.time_since_epoch();
  if (!(since_boot > since_boot.zero())) return steady_time{};
  if (double_seconds(since_boot) >=
      double_seconds(last_deadline.time_since_epoch()))
    return last_deadline;
  return steady_time(std::chrono::ceil<steady_time::duration>(since_boot));
}

// Calls attempt(steady deadline) until it returns true or `when` has come by
// its own clock; returns what the last attempt returned. A clock that is set
// back makes for another attempt; one that is set forward is noticed when the
// deadline computed before has come.
template <class Clock, class Duration, class Attempt>
bool attempt_until(std::chrono::time_point<Clock, Duration> const& when,
                   Attempt attempt) {
  if constexpr (std::is_same_v<Clock, std::chrono::steady_clock>) {
    return attempt(steady_deadline(when));
  } else {
    for (;;) {
      auto const now = Clock::now();
      if (attempt(when > now ? deadline_after(when - now) : steady_time{}))
        return true;
      if (!(Clock::now() < when)) return false;
    }
  }
}

}  // namespace activations::detail
