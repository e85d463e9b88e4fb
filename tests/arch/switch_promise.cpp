// SPDX-License-Identifier: BSL-1.0
//
// Compiled, never run: switch_promise.sh reads its instructions.
#include <activations/detail/context.hpp>

using activations::detail::context;

// Nothing is live across the switch but what the caller of this keeps.
extern "C" void promised_call(context& from, context& to) {
  activations::detail::context_switch(from, to);
}

// Nothing at all is live: the bare switch.
extern "C" [[noreturn]] void promised_loop(context& from, context& to) {
  static context* pair[2];
  pair[0] = &from;
  pair[1] = &to;
  for (;;) activations::detail::context_switch(*pair[0], *pair[1]);
}
