// SPDX-License-Identifier: BSL-1.0
//
// The way out of the kernel: whose turn it is, and how it goes on.
#include "core.hpp"

#include <machine.hpp>

#include "space.hpp"

namespace kernel {

alignas(kernel_stack_bytes) kernel_stack kernel_stacks[most_cores];
unsigned core_count = 1;

core& this_core() {
  return reinterpret_cast<kernel_stack*>(machine::stack_pointer() &
                                         ~(kernel_stack_bytes - 1))
      ->owner;
}

namespace {

// A core with nothing to run for so long may be lent.
constexpr u64 idle_ns = 5'000'000;

// How long one of several dispatchers has a core.
constexpr u64 turn_ns = 10'000'000;

bool is_in_resume_range(dispatcher const& d, u64 pc) {
  for (auto const& range : d.page->resume)
    if (pc >= range.begin && pc < range.end) return true;
  return false;
}

// The slot that the space wants its context in; it may want nonsense.
u64 save_slot_of(dispatcher const& d) {
  return d.control->save_slot.load(std::memory_order::relaxed) %
         ACTIVATIONS_IMAGE_SAVE_SLOTS;
}

// In the space, of one of its words.
u64 page_address(dispatcher const& d, u64 offset = 0) {
  return ACTIVATIONS_IMAGE_DISPATCHER + d.index * page_bytes + offset;
}

// The dispatch rule of abi_image.h: events meet a stopped context.
void deliver(dispatcher& d) {
  u32 const events = d.events;
  d.events = 0;
  bool const has_entry = d.page->entry != 0;
  if (!has_entry || d.control->disabled.load(std::memory_order::relaxed) != 0) {
    d.control->pending.fetch_or(events, std::memory_order::relaxed);
    return;
  }
  if (is_in_resume_range(d, d.saved.pc())) {
    d.slot = d.page->resuming;
  } else {
    u64 const slot = save_slot_of(d);
    __builtin_memcpy(&d.page->slots[slot], &d.saved, sizeof d.saved);
    d.slot = page_address(d, offsetof(activations_dispatcher, slots) +
                                 slot * sizeof(activations_save_slot));
  }
  d.control->disabled.store(1, std::memory_order::relaxed);
  d.events = events;
  d.enters = true;
}

void arm_timer(core& here, dispatcher const* next) {
  u64 earliest = never;
  unsigned ready = 0;
  for (unsigned i = 0; i < here.dispatcher_count; ++i) {
    dispatcher const& d = *here.dispatchers[i];
    if (may_run(here, d)) ++ready;
    if (d.is(dispatcher_state::sleeping) && d.deadline_ns < earliest)
      earliest = d.deadline_ns;
  }
  if (here.is_revoked && here.revoked_ns < earliest) earliest = here.revoked_ns;
  if (here.idle_since_ns != 0 && !here.is_lent &&
      here.idle_since_ns + idle_ns < earliest)
    earliest = here.idle_since_ns + idle_ns;
  if (here.clear_at_ns != 0 && here.clear_at_ns < earliest)
    earliest = here.clear_at_ns;
  if (next != nullptr) {
    if (next->slice_ns != 0 && next->slice_ends_ns < earliest)
      earliest = next->slice_ends_ns;
    if (ready > 1 && here.turn_ends_ns < earliest) earliest = here.turn_ends_ns;
  }
  here.timer_ns = earliest;
  here.was_told = false;
  machine::set_timer(earliest);
}

[[noreturn]] void run(core& here, dispatcher& d) {
  if (here.loaded != &d) {
    if (here.loaded != nullptr) machine::save_state(here.loaded->switched);
    if (here.loaded == nullptr || here.loaded->home != d.home)
      machine::use_tables(d.home->tables.root());
    machine::load_state(d.switched);
    here.loaded = &d;
  }
  here.current = &d;
  if (d.events != 0 && !d.enters) deliver(d);
  arm_timer(here, &d);
  if (!d.enters) machine::resume(d.saved);
  d.enters = false;
  u32 const events = d.events;
  d.events = 0;
  machine::resume(machine::frame::upcall(d.page->entry, d.page->stack,
                                         page_address(d), events, d.slot,
                                         d.page->thread_pointer));
}

void expire(core& here) {
  u64 const now = machine::now_ns();
  if (here.timer_ns < now && now - here.timer_ns > here.latest_ns)
    here.latest_ns = now - here.timer_ns;
  for (unsigned i = 0; i < here.dispatcher_count; ++i) {
    dispatcher& d = *here.dispatchers[i];
    if (d.is(dispatcher_state::sleeping) && d.deadline_ns <= now)
      wake(here, d, ACTIVATIONS_EVENT_TIMER);
  }
  if (here.is_revoked && here.revoked_ns <= now) change_owner(here);
  if (here.clear_at_ns != 0 && here.clear_at_ns <= now) clear_some(here);
  if (here.idle_since_ns != 0 && !here.is_lent &&
      here.idle_since_ns + idle_ns <= now) {
    here.is_lent = true;
    send(here, 0, {message_kind::idle, here.index, nullptr});
  }
  dispatcher* const d = here.current;
  if (d != nullptr && d->slice_ns != 0 && d->slice_ends_ns <= now) {
    d->events |= ACTIVATIONS_EVENT_TIMER;
    d->slice_ends_ns = now + d->slice_ns;
  }
}

bool others_wait(core& here, dispatcher const& but) {
  for (unsigned i = 0; i < here.dispatcher_count; ++i)
    if (here.dispatchers[i] != &but && may_run(here, *here.dispatchers[i]))
      return true;
  return false;
}

void handle_interrupt(core& here, machine::stop const& why) {
  if (why.why == machine::cause::timer) expire(here);
  if (why.why == machine::cause::kick) read_mail(here);
  if (why.why == machine::cause::device) device_came(here, why.number);
}

// Ends the space, if it has had its last words.
[[noreturn]] void handle_fatal(core& here, dispatcher& d,
                               machine::frame const& registers,
                               machine::stop const& why) {
  bool const is_fault = why.why == machine::cause::fault;
  print("space ");
  print(d.home->name);
  print(", dispatcher ");
  print_decimal(d.index);
  print(is_fault ? ": a fault while disabled at "
                 : ": a trap while disabled, code ");
  print_hex(is_fault ? why.address : why.number);
  print(", pc ");
  print_hex(registers.pc());
  print(", sp ");
  print_hex(registers.sp());
  print("\n");
  __builtin_memcpy(&d.page->stopped, &registers, sizeof registers);
  u64 const entry = d.page->last_entry;
  if (entry == 0 ||
      d.home->has_failed.exchange(1, std::memory_order::relaxed) != 0) {
    end_space(here, *d.home, 128);
    dispatch(here);
  }
  d.control->disabled.store(1, std::memory_order::relaxed);
  d.saved = machine::frame::upcall(
      entry, d.page->stack, page_address(d),
      is_fault ? ACTIVATIONS_EVENT_FAULT : ACTIVATIONS_EVENT_TRAP,
      page_address(d, offsetof(activations_dispatcher, stopped)),
      d.page->thread_pointer);
  run(here, d);
}

// A fault or trap of user mode.
[[noreturn]] void handle_exception(core& here, dispatcher& d,
                                   machine::frame& registers,
                                   machine::stop const& why) {
  bool const is_fault = why.why == machine::cause::fault;
  bool const is_enabled =
      d.page->entry != 0 &&
      d.control->disabled.load(std::memory_order::relaxed) == 0;
  // One in a resume range is the context's own: the upcall names it again.
  if (is_fault && !is_enabled && why.address >= ACTIVATIONS_IMAGE_LAZY &&
      why.address < ACTIVATIONS_IMAGE_USER_END) {
    space& home = *d.home;
    u64 const page = why.address & ~(page_bytes - 1);
    home.lock.lock();
    u64 const* const entry = home.tables.find(page);
    // Present already: another core was faster, or the access is refused.
    bool const is_there = entry != nullptr && machine::is_present(*entry);
    bool const is_mapped =
        is_there
            ? (machine::access_of(*entry) & why.access) == why.access
            : map_memory(home, here.frames, page, page_bytes,
                         ACTIVATIONS_ACCESS_READ | ACTIVATIONS_ACCESS_WRITE);
    home.lock.unlock();
    if (is_mapped) machine::resume(registers);
  }
  d.page->fault_address = why.address;
  d.page->fault_access = why.access;
  d.page->trap_code = why.number;
  if (!is_enabled) handle_fatal(here, d, registers, why);
  d.saved = registers;
  d.events |= is_fault ? ACTIVATIONS_EVENT_FAULT : ACTIVATIONS_EVENT_TRAP;
  run(here, d);
}

}  // namespace

[[noreturn]] void resume_current(core& here) {
  dispatcher& d = *here.current;
  if (may_run(here, d) && here.current_moves == 0) run(here, d);
  if (!may_run(here, d) && d.is(dispatcher_state::ready))
    deliver(d);  // taken off its core
  dispatch(here);
}

[[noreturn]] void stopped(machine::frame& registers, machine::stop const& why) {
  core& here = this_core();
  dispatcher& d = *here.current;
  if (why.why == machine::cause::call) handle_call(here, d, registers);
  if (why.why == machine::cause::fault || why.why == machine::cause::trap)
    handle_exception(here, d, registers, why);
  d.saved = registers;
  handle_interrupt(here, why);
  if (!may_run(here, d) || here.current_moves != 0 ||
      machine::now_ns() < here.turn_ends_ns || !others_wait(here, d))
    resume_current(here);
  d.events |= ACTIVATIONS_EVENT_PREEMPTED;
  deliver(d);
  dispatch(here);
}

[[noreturn]] void dispatch(core& here) {
  move_current(here);
  for (;;) {
    bool const has_work = here.owner != nullptr && has_ready(here, *here.owner);
    if (here.is_revoked && !has_work) change_owner(here);
    if (here.is_lent && has_work) {
      here.is_lent = false;
      send(here, 0, {message_kind::busy, here.index, nullptr});
    }
    for (unsigned n = 0; n < here.dispatcher_count; ++n) {
      unsigned const i = (here.turn + n) % here.dispatcher_count;
      dispatcher& d = *here.dispatchers[i];
      if (!may_run(here, d)) continue;
      here.turn = i + 1;
      here.idle_since_ns = 0;
      u64 const now = machine::now_ns();
      here.turn_ends_ns = now + turn_ns;
      if (d.slice_ns != 0) d.slice_ends_ns = now + d.slice_ns;
      run(here, d);
    }
    if (here.owner != nullptr && here.idle_since_ns == 0)
      here.idle_since_ns = machine::now_ns();
    arm_timer(here, nullptr);
    if (here.clear_at_ns != 0) clear_some(here);
    if (here.clear_at_ns != 0 && !machine::interrupt_waits()) continue;
    handle_interrupt(here, machine::wait());
  }
}

}  // namespace kernel
