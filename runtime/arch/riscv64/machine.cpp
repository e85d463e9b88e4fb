// SPDX-License-Identifier: BSL-1.0
//
// QEMU's "virt" machine and others like it: what the device tree describes of
// memory, harts, interrupt controller and console, and the common kernel's
// wishes in their terms and those of the firmware (the Supervisor Binary
// Interface, SBI).
#include "machine.hpp"

#include <string_view>

#include "../../kernel/core.hpp"
#include "../../kernel/device_tree.hpp"
#include "sbi.hpp"

extern "C" {
extern machine::pte machine_gigabytes[512];  // boot.S
extern char kernel_begin[];
extern char kernel_end[];
void machine_boot_other();
void machine_store_vector(activations::detail::arch::saved_vector*);
void machine_load_vector(activations::detail::arch::saved_vector const*);
}

namespace machine {
namespace {

using kernel::never;
using kernel::u8;

constexpr u64 gigabyte = u64{1} << 30;

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

// Read by all cores after core 0 has filled them in, before it starts them.
u64 core_hart[kernel::most_cores];
// The platform-level interrupt controller, and its context that stands for
// supervisor mode of each core.
u64 controller;
u32 core_context[kernel::most_cores];
u32 console_interrupt;
u8 volatile* console;  // an 8250 or better; none before it is found
unsigned console_shift;
u32 volatile* test_device;  // ends the emulator
u64 ns_per_tick_32;         // nanoseconds per tick of the time, times 2^32
u64 ticks_per_ns_32;

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

u64 time() {
  u64 value;
  asm volatile("rdtime %0" : "=r"(value));
  return value;
}

// Interrupt controller registers: priority of each source, then for each
// context a bit array of enables, then threshold and claim.
u32 volatile& controller_at(u64 offset) {
  return *reinterpret_cast<u32 volatile*>(controller + offset);
}
u32 volatile& controller_enable(u32 context, u32 source) {
  return controller_at(0x2000 + 0x80 * context + source / 32 * 4);
}
u32 volatile& controller_threshold(u32 context) {
  return controller_at(0x200000 + 0x1000 * u64{context});
}
u32 volatile& controller_claim(u32 context) {
  return controller_at(0x200004 + 0x1000 * u64{context});
}

// Each 1 GiB below 64 that holds memory, as one leaf.
void map(kernel::machine_description::range const& memory) {
  constexpr pte attributes = 0xef;  // as boot.S
  for (u64 i = memory.begin / gigabyte; i < 64 && i * gigabyte < memory.end;
       ++i) {
    machine_gigabytes[i] = i * gigabyte >> 2 | attributes;
  }
  asm volatile("sfence.vma" ::: "memory");
}

void find_memory(kernel::device_tree const& tree,
                 kernel::machine_description& machine) {
  tree.for_each_node([&](kernel::device_node const& node) {
    if (node.find("device_type").text() != "memory" || !node.is_enabled()) {
      return true;
    }
    for (std::size_t i = 0; node.range(i).bytes != 0; ++i) {
      if (machine.memory_count == std::size(machine.memory)) return false;
      auto range = kernel::machine_description::range{
          node.range(i).base, node.range(i).base + node.range(i).bytes};
      map(range);
      // Of the kernel's own range, what lies behind firmware and kernel.
      auto const end = reinterpret_cast<u64>(kernel_end);
      if (range.begin <= reinterpret_cast<u64>(kernel_begin) &&
          end < range.end) {
        range.begin = end;
      }
      machine.memory[machine.memory_count++] = range;
    }
    return true;
  });
}

// Core 0 is the hart that runs here, whichever that is.
void find_cores(kernel::device_tree const& tree, u64 boot_hart,
                kernel::machine_description& machine) {
  u32 local_controller[kernel::most_cores] = {};  // phandles
  core_hart[0] = boot_hart;
  machine.cores = 1;
  unsigned core = kernel::most_cores;
  tree.for_each_node([&](kernel::device_node const& node) {
    if (node.find("device_type").text() == "cpu" && node.is_enabled()) {
      auto const hart = node.find("reg").number();
      core = hart == boot_hart                    ? 0
             : machine.cores < kernel::most_cores ? machine.cores++
                                                  : kernel::most_cores;
      if (core < kernel::most_cores) core_hart[core] = hart;
    } else if (node.is_compatible("riscv,cpu-intc") &&
               core < kernel::most_cores) {
      local_controller[core] = node.find("phandle").cell(0);
    }
    return true;
  });

  auto const plic = tree.find_compatible("sifive,plic-1.0.0");
  controller = plic.range().base;
  // Pairs of a hart's controller and one of its interrupts: a context each.
  auto const contexts = plic.find("interrupts-extended");
  for (u32 i = 0; i < contexts.cells() / 2; ++i) {
    for (unsigned c = 0; c < machine.cores; ++c) {
      if (contexts.cell(2 * i) == local_controller[c] &&
          contexts.cell(2 * i + 1) == external_interrupt) {
        core_context[c] = i;
      }
    }
  }
}

void find_time(kernel::device_tree const& tree) {
  auto const frequency =
      tree.find_named("cpus").find("timebase-frequency").number();
  if (frequency == 0) kernel::panic("the device tree names no time base");
  ns_per_tick_32 = (u64{1'000'000'000} << 32) / frequency;
  ticks_per_ns_32 = (frequency << 32) / 1'000'000'000;
}

void find_console(kernel::device_tree const& tree) {
  auto const uart = tree.find_compatible("ns16550a");
  if (!uart) return;
  console_interrupt = uart.find("interrupts").cell(0);
  console_shift = uart.find("reg-shift").cell(0);
  console = reinterpret_cast<u8 volatile*>(uart.range().base);
  console_at(console_interrupts) = 0;
}

void start_core() {
  set_timer(never);
  if (controller != 0) {
    controller_threshold(core_context[kernel::this_core().index]) = 0;
  }
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
  auto& claim = controller_claim(core_context[kernel::this_core().index]);
  u32 const source = claim;
  if (source == 0) return false;
  if (source == console_interrupt) {
    console_at(console_interrupts) = 0;  // until all that came is read
  }
  claim = source;
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
        core_hart[i], reinterpret_cast<u64>(&machine_boot_other), i);
    if (error != 0) {
      kernel::panic("a core does not start", i, static_cast<u64>(error));
    }
    while (!kernel::has_started(i)) relax();
  }
}

void send_kick(unsigned core) {
  asm volatile("fence rw, rw" ::: "memory");  // what was written, before
  sbi::send_interrupt(core_hart[core]);
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

void console_listen() {
  if (console == nullptr || controller == 0) return;
  console_is_listened_to = true;
  controller_at(4 * console_interrupt) = 1;  // priority
  auto& enable = controller_enable(core_context[kernel::this_core().index],
                                   console_interrupt);
  enable = enable | u32{1} << console_interrupt % 32;
  console_at(console_interrupts) = receive_interrupt;
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
  machine::find_console(tree);
  machine::test_device = reinterpret_cast<machine::u32 volatile*>(
      tree.find_compatible("sifive,test0").range().base);
  machine::find_memory(tree, machine);
  if (machine.memory_count == 0) kernel::panic("no device tree, no memory");
  machine::find_cores(tree, hart, machine);
  machine::find_time(tree);
  machine::start_core();
  auto const words = tree.find_named("chosen").find("bootargs").text();
  words.copy(machine.command_line, sizeof machine.command_line - 1);
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
