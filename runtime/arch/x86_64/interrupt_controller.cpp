// SPDX-License-Identifier: BSL-1.0
#include "interrupt_controller.hpp"

#include <atomic>

#include "../../kernel/core.hpp"
#include "firmware.hpp"
#include "machine.hpp"
#include "port.hpp"

extern "C" char core_begin[], core_end[];
extern "C" unsigned starting_core;
unsigned starting_core;

namespace machine {
namespace {

constexpr u64 apic_address = 0xfee00000;
constexpr u32 msr_apic_base = 0x1b;
constexpr u32 msr_tsc_deadline = 0x6e0;

// Register numbers, in units of 16 bytes.
enum : u32 {
  apic_id = 0x02,
  apic_eoi = 0x0b,
  apic_spurious = 0x0f,
  apic_requests = 0x20,  // 8 words
  apic_command = 0x30,
  apic_command_high = 0x31,
  apic_timer = 0x32,
  apic_lint0 = 0x35,
  apic_initial = 0x38,
  apic_current = 0x39,
  apic_divide = 0x3e
};

bool is_x2apic;
bool has_deadline;
u64 tsc_per_second;
u64 apic_per_second;
u64 multiplier;
u64 base_ns;

bool cpu_has(u32 bit) {
  u32 a = 1, b, c = 0, d;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return (c >> bit & 1) != 0;
}

u32 volatile& mapped(u32 which) {
  return *reinterpret_cast<u32 volatile*>(apic_address + 16 * which);
}
u32 read(u32 which) {
  return is_x2apic ? static_cast<u32>(read_msr(0x800 + which)) : mapped(which);
}
void write(u32 which, u32 value) {
  if (is_x2apic)
    write_msr(0x800 + which, value);
  else
    mapped(which) = value;
}
void command(u32 to, u32 value) {
  if (is_x2apic) {
    // This write waits for no store: a mailbox must be seen before its kick.
    asm volatile("mfence\n\tlfence" ::: "memory");
    return write_msr(0x830, static_cast<u64>(to) << 32 | value);
  }
  mapped(apic_command_high) = to << 24;
  mapped(apic_command) = value;
  while (mapped(apic_command) & 1u << 12) relax();
}

// ---- reference clocks -----------------------------------------------------------

// Counts tsc and APIC timer over about 10 ms of the HPET.
bool calibrate_by_hpet(u64& tsc, u64& apic) {
  u64 const at = firmware_hpet();
  if (at == 0) return false;
  auto* const hpet = reinterpret_cast<u64 volatile*>(at);
  u64 const femtoseconds = hpet[0] >> 32;
  if (femtoseconds == 0) return false;
  hpet[2] = hpet[2] | 1;  // counts
  u64 const ticks = 10'000'000'000'000 / femtoseconds;
  u64 const begin = hpet[30];
  u64 const tsc_begin = read_tsc();
  u32 const apic_begin = read(apic_current);
  u64 now = begin;
  while (now - begin < ticks) now = hpet[30];
  u64 const elapsed = (now - begin) * femtoseconds / 1'000'000;  // ns
  tsc = (read_tsc() - tsc_begin) * 1'000'000'000 / elapsed;
  apic = u64{apic_begin - read(apic_current)} * 1'000'000'000 / elapsed;
  return true;
}

// The PIT is switched off on some machines: false after a second or so.
bool calibrate_by_pit(u64& tsc, u64& apic) {
  constexpr unsigned ticks = 11932;  // 10 ms of 1.193182 MHz
  out8(0x61, (in8(0x61) & ~2) | 1);
  out8(0x43, 0xb0);
  out8(0x42, ticks & 0xff);
  out8(0x42, ticks >> 8);
  u64 const tsc_begin = read_tsc();
  u32 const apic_begin = read(apic_current);
  for (unsigned reads = 0; !(in8(0x61) & 0x20); ++reads)
    if (reads == 1'000'000) return false;
  tsc = (read_tsc() - tsc_begin) * 100;
  apic = u64{apic_begin - read(apic_current)} * 100;
  return true;
}

void calibrate_by_tsc(u64 tsc, u64& apic) {
  u64 const begin = read_tsc();
  u32 const apic_begin = read(apic_current);
  while (read_tsc() - begin < tsc / 100) relax();
  apic = u64{apic_begin - read(apic_current)} * 100;
}

void read_cpuid(u32 leaf, u32& a, u32& b, u32& c) {
  u32 d;
  a = leaf;
  c = 0;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
}

// By the crystal; 0 where the processor does not say.
u64 tsc_by_cpuid() {
  u32 a, b, c;
  read_cpuid(0, a, b, c);
  if (a < 0x15) return 0;
  read_cpuid(0x15, a, b, c);
  return a != 0 && b != 0 && c != 0 ? u64{c} * b / a : 0;
}

// The nominal frequency: to less than a percent.
u64 tsc_by_nominal() {
  u32 a, b, c;
  read_cpuid(0, a, b, c);
  if (a < 0x16) return 0;
  read_cpuid(0x16, a, b, c);
  return u64{a & 0xffff} * 1'000'000;
}

void pause_ns(u64 ns) {
  for (u64 const until = now_ns() + ns; now_ns() < until;) relax();
}

}  // namespace

// In the form that command() takes: x2APIC's is longer.
u32 apic_own_id() {
  if (is_x2apic) return read(apic_id);
  u32 a = 1, b, c = 0, d;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return b >> 24;
}

void apic_enable() {
  u64 base = read_msr(msr_apic_base) | 1u << 11;
  write_msr(msr_apic_base, base);
  is_x2apic = cpu_has(21);
  // In a step of its own: there is no way from off to x2APIC at once.
  if (is_x2apic) write_msr(msr_apic_base, base | 1u << 10);
  has_deadline = cpu_has(24);
  out8(0x21, 0xff);  // the old interrupt controllers
  out8(0xa1, 0xff);
  write(apic_lint0, 1u << 16);
  write(apic_spurious, 0x100 | vector_spurious);
  write(apic_divide, 0xb);  // by 1
}

void apic_end_of_interrupt() {
  write(apic_eoi, 0);
}

void timer_set_up() {
  write(apic_timer, vector_timer | (has_deadline ? 2u << 17 : 0u));
  // A deadline must not be set before the mode is: one is a store to memory.
  asm volatile("mfence" ::: "memory");
}

void clock_calibrate() {
  write(apic_timer, 1u << 16 | vector_timer);
  write(apic_initial, ~0u);
  char const* by = "CPUID";
  u64 const exact = tsc_by_cpuid();
  if (calibrate_by_hpet(tsc_per_second, apic_per_second)) {
    by = exact != 0 ? "CPUID" : "HPET";
  } else if (u64 const known = exact != 0 ? exact : tsc_by_nominal()) {
    tsc_per_second = known;
    calibrate_by_tsc(known, apic_per_second);
  } else if (calibrate_by_pit(tsc_per_second, apic_per_second)) {
    by = "PIT";
  } else {
    kernel::panic("this machine has no clock to compare the TSC with");
  }
  if (exact != 0) tsc_per_second = exact;
  write(apic_initial, 0);
  multiplier = static_cast<u64>(
      (static_cast<unsigned __int128>(1'000'000'000) << 32) / tsc_per_second);
  timer_set_up();
  kernel::print(is_x2apic ? "machine: x2APIC, " : "machine: xAPIC, ");
  kernel::print(has_deadline ? "TSC deadline, " : "APIC timer, ");
  kernel::print_decimal(tsc_per_second / 1'000'000);
  kernel::print(" MHz by ");
  kernel::print(by);
  kernel::print("\n");
}

u64 now_ns() {
  return static_cast<u64>(
             static_cast<unsigned __int128>(read_tsc()) * multiplier >> 32) +
         base_ns;
}
u64 clock_multiplier() {
  return multiplier;
}
u64 clock_base_ns() {
  return base_ns;
}

void set_timer(u64 deadline_ns) {
  if (has_deadline) {
    u64 ticks = 0;
    if (deadline_ns != kernel::never) {
      ticks = static_cast<u64>(
          (static_cast<unsigned __int128>(deadline_ns) << 32) / multiplier);
      if (ticks == 0) ticks = 1;
    }
    return write_msr(msr_tsc_deadline, ticks);
  }
  if (deadline_ns == kernel::never) return write(apic_initial, 0);
  u64 const now = now_ns();
  u64 const rest = deadline_ns > now ? deadline_ns - now : 0;
  // At most a second: the kernel looks at its deadlines again then.
  u64 ticks = (rest < 1'000'000'000 ? rest : 1'000'000'000) * apic_per_second /
              1'000'000'000;
  if (ticks == 0) ticks = 1;
  if (ticks > 0xffffffff) ticks = 0xffffffff;
  write(apic_initial, static_cast<u32>(ticks));
}

bool interrupt_waits() {
  return read(apic_requests + 2) != 0;
}

void send_kick(unsigned core) {
  command(firmware_apic_id(core), vector_kick);
}

void start_cores(unsigned count) {
  u64 const core_place = firmware_low_page();
  if (count > 1 && core_place == 0)
    kernel::panic("no memory below 640 KiB for the other cores to begin in");
  auto const bytes = static_cast<u64>(core_end - core_begin);
  __builtin_memcpy(reinterpret_cast<void*>(core_place), core_begin, bytes);
  for (unsigned i = 1; i < count; ++i) {
    starting_core = i;
    std::atomic_thread_fence(std::memory_order::seq_cst);
    u32 const to = firmware_apic_id(i);
    command(to, 0x4500);  // INIT
    pause_ns(1'000'000);
    for (int attempt = 0; attempt < 2; ++attempt) {
      command(to, 0x4600 | core_place >> 12);
      for (u64 const until = now_ns() + 1'000'000'000;
           now_ns() < until && !kernel::has_started(i);)
        relax();
      if (kernel::has_started(i)) break;
    }
    if (!kernel::has_started(i)) kernel::panic("a core does not start", i);
  }
}

}  // namespace machine
