// SPDX-License-Identifier: BSL-1.0
//
// The platform-level interrupt controller (PLIC).  An interrupt is taken by
// the core that enabled it.
#pragma once

#include "../../kernel/device_tree.hpp"
#include "../../kernel/types.hpp"

namespace machine {

class interrupt_controller {
 public:
  // Once, on core 0, after firmware_read.  Without one nothing ever comes.
  void find(kernel::device_tree const& tree, unsigned cores);
  void start_core();  // once on each core, this one's part
  // Interrupt `source` comes to this core from now on.
  void enable(u32 source);
  u32 acknowledge();  // the source that waits for this core, or 0
  void complete(u32 source);

 private:
  u32 volatile& at(u64 offset) const;
  u32 context() const;  // this core's

  u64 base_ = 0;
  u32 contexts_[kernel::most_cores] = {};  // supervisor mode of each core
};

}  // namespace machine
