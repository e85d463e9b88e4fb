// SPDX-License-Identifier: BSL-1.0
//
// The generated code that ends a resume on aarch64: it loads the one register
// that resume.S still uses and branches directly, which needs no register.
//
//   own      bti c; ldr x17, literal; b pc; literal    one for each save slot
//   shared   bti c; ldur x17, [sp, #-16]; b pc         one for each pc, cached
//
// docs/aarch64-resume.md holds the argument. Memory: an area within 128 MiB of
// all text that is resumed, mapped writable in one place and executable in
// another (they may be the same where that is allowed).
//
// Owned by one processor: all members are called by code that runs there with
// upcalls disabled. No other processor executes or writes the area.
#pragma once

#include <cstddef>
#include <cstdint>

#include <activations/detail/arch/aarch64/saved_registers.h>

namespace activations::detail::arch {

enum class resume_way { own, shared, trap };

class trampolines {
 public:
  static constexpr std::size_t own_bytes = 32;
  static constexpr std::size_t shared_bytes = 16;

  // `writable` and `executable` are two views of the same `bytes` bytes, zero
  // at first. `slots` save slots get an own trampoline each; the rest, cut to
  // a power of two, is the cache of shared ones.
  trampolines(void* writable, void const* executable, std::size_t bytes,
              std::size_t slots) noexcept
      : writable_(static_cast<unsigned char*>(writable)),
        executable_(reinterpret_cast<std::uintptr_t>(executable)),
        slots_(slots) {
    auto const rest =
        bytes > slots * own_bytes ? (bytes - slots * own_bytes) : 0;
    while (shared_count_ * 2 * shared_bytes <= rest) shared_count_ *= 2;
    if (shared_count_ * shared_bytes > rest) shared_count_ = 0;
    std::uint64_t cache_type;
    asm volatile("mrs %0, ctr_el0" : "=r"(cache_type));
    clean_data_ = (cache_type >> 28 & 1) == 0;
    invalidate_ = (cache_type >> 29 & 1) == 0;
    data_line_ = std::size_t{4} << (cache_type >> 16 & 15);
    instruction_line_ = std::size_t{4} << (cache_type & 15);
  }

  // Makes slot's own trampoline continue `registers`: with activations_
  // resume_own. False: pc is out of reach, use activations_resume_trap.
  // The literal is data; only a new pc needs cache maintenance.
  [[nodiscard]] bool prepare_own(std::size_t slot,
                                 saved_general& registers) noexcept {
    auto const offset = slot * own_bytes;
    std::uint32_t branch;
    if (!branch_from(executable_ + offset + 8, registers.pc, branch)) {
      return false;
    }
    auto* const code = reinterpret_cast<std::uint32_t*>(writable_ + offset);
    *reinterpret_cast<std::uint64_t*>(writable_ + offset + 16) =
        registers.x[17];
    if (code[2] != branch) {
      code[0] = landing_pad;
      code[1] = load_literal;
      code[2] = branch;
      publish(offset, own_bytes);
      ++rewrites_;
    }
    registers.trampoline = executable_ + offset;
    return true;
  }

  // Finds or makes the trampoline for registers.pc: with activations_resume_
  // shared. False: out of reach, or no cache.
  [[nodiscard]] bool prepare_shared(saved_general& registers) noexcept {
    if (shared_count_ == 0) return false;
    auto const index =
        (registers.pc >> 2) * 0x9e3779b97f4a7c15ull >> 32 & (shared_count_ - 1);
    auto const offset = slots_ * own_bytes + index * shared_bytes;
    std::uint32_t branch;
    if (!branch_from(executable_ + offset + 8, registers.pc, branch)) {
      return false;
    }
    auto* const code = reinterpret_cast<std::uint32_t*>(writable_ + offset);
    if (code[2] != branch) {
      code[0] = landing_pad;
      code[1] = load_below_stack;
      code[2] = branch;
      publish(offset, shared_bytes);
      ++rewrites_;
    }
    registers.trampoline = executable_ + offset;
    return true;
  }

  // The range in which an upcall starts afresh, beside resume.S.
  std::uintptr_t begin() const noexcept { return executable_; }
  std::uintptr_t end() const noexcept {
    return executable_ + slots_ * own_bytes + shared_count_ * shared_bytes;
  }

  // Trampolines written since the start: each cost cache maintenance.
  std::uint64_t rewrites() const noexcept { return rewrites_; }

 private:
  static constexpr std::uint32_t landing_pad = 0xd503245f;   // bti c
  static constexpr std::uint32_t load_literal = 0x58000071;  // ldr x17, .+12
  static constexpr std::uint32_t load_below_stack = 0xf85f03f1;

  // The instruction `b to` at `from`, which reaches 128 MiB either way.
  static bool branch_from(std::uintptr_t from, std::uint64_t to,
                          std::uint32_t& instruction) noexcept {
    auto const distance = static_cast<std::int64_t>(to - from);
    constexpr std::int64_t reach = std::int64_t{1} << 27;
    if ((to & 3) != 0 || distance < -reach || distance >= reach) return false;
    instruction =
        0x14000000u | (static_cast<std::uint32_t>(distance >> 2) & 0x03ffffffu);
    return true;
  }

  // Makes written instructions visible to this processor's fetches.
  void publish(std::size_t offset, std::size_t bytes) noexcept {
    if (clean_data_) {
      auto const end =
          reinterpret_cast<std::uintptr_t>(writable_) + offset + bytes;
      auto line = (end - bytes) & ~(data_line_ - 1);
      for (; line < end; line += data_line_) {
        asm volatile("dc cvau, %0" ::"r"(line) : "memory");
      }
    }
    asm volatile("dsb ish" ::: "memory");
    if (invalidate_) {
      // Through the executable view: instruction caches may be indexed by it.
      auto const end = executable_ + offset + bytes;
      auto line = (end - bytes) & ~(instruction_line_ - 1);
      for (; line < end; line += instruction_line_) {
        asm volatile("ic ivau, %0" ::"r"(line) : "memory");
      }
      asm volatile("dsb ish" ::: "memory");
    }
    asm volatile("isb" ::: "memory");
  }

  unsigned char* writable_;
  std::uintptr_t executable_;
  std::size_t slots_;
  std::size_t shared_count_ = 1;
  std::size_t data_line_ = 4;
  std::size_t instruction_line_ = 4;
  bool clean_data_ = true;
  bool invalidate_ = true;
  std::uint64_t rewrites_ = 0;
};

}  // namespace activations::detail::arch
