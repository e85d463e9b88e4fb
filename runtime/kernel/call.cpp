// SPDX-License-Identifier: BSL-1.0
//
// System calls: each completes at once, or stores how far it came in its own
// arguments and is made again.
#include <algorithm>
#include <cerrno>

#include <machine.hpp>

#include "core.hpp"
#include "space.hpp"

namespace kernel {
namespace {

// A step between two looks at waiting interrupts, in pages.
constexpr u64 pages_at_once = 4;
constexpr u64 table_reach = 512 * page_bytes;  // of one last table
constexpr u64 most_text = 1024;

[[noreturn]] void finish(core& here, machine::frame& registers, long result) {
  registers.set_result(static_cast<u64>(result));
  // What the call itself caused here is due now: an event for the caller, or
  // that others wait for its turn to end.
  dispatcher& d = *here.current;
  if (d.events == 0 && !here.was_told && may_run(here, d) &&
      here.current_moves == 0)
    machine::resume(registers);
  d.saved = registers;
  resume_current(here);
}

bool is_user_range(u64 address, u64 bytes, u64 begin) {
  return address % page_bytes == 0 && bytes % page_bytes == 0 &&
         address >= begin && address <= ACTIVATIONS_IMAGE_USER_END &&
         bytes <= ACTIVATIONS_IMAGE_USER_END - address;
}

// Does step(address, done) for each page of [address, +bytes), some at once; the
// rest in calls that are made again if an interrupt waits.  Does not return
// then.
template <class Step>
long each_page(core&, space& home, machine::frame& registers, Step step) {
  u64 address = registers.call_argument(0);
  u64 bytes = registers.call_argument(1);
  while (bytes != 0) {
    home.lock.lock();
    long result = 0;
    for (u64 n = 0; n < pages_at_once && bytes != 0 && result == 0; ++n) {
      u64 done = page_bytes;
      result = step(address, done);
      if (done > bytes) done = bytes;
      address += done;
      bytes -= done;
    }
    home.lock.unlock();
    if (result != 0) return result;
    if (bytes != 0 && machine::interrupt_waits()) {
      registers.reissue_call(address, bytes);
      machine::resume(registers);
    }
  }
  return 0;
}

long call_print(space& home, machine::frame& registers) {
  u64 const address = registers.call_argument(0);
  u64 const bytes = registers.call_argument(1);
  if (bytes > most_text) return -EINVAL;
  char text[most_text];
  if (!copy_from(home, text, address, bytes)) return -EFAULT;
  static spin_lock line;
  line.lock();
  for (u64 i = 0; i < bytes; ++i) {
    if (text[i] == '\n') machine::console_write('\r');
    machine::console_write(text[i]);
  }
  line.unlock();
  return static_cast<long>(bytes);
}

long call_map(core& here, space& home, machine::frame& registers) {
  u64 const address = registers.call_argument(0);
  u64 const bytes = registers.call_argument(1);
  u64 const access = registers.call_argument(2) & 7;
  if (!is_user_range(address, bytes, ACTIVATIONS_IMAGE_MEMORY)) return -EINVAL;
  if ((access & ACTIVATIONS_ACCESS_READ) == 0) return -EINVAL;
  return each_page(here, home, registers, [&](u64 page, u64&) -> long {
    return map_memory(home, here.frames, page, page_bytes,
                      static_cast<unsigned>(access))
               ? 0
               : -ENOMEM;
  });
}

// Access to what is mapped; 0 access: no longer mapped.
long change(core& here, space& home, machine::frame& registers, u64 access) {
  u64 const address = registers.call_argument(0);
  u64 const bytes = registers.call_argument(1);
  if (!is_user_range(address, bytes, ACTIVATIONS_IMAGE_USER_BEGIN) ||
      (address < ACTIVATIONS_IMAGE_MEMORY &&
       address + bytes > ACTIVATIONS_IMAGE_INFO))
    return -EINVAL;
  auto const step = [&](u64 page, u64& done) -> long {
    u64* const entry = home.tables.find(page);
    if (entry == nullptr) done = table_reach - page % table_reach;
    if (entry != nullptr && access == 0 && is_guard(*entry))
      *entry &= ~guard_bit;
    if (entry == nullptr || !machine::is_present(*entry)) return 0;
    u64 const frame = machine::address_of(*entry);
    u64 const borrowed = *entry & machine::pte_borrowed;
    if (access != 0)
      *entry = machine::leaf(frame, static_cast<unsigned>(access)) | borrowed;
    else
      *entry = borrowed != 0 ? 0 : retire(frame);
    machine::flush_page(page);
    return 0;
  };
  long const result = each_page(here, home, registers, step);
  flush_others(here, home);
  return result;
}

long call_alias(core& here, space& home, machine::frame& registers) {
  u64 const address = registers.call_argument(0);
  u64 const of = registers.call_argument(1);
  u64 const bytes = registers.call_argument(2);
  u64 const access = registers.call_argument(3) & 7;
  // A view may lie near the program's text, but not in the kernel's areas.
  bool const is_near =
      address < ACTIVATIONS_IMAGE_INFO &&
      bytes <= ACTIVATIONS_IMAGE_INFO - address &&
      is_user_range(address, bytes, ACTIVATIONS_IMAGE_USER_BEGIN);
  if ((!is_near && !is_user_range(address, bytes, ACTIVATIONS_IMAGE_MEMORY)) ||
      !is_user_range(of, bytes, ACTIVATIONS_IMAGE_USER_BEGIN) ||
      (access & ACTIVATIONS_ACCESS_READ) == 0 || bytes > 16 * page_bytes)
    return -EINVAL;
  home.lock.lock();
  long result = 0;
  for (u64 done = 0; done < bytes && result == 0; done += page_bytes) {
    u64* const from = home.tables.find(of + done);
    u64* const entry = home.tables.make_entry(here.frames, address + done);
    if (entry == nullptr)
      result = -ENOMEM;
    else if (from == nullptr || !machine::is_present(*from) || *entry != 0)
      result = -EINVAL;
    else
      *entry = machine::leaf(machine::address_of(*from),
                             static_cast<unsigned>(access)) |
               machine::pte_borrowed;
  }
  home.lock.unlock();
  return result;
}

// Nothing is to be mapped at these addresses.
long call_guard(core& here, space& home, machine::frame& registers) {
  if (!is_user_range(registers.call_argument(0), registers.call_argument(1),
                     ACTIVATIONS_IMAGE_MEMORY))
    return -EINVAL;
  return each_page(here, home, registers, [&](u64 page, u64&) -> long {
    u64* const entry = home.tables.make_entry(here.frames, page);
    if (entry == nullptr) return -ENOMEM;
    if (machine::is_present(*entry)) return -EEXIST;
    *entry |= guard_bit;
    return 0;
  });
}

[[noreturn]] void sleep(core& here, dispatcher& caller,
                        machine::frame& registers, bool is_idle) {
  if (is_idle) become_idle(caller);
  u32 const pending = caller.events | caller.control->pending.exchange(
                                          0, std::memory_order::acq_rel);
  u64 const deadline = registers.call_argument(0);
  bool const is_due = deadline != never && deadline <= machine::now_ns();
  if (pending != 0 || is_due) {
    if (is_idle) become_running(caller);
    caller.events = 0;
    finish(here, registers,
           is_due ? pending | ACTIVATIONS_EVENT_TIMER : pending);
  }
  caller.saved = registers;
  caller.become(dispatcher_state::sleeping);
  caller.deadline_ns = deadline;
  dispatch(here);
}

// A dispatcher of the caller's space, or null.
dispatcher* named(space& home, u64 index) {
  if (index >= most_dispatchers) return nullptr;
  dispatcher& d = home.dispatchers[index];
  return d.is(dispatcher_state::unused) ? nullptr : &d;
}

long call_slice(space& home, dispatcher& caller, u64 index, u64 ns) {
  dispatcher* const d = named(home, index);
  if (d == nullptr) return -EINVAL;
  if (d != &caller) return -EXDEV;  // its core's own business
  // No sum with a time of day overflows.
  d->slice_ns = ns == 0 ? 0 : std::clamp<u64>(ns, 20'000, u64{1} << 62);
  d->slice_ends_ns = machine::now_ns() + d->slice_ns;
  return 0;
}

long call_device(dispatcher&, u64 device, u64 operation) {
  if (device != 0 || operation != 0) return -EINVAL;
  return machine::console_read();
}

[[noreturn]] void call_resume(core& here, dispatcher& caller,
                              machine::frame& registers) {
  machine::frame wanted;
  if (!copy_from(*caller.home, &wanted, registers.call_argument(0),
                 sizeof wanted))
    finish(here, registers, -EFAULT);
  wanted.sanitize();
  caller.saved = wanted;
  caller.control->disabled.store(0, std::memory_order::relaxed);
  caller.events |=
      caller.control->pending.exchange(0, std::memory_order::relaxed);
  resume_current(here);
}

}  // namespace

[[noreturn]] void handle_call(core& here, dispatcher& caller,
                              machine::frame& registers) {
  space& home = *caller.home;
  auto const argument = [&](unsigned i) { return registers.call_argument(i); };
  long result = -ENOSYS;
  switch (registers.call_number()) {
    case ACTIVATIONS_IMAGE_NULL:
      result = 0;
      break;
    case ACTIVATIONS_CALL_ATTACH:
      result = argument(0) < most_dispatchers && argument(1) < core_count
                   ? attach(here, home, static_cast<unsigned>(argument(0)),
                            static_cast<unsigned>(argument(1)))
                   : -EINVAL;
      break;
    case ACTIVATIONS_CALL_PARK:
      sleep(here, caller, registers, false);
    case ACTIVATIONS_CALL_RELEASE:
      sleep(here, caller, registers, true);
    case ACTIVATIONS_CALL_REQUEST:
      send(here, 0,
           {message_kind::request,
            static_cast<u32>(argument(0) < 64 ? argument(0) : 64), &home});
      result = count_bits(home.grants->cores.load(std::memory_order::relaxed));
      break;
    case ACTIVATIONS_CALL_KICK:
      result = -EINVAL;
      if (dispatcher* const to = named(home, argument(0))) {
        notify(here, *to, ACTIVATIONS_EVENT_MESSAGE);
        result = 0;
      }
      break;
    case ACTIVATIONS_CALL_WAKE:
      result = -EINVAL;
      if (dispatcher* const to = named(home, argument(0))) {
        result = become_running(*to) ? 1 : 0;
        if (result == 1) notify(here, *to, ACTIVATIONS_EVENT_GRANTED);
      }
      break;
    case ACTIVATIONS_CALL_SLICE:
      result = call_slice(home, caller, argument(0), argument(1));
      // The slice may be the caller's own: the way out sets the timer.
      registers.set_result(static_cast<u64>(result));
      caller.saved = registers;
      resume_current(here);
    case ACTIVATIONS_CALL_DETACH:
      result = detach(here, caller);
      break;
    case ACTIVATIONS_IMAGE_PRINT:
      result = call_print(home, registers);
      break;
    case ACTIVATIONS_IMAGE_EXIT:
      end_space(here, home, static_cast<int>(argument(0) & 0xff));
      dispatch(here);
    case ACTIVATIONS_IMAGE_MAP:
      result = call_map(here, home, registers);
      break;
    case ACTIVATIONS_IMAGE_UNMAP:
      result = change(here, home, registers, 0);
      break;
    case ACTIVATIONS_IMAGE_PROTECT:
      result = argument(2) == 0 ? call_guard(here, home, registers)
               : (argument(2) & ACTIVATIONS_ACCESS_READ) == 0
                   ? -EINVAL
                   : change(here, home, registers, argument(2) & 7);
      break;
    case ACTIVATIONS_IMAGE_ALIAS:
      result = call_alias(here, home, registers);
      break;
    case ACTIVATIONS_IMAGE_RESUME:
      call_resume(here, caller, registers);
    case ACTIVATIONS_IMAGE_LISTEN:
      result = device_listen(here, caller, argument(0));
      break;
    case ACTIVATIONS_IMAGE_DEVICE:
      result = call_device(caller, argument(0), argument(1));
      break;
    case ACTIVATIONS_IMAGE_CHANNEL_CALL:
      result = channel_open(here, caller, argument(0), argument(1));
      break;
    case ACTIVATIONS_IMAGE_NOTIFY:
      result = channel_notify(here, caller, argument(0), argument(1));
      break;
    default:
      break;
  }
  finish(here, registers, result);
}

}  // namespace kernel
