// SPDX-License-Identifier: BSL-1.0
//
// The general registers of user mode, as entry.S stores them and as a save
// slot holds them: the layout that resume.S reads.
#pragma once

#include <activations/detail/arch/aarch64/saved_registers.h>

#define FRAME_SP ACTIVATIONS_SAVED_SP
#define FRAME_PC ACTIVATIONS_SAVED_PC
#define FRAME_PSTATE ACTIVATIONS_SAVED_PSTATE
#define FRAME_BYTES ACTIVATIONS_SAVED_GENERAL_BYTES

#ifndef __ASSEMBLER__

namespace machine {

struct frame : activations::detail::arch::saved_general {
  using u64 = std::uint64_t;

  [[nodiscard]] u64 pc() const { return saved_general::pc; }
  [[nodiscard]] u64 sp() const { return saved_general::sp; }
  [[nodiscard]] u64 call_number() const { return x[8]; }
  [[nodiscard]] u64 call_argument(unsigned i) const { return x[i & 3]; }
  void set_result(u64 value) { x[0] = value; }
  // Back onto the call, with its first two arguments replaced.
  void reissue_call(u64 first, u64 second) {
    saved_general::pc -= 4;
    x[0] = first;
    x[1] = second;
  }

  static frame upcall(u64 entry, u64 stack, u64 page, u64 events, u64 slot,
                      u64 /*thread_pointer*/) {
    frame f{};
    f.saved_general::pc = entry;
    f.saved_general::sp = stack;
    f.x[0] = page;
    f.x[1] = events;
    f.x[2] = slot;
    return f;
  }

  // A frame from user memory: EL0, interrupts on, of the flags NZCV.
  void sanitize() { pstate &= 0xf0000000; }
};
static_assert(sizeof(frame) == FRAME_BYTES);

}  // namespace machine
#endif
