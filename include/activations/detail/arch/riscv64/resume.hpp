// SPDX-License-Identifier: BSL-1.0
//
// Continues a stopped context in user mode on riscv64: calls resume.S.  Called
// by a dispatcher with upcalls disabled, in a program whose linker script sets
// __global_pointer$ to activations_gp_anchor.
#pragma once

#include <activations/detail/arch/riscv64/saved_registers.h>

extern "C" {
void activations_resume(activations::detail::arch::saved_general const*,
                        activations::detail::arch::saved_vector const*,
                        void* control);
extern char const activations_resume_begin[];
extern char const activations_resume_end[];
}

namespace activations::detail::arch {

// Returns only if an event is pending: then upcalls are disabled again and the
// context is whole.
inline void resume(saved_general const& general, saved_vector const& vector,
                   void* control) noexcept {
  activations_resume(&general, &vector, control);
#if defined(__riscv_flen)
  asm volatile("" ::
                   : "fs0", "fs1", "fs2", "fs3", "fs4", "fs5", "fs6", "fs7",
                     "fs8", "fs9", "fs10", "fs11");
#endif
}

}  // namespace activations::detail::arch
