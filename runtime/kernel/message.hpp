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
  ended,    // to core 0: a space is gone altogether
  stop      // the machine panics
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
