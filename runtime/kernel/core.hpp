// SPDX-License-Identifier: BSL-1.0
//
// A core and what it owns: its one kernel stack, its dispatchers, its memory,
// its mailboxes.  Another core touches none of it but the mailboxes
// (message.hpp).
//
// There are no kernel threads.  Each way into the kernel starts at the top of
// the stack and ends in dispatch() or resume(); interrupts are off between.
#pragma once

#include <atomic>

#include "memory.hpp"
#include "message.hpp"
#include "types.hpp"

namespace machine {
struct frame;
}

namespace kernel {

struct dispatcher;
struct space;

inline constexpr unsigned most_dispatchers_on_core = 32;

// Lies at the lowest address of its core's stack.
struct core {
  unsigned index;
  dispatcher* current;  // runs, or ran last: its tables are loaded
  dispatcher* loaded;   // whose switched_state the registers hold
  dispatcher* dispatchers[most_dispatchers_on_core];
  unsigned dispatcher_count;
  unsigned turn;     // where round-robin goes on
  u64 turn_ends_ns;  // when others may run
  u64 timer_ns;      // what the timer is set to
  bool was_told;     // a message was handled since: it may be set too late
  u64 latest_ns;     // the longest that it came later: interrupts were off
  u64 clear_at_ns;   // core 0's: clear_some is due; 0: nothing to clear
  // Division of cores, see division.cpp.
  space* owner;       // whose dispatchers alone run here; null: all
  space* next_owner;  // if it is being revoked
  bool is_revoked;
  bool is_lent;  // core 0 knows that there is nothing to run
  u64 revoked_ns;
  u64 idle_since_ns;  // 0: something runs
  u32 current_moves;  // 1 + the core that `current` is to go to; 0: stays
  frame_pool frames;
};

struct alignas(kernel_stack_bytes) kernel_stack {
  union {
    core owner;
    unsigned char bytes[kernel_stack_bytes];
  };
};
static_assert(sizeof(core) < 2048, "most of a kernel stack is stack");

extern "C" kernel_stack kernel_stacks[most_cores];

core& this_core();
inline core& core_at(unsigned i) {
  return kernel_stacks[i].owner;
}

extern unsigned core_count;
// The value of NAME= in the command line.
u64 command_number(char const* name, u64 otherwise);
[[nodiscard]] bool has_started(unsigned core);

// ---- ways in -------------------------------------------------------------------

[[noreturn]] void main(machine_description const& machine);
[[noreturn]] void core_main(unsigned index);
[[noreturn]] void stopped(machine::frame& registers, machine::stop const& why);

// ---- the way out ---------------------------------------------------------------

// Runs whoever's turn it is; waits for an interrupt if there is nobody.
[[noreturn]] void dispatch(core& here);

}  // namespace kernel
