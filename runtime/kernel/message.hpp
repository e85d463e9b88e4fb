// SPDX-License-Identifier: BSL-1.0
//
// What cores say to each other.  Each pair of cores has a ring of cache lines
// for each direction: one core writes it, one reads it, and a kick follows.
// Who finds it full reads its own mail meanwhile, so two cores cannot wait for
// each other.
#pragma once

#include <atomic>

#include "types.hpp"

namespace kernel {

struct core;

enum class message_kind : u32 {
  none,
  adopt,    // a dispatcher of yours: its first dispatch is due
  wake,     // events for a dispatcher of yours
  flush,    // a space's tables have less in them: forget translations
  drop,     // a space ended: forget its dispatchers
  dropped,  // the answer
  stop,     // the machine panics
  // Division of cores (division.cpp).  To core 0, about
  request,   // a space: it wants `value` cores
  assigned,  // a space: core `value` is its own now
  idle,      // core `value` has nothing to run
  busy,      // core `value` has something again
  stranded,  // a dispatcher: has work on a core that is not its space's
  arrived,   // a dispatcher: is on core `value`
  // From core 0:
  assign,  // a space: your core is to be its own
  move     // a dispatcher of yours: to core `value`
};

struct message {
  message_kind kind;
  u32 value;
  void* about;
};

// Context: the kernel, on `from`.
void send(core& from, unsigned to, message const& what);
// Handles all that came.
void read_mail(core& here);

}  // namespace kernel
