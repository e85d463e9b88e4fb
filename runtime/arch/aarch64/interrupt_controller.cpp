// SPDX-License-Identifier: BSL-1.0
#include "interrupt_controller.hpp"

namespace machine {
namespace {

// Distributor (both versions).
constexpr kernel::u64 distributor_control = 0x000;
constexpr kernel::u64 group = 0x080;
constexpr kernel::u64 set_enable = 0x100;
constexpr kernel::u64 targets = 0x800;   // version 2
constexpr kernel::u64 software = 0xf00;  // version 2
constexpr kernel::u64 route = 0x6000;    // version 3

// Processor interface (version 2).
constexpr kernel::u64 interface_control = 0x00;
constexpr kernel::u64 interface_mask = 0x04;
constexpr kernel::u64 interface_acknowledge = 0x0c;
constexpr kernel::u64 interface_end = 0x10;

// Redistributor (version 3): a frame of 64 KiB, then one for its interrupts.
constexpr kernel::u64 redistributor_bytes = 0x20000;
constexpr kernel::u64 redistributor_type = 0x08;
constexpr kernel::u64 redistributor_wake = 0x14;
constexpr kernel::u64 redistributor_interrupts = 0x10000;

constexpr kernel::u64 affinity_mask = 0xff00ffffff;

kernel::u64 own_mpidr() {
  kernel::u64 value;
  asm volatile("mrs %0, mpidr_el1" : "=r"(value));
  return value & affinity_mask;
}

}  // namespace

interrupt_controller::u32 volatile* interrupt_controller::distributor(
    u64 offset) const {
  return reinterpret_cast<u32 volatile*>(distributor_ + offset);
}

interrupt_controller::u32 volatile* interrupt_controller::cpu_interface(
    u64 offset) const {
  return reinterpret_cast<u32 volatile*>(cpu_interface_ + offset);
}

interrupt_controller::u32 volatile* interrupt_controller::redistributor(
    u64 offset) const {
  auto const mpidr = own_mpidr();
  auto const affinity =
      static_cast<u32>((mpidr & 0xffffff) | (mpidr >> 8 & 0xff000000));
  for (auto at = redistributors_; at < redistributors_end_;
       at += redistributor_bytes) {
    auto const* const type =
        reinterpret_cast<u32 volatile*>(at + redistributor_type);
    if (type[1] == affinity) {
      return reinterpret_cast<u32 volatile*>(at + offset);
    }
    if ((type[0] & 0x10) != 0) break;  // the last one
  }
  kernel::panic("this core has no redistributor", mpidr);
}

bool interrupt_controller::find(kernel::device_tree const& tree) {
  if (auto const v3 = tree.find_compatible("arm,gic-v3")) {
    version_ = 3;
    distributor_ = v3.range(0).base;
    redistributors_ = v3.range(1).base;
    redistributors_end_ = redistributors_ + v3.range(1).bytes;
    *distributor(distributor_control) = 1 << 4 | 1 << 1;  // affinity, group 1
    return true;
  }
  auto v2 = tree.find_compatible("arm,cortex-a15-gic");
  if (!v2) v2 = tree.find_compatible("arm,gic-400");
  if (!v2) return false;
  version_ = 2;
  distributor_ = v2.range(0).base;
  cpu_interface_ = v2.range(1).base;
  *distributor(distributor_control) = 1;
  return true;
}

void interrupt_controller::start_core() {
  if (version_ == 2) {
    *cpu_interface(interface_mask) = 0xff;
    *cpu_interface(interface_control) = 1;
    return;
  }
  auto* const wake = redistributor(redistributor_wake);
  *wake = *wake & ~u32{2};
  while ((*wake & 4) != 0) asm volatile("yield" ::: "memory");
  *redistributor(redistributor_interrupts + group) = ~u32{0};
  u64 system;
  asm volatile("mrs %0, s3_0_c12_c12_5" : "=r"(system));  // ICC_SRE_EL1
  asm volatile("msr s3_0_c12_c12_5, %0\n\tisb" ::"r"(system | 1));
  asm volatile("msr s3_0_c4_c6_0, %0" ::"r"(u64{0xff}));        // ICC_PMR_EL1
  asm volatile("msr s3_0_c12_c12_7, %0\n\tisb" ::"r"(u64{1}));  // ICC_IGRPEN1
}

void interrupt_controller::enable(u32 number) {
  auto const word = number / 32 * 4;
  auto const bit = u32{1} << number % 32;
  if (version_ == 2) {
    if (number >= 32) {
      // What the distributor calls this core stands in its private targets.
      auto const own = *distributor(targets) & 0xff;
      auto* const target = distributor(targets + (number & ~u32{3}));
      auto const shift = number % 4 * 8;
      *target = (*target & ~(u32{0xff} << shift)) | own << shift;
    }
    *distributor(set_enable + word) = bit;
  } else if (number < 32) {
    *redistributor(redistributor_interrupts + set_enable) = bit;
  } else {
    auto* const groups = distributor(group + word);
    *groups = *groups | bit;
    *reinterpret_cast<u64 volatile*>(distributor_ + route + u64{8} * number) =
        own_mpidr();
    *distributor(set_enable + word) = bit;
  }
}

interrupt_controller::u32 interrupt_controller::acknowledge() {
  if (version_ == 2) return *cpu_interface(interface_acknowledge);
  u64 number;
  asm volatile("mrs %0, s3_0_c12_c12_0\n\tdsb sy" : "=r"(number)::"memory");
  return static_cast<u32>(number);
}

void interrupt_controller::complete(u32 acknowledged) {
  if (version_ == 2) {
    *cpu_interface(interface_end) = acknowledged;
  } else {
    asm volatile("msr s3_0_c12_c12_1, %0\n\tisb" ::"r"(u64{acknowledged}));
  }
}

void interrupt_controller::send(u32 number, u64 mpidr, unsigned core) {
  asm volatile("dsb ish" ::: "memory");  // what was written, before the kick
  if (version_ == 2) {
    *distributor(software) = u32{1} << (16 + core) | number;
    return;
  }
  auto const value = (mpidr >> 32 & 0xff) << 48 | (mpidr >> 16 & 0xff) << 32 |
                     (mpidr >> 8 & 0xff) << 16 | u64{number} << 24 |
                     u64{1} << (mpidr & 15);
  asm volatile("msr s3_0_c12_c11_5, %0\n\tisb" ::"r"(value));
}

}  // namespace machine
