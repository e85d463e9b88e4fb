// SPDX-License-Identifier: BSL-1.0
//
// How an upcall's handler goes on with a saved context on riscv64.
#pragma once

#include <activations/detail/arch/riscv64/resume.hpp>

#include <system.hpp>

namespace user {

using activations::detail::arch::saved_general;
using activations::detail::arch::saved_vector;

inline void prepare_resume(activations_dispatcher& page) {
  page.resume[0] = {reinterpret_cast<u64>(activations_resume_begin),
                    reinterpret_cast<u64>(activations_resume_end)};
}

inline void resume(saved_general& general, saved_vector const& vector,
                   void* control) {
  activations::detail::arch::resume(general, vector, control);
}

}  // namespace user
