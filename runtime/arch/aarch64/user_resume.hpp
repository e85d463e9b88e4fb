// SPDX-License-Identifier: BSL-1.0
//
// How an upcall's handler goes on with a saved context on aarch64. Each
// dispatcher has trampolines of its own: written through the program's data,
// executed through a second view within reach of its text.
#pragma once

#include <activations/detail/arch/aarch64/resume.hpp>

#include <new>

#include <system.hpp>

namespace user {

using activations::detail::arch::resume_way;
using activations::detail::arch::saved_general;
using activations::detail::arch::saved_vector;
using activations::detail::arch::trampolines;

inline constexpr u64 trampoline_bytes = 4 * page_bytes;
inline constexpr u64 trampoline_views =
    ACTIVATIONS_IMAGE_USER_BEGIN + 64 * 1024 * 1024;

struct resume_code {
  alignas(page_bytes) unsigned char area[trampoline_bytes];
};
inline resume_code resume_areas[ACTIVATIONS_IMAGE_DISPATCHERS];
alignas(trampolines) inline unsigned char resume_objects
    [ACTIVATIONS_IMAGE_DISPATCHERS][sizeof(trampolines)];

// Tests choose: which way is tried first. A `shared` trampoline needs no cache
// maintenance where one has been before, but 16 bytes below the stack pointer.
inline resume_way wanted_resume_way = resume_way::shared;

inline trampolines& own_trampolines() {
  return *std::launder(
      reinterpret_cast<trampolines*>(resume_objects[this_page().index]));
}

inline void prepare_resume(activations_dispatcher& page) {
  auto* const area = resume_areas[page.index].area;
  auto const view = trampoline_views + page.index * trampoline_bytes;
  page.resume[0] = {reinterpret_cast<u64>(activations_resume_begin),
                    reinterpret_cast<u64>(activations_resume_end)};
  static bool has_view[ACTIVATIONS_IMAGE_DISPATCHERS];
  if (!has_view[page.index] &&  // it stays when a dispatcher ends
      call(ACTIVATIONS_IMAGE_ALIAS, view, reinterpret_cast<u64>(area),
           trampoline_bytes,
           ACTIVATIONS_ACCESS_READ | ACTIVATIONS_ACCESS_EXECUTE) != 0) {
    print("no second view of the trampolines\n");
    exit(98);
  }
  has_view[page.index] = true;
  auto* const made = new (resume_objects[page.index]) trampolines(
      area, reinterpret_cast<void const*>(view), trampoline_bytes, 1);
  page.resume[1] = {made->begin(), made->end()};
}

inline void resume(saved_general& general, saved_vector const& vector,
                   void* control) {
  activations::detail::arch::resume(own_trampolines(), wanted_resume_way, 0,
                                    general, vector, control);
}

}  // namespace user
