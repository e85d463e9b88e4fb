// SPDX-License-Identifier: BSL-1.0
//
// What bare_backend asks of the program's start-up code on the bare-metal
// image (runtime/lib): system calls, dispatchers that run a function, and what
// it takes to have several threads of control on one.
#pragma once

#include <cstddef>
#include <cstdint>

#include <activations/abi_image.h>

extern "C" {

// A system call of abi_image.h: its value, or a negative errno.
long activations_image_call(std::uint64_t number, std::uint64_t a,
                            std::uint64_t b, std::uint64_t c) noexcept;

// Runs function(argument) as dispatcher `index`, which must be unused, on
// `core`; when it returns the dispatcher is unused again.  It begins disabled,
// with thread-local storage of its own.  Returns 0 or an errno value.
int activations_image_start(unsigned index, unsigned core,
                            void (*function)(void*), void* argument) noexcept;

// Thread-local storage for one more thread of control of the calling
// dispatcher, in `room`, which has activations_image_tls_bytes().  Returns what
// activations_image_use_tls takes.
std::size_t activations_image_tls_bytes() noexcept;
std::uint64_t activations_image_make_tls(void* room) noexcept;

// From here on it is the calling dispatcher's; returns what was before.
// Requires: upcalls disabled.
std::uint64_t activations_image_use_tls(std::uint64_t block) noexcept;

// A context that a TIMER stopped while upcalls were enabled, on its dispatcher
// and with its thread-local storage.  `general` and `vector` are valid until
// the next upcall.
struct activations_image_stopped {
  std::uint64_t stack_pointer;
  std::size_t bytes;  // that its registers need, aligned to 64
  void const* general;
  void const* vector;
};

// Called at each such stop, in the upcall; null at first.  If it returns, the
// context goes on.
extern void (*activations_image_on_slice)(
    activations_image_stopped const& stopped) noexcept;

// Copies the registers to `room`, at least 256 bytes below the stack pointer.
void activations_image_keep(activations_image_stopped const& stopped,
                            void* room) noexcept;
// Continues the context that was kept in `room`.  Requires: upcalls disabled
// at depth 1, the same dispatcher, and the same thread-local storage.
[[noreturn]] void activations_image_go_on(void* room) noexcept;

// Cores of this machine.
unsigned activations_image_cores() noexcept;
}
