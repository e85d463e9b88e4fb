// SPDX-License-Identifier: BSL-1.0
//
// A space: a program, its memory and its dispatchers.  The one thing that the
// cores of a space share is its tables, under its lock, which is held for a
// bounded number of steps.
#pragma once

#include <activations/abi_image.h>

#include <atomic>

#include <machine.hpp>

#include "core.hpp"
#include "memory.hpp"
#include "types.hpp"

namespace kernel {

inline constexpr unsigned most_spaces = 8;
inline constexpr unsigned most_dispatchers = ACTIVATIONS_IMAGE_DISPATCHERS;

class spin_lock {
 public:
  void lock() {
    while (word_.exchange(1, std::memory_order::acquire) != 0) machine::relax();
  }
  void unlock() { word_.store(0, std::memory_order::release); }

 private:
  std::atomic<u32> word_{0};
};

struct space;

enum class dispatcher_state : u32 { unused, ready, sleeping, suspended };

// Belongs to its core, but for `notice` and `core_index`.
struct dispatcher {
  space* home;
  unsigned index;     // in its space
  unsigned own_core;  // as ATTACH said
  // Where it is: changed there, when it moves; in that core's list as soon as
  // `adopt` has come.
  std::atomic<unsigned> core_index;
  bool is_adopted;
  std::atomic<dispatcher_state> state;  // others look
  [[nodiscard]] bool is(dispatcher_state what) const {
    return state.load(std::memory_order::relaxed) == what;
  }
  void become(dispatcher_state what) {
    state.store(what, std::memory_order::relaxed);
  }
  // How it goes on: by an upcall with `events`, or from `saved`.
  bool enters;
  u32 events;
  u64 slot;         // address of the slot with the stopped context, or 0
  u64 deadline_ns;  // of its sleep
  u64 slice_ns;
  u64 slice_ends_ns;
  machine::frame saved;
  machine::switched_state switched;
  // Any core: events that came for it; a `wake` message follows the first.
  std::atomic<u32> notice;

  // The shared words, at the kernel's own addresses.
  activations_dispatcher* page;
  activations_activation_control* control;
  activations_activation_info* info;
  activations_processor_info* processor;
};

struct space {
  char name[32];
  bool is_used;
  unsigned index;
  spin_lock lock;  // tables, frames
  page_tables tables;
  dispatcher dispatchers[most_dispatchers];
  activations_info_header* info;
  activations_control_header* control;
  activations_image_grants* grants;
  // Core 0's: cores asked for, 0 for never; and how many it can use while
  // some have nothing to run.
  u32 wanted;
  u32 limit;
  std::atomic<u32> is_ending;
  std::atomic<u32> has_failed;  // it has said its last words
  std::atomic<u32> drops_left;
  int status;
  space* next_cleared;  // see clear_some
};

extern space spaces[most_spaces];

// Memory for [address, address + bytes), page-aligned, zeroed.  False: no
// memory, or some of it is mapped; what was mapped before that stays.
// Context: under the space's lock, or before its start.
bool map_memory(space& home, frame_pool& frames, u64 address, u64 bytes,
                unsigned access);

// True if [address, address + bytes) can be read (or written) by the space.
bool is_accessible(space& home, u64 address, u64 bytes, unsigned access);
bool copy_from(space& home, void* to, u64 address, u64 bytes);

// Makes a space from an ELF module and its first dispatcher on this core.
space* load(core& here, char const* name, char const* arguments,
            void const* elf, u64 bytes);
// Makes dispatcher `index` on `core_index`; negative errno.
long attach(core& here, space& home, unsigned index, unsigned core_index);

// Ends a space, whoever's core this is.  The caller goes on to dispatch().
void end_space(core& here, space& home, int status);
// On one core: forgets the space's dispatchers.
void drop_space(core& here, space& home);
void space_dropped(core& here, space& home);  // on core 0
// On core 0: gives back some of the memory of a space that has ended; sets
// when it is to be called again.
void clear_some(core& here);
// On one core: a dispatcher comes, or goes.
void adopt(core& here, dispatcher& comes);
void leave_core(core& here, dispatcher& goes);

// Events for a dispatcher of any core.
void notify(core& here, dispatcher& to, u32 events);
void take_notice(core& here, dispatcher& owned);
// On its own core.
void wake(core& here, dispatcher& sleeping, u32 events);

// The processor's word, if it is in one of the states of the mask `from`; bit
// 1 << s for state s.  True: it was, and is now in `to`.
bool change_word(dispatcher& d, u32 from, activations_processor_state to);
// The same: idle to running (true: the caller changed it), and
// running to idle.
bool become_running(dispatcher& d);
void become_idle(dispatcher& owned);
inline u64 next_word(u64 seen, u64 state, u64 owner) {
  u64 const tag = (seen >> ACTIVATIONS_WORD_TAG_SHIFT) + 1;
  return tag << ACTIVATIONS_WORD_TAG_SHIFT |
         owner << ACTIVATIONS_WORD_OWNER_SHIFT | state;
}

// division.cpp, on core 0
void divide_request(core& here, space& asking, u32 wanted);
void divide_assigned(core& here, space* owner, unsigned core_index);
void divide_idle(core& here, unsigned core_index, bool is_idle);
void divide_stranded(core& here, dispatcher& woken);
void divide_arrived(core& here, dispatcher& moved);
void divide_ended(core& here, space& home);
// On the core that is divided.
void assign_core(core& here, space* to);
void change_owner(core& here);
void grant(core& here, dispatcher& d);
void move_dispatcher(core& here, dispatcher& d, unsigned to);
void move_current(core& here);  // if it is to go: here.current is null then
inline bool may_run(core const& here, dispatcher const& d) {
  return d.is(dispatcher_state::ready) &&
         (here.owner == nullptr || here.owner == d.home);
}
bool has_ready(core const& here, space const& home);

// channel.cpp
long channel_open(core& here, dispatcher& caller, u64 n, u64 end);
long channel_notify(core& here, dispatcher& caller, u64 n, u64 end);
void channel_forget(core& here, space& home);

// device.cpp
void device_came(core& here, u32 device);
long device_listen(core& here, dispatcher& caller, u64 device);
void device_forget(space& home);

// The calling dispatcher is no more.
long detach(core& here, dispatcher& caller);

// Goes on with here.current from its `saved`, or by an upcall.
[[noreturn]] void resume_current(core& here);

[[noreturn]] void handle_call(core& here, dispatcher& caller,
                              machine::frame& registers);

// The other cores of a space forget its old translations.
void flush_others(core& here, space& home);

}  // namespace kernel
