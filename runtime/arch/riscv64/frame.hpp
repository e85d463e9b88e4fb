// SPDX-License-Identifier: BSL-1.0
//
// The general registers of user mode, as entry.S stores them and as a save
// slot holds them: the layout that resume.S reads.
#pragma once

#include <activations/detail/arch/riscv64/saved_registers.h>

#define FRAME_PC ACTIVATIONS_SAVED_PC
#define FRAME_X(n) ACTIVATIONS_SAVED_X(n)
#define FRAME_BYTES ACTIVATIONS_SAVED_GENERAL_BYTES

#ifndef __ASSEMBLER__

namespace machine {

struct frame : activations::detail::arch::saved_general {
  using u64 = std::uint64_t;

  // Register n, from 1: ra 1, sp 2, gp 3, tp 4, s0 8, a0 10.
  [[nodiscard]] u64& reg(unsigned n) { return x[n - 1]; }
  [[nodiscard]] u64 reg(unsigned n) const { return x[n - 1]; }

  [[nodiscard]] u64 pc() const { return saved_general::pc; }
  [[nodiscard]] u64 sp() const { return reg(2); }
  [[nodiscard]] u64 call_number() const { return reg(17); }
  [[nodiscard]] u64 call_argument(unsigned i) const {
    return reg(10 + (i & 3));
  }
  void set_result(u64 value) { reg(10) = value; }
  // Back onto the call, with its first two arguments replaced.
  void reissue_call(u64 first, u64 second) {
    saved_general::pc -= 4;
    reg(10) = first;
    reg(11) = second;
  }

  static frame upcall(u64 entry, u64 stack, u64 page, u64 events, u64 slot,
                      u64 thread_pointer) {
    frame f{};
    f.saved_general::pc = entry;
    f.reg(2) = stack;
    f.reg(4) = thread_pointer;
    f.reg(10) = page;
    f.reg(11) = events;
    f.reg(12) = slot;
    return f;
  }

  // A frame from user memory: it holds nothing that user mode may not set.
  void sanitize() {}
};
static_assert(sizeof(frame) == FRAME_BYTES);

}  // namespace machine
#endif
