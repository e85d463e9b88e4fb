// SPDX-License-Identifier: BSL-1.0
//
// The little of ELF64 that a module needs.
#pragma once

#include <activations/abi_image.h>

#include "types.hpp"

namespace kernel {

struct elf_segment {
  u32 type, flags;
  u64 offset, address, physical, file_bytes, memory_bytes, align;

  [[nodiscard]] bool is_loaded() const {
    return type == 1 && memory_bytes != 0;
  }
  [[nodiscard]] unsigned access() const {
    return ACTIVATIONS_ACCESS_READ |
           ((flags & 2) != 0 ? ACTIVATIONS_ACCESS_WRITE : 0u) |
           ((flags & 1) != 0 ? ACTIVATIONS_ACCESS_EXECUTE : 0u);
  }
};

class elf_module {
 public:
  elf_module(void const* begin, u64 bytes)
      : header_(*static_cast<header const*>(begin)), bytes_(bytes) {}

  [[nodiscard]] bool is_for_this_machine() const {
#if defined(__x86_64__)
    constexpr u16 machine = 62;
#elif defined(__aarch64__)
    constexpr u16 machine = 183;
#else
    constexpr u16 machine = 243;
#endif
    return bytes_ >= sizeof header_ && header_.magic == 0x464c457f &&
           header_.bits == 2 && header_.machine == machine &&
           header_.segment_bytes == sizeof(elf_segment) &&
           header_.segments + header_.segment_count * sizeof(elf_segment) <=
               bytes_;
  }
  [[nodiscard]] u64 entry() const {
    return header_.entry;
  }
  [[nodiscard]] unsigned segment_count() const {
    return header_.segment_count;
  }
  [[nodiscard]] elf_segment const& segment(unsigned i) const {
    return reinterpret_cast<elf_segment const*>(
        reinterpret_cast<char const*>(&header_) + header_.segments)[i];
  }

 private:
  struct header {
    u32 magic;
    u8 bits, order, version, os, reserved[8];
    u16 type, machine;
    u32 version2;
    u64 entry, segments, sections;
    u32 flags;
    u16 header_bytes, segment_bytes, segment_count;
  };

  header const& header_;
  u64 bytes_;
};

}  // namespace kernel
