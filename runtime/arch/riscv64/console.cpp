// SPDX-License-Identifier: BSL-1.0
#include "console.hpp"

#include "machine.hpp"

namespace machine {
namespace {

using kernel::u8;

u8 volatile* console;  // none before it is found
unsigned console_shift;
u32 interrupt;

// 8250 registers.
constexpr unsigned console_data = 0;
constexpr unsigned console_interrupts = 1;
constexpr unsigned console_status = 5;
constexpr u8 receive_ready = 1 << 0;
constexpr u8 transmit_ready = 1 << 5;
constexpr u8 receive_interrupt = 1 << 0;
bool console_is_listened_to;

u8 volatile& console_at(unsigned index) {
  return console[index << console_shift];
}

}  // namespace

void console_open(kernel::device_tree const& tree) {
  auto const uart = tree.find_compatible("ns16550a");
  if (!uart) return;
  interrupt = uart.find("interrupts").cell(0);
  console_shift = uart.find("reg-shift").cell(0);
  console = reinterpret_cast<u8 volatile*>(uart.range().base);
  console_at(console_interrupts) = 0;
}

u32 console_interrupt() {
  return interrupt;
}

void console_quiet() {
  console_at(console_interrupts) = 0;
}

void console_write(char c) {
  if (console == nullptr) return;
  while ((console_at(console_status) & transmit_ready) == 0) relax();
  console_at(console_data) = static_cast<u8>(c);
}

int console_read() {
  if (console == nullptr) return -1;
  if ((console_at(console_status) & receive_ready) != 0) {
    return console_at(console_data);
  }
  if (console_is_listened_to)
    console_at(console_interrupts) = receive_interrupt;
  return -1;
}

bool console_begin_listening() {
  if (console == nullptr) return false;
  console_is_listened_to = true;
  console_at(console_interrupts) = receive_interrupt;
  return true;
}

}  // namespace machine
