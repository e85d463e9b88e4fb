// SPDX-License-Identifier: BSL-1.0
//
// x86-64: from the loader's description to kernel::main, and from the
// processor's reasons for a stop to the kernel's.
#include "machine.hpp"

#include "../../kernel/core.hpp"
#include "console.hpp"
#include "firmware.hpp"
#include "interrupt_controller.hpp"
#include "port.hpp"

extern "C" machine::pte boot_root[512], boot_gigabytes[512];
extern "C" char vector_entries[], call_entry[];

namespace machine {
namespace {

using kernel::u16;
using kernel::u8;

// ---- what each core has of its own ------------------------------------------

struct [[gnu::packed]] task_state {
  u32 reserved0;
  u64 stacks[3];
  u64 reserved1;
  u64 interrupt_stacks[7];
  u64 reserved2;
  u16 reserved3;
  u16 io_map;
};

struct core_tables {
  u64 call_stack, call_scratch;  // gs:0, gs:8 of entry.S
  u64 gdt[7];
  task_state task;
  u32 waited_vector;  // set by an interrupt in wait()
};
core_tables tables[kernel::most_cores];

struct [[gnu::packed]] pointer {
  u16 limit;
  u64 base;
};
struct gate {
  u64 low, high;
};
gate interrupt_table[256];

constexpr u32 msr_efer_star = 0xc0000081, msr_lstar = 0xc0000082,
              msr_flag_mask = 0xc0000084, msr_kernel_gs = 0xc0000102;

struct cpuid_result {
  u32 a, b, c, d;
};
cpuid_result cpuid(u32 leaf, u32 sub = 0) {
  cpuid_result r;
  asm volatile("cpuid"
               : "=a"(r.a), "=b"(r.b), "=c"(r.c), "=d"(r.d)
               : "a"(leaf), "c"(sub));
  return r;
}

bool has_xsave;
u64 vector_features;

void fill_interrupt_table() {
  for (unsigned i = 0; i < 256; ++i) {
    auto const at = reinterpret_cast<u64>(vector_entries) + 16 * i;
    interrupt_table[i].low = (at & 0xffff) | 0x08u << 16 | 0x8e00ull << 32 |
                             (at >> 16 & 0xffff) << 48;
    interrupt_table[i].high = at >> 32;
  }
}

// On the core itself.
void set_up_core(unsigned index) {
  core_tables& t = tables[index];
  t.call_stack = reinterpret_cast<u64>(&kernel::kernel_stacks[index]) +
                 kernel::kernel_stack_bytes;
  t.task = {};
  t.task.stacks[0] = t.call_stack;
  t.task.io_map = sizeof(task_state);
  auto const task = reinterpret_cast<u64>(&t.task);
  t.gdt[0] = 0;
  t.gdt[1] = 0x00af9b000000ffff;  // 0x08 kernel code
  t.gdt[2] = 0x00cf93000000ffff;  // 0x10 kernel data
  t.gdt[3] = 0x00cff3000000ffff;  // 0x18 user data
  t.gdt[4] = 0x00affb000000ffff;  // 0x20 user code
  t.gdt[5] = (sizeof(task_state) - 1) | (task & 0xffffff) << 16 |
             0x89ull << 40 | (task >> 24 & 0xff) << 56;
  t.gdt[6] = task >> 32;
  pointer const gdt{sizeof t.gdt - 1, reinterpret_cast<u64>(t.gdt)};
  pointer const idt{sizeof interrupt_table - 1,
                    reinterpret_cast<u64>(interrupt_table)};
  asm volatile("lgdt %0\n\tlidt %1\n\tltr %w2" ::"m"(gdt), "m"(idt), "r"(0x28));

  if (!(cpuid(7).b & 1)) kernel::panic("this processor lacks FSGSBASE");
  has_xsave = (cpuid(1).c >> 26 & 1) != 0;
  u64 cr4;
  asm volatile("mov %%cr4, %0" : "=r"(cr4));
  cr4 |= u64{1} << 16;                 // FSGSBASE
  if (has_xsave) cr4 |= u64{1} << 18;  // OSXSAVE
  asm volatile("mov %0, %%cr4" ::"r"(cr4));
  if (has_xsave) {
    vector_features = cpuid(0xd).a & 0xe7;  // x87, SSE, AVX, AVX-512
    asm volatile("xsetbv" ::"c"(0), "a"(u32(vector_features)), "d"(0));
    if (cpuid(0xd).b > sizeof(switched_state::vector))
      kernel::panic("the vector registers are larger than their area");
  }
  // System calls: code 0x08 in, 0x23 and 0x1b out.
  write_msr(msr_efer_star, u64{0x10} << 48 | u64{0x08} << 32);
  write_msr(msr_lstar, reinterpret_cast<u64>(call_entry));
  write_msr(msr_flag_mask, 0x47700);  // TF IF DF IOPL NT AC
  write_msr(msr_kernel_gs, reinterpret_cast<u64>(&t));
  apic_enable();
}

// ---- stops ---------------------------------------------------------------------

stop decode(frame const& f) {
  if (f.vector == vector_timer) return {cause::timer, 0, 0, 0};
  if (f.vector == vector_kick) return {cause::kick, 0, 0, 0};
  if (f.vector == vector_console) return {cause::device, 0, 0, 0};
  return {cause::trap, static_cast<u32>(f.vector), 0, 0};
}

}  // namespace

// Called by entry.S on the core's kernel stack.
extern "C" [[noreturn]] void machine_stopped(frame* f) {
  if (f->vector == 256) kernel::stopped(*f, {cause::call, 0, 0, 0});
  if (f->vector == 14) {
    u64 address;
    asm volatile("mov %%cr2, %0" : "=r"(address));
    u32 const access = f->error & 16  ? ACTIVATIONS_ACCESS_EXECUTE
                       : f->error & 2 ? ACTIVATIONS_ACCESS_WRITE
                                      : ACTIVATIONS_ACCESS_READ;
    kernel::stopped(*f, {cause::fault, 14, access, address});
  }
  if (f->vector == vector_spurious) resume(*f);
  if (f->vector >= 32) apic_end_of_interrupt();
  kernel::stopped(*f, decode(*f));
}

extern "C" void machine_interrupted(frame* f) {
  if (f->vector < 32) {
    u64 address;
    asm volatile("mov %%cr2, %0" : "=r"(address));
    kernel::print("vector ");
    kernel::print_decimal(f->vector);
    kernel::panic(" in the kernel: pc, address", f->rip, address);
  }
  if (f->vector != vector_spurious) apic_end_of_interrupt();
  tables[kernel::this_core().index].waited_vector = static_cast<u32>(f->vector);
  // wait() goes on with interrupts off: a second one must not hide this one.
  f->rflags &= ~u64{0x200};
}

stop wait() {
  u32& vector = tables[kernel::this_core().index].waited_vector;
  vector = 0;
  while (*const_cast<u32 volatile*>(&vector) == 0 || vector == vector_spurious)
    asm volatile("sti\n\thlt\n\tcli" ::: "memory");
  frame f{};
  f.vector = vector;
  return decode(f);
}

extern "C" [[noreturn]] void machine_main(u32 magic, u64 info) {
  console_open();
  fill_interrupt_table();
  kernel::this_core().index = 0;
  static kernel::machine_description description;
  firmware_read(magic, info, description);
  set_up_core(0);
  clock_calibrate();
  kernel::main(description);
}

extern "C" [[noreturn]] void machine_secondary(unsigned index) {
  kernel::this_core().index = index;
  set_up_core(index);
  timer_set_up();
  kernel::core_main(index);
}

u64 kernel_root() {
  return reinterpret_cast<u64>(boot_root);
}
pte const* kernel_gigabytes() {
  return boot_gigabytes;
}

// ---- state that is switched with a dispatcher ----------------------------------

void init_state(switched_state& state, u64 thread_pointer) {
  state = {};
  state.fs_base = thread_pointer;
  state.vector[0] = 0x7f;  // x87 control word 0x37f
  state.vector[1] = 0x03;
  state.vector[24] = 0x80;  // MXCSR 0x1f80
  state.vector[25] = 0x1f;
}

void save_state(switched_state& state) {
  asm volatile("rdfsbase %0" : "=r"(state.fs_base));
  asm volatile("rdgsbase %0" : "=r"(state.gs_base));
  if (has_xsave)
    asm volatile("xsave64 %0"
                 : "=m"(state.vector)
                 : "a"(u32(vector_features)), "d"(0)
                 : "memory");
  else
    asm volatile("fxsave64 %0" : "=m"(state.vector));
}

void load_state(switched_state const& state) {
  asm volatile("wrfsbase %0" ::"r"(state.fs_base));
  asm volatile("wrgsbase %0" ::"r"(state.gs_base));
  if (has_xsave)
    asm volatile("xrstor64 %0" ::"m"(state.vector), "a"(u32(vector_features)),
                 "d"(0));
  else
    asm volatile("fxrstor64 %0" ::"m"(state.vector));
}

}  // namespace machine
