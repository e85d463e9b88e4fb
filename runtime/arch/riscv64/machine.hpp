// SPDX-License-Identifier: BSL-1.0
//
// riscv64 as the common kernel sees it.  Each target has this file; what is
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

inline constexpr pte pte_present = 1 << 0;
inline constexpr pte pte_read = 1 << 1;
inline constexpr pte pte_write = 1 << 2;
inline constexpr pte pte_execute = 1 << 3;
inline constexpr pte pte_user = 1 << 4;
inline constexpr pte pte_accessed = 1 << 6;
inline constexpr pte pte_dirty = 1 << 7;
inline constexpr pte pte_borrowed = 1 << 8;  // the kernel's own use
inline constexpr pte pte_address = 0x003f'ffff'ffff'fc00;

// Present means readable here: memory with no access at all has no entry.
inline pte leaf(u64 physical, unsigned access) {
  pte entry = physical >> 2 | pte_present | pte_read | pte_user | pte_accessed |
              pte_dirty;
  if (access & ACTIVATIONS_ACCESS_WRITE) entry |= pte_write;
  if (access & ACTIVATIONS_ACCESS_EXECUTE) entry |= pte_execute;
  return entry;
}
inline pte table(u64 physical) {
  return physical >> 2 | pte_present;
}
inline bool is_present(pte entry) {
  return (entry & pte_present) != 0;
}
inline u64 address_of(pte entry) {
  return (entry & pte_address) << 2;
}
inline unsigned access_of(pte entry) {
  unsigned access = ACTIVATIONS_ACCESS_READ;
  if (entry & pte_write) access |= ACTIVATIONS_ACCESS_WRITE;
  if (entry & pte_execute) access |= ACTIVATIONS_ACCESS_EXECUTE;
  return access;
}

// The kernel's own tables, for a core without a space.
u64 kernel_root();
// The kernel's own part, 64 entries of 1 GiB: first in each space's table.
pte const* kernel_gigabytes();

// This core only; address-space numbers are not used.
inline void use_tables(u64 root) {
  constexpr u64 sv39 = u64{8} << 60;
  asm volatile("csrw satp, %0\n\tsfence.vma" ::"r"(sv39 | root >> 12)
               : "memory");
}
inline void flush_page(u64 address) {
  asm volatile("sfence.vma %0, zero" ::"r"(address) : "memory");
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
  u64 pending, enabled;
  asm volatile("csrr %0, sip\n\tcsrr %1, sie" : "=r"(pending), "=r"(enabled));
  return (pending & enabled) != 0;
}

inline void relax() {
  asm volatile(".insn i 0x0f, 0, x0, x0, 0x010" ::: "memory");  // pause
}
inline u64 stack_pointer() {
  u64 value;
  asm volatile("mv %0, sp" : "=r"(value));
  return value;
}

// ---- what the kernel switches with a dispatcher ------------------------------

// The thread pointer is a general register.
struct switched_state {
  activations::detail::arch::saved_vector vector;
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
  return reinterpret_cast<u64 const*>(frame)[-2];
}
inline u64 return_address(u64 frame) {
  return reinterpret_cast<u64 const*>(frame)[-1];
}

}  // namespace machine
