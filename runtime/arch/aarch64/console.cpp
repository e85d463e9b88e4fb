// SPDX-License-Identifier: BSL-1.0
#include "console.hpp"

#include "machine.hpp"

namespace machine {
namespace {

using kernel::u8;

constexpr u32 first_shared = 32;  // a tree counts shared interrupts from it

u32 volatile* console;  // none before it is found
u32 interrupt;

// PL011 registers, in words.
constexpr unsigned console_data = 0;
constexpr unsigned console_flags = 6;
constexpr unsigned console_mask = 14;
constexpr u32 receive_empty = 1 << 4;
constexpr u32 transmit_full = 1 << 5;
constexpr u32 receive_interrupts = 1 << 4 | 1 << 6;  // some bytes; a pause
bool console_is_listened_to;

}  // namespace

void console_open(kernel::device_tree const& tree) {
  auto const uart = tree.find_compatible("arm,pl011");
  if (!uart) return;
  interrupt = first_shared + uart.find("interrupts").cell(1);
  console = reinterpret_cast<u32 volatile*>(uart.range().base);
}

u32 console_interrupt() {
  return interrupt;
}

void console_quiet() {
  console[console_mask] = 0;
}

void console_write(char c) {
  if (console == nullptr) return;
  while ((console[console_flags] & transmit_full) != 0) relax();
  console[console_data] = static_cast<u8>(c);
}

int console_read() {
  if (console == nullptr) return -1;
  if ((console[console_flags] & receive_empty) == 0) {
    return static_cast<int>(console[console_data] & 0xff);
  }
  if (console_is_listened_to) console[console_mask] = receive_interrupts;
  return -1;
}

bool console_begin_listening() {
  if (console == nullptr) return false;
  console_is_listened_to = true;
  console[console_mask] = receive_interrupts;
  return true;
}

}  // namespace machine
