// SPDX-License-Identifier: BSL-1.0
//
// The few macros of the project: version, assertion, sanitizer detection, test
// points, and whether there is a system below.
#pragma once

#include <cstdio>
#include <cstdlib>

#define ACTIVATIONS_VERSION_MAJOR 0
#define ACTIVATIONS_VERSION_MINOR 1
#define ACTIVATIONS_VERSION_PATCH 0

// 0: compiled freestanding, for the bare-metal image (runtime/).  There
// bare_backend lends the processors.
#ifndef ACTIVATIONS_HOSTED
#define ACTIVATIONS_HOSTED __STDC_HOSTED__
#endif

// Where exceptions are off nothing is thrown, and nothing caught.
#if defined(__cpp_exceptions)
#define ACTIVATIONS_TRY try
#define ACTIVATIONS_CATCH_ALL catch (...)
#define ACTIVATIONS_RETHROW throw
#else
#define ACTIVATIONS_TRY if (true)
#define ACTIVATIONS_CATCH_ALL else
#define ACTIVATIONS_RETHROW ((void)0)
#endif

#if defined(__SANITIZE_ADDRESS__)
#define ACTIVATIONS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ACTIVATIONS_ASAN 1
#endif
#endif
#ifndef ACTIVATIONS_ASAN
#define ACTIVATIONS_ASAN 0
#endif

#if defined(__SANITIZE_THREAD__)
#define ACTIVATIONS_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define ACTIVATIONS_TSAN 1
#endif
#endif
#ifndef ACTIVATIONS_TSAN
#define ACTIVATIONS_TSAN 0
#endif

// Where the order of two steps matters, a test may bring something about in
// between: tests/windows_test.cpp defines this before it includes anything.
#ifndef ACTIVATIONS_TEST_POINT
#define ACTIVATIONS_TEST_POINT(name) ((void)0)
#endif

namespace activations::detail {

// Prints where a precondition was broken, then traps.  Context: any.
[[noreturn, gnu::cold, gnu::noinline]] inline void assertion_failed(
    char const* expression, char const* file, int line) noexcept {
  std::fprintf(stderr, "activations: assertion failed: %s (%s:%d)\n",
               expression, file, line);
  std::abort();
}

}  // namespace activations::detail

// A broken precondition: prints the expression and where, then aborts.  Only
// for what a correct caller never does; errors have return values.  Checked in
// every build type unless ACTIVATIONS_NO_ASSERT is defined: each use is cheap.
#ifdef ACTIVATIONS_NO_ASSERT
#define ACTIVATIONS_ASSERT(expression) ((void)0)
#else
#define ACTIVATIONS_ASSERT(expression)                                  \
  (__builtin_expect(!!(expression), 1)                                  \
       ? (void)0                                                        \
       : ::activations::detail::assertion_failed(#expression, __FILE__, \
                                                 __LINE__))
#endif
