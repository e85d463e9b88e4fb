// SPDX-License-Identifier: BSL-1.0
//
// Physical frames, and the tables that map them for a space.  Each core has a
// pool of its own; a frame that is freed goes to the pool of who frees it.
#pragma once

#include "types.hpp"

namespace kernel {

// A list through the free frames themselves, and ranges never used so far.
// Begins as zeroes, as all that lies in a core's stack.
class frame_pool {
 public:
  void add(u64 begin, u64 end);
  // Zeroed; 0 when there is none left.
  [[nodiscard]] u64 take();
  void give(u64 frame);
  [[nodiscard]] u64 free_frames() const { return free_; }

 private:
  struct range {
    u64 next, end;
  };
  range ranges_[8];
  unsigned range_count_;
  u64 list_;
  u64 free_;
};

// The tables of one space.  Context: under the space's lock.
//
// An entry of the last level is empty, present, or *retired*: not present, but
// with the frame that was unmapped there.  The frame waits for the next map at
// its address, and returns to a pool only with the space's end: until then a
// core that still has the translation harms nobody else.  A *borrowed* entry
// maps a frame that another entry owns.  An entry that is not present may be a
// *guard*: nothing is mapped there until it is unmapped.
inline bool is_retired(u64 entry) {
  return (entry & 3) == 2;
}
inline u64 retire(u64 frame) {
  return frame | 2;
}
inline u64 retired_frame(u64 entry) {
  return entry & ~u64{7};
}
inline constexpr u64 guard_bit = 4;
inline bool is_guard(u64 entry) {
  return (entry & 1) == 0 && (entry & guard_bit) != 0;
}

class page_tables {
 public:
  [[nodiscard]] bool make(frame_pool& frames);
  // False: no frame for a table, or something is mapped there.
  // Returns the entry of `address`, of whatever kind; null: no frame for a
  // table.
  [[nodiscard]] u64* make_entry(frame_pool& frames, u64 address);
  // The same, or null where there is no table for it.
  [[nodiscard]] u64* find(u64 address);
  [[nodiscard]] u64 root() const { return root_; }
  // Gives back some of the tables and of the frames that they own.  True: those
  // were the last; else call it again.
  [[nodiscard]] bool clear_some(frame_pool& frames);

  // Zeroed, for a table or for the space: counted, up to the limit.
  [[nodiscard]] u64 take(frame_pool& frames);
  void limit(u64 most_frames) { most_ = most_frames; }

 private:
  bool clear_table(frame_pool& frames, u64 table, unsigned level,
                   unsigned& budget);
  // Zeroes to begin with: nothing is constructed here.
  u64 root_ = 0;
  u64 taken_ = 0;
  u64 most_ = 0;
  unsigned clear_from_[4] = {};  // by level: the entry to go on at
};

}  // namespace kernel
