// SPDX-License-Identifier: BSL-1.0
//
// The image as user code sees it: its own dispatcher's page, time, and the
// calls of abi_image.h.  Everything here may be called anywhere.
#pragma once

#include <activations/abi_image.h>

#include <cstdint>

#include <user.hpp>

namespace user {

using u32 = std::uint32_t;
using u64 = std::uint64_t;

inline constexpr u64 page_bytes = ACTIVATIONS_IMAGE_PAGE_BYTES;
inline constexpr u64 never = ~u64{0};

inline activations_dispatcher& page_at(unsigned i) {
  return *reinterpret_cast<activations_dispatcher*>(
      ACTIVATIONS_IMAGE_DISPATCHER + i * page_bytes);
}

// What belongs to a dispatcher and not to what runs on it.
inline thread_local constinit activations_dispatcher* own_page = nullptr;
[[gnu::noinline]] inline activations_dispatcher& this_page() {
  activations_dispatcher* found = own_page;
  asm volatile("" : "+r"(found));
  return *found;
}

inline activations_info_header& info() {
  return *reinterpret_cast<activations_info_header*>(ACTIVATIONS_IMAGE_INFO);
}
inline activations_control_header& control() {
  return *reinterpret_cast<activations_control_header*>(
      ACTIVATIONS_IMAGE_CONTROL);
}
template <class T>
T& element(void* area, u64 offset, unsigned i) {
  return reinterpret_cast<T*>(static_cast<char*>(area) + offset)[i];
}
inline activations_processor_info& processor_info(unsigned i) {
  return element<activations_processor_info>(&info(), info().processor_offset,
                                             i);
}
inline activations_activation_info& activation_info(unsigned i) {
  return element<activations_activation_info>(&info(), info().activation_offset,
                                              i);
}
inline activations_processor_control& processor_control(unsigned i) {
  return element<activations_processor_control>(&control(),
                                                control().processor_offset, i);
}
inline activations_activation_control& activation_control(unsigned i) {
  return element<activations_activation_control>(
      &control(), control().activation_offset, i);
}

inline u64 now_ns() {
  activations_dispatcher const& page = page_at(0);
  return static_cast<u64>(static_cast<unsigned __int128>(counter()) *
                              page.clock_multiplier >>
                          32) +
         page.clock_base_ns;
}

inline void print(char const* text, u64 bytes) {
  while (bytes != 0) {
    u64 const n = bytes < 512 ? bytes : 512;
    call(ACTIVATIONS_IMAGE_PRINT, reinterpret_cast<u64>(text), n);
    text += n;
    bytes -= n;
  }
}
inline void print(char const* text) {
  print(text, __builtin_strlen(text));
}

[[noreturn]] inline void exit(int status) {
  for (;;) call(ACTIVATIONS_IMAGE_EXIT, static_cast<u64>(status));
}

// Zeroed memory at addresses of its own; null: none is left.
void* map(u64 bytes,
          unsigned access = ACTIVATIONS_ACCESS_READ | ACTIVATIONS_ACCESS_WRITE);

// Gives dispatcher i thread-local storage; what it is called with.
u64 make_tls(unsigned i);

// What upcalls do, see upcall.cpp.  Returns where to go on: `slot`, unless it
// has put other registers there, and others in *vector, the target's
// saved_vector.  Context: disabled, on the upcall stack of this dispatcher or
// below the registers that it resumes, with the runtime's rules for such code.
using upcall_handler = activations_save_slot* (*)(activations_dispatcher& page,
                                                  u64 events,
                                                  activations_save_slot* slot,
                                                  void* vector);
extern upcall_handler on_upcall;

}  // namespace user
