// SPDX-License-Identifier: BSL-1.0
#include "firmware.hpp"

#include "machine.hpp"

extern "C" {
extern machine::pte machine_gigabytes[512];  // boot.S
// Of each core.  Read by all after core 0 has filled it in, before it starts
// them; by boot.S, too.
machine::u64 machine_core_hart[kernel::most_cores];
}
static_assert(kernel::most_cores == 8);  // as boot.S has it

namespace machine {
namespace {

constexpr u64 gigabyte = u64{1} << 30;

// As machine_core_hart.
u32 local_controller[kernel::most_cores];

// Each 1 GiB that holds memory, as one leaf.
void map(kernel::machine_description::range const& memory) {
  constexpr pte attributes = 0xef;  // as boot.S
  for (u64 i = memory.begin / gigabyte; i * gigabyte < memory.end; ++i) {
    machine_gigabytes[i] = i * gigabyte >> 2 | attributes;
  }
  asm volatile("sfence.vma" ::: "memory");
}

// Core 0 is the hart that runs here, whichever that is.
void find_cores(kernel::device_tree const& tree, u64 boot_hart,
                kernel::machine_description& machine) {
  machine_core_hart[0] = boot_hart;
  machine.cores = 1;
  unsigned core = kernel::most_cores;
  tree.for_each_node([&](kernel::device_node const& node) {
    if (node.find("device_type").text() == "cpu" && node.is_enabled()) {
      auto const hart = node.find("reg").number();
      core = hart == boot_hart                    ? 0
             : machine.cores < kernel::most_cores ? machine.cores++
                                                  : kernel::most_cores;
      if (core < kernel::most_cores) machine_core_hart[core] = hart;
    } else if (node.is_compatible("riscv,cpu-intc") &&
               core < kernel::most_cores) {
      local_controller[core] = node.find("phandle").cell(0);
    }
    return true;
  });
}

}  // namespace

void firmware_read(kernel::device_tree const& tree, u64 boot_hart,
                   kernel::machine_description& machine) {
  kernel::describe(tree, machine);
  for (unsigned i = 0; i < machine.memory_count; ++i) map(machine.memory[i]);
  find_cores(tree, boot_hart, machine);
}

u64 firmware_hart(unsigned core) {
  return machine_core_hart[core];
}
u32 firmware_local_controller(unsigned core) {
  return local_controller[core];
}

}  // namespace machine
