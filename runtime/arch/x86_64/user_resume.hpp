// SPDX-License-Identifier: BSL-1.0
//
// The user-mode resume of x86-64, as lib/upcall.cpp calls it.
#pragma once

#include <activations/abi_image.h>
#include <activations/detail/arch/x86_64/resume.hpp>

namespace user {

using saved_general = activations::detail::arch::saved_general;
using saved_vector = activations::detail::arch::saved_vector;

// Which of the ways; a test tries all.
inline constinit auto resume_way = activations::detail::arch::resume_way::jump;

inline void prepare_resume(activations_dispatcher& page) {
  page.resume[0] = {reinterpret_cast<std::uint64_t>(activations_resume_begin),
                    reinterpret_cast<std::uint64_t>(activations_resume_end)};
}

inline void resume(saved_general& general, saved_vector const& vector,
                   void* control) {
  activations::detail::arch::resume(resume_way, general, vector, control);
}

}  // namespace user
