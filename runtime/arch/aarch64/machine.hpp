// SPDX-License-Identifier: BSL-1.0
//
// aarch64 as the common kernel sees it.  Each target has this file; what is
// declared here is the whole of the interface.
#pragma once

#include <activations/abi_image.h>

#include "../../kernel/types.hpp"
#include "frame.hpp"

namespace machine {

// ---- going to user mode (entry.S) ---------------------------------------

extern "C" [[noreturn]] void machine_resume(frame const* registers);
[[noreturn]] inline void resume(frame const& registers) {
  machine_resume(&registers);
}

// ---- page tables ----------------------------------------------------------

using pte = u64;
inline constexpr unsigned table_levels = 3;

inline constexpr pte pte_present = 1;
inline constexpr pte pte_page = 2;  // a table, or a page on the last level
inline constexpr pte pte_user = 1 << 6;
inline constexpr pte pte_read_only = 1 << 7;
inline constexpr pte pte_shared = 3 << 8;  // inner
inline constexpr pte pte_accessed = 1 << 10;
inline constexpr pte pte_not_global = 1 << 11;
inline constexpr pte pte_kernel_no_execute = pte{1} << 53;
inline constexpr pte pte_no_execute = pte{1} << 54;
inline constexpr pte pte_borrowed = pte{1} << 55;  // the kernel's own use
inline constexpr pte pte_address = 0x0000'ffff'ffff'f000;

// Present means readable here: memory with no access at all has no entry.
inline pte leaf(u64 physical, unsigned access) {
  pte entry = physical | pte_present | pte_page | pte_user | pte_shared |
              pte_accessed | pte_not_global | pte_kernel_no_execute;
  if (!(access & ACTIVATIONS_ACCESS_WRITE)) entry |= pte_read_only;
  if (!(access & ACTIVATIONS_ACCESS_EXECUTE)) entry |= pte_no_execute;
  return entry;
}
inline pte table(u64 physical) {
  return physical | pte_present | pte_page;
}
inline bool is_present(pte entry) {
  return (entry & pte_present) != 0;
}
inline u64 address_of(pte entry) {
  return entry & pte_address;
}
inline unsigned access_of(pte entry) {
  unsigned access = ACTIVATIONS_ACCESS_READ;
  if (!(entry & pte_read_only)) access |= ACTIVATIONS_ACCESS_WRITE;
  if (!(entry & pte_no_execute)) access |= ACTIVATIONS_ACCESS_EXECUTE;
  return access;
}

// The kernel's own tables, for a core without a space.
u64 kernel_root();
// The kernel's own part, 64 entries of 1 GiB: first in each space's table.
pte const* kernel_gigabytes();

// This core only. User entries are not global and there is one address space
// number, so a change of tables drops all of them.
inline void use_tables(u64 root) {
  asm volatile(
      "dsb ishst\n\t"
      "msr ttbr0_el1, %0\n\t"
      "isb\n\t"
      "tlbi vmalle1\n\t"
      "dsb nsh\n\t"
      "isb" ::"r"(root)
      : "memory");
}
inline void flush_page(u64 address) {
  asm volatile(
      "dsb ishst\n\t"
      "tlbi vaae1, %0\n\t"
      "dsb nsh\n\t"
      "isb" ::"r"(address >> 12 & 0xfff'ffff'ffff)
      : "memory");
}
void synchronize_code(u64 begin, u64 bytes);

// ---- time ------------------------------------------------------------------

u64 now_ns();
void set_timer(u64 deadline_ns);  // this core; kernel::never: off
u64 clock_multiplier();
u64 clock_base_ns();

// ---- cores -----------------------------------------------------------------

// Starts all but the caller's; each ends in kernel::core_main on its stack.
void start_cores(unsigned count);
void send_kick(unsigned core);
// Sleeps until an interrupt; says which it was, acknowledged.
stop wait();
// Would an interrupt be taken now, were they on?  For preemption points.
inline bool interrupt_waits() {
  u64 pending;
  asm volatile("mrs %0, isr_el1" : "=r"(pending));
  return pending != 0;
}

inline void relax() {
  asm volatile("yield" ::: "memory");
}
inline u64 stack_pointer() {
  u64 value;
  asm volatile("mov %0, sp" : "=r"(value));
  return value;
}

// ---- what the kernel switches with a dispatcher ------------------------------

struct switched_state {
  activations::detail::arch::saved_vector vector;
  u64 thread_pointer;
};
void init_state(switched_state& state, u64 thread_pointer);
void save_state(switched_state& state);
void load_state(switched_state const& state);

// ---- console, devices, end ---------------------------------------------------

void console_write(char c);
int console_read();     // -1: nothing came
void console_listen();  // its interrupt is device 0, on this core
[[noreturn]] void exit(int status);
// For back-traces: the caller's frame pointer, and what lies there.
inline u64 frame_pointer() {
  return reinterpret_cast<u64>(__builtin_frame_address(0));
}
inline u64 caller_frame(u64 frame) {
  return reinterpret_cast<u64 const*>(frame)[0];
}
inline u64 return_address(u64 frame) {
  return reinterpret_cast<u64 const*>(frame)[1];
}

}  // namespace machine
