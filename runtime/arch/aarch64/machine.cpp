// SPDX-License-Identifier: BSL-1.0
//
// QEMU's "virt" machine and others like it: the common kernel's wishes in
// terms of the processor, the firmware and the devices.
#include "machine.hpp"

#include "../../kernel/core.hpp"
#include "console.hpp"
#include "firmware.hpp"
#include "interrupt_controller.hpp"

extern "C" {
extern machine::pte machine_gigabytes[512];  // boot.S
void machine_boot_other();
void machine_store_vector(activations::detail::arch::saved_vector*);
void machine_load_vector(activations::detail::arch::saved_vector const*);
}

namespace machine {
namespace {

using kernel::never;

constexpr u32 kick_interrupt = 1;
constexpr u32 first_private = 16;  // a tree counts private interrupts from it

interrupt_controller interrupts;

// Read by all cores after core 0 has filled them in, before it starts them.
u32 timer_interrupt;
u64 ns_per_tick_32;  // nanoseconds per tick of the counter, times 2^32
u64 ticks_per_ns_32;

// ESR_EL1.EC, and what a fault's syndrome tells.
enum class exception : u32 {
  system_call = 0x15,
  fetch_from_user = 0x20,
  access_from_user = 0x24
};
constexpr u64 syndrome_write = 1 << 6;
constexpr u64 syndrome_cache_operation = 1 << 8;

u64 exception_syndrome() {
  u64 value;
  asm volatile("mrs %0, esr_el1" : "=r"(value));
  return value;
}

u64 fault_address() {
  u64 value;
  asm volatile("mrs %0, far_el1" : "=r"(value));
  return value;
}

u64 counter() {
  u64 value;
  asm volatile("isb\n\tmrs %0, cntvct_el0" : "=r"(value)::"memory");
  return value;
}

void find_timer(kernel::device_tree const& tree) {
  // Secure, physical, virtual, hypervisor: three cells each.
  auto const timer = tree.find_compatible("arm,armv8-timer");
  timer_interrupt = first_private + timer.find("interrupts").cell(2 * 3 + 1);
  u64 frequency;
  asm volatile("mrs %0, cntfrq_el0" : "=r"(frequency));
  ns_per_tick_32 = (u64{1'000'000'000} << 32) / frequency;
  ticks_per_ns_32 = (frequency << 32) / 1'000'000'000;
}

void start_core() {
  interrupts.start_core();
  set_timer(never);
  interrupts.enable(kick_interrupt);
  interrupts.enable(timer_interrupt);
}

// Takes what the controller offers; false: nothing.
bool take_interrupt(stop& why) {
  auto const taken = interrupts.acknowledge();
  auto const number = taken & interrupt_controller::number_bits;
  if (number >= interrupt_controller::none) return false;
  why = {};
  if (number == timer_interrupt) {
    set_timer(never);
    why.why = cause::timer;
  } else if (number == console_interrupt()) {
    console_quiet();
    why.why = cause::device;
  } else {
    why.why = cause::kick;
  }
  interrupts.complete(taken);
  return true;
}

stop decode(u64 syndrome) {
  stop why{};
  switch (static_cast<exception>(syndrome >> 26)) {
    case exception::system_call:
      why.why = cause::call;
      break;
    case exception::fetch_from_user:
      why.why = cause::fault;
      why.access = ACTIVATIONS_ACCESS_EXECUTE;
      why.address = fault_address();
      break;
    case exception::access_from_user: {
      // Alignment and the like are no business of a pager's.
      auto const status = syndrome & 0x3f;
      if (status < 0x04 || status > 0x0f) {
        why.why = cause::trap;
        why.number = static_cast<u32>(syndrome);
        why.address = fault_address();
        break;
      }
      why.why = cause::fault;
      // A cache operation counts as a write, but reads.
      why.access = (syndrome & syndrome_write) != 0 &&
                           (syndrome & syndrome_cache_operation) == 0
                       ? ACTIVATIONS_ACCESS_WRITE
                       : ACTIVATIONS_ACCESS_READ;
      why.address = fault_address();
      break;
    }
    default:
      why.why = cause::trap;
      why.number = static_cast<u32>(syndrome);
      break;
  }
  return why;
}

}  // namespace

u64 kernel_root() {
  return reinterpret_cast<u64>(machine_gigabytes);
}
pte const* kernel_gigabytes() {
  return machine_gigabytes;
}

void synchronize_code(u64 begin, u64 bytes) {
  u64 type;
  asm volatile("mrs %0, ctr_el0" : "=r"(type));
  auto const data_line = u64{4} << (type >> 16 & 15);
  auto const code_line = u64{4} << (type & 15);
  auto const end = begin + bytes;
  for (auto at = begin & ~(data_line - 1); at < end; at += data_line) {
    asm volatile("dc cvau, %0" ::"r"(at) : "memory");
  }
  asm volatile("dsb ish" ::: "memory");
  for (auto at = begin & ~(code_line - 1); at < end; at += code_line) {
    asm volatile("ic ivau, %0" ::"r"(at) : "memory");
  }
  // Through another address as well: caches may be indexed by it.
  asm volatile("ic ialluis\n\tdsb ish\n\tisb" ::: "memory");
}

u64 now_ns() {
  return static_cast<u64>(
      static_cast<unsigned __int128>(counter()) * ns_per_tick_32 >> 32);
}

u64 clock_multiplier() {
  return ns_per_tick_32;
}
u64 clock_base_ns() {
  return 0;
}

void set_timer(u64 deadline_ns) {
  if (deadline_ns == never) {
    asm volatile("msr cntv_ctl_el0, %0\n\tisb" ::"r"(u64{0}));
    return;
  }
  // Rounded up, so that the deadline has passed when the interrupt comes.
  auto const ticks = static_cast<u64>(
      static_cast<unsigned __int128>(deadline_ns) * ticks_per_ns_32 >> 32);
  asm volatile(
      "msr cntv_cval_el0, %0\n\t"
      "msr cntv_ctl_el0, %1\n\t"
      "isb" ::"r"(ticks + 2),
      "r"(u64{1}));
}

void start_cores(unsigned count) {
  for (unsigned i = 1; i < count; ++i) {
    auto const result = psci::start_core(
        firmware_mpidr(i), reinterpret_cast<u64>(&machine_boot_other), i);
    if (result != 0) kernel::panic("a core does not start", i, result);
    while (!kernel::has_started(i)) relax();
  }
}

void send_kick(unsigned core) {
  interrupts.send(kick_interrupt, firmware_mpidr(core), core);
}

// An interrupt that is masked still ends the wait.
stop wait() {
  for (stop why;;) {
    if (take_interrupt(why)) return why;
    asm volatile("dsb sy\n\twfi" ::: "memory");
  }
}

void init_state(switched_state& state, u64 thread_pointer) {
  state = {};
  state.thread_pointer = thread_pointer;
}

void save_state(switched_state& state) {
  asm volatile("mrs %0, tpidr_el0" : "=r"(state.thread_pointer));
  machine_store_vector(&state.vector);
}

void load_state(switched_state const& state) {
  asm volatile("msr tpidr_el0, %0" ::"r"(state.thread_pointer));
  machine_load_vector(&state.vector);
}

void console_listen() {
  if (!console_begin_listening()) return;
  interrupts.enable(console_interrupt());
}

// Semihosting's SYS_EXIT is the one way to give the emulator a status; where
// nobody listens it traps to machine_broken, which powers off.
void exit(int status) {
  static bool tried;
  if (!tried) {
    tried = true;
    u64 const argument[2] = {0x20026, static_cast<u64>(status)};
    register u64 operation asm("x0") = 0x18;
    register u64 const* at asm("x1") = argument;
    asm volatile("hlt #0xf000" : "+r"(operation) : "r"(at) : "memory");
  }
  psci::shut_down();
  for (;;) asm volatile("wfi");
}

}  // namespace machine

// ---- from boot.S and entry.S --------------------------------------------------

using machine::cause;

extern "C" [[noreturn]] void machine_main(void const* tree_address) {
  kernel::this_core().index = 0;
  // The emulator gives no address with an ELF file: then at memory's start.
  kernel::device_tree const tree(tree_address != nullptr
                                     ? tree_address
                                     : reinterpret_cast<void*>(0x40000000));
  static kernel::machine_description machine;
  machine::console_open(tree);
  machine::firmware_read(tree, machine);
  machine::find_timer(tree);
  if (!machine::interrupts.find(tree)) {
    kernel::panic("no known interrupt controller");
  }
  machine::start_core();
  kernel::main(machine);
}

extern "C" [[noreturn]] void machine_secondary(unsigned index) {
  kernel::this_core().index = index;
  machine::start_core();
  kernel::core_main(index);
}

extern "C" [[noreturn]] void machine_stopped(machine::frame* registers,
                                             unsigned kind) {
  constexpr unsigned synchronous = 0;
  constexpr unsigned interrupt = 1;
  machine::stop why{};
  if (kind == synchronous) {
    why = machine::decode(machine::exception_syndrome());
  } else if (kind == interrupt) {
    // It may have been withdrawn meanwhile.
    if (!machine::take_interrupt(why)) machine::resume(*registers);
  } else {
    kernel::panic("system error", machine::exception_syndrome(),
                  registers->pc());
  }
  kernel::stopped(*registers, why);
}

extern "C" [[noreturn]] void machine_broken(machine::frame* registers,
                                            unsigned /*kind*/) {
  static bool before;
  if (before) machine::exit(255);
  before = true;
  kernel::print("kernel exception: address ");
  kernel::print_hex(machine::fault_address());
  kernel::print("\n");
  kernel::panic("exception in the kernel", machine::exception_syndrome(),
                registers->pc());
}
