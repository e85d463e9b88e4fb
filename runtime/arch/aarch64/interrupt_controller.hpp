// SPDX-License-Identifier: BSL-1.0
//
// The Generic Interrupt Controller, version 2 or 3, as the device tree says.
// All interrupts have one priority and are taken by the core they name.
#pragma once

#include "../../kernel/device_tree.hpp"
#include "../../kernel/types.hpp"

namespace machine {

class interrupt_controller {
 public:
  using u32 = kernel::u32;
  using u64 = kernel::u64;

  static constexpr u32 number_bits = 1023;
  static constexpr u32 none = 1020;

  // Once, on core 0. False: the tree names no controller that is known here.
  bool find(kernel::device_tree const& tree);
  void start_core();  // once on each core, this one's part
  // Interrupt `number` comes to this core from now on.
  void enable(u32 number);
  // Takes the interrupt that waits for this core. The answer is for
  // complete(); its number_bits are the interrupt, or none and above.
  u32 acknowledge();
  void complete(u32 acknowledged);
  // Software interrupt `number` (below 16) on the core with this MPIDR, which
  // version 2 knows by its index among the processors.
  void send(u32 number, u64 mpidr, unsigned core);

 private:
  u32 volatile* distributor(u64 offset) const;
  u32 volatile* cpu_interface(u64 offset) const;
  u32 volatile* redistributor(u64 offset) const;  // this core's, version 3

  unsigned version_ = 0;
  u64 distributor_ = 0;
  u64 cpu_interface_ = 0;   // version 2
  u64 redistributors_ = 0;  // version 3
  u64 redistributors_end_ = 0;
};

}  // namespace machine
