// SPDX-License-Identifier: BSL-1.0
#include "firmware.hpp"

#include "machine.hpp"

extern "C" machine::pte machine_gigabytes[512];  // boot.S

namespace machine {
namespace {

constexpr u64 gigabyte = u64{1} << 30;

// Read by all cores after core 0 has filled them in, before it starts them.
u64 core_hart[kernel::most_cores];
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
  core_hart[0] = boot_hart;
  machine.cores = 1;
  unsigned core = kernel::most_cores;
  tree.for_each_node([&](kernel::device_node const& node) {
    if (node.find("device_type").text() == "cpu" && node.is_enabled()) {
      auto const hart = node.find("reg").number();
      core = hart == boot_hart                    ? 0
             : machine.cores < kernel::most_cores ? machine.cores++
                                                  : kernel::most_cores;
      if (core < kernel::most_cores) core_hart[core] = hart;
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
  return core_hart[core];
}
u32 firmware_local_controller(unsigned core) {
  return local_controller[core];
}

}  // namespace machine
