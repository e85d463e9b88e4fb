// SPDX-License-Identifier: BSL-1.0
//
// The first serial line, and the ways to end.
#include "console.hpp"

#include "firmware.hpp"
#include "interrupt_controller.hpp"
#include "machine.hpp"
#include "port.hpp"

namespace machine {
namespace {

constexpr kernel::u16 line = 0x3f8;
constexpr unsigned console_pin = 4;

}  // namespace

void console_open() {
  out8(line + 1, 0);
  out8(line + 3, 0x80);
  out8(line + 0, 1);  // 115,200 baud
  out8(line + 1, 0);
  out8(line + 3, 3);  // 8 bits
  out8(line + 2, 0x07);
  out8(line + 4, 0x0b);
}

void console_write(char c) {
  // A machine without the line reads ones: nothing waits for it.
  for (int i = 0; i < 100'000 && !(in8(line + 5) & 0x20); ++i) relax();
  out8(line, static_cast<kernel::u8>(c));
}

int console_read() {
  return in8(line + 5) & 1 ? in8(line) : -1;
}

void console_listen() {
  u64 const at = firmware_io_apic();
  if (at == 0) return;
  auto* const window = reinterpret_cast<u32 volatile*>(at);
  auto const set = [&](u32 which, u32 value) {
    window[0] = which;
    window[4] = value;
  };
  set(0x10 + 2 * console_pin + 1, apic_own_id() << 24);
  set(0x10 + 2 * console_pin, vector_console);
  out8(line + 1, 1);
}

// QEMU's isa-debug-exit ends with the low 8 bits of 2 * status + 1: 128 would
// read as 0.  127 stands for all from there on.  Elsewhere the core halts.
void exit(int status) {
  for (int i = 0; i < 100'000 && !(in8(line + 5) & 0x40); ++i) relax();
  out32(0xf4, status >= 0 && status < 127 ? static_cast<u32>(status) : 127);
  for (char const c : "Shutdown")
    if (c != 0) out8(0x8900, static_cast<kernel::u8>(c));
  for (;;) asm volatile("cli\n\thlt");
}

}  // namespace machine
