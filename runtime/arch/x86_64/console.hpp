// SPDX-License-Identifier: BSL-1.0
//
// The first serial line, beside what machine.hpp says of it.
#pragma once

namespace machine {

void console_open();

}  // namespace machine
