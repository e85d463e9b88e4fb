// SPDX-License-Identifier: BSL-1.0
//
// What the firmware says of the machine (the device tree) and does for it: the
// calls of the Power State Coordination Interface (Arm DEN0022).
#pragma once

#include "../../kernel/device_tree.hpp"
#include "../../kernel/types.hpp"

namespace machine {

// Memory, cores, command line.
void firmware_read(kernel::device_tree const& tree,
                   kernel::machine_description& machine);
u64 firmware_mpidr(unsigned core);

}  // namespace machine

namespace machine::psci {

// Enters `address` with `argument` in x0.  Returns the error, or 0.
[[nodiscard]] u64 start_core(u64 mpidr, u64 address, u64 argument);
void shut_down();

}  // namespace machine::psci
