// SPDX-License-Identifier: BSL-1.0
//
// The three static tables that a start needs: MADT (cores, I/O APIC), HPET.
#pragma once

#include "../../kernel/types.hpp"

namespace machine {

struct acpi_core_list {
  unsigned count;
  u32 apic_ids[kernel::most_cores];  // the one that boots comes first
};

// rsdp 0: looks where a BIOS leaves it.
void acpi_read(u64 rsdp);
acpi_core_list const& acpi_cores();
u64 acpi_hpet();     // address, or 0
u64 acpi_io_apic();  // address, or 0

}  // namespace machine
