// SPDX-License-Identifier: BSL-1.0
//
// The kernel's beginning: cores, memory, and the programs that the command
// line names: run=NAME,NAME cpus=N.
#include <machine.hpp>

#include "core.hpp"
#include "space.hpp"

namespace kernel {

// Made by tools/image.sh: the programs inside this image.
struct module {
  char const* name;
  void const* begin;
  void const* end;
};
extern "C" module const modules[];
extern "C" u64 const module_count;

namespace {

std::atomic<u32> started_cores[most_cores];
char const* command_line;

bool starts_with(char const* text, char const* word) {
  while (*word != 0)
    if (*text++ != *word++) return false;
  return true;
}

// The value of NAME= in the command line, or null.
char const* option(char const* name) {
  for (char const* at = command_line; *at != 0; ++at)
    if ((at == command_line || at[-1] == ' ') && starts_with(at, name))
      return at + __builtin_strlen(name);
  return nullptr;
}

module const* find_module(char const* name, u64 length) {
  for (u64 i = 0; i < module_count; ++i)
    if (__builtin_strlen(modules[i].name) == length &&
        __builtin_memcmp(modules[i].name, name, length) == 0)
      return &modules[i];
  return nullptr;
}

void share_memory(machine_description const& machine) {
  for (unsigned m = 0; m < machine.memory_count; ++m) {
    auto const [begin, end] = machine.memory[m];
    u64 const each = (end - begin) / core_count & ~(page_bytes - 1);
    for (unsigned i = 0; i < core_count; ++i)
      core_at(i).frames.add(begin + i * each, begin + (i + 1) * each);
  }
}

void list_modules() {
  print("this image has:");
  for (u64 i = 0; i < module_count; ++i) {
    print(" ");
    print(modules[i].name);
  }
  print("\nsay run=NAME,NAME on the command line\n");
}

// Loads what run= names, one space each, on the cores in turn.
unsigned load_programs(core& here) {
  char const* at = option("run=");
  if (at == nullptr) {
    list_modules();
    machine::exit(2);
  }
  unsigned count = 0;
  while (*at != 0 && *at != ' ') {
    u64 length = 0;
    while (at[length] != 0 && at[length] != ' ' && at[length] != ',') ++length;
    module const* const found = find_module(at, length);
    if (found == nullptr) {
      print("no such program\n");
      list_modules();
      machine::exit(2);
    }
    auto const bytes = static_cast<u64>(static_cast<char const*>(found->end) -
                                        static_cast<char const*>(found->begin));
    space* const made =
        load(here, found->name, command_line, found->begin, bytes);
    if (made == nullptr) panic("a program cannot be loaded");
    ++count;
    at += length + (at[length] == ',');
  }
  // Not earlier: the first to end must not be taken for the last.
  for (unsigned i = 0; i < count; ++i)
    if (attach(here, spaces[i], 0, i % core_count) != 0)
      panic("a program cannot be started");
  return count;
}

}  // namespace

bool has_started(unsigned core) {
  return started_cores[core].load(std::memory_order::acquire) != 0;
}

[[noreturn]] void main(machine_description const& machine) {
  core& here = this_core();
  command_line = machine.command_line;
  core_count = machine.cores < most_cores ? machine.cores : most_cores;
  if (char const* const asked = option("cpus=")) {
    unsigned n = 0;
    for (char const* c = asked; *c >= '0' && *c <= '9'; ++c)
      n = 10 * n + static_cast<unsigned>(*c - '0');
    if (n > 0 && n < core_count) core_count = n;
  }
  share_memory(machine);
  started_cores[0].store(1, std::memory_order::relaxed);
  machine::start_cores(core_count);
  print("kernel: ");
  print_decimal(core_count);
  print(core_count == 1 ? " core, " : " cores, ");
  u64 frames = 0;
  for (unsigned i = 0; i < core_count; ++i)
    frames += core_at(i).frames.free_frames();
  print_decimal(frames / 256);
  print(" MiB\n");
  (void)load_programs(here);
  dispatch(here);
}

[[noreturn]] void core_main(unsigned index) {
  core& here = this_core();
  here.index = index;
  machine::use_tables(machine::kernel_root());
  started_cores[index].store(1, std::memory_order::release);
  dispatch(here);
}

}  // namespace kernel
