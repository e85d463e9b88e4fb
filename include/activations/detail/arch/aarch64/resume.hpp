// SPDX-License-Identifier: BSL-1.0
//
// Continues a stopped context in user mode on aarch64: picks the way and calls
// resume.S.  Called by a dispatcher with upcalls disabled.
#pragma once

#include <cstddef>

#include <activations/detail/arch/aarch64/saved_registers.h>
#include <activations/detail/arch/aarch64/trampolines.hpp>

extern "C" {
void activations_resume_own(activations::detail::arch::saved_general*,
                            activations::detail::arch::saved_vector const*,
                            void* control);
void activations_resume_shared(activations::detail::arch::saved_general*,
                               activations::detail::arch::saved_vector const*,
                               void* control);
void activations_resume_trap(activations::detail::arch::saved_general*,
                             activations::detail::arch::saved_vector const*,
                             void* control);
extern char const activations_resume_begin[];
extern char const activations_resume_end[];
}

namespace activations::detail::arch {

// Returns only if an event is pending: then upcalls are disabled again and the
// context is whole. `slot` names the save slot's own trampoline.
inline void resume(trampolines& code, resume_way way, std::size_t slot,
                   saved_general& general, saved_vector const& vector,
                   void* control) noexcept {
  if (way == resume_way::shared && code.prepare_shared(general)) {
    activations_resume_shared(&general, &vector, control);
  } else if (way != resume_way::trap && code.prepare_own(slot, general)) {
    activations_resume_own(&general, &vector, control);
  } else {
    activations_resume_trap(&general, &vector, control);
  }
#if !defined(__ARM_FP) && !defined(__ARM_NEON)
  // A caller without floating point has nothing there to lose.
#else
  asm volatile("" ::: "d8", "d9", "d10", "d11", "d12", "d13", "d14", "d15");
#endif
}

}  // namespace activations::detail::arch
