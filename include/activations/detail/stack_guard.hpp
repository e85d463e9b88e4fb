// SPDX-License-Identifier: BSL-1.0
//
// A user thread's stack by value, and how an overflow of it is found. The
// memory comes from a stack_pool (stack.hpp) or from the user (adopt_stack).
// Nothing here throws, allocates or changes errno.
#pragma once

#include <sys/auxv.h>

#include <activations/config.hpp>

#include <cstddef>
#include <cstdint>
#include <span>

#if ACTIVATIONS_ASAN
#include <sanitizer/asan_interface.h>
#endif

// Valgrind learns of a slot once, when it is carved: the hot path pays nothing.
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#define ACTIVATIONS_STACK_REGISTER(low, end) VALGRIND_STACK_REGISTER(low, end)
#define ACTIVATIONS_STACK_DEREGISTER(id) VALGRIND_STACK_DEREGISTER(id)
#else
#define ACTIVATIONS_STACK_REGISTER(low, end) 0u
#define ACTIVATIONS_STACK_DEREGISTER(id) ((void)(id))
#endif

namespace activations {

// Of each user thread, unless its options say otherwise. Memory is used as
// the thread touches it: one that has only parked holds two pages.
inline constexpr std::size_t default_stack_bytes = 256 * 1024;

// The smallest stack: room for a signal's frame with AVX-512 state and for
// the C library's formatted output.
inline constexpr std::size_t minimum_stack_bytes = 16 * 1024;

}  // namespace activations

namespace activations::detail {

// Of the kernel: 4, 16 or 64 KiB. Context: any, signal handlers too.
[[nodiscard]] inline std::size_t page_bytes() noexcept {
  return ::getauxval(AT_PAGESZ);
}

// Several pages, so that a function which skips a page of locals still hits
// the guard. Context: any, signal handlers too.
[[nodiscard]] inline std::size_t guard_bytes() noexcept {
  std::size_t const page = page_bytes();
  return page < 16 * 1024 ? 16 * 1024 : page;
}

inline constexpr std::size_t canary_bytes = 64;

enum class guard_kind : unsigned char {
  region,  // guard region below `base`
  pages,   // inaccessible pages below `base`
  canary,  // none; see stack_is_intact
};

struct stack_slot;  // of a stack_pool

// A stack, by value. Empty (no memory) if base is null.
struct stack {
  std::byte* base = nullptr;  // lowest usable byte
  std::size_t size = 0;       // bytes; top() is 64-byte aligned
  guard_kind guard = guard_kind::canary;
  unsigned valgrind_id = 0;    // of a user-supplied stack
  stack_slot* slot = nullptr;  // null for a user-supplied stack

  explicit operator bool() const noexcept { return base != nullptr; }
  [[nodiscard]] std::byte* top() const noexcept { return base + size; }
  [[nodiscard]] bool contains(void const* address) const noexcept {
    auto const at = reinterpret_cast<std::uintptr_t>(address);
    auto const low = reinterpret_cast<std::uintptr_t>(base);
    return at - low < size;
  }
};

// True if an access to `address` is one that the guard of `s` stops.
// Context: any, signal handlers too.
[[nodiscard]] inline bool stack_contains_guard(stack const& s,
                                               void const* address) noexcept {
  auto const at = reinterpret_cast<std::uintptr_t>(address);
  auto const low = reinterpret_cast<std::uintptr_t>(s.base);
  return s.guard != guard_kind::canary && low - at - 1 < guard_bytes();
}

// The canary: eight words at `base`, each a constant mixed with its address,
// so that no copied stack content passes for one. Not instrumented: marks of
// abandoned frames may cover it.
[[gnu::no_sanitize_address]] inline void stack_write_canary(
    stack const& s) noexcept {
  auto* const words = reinterpret_cast<std::uint64_t*>(s.base);
  for (std::size_t i = 0; i < canary_bytes / sizeof *words; ++i)
    words[i] =
        reinterpret_cast<std::uintptr_t>(words + i) ^ 0x9e37'79b9'7f4a'7c15u;
}

// False if the stack is known to have overflowed. `sp` is the handle of its
// suspended context. Guards make the answer true without a look.
// Cost: with a canary, one cache line of the stack's lowest page.
[[nodiscard]] [[gnu::no_sanitize_address]] inline bool stack_is_intact(
    stack const& s, void const* sp) noexcept {
  if (s.guard != guard_kind::canary) return true;
  if (!s.contains(sp)) return false;
  auto const* const words = reinterpret_cast<std::uint64_t const*>(s.base);
  std::uint64_t difference = 0;
  for (std::size_t i = 0; i < canary_bytes / sizeof *words; ++i)
    difference |= words[i] ^ reinterpret_cast<std::uintptr_t>(words + i) ^
                  0x9e37'79b9'7f4a'7c15u;
  return difference == 0;
}

// Makes a stack of the caller's memory, with a canary. Empty if fewer than
// minimum_stack_bytes are left after both ends are aligned to 64 bytes.
// The memory must outlive the thread; give the stack to disown_stack after.
[[nodiscard]] inline stack adopt_stack(std::span<std::byte> memory) noexcept {
  auto const start = reinterpret_cast<std::uintptr_t>(memory.data());
  auto const low = (start + 63) & ~std::uintptr_t{63};
  auto const end = (start + memory.size()) & ~std::uintptr_t{63};
  if (memory.data() == nullptr || end < low || end - low < minimum_stack_bytes)
    return {};
  stack made;
  made.base = memory.data() + (low - start);
  made.size = end - low;
  made.guard = guard_kind::canary;
  made.valgrind_id = ACTIVATIONS_STACK_REGISTER(made.base, made.top());
  stack_write_canary(made);
  return made;
}

inline void disown_stack([[maybe_unused]] stack const& s) noexcept {
  ACTIVATIONS_STACK_DEREGISTER(s.valgrind_id);
#if ACTIVATIONS_ASAN
  __asan_unpoison_memory_region(s.base, s.size);
#endif
}

}  // namespace activations::detail
