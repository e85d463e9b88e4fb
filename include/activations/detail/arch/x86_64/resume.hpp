// SPDX-License-Identifier: BSL-1.0
//
// Continues a stopped context in user mode on x86-64: picks the way and calls
// resume.S.  Called by a dispatcher with upcalls disabled.
#pragma once

#include <activations/detail/arch/x86_64/saved_registers.h>

extern "C" {
void activations_resume_jump(activations::detail::arch::saved_general const*,
                             activations::detail::arch::saved_vector const*,
                             void* control);
void activations_resume_return(activations::detail::arch::saved_general const*,
                               activations::detail::arch::saved_vector const*,
                               void* control);
void activations_resume_iret(activations::detail::arch::saved_general const*,
                             activations::detail::arch::saved_vector const*,
                             void* control);
extern char const activations_resume_begin[];
extern char const activations_resume_end[];
}

namespace activations::detail::arch {

enum class resume_way { jump, return_below, iret };

// Returns only if an event is pending: then upcalls are disabled again and the
// context is whole.
inline void resume(resume_way way, saved_general const& general,
                   saved_vector const& vector, void* control) noexcept {
  constexpr std::uint64_t trap_flag = 0x100;
  if (way == resume_way::iret || (general.rflags & trap_flag) != 0)
    activations_resume_iret(&general, &vector, control);
  else if (way == resume_way::return_below)
    activations_resume_return(&general, &vector, control);
  else
    activations_resume_jump(&general, &vector, control);
}

}  // namespace activations::detail::arch
