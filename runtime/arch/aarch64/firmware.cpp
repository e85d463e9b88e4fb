// SPDX-License-Identifier: BSL-1.0
#include "firmware.hpp"

#include "machine.hpp"

extern "C" machine::pte machine_gigabytes[512];  // boot.S

namespace machine {
namespace {

constexpr u64 gigabyte = u64{1} << 30;

// Read by all cores after core 0 has filled them in, before it starts them.
u64 core_mpidr[kernel::most_cores];
bool power_by_hvc;

constexpr u64 psci_cpu_on = 0xc4000003;
constexpr u64 psci_system_off = 0x84000008;

u64 call_firmware(u64 function, u64 a = 0, u64 b = 0, u64 c = 0) {
  register u64 x0 asm("x0") = function;
  register u64 x1 asm("x1") = a;
  register u64 x2 asm("x2") = b;
  register u64 x3 asm("x3") = c;
  if (power_by_hvc) {
    asm volatile("hvc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3) : "memory");
  } else {
    asm volatile("smc #0" : "+r"(x0) : "r"(x1), "r"(x2), "r"(x3) : "memory");
  }
  return x0;
}

// Each 1 GiB that holds memory, as one block; the first is devices.
void map(kernel::machine_description::range const& memory) {
  constexpr pte attributes =
      pte_present | pte_shared | pte_accessed | pte_no_execute;
  for (u64 i = memory.begin / gigabyte; i * gigabyte < memory.end; ++i) {
    if (machine_gigabytes[i] == 0) {
      machine_gigabytes[i] = i * gigabyte | attributes;
    }
  }
  asm volatile("dsb ishst\n\tisb" ::: "memory");
}

void find_cores(kernel::device_tree const& tree,
                kernel::machine_description& machine) {
  tree.for_each_node([&](kernel::device_node const& node) {
    if (node.find("device_type").text() == "cpu" && node.is_enabled() &&
        machine.cores < kernel::most_cores) {
      core_mpidr[machine.cores++] = node.find("reg").number();
    }
    return true;
  });
  auto const psci = tree.find_named("psci");
  power_by_hvc = psci.find("method").text() == "hvc";
}

}  // namespace

void firmware_read(kernel::device_tree const& tree,
                   kernel::machine_description& machine) {
  kernel::describe(tree, machine);
  for (unsigned i = 0; i < machine.memory_count; ++i) map(machine.memory[i]);
  find_cores(tree, machine);
}

u64 firmware_mpidr(unsigned core) {
  return core_mpidr[core];
}

u64 psci::start_core(u64 mpidr, u64 address, u64 argument) {
  return call_firmware(psci_cpu_on, mpidr, address, argument);
}

void psci::shut_down() {
  call_firmware(psci_system_off);
}

}  // namespace machine
