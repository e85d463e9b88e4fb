// SPDX-License-Identifier: BSL-1.0
#include "acpi.hpp"

#include "apic.hpp"

namespace machine {
namespace {

using kernel::u8;

acpi_core_list cores;
u64 hpet, io_apic;

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

void add_core(u32 apic_id, u32 flags, u32 own) {
  if (!(flags & 1) || apic_id == own || cores.count == kernel::most_cores)
    return;
  cores.apic_ids[cores.count++] = apic_id;
}

void read_madt(u64 table, u32 own) {
  u64 const end = table + read<u32>(table + 4);
  for (u64 at = table + 44; at + 2 <= end && read<u8>(at + 1) >= 2;
       at += read<u8>(at + 1)) {
    switch (read<u8>(at)) {
      case 0:
        add_core(read<u8>(at + 3), read<u32>(at + 4), own);
        break;
      case 1:
        if (io_apic == 0) io_apic = read<u32>(at + 4);
        break;
      case 9:
        add_core(read<u32>(at + 4), read<u32>(at + 8), own);
        break;
    }
  }
}

void read_table(u64 table, u32 own) {
  if (table == 0 || table >> 32 != 0) return;
  if (is_called(table, "APIC")) read_madt(table, own);
  if (is_called(table, "HPET")) hpet = read<u64>(table + 44);
}

u64 find_rsdp() {
  for (u64 at = 0xe0000; at < 0x100000; at += 16)
    if (read<u64>(at) == 0x2052545020445352) return at;  // "RSD PTR "
  return 0;
}

}  // namespace

void acpi_read(u64 rsdp) {
  u32 const own = apic_own_id();
  cores.apic_ids[cores.count++] = own;
  if (rsdp == 0) rsdp = find_rsdp();
  if (rsdp == 0) return;
  u64 const extended = read<u8>(rsdp + 15) >= 2 ? read<u64>(rsdp + 24) : 0;
  u64 const root = extended != 0 ? extended : read<u32>(rsdp + 16);
  u64 const entry_bytes = extended != 0 ? 8 : 4;
  for (u64 at = root + 36; at < root + read<u32>(root + 4); at += entry_bytes)
    read_table(extended != 0 ? read<u64>(at) : read<u32>(at), own);
}

acpi_core_list const& acpi_cores() {
  return cores;
}
u64 acpi_hpet() {
  return hpet;
}
u64 acpi_io_apic() {
  return io_apic;
}

}  // namespace machine
