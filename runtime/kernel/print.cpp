// SPDX-License-Identifier: BSL-1.0
//
// Lines on the console, and the kernel's last words.
#include <machine.hpp>

#include "core.hpp"
#include "space.hpp"

namespace kernel {

void print(char const* text) {
  for (; *text != 0; ++text) {
    if (*text == '\n') machine::console_write('\r');
    machine::console_write(*text);
  }
}

void print_hex(u64 value) {
  print("0x");
  bool any = false;
  for (int shift = 60; shift >= 0; shift -= 4) {
    unsigned const digit = value >> shift & 15;
    any = any || digit != 0 || shift == 0;
    if (any) machine::console_write("0123456789abcdef"[digit]);
  }
}

void print_decimal(u64 value) {
  char text[24];
  unsigned at = sizeof text - 1;
  text[at] = 0;
  do text[--at] = static_cast<char>('0' + value % 10);
  while ((value /= 10) != 0);
  print(text + at);
}

void panic(char const* what, u64 a, u64 b) {
  static std::atomic<u32> panicking{0};
  if (panicking.exchange(1, std::memory_order::relaxed) != 0)
    machine::exit(255);
  core& here = this_core();
  print("\nkernel panic on core ");
  print_decimal(here.index);
  print(": ");
  print(what);
  print(" ");
  print_hex(a);
  print(" ");
  print_hex(b);
  print("\nback-trace:");
  auto const low = reinterpret_cast<u64>(&here);
  u64 frame = machine::frame_pointer();
  for (int i = 0; i < 16 && frame > low &&
                  frame + 16 <= low + kernel_stack_bytes && frame % 8 == 0;
       ++i) {
    print(" ");
    print_hex(machine::return_address(frame));
    frame = machine::caller_frame(frame);
  }
  print("\n");
  if (here.current != nullptr && here.current->home != nullptr) {
    print("it ran for ");
    print(here.current->home->name);
    print(", dispatcher ");
    print_decimal(here.current->index);
    print("\n");
  }
  machine::exit(255);
}

}  // namespace kernel

// What the compiler may call.
using word [[gnu::may_alias]] = kernel::u64;
using kernel::u64;
extern "C" {
void* memcpy(void* to, void const* from, unsigned long n) {
  auto* d = static_cast<unsigned char*>(to);
  auto const* s = static_cast<unsigned char const*>(from);
  // By words where both are aligned to them: frames and pages are.
  if ((reinterpret_cast<u64>(d) | reinterpret_cast<u64>(s)) % 8 == 0)
    for (; n >= 8; n -= 8, d += 8, s += 8)
      *reinterpret_cast<word*>(d) = *reinterpret_cast<word const*>(s);
  while (n-- != 0) *d++ = *s++;
  return to;
}
void* memset(void* to, int value, unsigned long n) {
  auto* d = static_cast<unsigned char*>(to);
  u64 const each = static_cast<unsigned char>(value) * 0x0101'0101'0101'0101u;
  if (reinterpret_cast<u64>(d) % 8 == 0)
    for (; n >= 8; n -= 8, d += 8) *reinterpret_cast<word*>(d) = each;
  while (n-- != 0) *d++ = static_cast<unsigned char>(value);
  return to;
}
void* memmove(void* to, void const* from, unsigned long n) {
  auto* d = static_cast<unsigned char*>(to);
  auto const* s = static_cast<unsigned char const*>(from);
  if (d < s) return memcpy(to, from, n);
  while (n-- != 0) d[n] = s[n];
  return to;
}
unsigned long strlen(char const* text) {
  unsigned long n = 0;
  while (text[n] != 0) ++n;
  return n;
}
void* memchr(void const* text, int value, unsigned long n) {
  auto const* p = static_cast<unsigned char const*>(text);
  for (; n-- != 0; ++p)
    if (*p == static_cast<unsigned char>(value))
      return const_cast<unsigned char*>(p);
  return nullptr;
}
int memcmp(void const* a, void const* b, unsigned long n) {
  auto const* x = static_cast<unsigned char const*>(a);
  auto const* y = static_cast<unsigned char const*>(b);
  for (; n-- != 0; ++x, ++y)
    if (*x != *y) return *x - *y;
  return 0;
}
}
