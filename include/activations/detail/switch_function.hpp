// SPDX-License-Identifier: BSL-1.0
//
// How the functions that switch stacks are compiled: inlined, so that only
// live registers are saved; but under a sanitizer out of line and without
// instrumentation, since the instrumented part of a function must not span
// two stacks, and a frame of the switch must lie on the real stack.
#pragma once

#include <activations/config.hpp>

#if ACTIVATIONS_ASAN || ACTIVATIONS_TSAN
#define ACTIVATIONS_SWITCH_FUNCTION \
  __attribute__((noinline, no_sanitize_address, no_sanitize_thread)) inline
#else
#define ACTIVATIONS_SWITCH_FUNCTION __attribute__((always_inline)) inline
#endif
