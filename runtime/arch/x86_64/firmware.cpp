// SPDX-License-Identifier: BSL-1.0
#include "firmware.hpp"

#include "interrupt_controller.hpp"
#include "machine.hpp"

extern "C" machine::pte boot_gigabytes[512];
extern "C" char kernel_end[];

namespace machine {
namespace {

using kernel::u8;

constexpr u64 gigabyte = u64{1} << 30;

u32 apic_ids[kernel::most_cores];
unsigned core_count;
u64 rsdp, hpet, io_apic, low_page;

template <class T>
T read(u64 at) {
  T value;
  __builtin_memcpy(&value, reinterpret_cast<void const*>(at), sizeof value);
  return value;
}

bool is_called(u64 table, char const* name) {
  for (int i = 0; i < 4; ++i)
    if (read<char>(table + i) != name[i]) return false;
  return true;
}

void add_core(u32 apic_id, u32 flags) {
  if (!(flags & 1) || core_count == kernel::most_cores) return;
  for (unsigned i = 0; i < core_count; ++i)
    if (apic_ids[i] == apic_id) return;  // by both kinds of entry
  apic_ids[core_count++] = apic_id;
}

void read_madt(u64 table) {
  u64 const end = table + read<u32>(table + 4);
  for (u64 at = table + 44; at + 2 <= end && read<u8>(at + 1) >= 2;
       at += read<u8>(at + 1)) {
    switch (read<u8>(at)) {
      case 0:
        add_core(read<u8>(at + 3), read<u32>(at + 4));
        break;
      case 1:
        if (io_apic == 0) io_apic = read<u32>(at + 4);
        break;
      case 9:
        add_core(read<u32>(at + 4), read<u32>(at + 8));
        break;
    }
  }
}

void read_table(u64 table) {
  if (table == 0 || table >> 32 != 0) return;
  if (is_called(table, "APIC")) read_madt(table);
  if (is_called(table, "HPET")) hpet = read<u64>(table + 44);
}

u64 find_rsdp() {
  for (u64 at = 0xe0000; at < 0x100000; at += 16)
    if (read<u64>(at) == 0x2052545020445352) return at;  // "RSD PTR "
  return 0;
}

void read_acpi() {
  apic_ids[core_count++] = apic_own_id();
  if (rsdp == 0) rsdp = find_rsdp();
  if (rsdp == 0) return;
  u64 const extended = read<u8>(rsdp + 15) >= 2 ? read<u64>(rsdp + 24) : 0;
  u64 const root = extended != 0 ? extended : read<u32>(rsdp + 16);
  u64 const entry_bytes = extended != 0 ? 8 : 4;
  for (u64 at = root + 36; at < root + read<u32>(root + 4); at += entry_bytes)
    read_table(extended != 0 ? read<u64>(at) : read<u32>(at));
}

// ---- the loader's description -------------------------------------------------

struct pvh_info {
  u32 magic, version, flags, module_count;
  u64 modules, command_line, rsdp, memory_map;
  u32 memory_entries;
};

// Maps [begin, end) where it lies above 4 GiB; false if this processor has no
// pages of 1 GiB.
bool map_high(u64 begin, u64 end) {
  u32 a = 0x80000001, b, c = 0, d;
  asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  if (!(d >> 26 & 1)) return false;
  for (u64 i = begin >> 30; i < (end + gigabyte - 1) >> 30; ++i)
    boot_gigabytes[i] = i << 30 | 0x83;  // as boot.S
  return true;
}

// Free memory.  Of more ranges than there is room for, the smallest go.
void add_memory(kernel::machine_description& description, u64 begin, u64 end) {
  u64 const low_end = end < 0xa0000 ? end & ~u64{4095} : 0xa0000;
  if (begin + 8192 <= low_end) low_page = low_end - 4096;
  auto const free = (reinterpret_cast<u64>(kernel_end) + 4095) & ~u64{4095};
  if (begin < free) begin = free;  // also leaves alone all below 1 MiB
  if (end > 64 * gigabyte) end = 64 * gigabyte;
  begin = (begin + 4095) & ~u64{4095};
  end &= ~u64{4095};
  if (begin >= end) return;
  if (end > 4 * gigabyte && !map_high(begin, end)) return;
  auto* at = &description.memory[0];
  if (description.memory_count < 8) {
    at = &description.memory[description.memory_count++];
  } else {
    for (auto& range : description.memory)
      if (range.end - range.begin < at->end - at->begin) at = &range;
    if (at->end - at->begin >= end - begin) return;
  }
  *at = {begin, end};
}

void copy_command_line(kernel::machine_description& description,
                       char const* text) {
  unsigned i = 0;
  for (; text != nullptr && text[i] != 0 &&
         i + 1 < sizeof description.command_line;
       ++i)
    description.command_line[i] = text[i];
  description.command_line[i] = 0;
}

void read_pvh(kernel::machine_description& description, pvh_info const& info) {
  rsdp = info.rsdp;
  copy_command_line(description,
                    reinterpret_cast<char const*>(info.command_line));
  struct entry {
    u64 address, size;
    u32 type, reserved;
  };
  auto const* const map = reinterpret_cast<entry const*>(info.memory_map);
  for (u32 i = 0; i < info.memory_entries; ++i)
    if (map[i].type == 1)
      add_memory(description, map[i].address, map[i].address + map[i].size);
}

void read_multiboot(kernel::machine_description& description, u64 at) {
  u64 const end = at + *reinterpret_cast<u32 const*>(at);
  for (at += 8; at + 8 <= end;) {
    auto const* const tag = reinterpret_cast<u32 const*>(at);
    u32 const type = tag[0], size = tag[1];
    if (type == 0) break;
    if (type == 1)
      copy_command_line(description, reinterpret_cast<char const*>(at + 8));
    if (type == 6)
      for (u64 e = at + 16; e < at + size; e += tag[2]) {
        auto const* const range = reinterpret_cast<u64 const*>(e);
        if (static_cast<u32>(range[2]) == 1)
          add_memory(description, range[0], range[0] + range[1]);
      }
    if (type == 14 || type == 15) rsdp = at + 8;
    at += (size + 7) & ~u32{7};
  }
}

}  // namespace

void firmware_read(u32 magic, u64 info,
                   kernel::machine_description& description) {
  if (magic == 0x36d76289)
    read_multiboot(description, info);
  else if (read<u32>(info) == 0x336ec578)
    read_pvh(description, *reinterpret_cast<pvh_info const*>(info));
  else
    kernel::panic("neither PVH nor multiboot2 has loaded this kernel", magic);
  read_acpi();
  description.cores = core_count;
}

u32 firmware_apic_id(unsigned core) {
  return apic_ids[core];
}
u64 firmware_hpet() {
  return hpet;
}
u64 firmware_io_apic() {
  return io_apic;
}
u64 firmware_low_page() {
  return low_page;
}

}  // namespace machine
