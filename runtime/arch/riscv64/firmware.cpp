// SPDX-License-Identifier: BSL-1.0
#include "firmware.hpp"

#include <string_view>

#include "machine.hpp"

extern "C" {
extern machine::pte machine_gigabytes[512];  // boot.S
extern char kernel_begin[];
extern char kernel_end[];
}

namespace machine {
namespace {

constexpr u64 gigabyte = u64{1} << 30;

// Read by all cores after core 0 has filled them in, before it starts them.
u64 core_hart[kernel::most_cores];
u32 local_controller[kernel::most_cores];

// Each 1 GiB below 64 that holds memory, as one leaf.
void map(kernel::machine_description::range const& memory) {
  constexpr pte attributes = 0xef;  // as boot.S
  for (u64 i = memory.begin / gigabyte; i < 64 && i * gigabyte < memory.end;
       ++i) {
    machine_gigabytes[i] = i * gigabyte >> 2 | attributes;
  }
  asm volatile("sfence.vma" ::: "memory");
}

void find_memory(kernel::device_tree const& tree,
                 kernel::machine_description& machine) {
  tree.for_each_node([&](kernel::device_node const& node) {
    if (node.find("device_type").text() != "memory" || !node.is_enabled()) {
      return true;
    }
    for (std::size_t i = 0; node.range(i).bytes != 0; ++i) {
      if (machine.memory_count == std::size(machine.memory)) return false;
      auto range = kernel::machine_description::range{
          node.range(i).base, node.range(i).base + node.range(i).bytes};
      map(range);
      // Of the kernel's own range, what lies behind firmware and kernel.
      auto const end = reinterpret_cast<u64>(kernel_end);
      if (range.begin <= reinterpret_cast<u64>(kernel_begin) &&
          end < range.end) {
        range.begin = end;
      }
      machine.memory[machine.memory_count++] = range;
    }
    return true;
  });
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
  find_memory(tree, machine);
  if (machine.memory_count == 0) kernel::panic("no device tree, no memory");
  find_cores(tree, boot_hart, machine);
  auto const words = tree.find_named("chosen").find("bootargs").text();
  words.copy(machine.command_line, sizeof machine.command_line - 1);
}

u64 firmware_hart(unsigned core) {
  return core_hart[core];
}
u32 firmware_local_controller(unsigned core) {
  return local_controller[core];
}

}  // namespace machine
