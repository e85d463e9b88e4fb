// SPDX-License-Identifier: BSL-1.0
// For thread_local_test: what a kernel thread keeps, seen from another unit.
// Only there are the compiler's assumptions about it put to the test by
// link-time optimisation.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

namespace thread_state {

// A thread_local of the other unit, initialised when first used.
extern thread_local int plain;
extern thread_local std::string lazy;

// The calling kernel thread's id, remembered in a thread_local.  Not inlined:
// see docs/differences.md.
pid_t remembered_tid();

// Work that is no loop to the compiler.
unsigned compute(unsigned rounds);

void set_errno(int value);
int get_errno();

// A string on the heap that says whose it is.
std::string make_text(int owner, std::size_t bytes);
bool is_text_of(int owner, std::string const& text);

}  // namespace thread_state
