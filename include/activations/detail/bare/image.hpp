// SPDX-License-Identifier: BSL-1.0
//
// What bare_backend asks of the program's start-up code on the bare-metal
// image (runtime/lib): system calls, and dispatchers that run a function.
#pragma once

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

// Cores of this machine.
unsigned activations_image_cores() noexcept;
}
