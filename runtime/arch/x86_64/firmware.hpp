// SPDX-License-Identifier: BSL-1.0
//
// What the loader (PVH or multiboot2) and the firmware (ACPI's static tables:
// MADT, HPET) say of the machine.
#pragma once

#include "../../kernel/types.hpp"

namespace machine {

// Memory, cores, command line.  `magic` and `info` are what the loader left in
// eax and ebx.
void firmware_read(u32 magic, u64 info,
                   kernel::machine_description& description);
// The one that boots comes first.
u32 firmware_apic_id(unsigned core);
u64 firmware_hpet();      // address, or 0
u64 firmware_io_apic();   // address, or 0
u64 firmware_low_page();  // free, below 640 KiB: where cores begin; or 0

}  // namespace machine
