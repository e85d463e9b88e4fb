// SPDX-License-Identifier: BSL-1.0
//
// QEMU's "virt" machine and others like it: the common kernel's wishes in
// terms of the processor, the firmware and the devices.
#include "machine.hpp"

#include "../../kernel/core.hpp"
#include "../../kernel/device_tree.hpp"
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
using kernel::u8;

// Bits of sie and sip, and their numbers in scause.
constexpr u64 software_interrupt = 1;
constexpr u64 timer_interrupt = 5;
constexpr u64 external_interrupt = 9;
constexpr u64 is_interrupt = u64{1} << 63;

enum class exception : u64 {
  user_call = 8,
  fetch_page_fault = 12,
  load_page_fault = 13,
  store_page_fault = 15
};

// Filled in by core 0 before it starts the others.
interrupt_controller interrupts;
u32 volatile* test_device;  // ends the emulator
u64 ns_per_tick_32;         // nanoseconds per tick of the time, times 2^32
u64 ticks_per_ns_32;

u64 time() {
  u64 value;
  asm volatile("rdtime %0" : "=r"(value));
  return value;
}

void find_time(kernel::device_tree const& tree) {
  auto const frequency =
      tree.find_named("cpus").find("timebase-frequency").number();
  if (frequency == 0) kernel::panic("the device tree names no time base");
  ns_per_tick_32 = (u64{1'000'000'000} << 32) / frequency;
  ticks_per_ns_32 = (frequency << 32) / 1'000'000'000;
}

void start_core() {
  set_timer(never);
  interrupts.start_core();
  asm volatile("csrw sie, %0" ::"r"(u64{1} << software_interrupt |
                                    u64{1} << timer_interrupt |
                                    u64{1} << external_interrupt));
}

// Acknowledges interrupt `number` of scause; false: it was withdrawn.
bool take_interrupt(u64 number, stop& why) {
  why = {};
  if (number == timer_interrupt) {
    set_timer(never);
    why.why = cause::timer;
    return true;
  }
  if (number == software_interrupt) {
    asm volatile("csrc sip, %0" ::"r"(u64{1} << software_interrupt) : "memory");
    why.why = cause::kick;
    return true;
  }
  u32 const source = interrupts.acknowledge();
  if (source == 0) return false;
  if (source == console_interrupt()) console_quiet();
  interrupts.complete(source);
  why.why = cause::device;
  return true;
}

stop decode(u64 number, u64 value) {
  stop why{};
  why.why = cause::fault;
  why.address = value;
  switch (static_cast<exception>(number)) {
    case exception::user_call:
      why.why = cause::call;
      why.address = 0;
      break;
    case exception::fetch_page_fault:
      why.access = ACTIVATIONS_ACCESS_EXECUTE;
      break;
    case exception::load_page_fault:
      why.access = ACTIVATIONS_ACCESS_READ;
      break;
    case exception::store_page_fault:
      why.access = ACTIVATIONS_ACCESS_WRITE;
      break;
    default:
      why.why = cause::trap;
      why.number = static_cast<u32>(number);
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

void synchronize_code(u64, u64) {
  asm volatile("fence rw, rw\n\tfence.i" ::: "memory");
  sbi::remote_fence_code();
}

u64 now_ns() {
  return static_cast<u64>(
      static_cast<unsigned __int128>(time()) * ns_per_tick_32 >> 32);
}

u64 clock_multiplier() {
  return ns_per_tick_32;
}
u64 clock_base_ns() {
  return 0;
}

void set_timer(u64 deadline_ns) {
  if (deadline_ns == never) {
    sbi::set_timer(never);
    return;
  }
  // Rounded up, so that the deadline has passed when the interrupt comes.
  auto const ticks = static_cast<u64>(
      static_cast<unsigned __int128>(deadline_ns) * ticks_per_ns_32 >> 32);
  sbi::set_timer(ticks + 2);
}

void start_cores(unsigned count) {
  for (unsigned i = 1; i < count; ++i) {
    auto const error = sbi::start_hart(
        firmware_hart(i), reinterpret_cast<u64>(&machine_boot_other), i);
    if (error != 0) {
      kernel::panic("a core does not start", i, static_cast<u64>(error));
    }
    while (!kernel::has_started(i)) relax();
  }
}

void send_kick(unsigned core) {
  asm volatile("fence rw, rw" ::: "memory");  // what was written, before
  sbi::send_interrupt(firmware_hart(core));
}

// An interrupt ends the wait even while interrupts are off.
stop wait() {
  for (stop why;;) {
    u64 pending;
    asm volatile("csrr %0, sip" : "=r"(pending)::"memory");
    for (auto const number :
         {software_interrupt, timer_interrupt, external_interrupt}) {
      if ((pending >> number & 1) != 0 && take_interrupt(number, why)) {
        return why;
      }
    }
    asm volatile("wfi" ::: "memory");
  }
}

void init_state(switched_state& state, u64 /*thread_pointer*/) {
  state = {};
}
void save_state(switched_state& state) {
  machine_store_vector(&state.vector);
}
void load_state(switched_state const& state) {
  machine_load_vector(&state.vector);
}

void console_listen() {
  if (!console_begin_listening()) return;
  interrupts.enable(console_interrupt());
}

void exit(int status) {
  if (test_device != nullptr) {
    constexpr u32 pass = 0x5555;
    constexpr u32 fail = 0x3333;
    auto const code = static_cast<u32>(status) & 0xff;
    *test_device = code == 0 ? pass : code << 16 | fail;
  }
  sbi::shut_down();
  for (;;) asm volatile("wfi");
}

}  // namespace machine

// ---- from boot.S and entry.S --------------------------------------------------

extern "C" [[noreturn]] void machine_main(machine::u64 hart,
                                          void const* tree_address) {
  kernel::this_core().index = 0;
  kernel::device_tree const tree(tree_address);
  static kernel::machine_description machine;
  machine::console_open(tree);
  machine::test_device = reinterpret_cast<machine::u32 volatile*>(
      tree.find_compatible("sifive,test0").range().base);
  machine::firmware_read(tree, hart, machine);
  machine::interrupts.find(tree, machine.cores);
  machine::find_time(tree);
  machine::start_core();
  kernel::main(machine);
}

extern "C" [[noreturn]] void machine_secondary(unsigned index) {
  kernel::this_core().index = index;
  machine::start_core();
  kernel::core_main(index);
}

extern "C" [[noreturn]] void machine_stopped(machine::frame* registers,
                                             machine::u64 cause,
                                             machine::u64 value) {
  machine::stop why{};
  if ((cause & machine::is_interrupt) == 0) {
    why = machine::decode(cause, value);
    // The common kernel finds the pc behind the call.
    if (why.why == machine::cause::call) {
      registers->activations::detail::arch::saved_general::pc += 4;
    }
  } else if (!machine::take_interrupt(cause & ~machine::is_interrupt, why)) {
    machine::resume(*registers);
  }
  kernel::stopped(*registers, why);
}

extern "C" [[noreturn]] void machine_broken(machine::frame* registers,
                                            machine::u64 cause,
                                            machine::u64 value) {
  static bool before;
  if (before) machine::exit(255);
  before = true;
  kernel::print("kernel exception: address ");
  kernel::print_hex(value);
  kernel::print("\n");
  kernel::panic("exception in the kernel", cause, registers->pc());
}
