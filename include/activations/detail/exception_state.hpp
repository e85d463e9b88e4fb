// SPDX-License-Identifier: BSL-1.0
//
// The C++ exception state of a user thread: which exceptions it is handling,
// and how many it is throwing. The language runtime keeps both per kernel
// thread; a voluntary switch saves and restores them, so that a user thread
// which waits inside a `catch` neither sees nor ends another's exception.
//
// The layout is that of the Itanium C++ ABI (Exception Handling, 2.2.2), which
// libstdc++ and libc++abi both follow on 64-bit targets.
#pragma once

#include <cxxabi.h>

namespace activations::detail {

// What __cxa_get_globals() points to; one for each kernel thread.
struct exception_globals {
  void* caught_exceptions;           // stack of exceptions being handled
  unsigned int uncaught_exceptions;  // thrown and not yet caught
};

// The calling kernel thread's. The address does not change while that thread
// lives, so an activation may keep it. Cost: the first call may allocate.
[[gnu::noinline]] inline exception_globals*
current_exception_globals() noexcept {
  return reinterpret_cast<exception_globals*>(abi::__cxa_get_globals());
}

struct exception_state {
  void* caught_exceptions = nullptr;
  unsigned int uncaught_exceptions = 0;

  // Before the switch, with the globals of the kernel thread that switches.
  void save(exception_globals const& globals) noexcept {
    caught_exceptions = globals.caught_exceptions;
    uncaught_exceptions = globals.uncaught_exceptions;
  }

  // After the switch, with the globals of the kernel thread that continues,
  // which may be another one.
  void restore(exception_globals& globals) const noexcept {
    globals.caught_exceptions = caught_exceptions;
    globals.uncaught_exceptions = uncaught_exceptions;
  }
};

}  // namespace activations::detail
