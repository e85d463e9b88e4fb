// SPDX-License-Identifier: BSL-1.0
//
// The local APIC (x2APIC where there is one), and the clock it is paired with.
#pragma once

#include "../../kernel/types.hpp"

namespace machine {

inline constexpr u32 vector_timer = 0x40;
inline constexpr u32 vector_kick = 0x41;
inline constexpr u32 vector_console = 0x42;
inline constexpr u32 vector_spurious = 0xff;

u32 apic_own_id();
void apic_enable();  // this core's
void apic_end_of_interrupt();
void timer_set_up();     // this core's, once the clock is calibrated
void clock_calibrate();  // the first core's, with its timer

}  // namespace machine
