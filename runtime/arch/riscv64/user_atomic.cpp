// SPDX-License-Identifier: BSL-1.0
//
// What g++ 12 calls for an exchange of one byte: riscv64 has atomic
// instructions for words alone, and user mode here has no libatomic.
#include <cstdint>

extern "C" std::uint8_t exchange_byte(void* at, std::uint8_t value,
                                      int) asm("__atomic_exchange_1");

// Sequentially consistent, whatever order is asked for.
std::uint8_t exchange_byte(void* at, std::uint8_t value, int) {
  auto const address = reinterpret_cast<std::uintptr_t>(at);
  auto* const word =
      reinterpret_cast<std::uint32_t*>(address & ~std::uintptr_t{3});
  auto const shift = static_cast<unsigned>(address & 3) * 8;
  auto const mask = std::uint32_t{0xff} << shift;
  auto const wanted = std::uint32_t{value} << shift;
  auto found = __atomic_load_n(word, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(word, &found, (found & ~mask) | wanted,
                                      true, __ATOMIC_SEQ_CST,
                                      __ATOMIC_RELAXED)) {
  }
  return static_cast<std::uint8_t>(found >> shift);
}
