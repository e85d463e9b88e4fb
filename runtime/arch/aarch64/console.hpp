// SPDX-License-Identifier: BSL-1.0
//
// The serial line, a PL011, beside what machine.hpp says of it.
#pragma once

#include "../../kernel/device_tree.hpp"
#include "../../kernel/types.hpp"

namespace machine {

void console_open(kernel::device_tree const& tree);
u32 console_interrupt();  // its number at the interrupt controller
// No interrupt until all that came is read.
void console_quiet();
bool console_begin_listening();  // false: there is no line

}  // namespace machine
