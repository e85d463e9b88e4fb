// SPDX-License-Identifier: BSL-1.0
//
// x86-64 as the common kernel sees it.  Each target has this file; what is
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
inline constexpr unsigned table_levels = 4;

inline constexpr pte pte_present = 1;
inline constexpr pte pte_write = 2;
inline constexpr pte pte_user = 4;
// Ours: another entry owns the frame.
inline constexpr pte pte_borrowed = 1 << 9;
inline constexpr pte pte_no_execute = pte{1} << 63;
inline constexpr pte pte_address = 0x000f'ffff'ffff'f000;

// Present means readable here: memory with no access at all has no entry.
inline pte leaf(u64 physical, unsigned access) {
  pte entry = physical | pte_present | pte_user;
  if (access & ACTIVATIONS_ACCESS_WRITE) entry |= pte_write;
  if (!(access & ACTIVATIONS_ACCESS_EXECUTE)) entry |= pte_no_execute;
  return entry;
}
inline pte table(u64 physical) {
  return physical | pte_present | pte_write | pte_user;
}
inline bool is_present(pte entry) {
  return (entry & pte_present) != 0;
}
inline u64 address_of(pte entry) {
  return entry & pte_address;
}
inline unsigned access_of(pte entry) {
  unsigned access = ACTIVATIONS_ACCESS_READ;
  if (entry & pte_write) access |= ACTIVATIONS_ACCESS_WRITE;
  if (!(entry & pte_no_execute)) access |= ACTIVATIONS_ACCESS_EXECUTE;
  return access;
}

// The kernel's own tables, for a core without a space.
u64 kernel_root();
// The kernel's own part, 64 entries of 1 GiB: first in each space's table.
pte const* kernel_gigabytes();

// This core only.
inline void use_tables(u64 root) {
  asm volatile("mov %0, %%cr3" ::"r"(root) : "memory");
}
inline void flush_page(u64 address) {
  asm volatile("invlpg (%0)" ::"r"(address) : "memory");
}
inline void synchronize_code(u64, u64) {}  // the caches are coherent

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
bool interrupt_waits();

inline void relax() {
  asm volatile("pause" ::: "memory");
}
inline u64 stack_pointer() {
  u64 value;
  asm volatile("mov %%rsp, %0" : "=r"(value));
  return value;
}

// ---- what the kernel switches with a dispatcher ------------------------------

struct alignas(64) switched_state {
  u64 fs_base, gs_base;
  alignas(64) unsigned char vector[2816];  // XSAVE's area up to AVX-512
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
