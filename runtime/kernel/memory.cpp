// SPDX-License-Identifier: BSL-1.0
#include "memory.hpp"

#include <machine.hpp>

namespace kernel {
namespace {

constexpr u64 entries = 512;

u64* table_at(u64 physical) {
  return reinterpret_cast<u64*>(physical);
}

u64 index_of(u64 address, unsigned level) {
  return address >> (12 + 9 * level) & (entries - 1);
}

}  // namespace

void frame_pool::add(u64 begin, u64 end) {
  if (begin >= end || range_count_ == 8) return;
  ranges_[range_count_++] = {begin, end};
  free_ += (end - begin) / page_bytes;
}

u64 frame_pool::take() {
  u64 frame = list_;
  if (frame != 0) {
    list_ = *table_at(frame);
  } else {
    while (range_count_ > 0) {
      range& r = ranges_[range_count_ - 1];
      if (r.next < r.end) {
        frame = r.next;
        r.next += page_bytes;
        break;
      }
      --range_count_;
    }
    if (frame == 0) return 0;
  }
  --free_;
  u64* const words = table_at(frame);
  for (u64 i = 0; i < entries; ++i) words[i] = 0;
  return frame;
}

void frame_pool::give(u64 frame) {
  *table_at(frame) = list_;
  list_ = frame;
  ++free_;
}

u64 page_tables::take(frame_pool& frames) {
  if (taken_ >= most_) return 0;
  u64 const frame = frames.take();
  if (frame != 0) ++taken_;
  return frame;
}

bool page_tables::make(frame_pool& frames) {
  root_ = take(frames);
  if (root_ == 0) return false;
  u64 gigabytes = root_;
  for (unsigned level = machine::table_levels; level > 3; --level) {
    u64 const next = take(frames);
    if (next == 0) return false;
    table_at(gigabytes)[0] = machine::table(next);
    gigabytes = next;
  }
  for (u64 i = 0; i < 64; ++i)
    table_at(gigabytes)[i] = machine::kernel_gigabytes()[i];
  return true;
}

u64* page_tables::make_entry(frame_pool& frames, u64 address) {
  u64* table = table_at(root_);
  for (unsigned level = machine::table_levels - 1; level > 0; --level) {
    u64& entry = table[index_of(address, level)];
    if (!machine::is_present(entry)) {
      u64 const next = take(frames);
      if (next == 0) return nullptr;
      entry = machine::table(next);
    }
    table = table_at(machine::address_of(entry));
  }
  return &table[index_of(address, 0)];
}

u64* page_tables::find(u64 address) {
  u64* table = table_at(root_);
  for (unsigned level = machine::table_levels - 1; level > 0; --level) {
    u64 const entry = table[index_of(address, level)];
    if (!machine::is_present(entry)) return nullptr;
    table = table_at(machine::address_of(entry));
  }
  return &table[index_of(address, 0)];
}

// False: the budget is used up, for frames given back and for tables looked
// through; clear_from_ says where to go on.
bool page_tables::clear_table(frame_pool& frames, u64 table, unsigned level,
                              unsigned& budget) {
  unsigned& i = clear_from_[level];
  for (; i < entries; ++i) {
    u64 const entry = table_at(table)[i];
    // The kernel's own entries are not ours.
    if (entry == 0 || (level == 2 && i < 64)) continue;
    bool const is_begun = level > 0 && clear_from_[level - 1] != 0;
    unsigned const cost = is_begun ? 0 : level > 0 ? 32 : 1;
    if (budget < cost) return false;
    budget -= cost;
    if (level > 0) {
      u64 const next = machine::address_of(entry);
      if (!clear_table(frames, next, level - 1, budget)) return false;
    } else if (is_retired(entry)) {
      frames.give(retired_frame(entry));
    } else if (!is_guard(entry) && (entry & machine::pte_borrowed) == 0) {
      frames.give(machine::address_of(entry));
    }
  }
  i = 0;
  frames.give(table);
  return true;
}

bool page_tables::clear_some(frame_pool& frames) {
  unsigned budget = 128;
  if (root_ != 0 &&
      !clear_table(frames, root_, machine::table_levels - 1, budget))
    return false;
  root_ = taken_ = 0;
  return true;
}

}  // namespace kernel
