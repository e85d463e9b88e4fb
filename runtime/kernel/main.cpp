// SPDX-License-Identifier: BSL-1.0
//
// The kernel's beginning: cores, memory, and the programs that the command
// line names: run=NAME,NAME cpus=N.  panic=call and panic=fault let the last
// core find an error in the kernel, to show what that looks like.
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

// Text up to the next space, or to a comma.
u64 word_length(char const* at, bool is_list) {
  u64 length = 0;
  while (at[length] != 0 && at[length] != ' ' &&
         !(is_list && at[length] == ','))
    ++length;
  return length;
}

void print_word(char const* text, u64 length) {
  for (u64 i = 0; i < length; ++i) machine::console_write(text[i]);
}

// A command line that cannot be followed ends the machine with status 2.
[[noreturn]] void refuse(char const* what, char const* word, u64 length,
                         char const* why) {
  print("kernel: ");
  print(what);
  print_word(word, length);
  print(why);
  print("\nkernel: this image has:");
  for (u64 i = 0; i < module_count; ++i) {
    print(" ");
    print(modules[i].name);
  }
  print("\nkernel: the command line says run=NAME,NAME cpus=N\n");
  machine::exit(2);
}

unsigned wanted_cores(unsigned there) {
  char const* const asked = option("cpus=");
  if (asked == nullptr) return there;
  u64 const length = word_length(asked, false);
  unsigned n = 0;
  for (u64 i = 0; i < length && n <= most_cores; ++i) {
    if (asked[i] < '0' || asked[i] > '9')
      refuse("'cpus=", asked, length, "' is no number");
    n = 10 * n + static_cast<unsigned>(asked[i] - '0');
  }
  if (n == 0 || n > there)
    refuse("this machine cannot give cpus=", asked, length, "");
  return n;
}

// Loads what run= names, one space each, on the cores in turn.
// So many MiB for each space by memory=N; of several, no more than an equal
// part of one core's memory, so that none can take what another needs there.
void limit_memory(unsigned count) {
  u64 most = never;
  if (count > 1) most = core_at(0).frames.free_frames() / count;
  if (u64 const asked = command_number("memory=", 0)) most = 256 * asked;
  for (unsigned i = 0; i < count; ++i) spaces[i].tables.limit(most);
}

void load_programs(core& here) {
  char const* at = option("run=");
  if (at == nullptr) refuse("nothing to run", "", 0, "");
  unsigned count = 0;
  do {
    u64 const length = word_length(at, true);
    module const* const found = find_module(at, length);
    if (found == nullptr) refuse("no program '", at, length, "' in this image");
    auto const bytes = static_cast<u64>(static_cast<char const*>(found->end) -
                                        static_cast<char const*>(found->begin));
    if (load(here, found->name, command_line, found->begin, bytes) == nullptr)
      refuse("no room for ", at, length, "");
    ++count;
    at += length;
  } while (*at++ == ',');
  limit_memory(count);
  // Not earlier: the first to end must not be taken for the last.
  for (unsigned i = 0; i < count; ++i)
    if (attach(here, spaces[i], 0, i % core_count) != 0)
      panic("a program cannot be started", i);
}

// Does nothing unless the command line says panic=.
void err_on_purpose() {
  char const* const asked = option("panic=");
  if (asked == nullptr) return;
  if (starts_with(asked, "fault")) {
    // Behind what is mapped, on each target.
    auto* const nowhere = reinterpret_cast<u64 volatile*>(u64{63} << 30);
    *nowhere = 1;
  }
  panic("the command line asks for it");
}

}  // namespace

u64 command_number(char const* name, u64 otherwise) {
  char const* at = option(name);
  if (at == nullptr) return otherwise;
  u64 value = 0;
  for (; *at >= '0' && *at <= '9'; ++at)
    value = 10 * value + static_cast<unsigned>(*at - '0');
  return value;
}

bool has_started(unsigned core) {
  return started_cores[core].load(std::memory_order::acquire) != 0;
}

[[noreturn]] void main(machine_description const& machine) {
  core& here = this_core();
  command_line = machine.command_line;
  core_count =
      wanted_cores(machine.cores < most_cores ? machine.cores : most_cores);
  share_memory(machine);
  started_cores[0].store(1, std::memory_order::relaxed);
  machine::start_cores(core_count);
  if (core_count == 1) err_on_purpose();
  while (option("panic=") != nullptr) machine::relax();  // the last core does
  print("kernel: ");
  print_decimal(core_count);
  print(core_count == 1 ? " core, " : " cores, ");
  u64 frames = 0;
  for (unsigned i = 0; i < core_count; ++i)
    frames += core_at(i).frames.free_frames();
  print_decimal(frames / 256);
  print(" MiB\n");
  load_programs(here);
  print("kernel: user mode begins\n");  // tools/image.sh takes the time
  dispatch(here);
}

[[noreturn]] void core_main(unsigned index) {
  core& here = this_core();
  here.index = index;
  machine::use_tables(machine::kernel_root());
  started_cores[index].store(1, std::memory_order::release);
  if (index + 1 == core_count) err_on_purpose();
  dispatch(here);
}

}  // namespace kernel
