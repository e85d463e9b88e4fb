// SPDX-License-Identifier: BSL-1.0
//
// Equal division of cores between spaces (abi_image.h tells what they see).
//
// Core 0 keeps the books and decides; each core knows its own owner, and gives
// itself up.  Between them there are messages only:
//
//   core 0  assign(space) --> core c   warns, waits for sleep or the deadline
//   core 0 <-- assigned(space)         has changed its owner
//   core 0  move(dispatcher) --> core  of one that its core left without one
//
// Core 0 may send the next `assign` before the answer to the last: `promised`
// is what it has decided, `owners` what it has been told.
#include <machine.hpp>

#include "core.hpp"
#include "space.hpp"

namespace kernel {
namespace {

// Between warning and revocation.
constexpr u64 warning_ns = 2'000'000;

// ---- core 0's books ----------------------------------------------------------

space* owners[most_cores];
space* promised[most_cores];
bool is_idle[most_cores];  // its owner has nothing to run there
bool is_divided;           // since the first request
bool is_dividing;          // see divide()
bool divides_again;

constexpr u64 bit(unsigned core_index) {
  return u64{1} << core_index;
}

u64 mask_of(space const* home) {
  u64 mask = 0;
  for (unsigned c = 0; c < core_count; ++c)
    if (owners[c] == home) mask |= bit(c);
  return mask;
}

bool takes_part(space const& s) {
  return s.is_used && s.is_ending.load(std::memory_order::acquire) == 0;
}

bool has_own(space const& s, unsigned core_index) {
  for (auto const& d : s.dispatchers)
    if (!d.is(dispatcher_state::unused) && d.own_core == core_index)
      return true;
  return false;
}

// How many cores it can use now.
unsigned wants(space const& s) {
  unsigned wanted = s.wanted;
  if (wanted == 0)
    for (unsigned c = 0; c < core_count; ++c) wanted += has_own(s, c) ? 1 : 0;
  if (wanted == 0) wanted = 1;
  return wanted < s.limit ? wanted : s.limit;
}

// One core to each in turn, while it wants one and there are some.  False:
// more spaces than cores.
bool count_shares(unsigned (&shares)[most_spaces]) {
  unsigned want[most_spaces] = {};
  unsigned spaces_with_work = 0;
  for (unsigned s = 0; s < most_spaces; ++s) {
    shares[s] = 0;
    if (takes_part(spaces[s])) want[s] = wants(spaces[s]);
    if (want[s] != 0) ++spaces_with_work;
  }
  if (spaces_with_work > core_count) return false;
  unsigned left = core_count;
  for (bool any = true; any && left > 0;) {
    any = false;
    for (unsigned s = 0; s < most_spaces && left > 0; ++s)
      if (shares[s] < want[s]) {
        ++shares[s];
        --left;
        any = true;
      }
  }
  return true;
}

void choose_owners(space* (&chosen)[most_cores]) {
  unsigned left[most_spaces];
  for (auto& c : chosen) c = nullptr;
  if (!is_divided || !count_shares(left)) return;
  auto const take = [&](unsigned c, space* s) {
    if (chosen[c] != nullptr || s == nullptr || left[s->index] == 0) return;
    chosen[c] = s;
    --left[s->index];
  };
  // What one has it keeps, first where it runs; then where it would like to
  // be; then anywhere.
  for (unsigned c = 0; c < core_count; ++c)
    if (!is_idle[c]) take(c, promised[c]);
  for (unsigned c = 0; c < core_count; ++c) take(c, promised[c]);
  for (unsigned c = 0; c < core_count; ++c)
    for (auto& s : spaces)
      if (has_own(s, c)) take(c, &s);
  for (unsigned c = 0; c < core_count; ++c)
    for (auto& s : spaces) take(c, &s);
  // Nobody else wants it.
  for (unsigned c = 0; c < core_count; ++c)
    if (chosen[c] == nullptr && is_idle[c] && promised[c] != nullptr &&
        takes_part(*promised[c]))
      chosen[c] = promised[c];
}

// Sending may handle what comes meanwhile, and come here again.
void divide(core& here) {
  divides_again = true;
  if (is_dividing) return;
  is_dividing = true;
  while (divides_again) {
    divides_again = false;
    space* chosen[most_cores];
    choose_owners(chosen);
    for (unsigned c = 0; c < core_count; ++c) {
      if (chosen[c] == promised[c]) continue;
      promised[c] = chosen[c];
      is_idle[c] = false;
      send(here, c, {message_kind::assign, 0, chosen[c]});
    }
  }
  is_dividing = false;
}

// The space's view of its cores.
void write_grants(space* home, u64 gained, u64 lost) {
  if (home == nullptr || !takes_part(*home)) return;
  auto constexpr relaxed = std::memory_order::relaxed;
  activations_image_grants& g = *home->grants;
  u64 const now = machine::now_ns();
  unsigned const before = count_bits(g.cores.load(relaxed));
  g.granted_ns.store(
      g.granted_ns.load(relaxed) + before * (now - g.since_ns.load(relaxed)),
      relaxed);
  g.since_ns.store(now, relaxed);
  g.gained.store(g.gained.load(relaxed) + gained, relaxed);
  g.lost.store(g.lost.load(relaxed) + lost, relaxed);
  g.cores.store(mask_of(home), std::memory_order::release);
}

// Tells one dispatcher of the space, on a core that is its own.
void tell(core& here, space* home, u32 event) {
  if (home == nullptr || !takes_part(*home)) return;
  dispatcher* best = nullptr;
  for (auto& d : home->dispatchers) {
    if (d.is(dispatcher_state::unused) ||
        owners[d.core_index.load(std::memory_order::relaxed)] != home)
      continue;
    if (best == nullptr ||
        (!best->is(dispatcher_state::ready) && d.is(dispatcher_state::ready)))
      best = &d;
  }
  if (best != nullptr) notify(here, *best, event);
}

// To its own core if that is the space's, else to any that is; if there is
// none it waits.
void place(core& here, dispatcher& d) {
  unsigned const at = d.core_index.load(std::memory_order::relaxed);
  space* const home = d.home;
  if (owners[d.own_core] == home || owners[d.own_core] == nullptr) {
    if (at != d.own_core) send(here, at, {message_kind::move, d.own_core, &d});
    return;
  }
  if (owners[at] == home || owners[at] == nullptr ||
      !d.is(dispatcher_state::ready) || promised[d.own_core] == home)
    return;
  for (unsigned c = 0; c < core_count; ++c)
    if (owners[c] == home) return send(here, at, {message_kind::move, c, &d});
}

void place_all(core& here, space& home) {
  if (!takes_part(home)) return;
  for (auto& d : home.dispatchers)
    if (!d.is(dispatcher_state::unused)) place(here, d);
}

}  // namespace

void divide_request(core& here, space& asking, u32 wanted) {
  if (!takes_part(asking)) return;
  asking.wanted = wanted < core_count ? wanted : core_count;
  asking.limit = most_cores;
  asking.grants->wanted.store(wanted, std::memory_order::relaxed);
  is_divided = false;
  for (auto const& s : spaces)
    if (takes_part(s) && s.wanted != 0) is_divided = true;
  divide(here);
}

void divide_assigned(core& here, space* owner, unsigned c) {
  space* const before = owners[c];
  if (before == owner) return;
  owners[c] = owner;
  is_idle[c] = false;
  write_grants(before, 0, 1);
  write_grants(owner, 1, 0);
  tell(here, before, ACTIVATIONS_EVENT_PREEMPTED);
  // Those that have the core as their own are told there.
  if (owner != nullptr && !has_own(*owner, c))
    tell(here, owner, ACTIVATIONS_EVENT_GRANTED);
  for (auto& s : spaces) place_all(here, s);
}

void divide_idle(core& here, unsigned c, bool idle) {
  space* const owner = owners[c];
  if (owner == nullptr) return;
  if (!idle) {  // also if the core is promised to somebody else by now
    is_idle[c] = false;
    owner->limit = most_cores;
    return divide(here);
  }
  if (is_idle[c] || promised[c] != owner) return;
  is_idle[c] = true;
  unsigned has = 0;
  for (unsigned i = 0; i < core_count; ++i) has += promised[i] == owner ? 1 : 0;
  unsigned const limit = owner->limit < has ? owner->limit : has;
  owner->limit = limit > 0 ? limit - 1 : 0;
  divide(here);
}

void divide_stranded(core& here, dispatcher& woken) {
  space& home = *woken.home;
  if (!takes_part(home)) return;
  home.limit = most_cores;
  divide(here);
  place(here, woken);
}

void divide_arrived(core& here, dispatcher& moved) {
  if (takes_part(*moved.home)) place(here, moved);
}

void divide_ended(core& here, space& home) {
  for (unsigned c = 0; c < core_count; ++c) {
    if (owners[c] == &home) owners[c] = nullptr;
    if (promised[c] == &home) promised[c] = nullptr;
  }
  is_divided = false;
  for (auto const& s : spaces)
    if (takes_part(s) && s.wanted != 0) is_divided = true;
  divide(here);
  for (auto& s : spaces) place_all(here, s);
}

// ---- the core that is divided -------------------------------------------------

bool has_ready(core const& here, space const& home) {
  for (unsigned i = 0; i < here.dispatcher_count; ++i)
    if (here.dispatchers[i]->home == &home &&
        here.dispatchers[i]->is(dispatcher_state::ready))
      return true;
  return false;
}

// The core is d's again, or for the first time.
void grant(core& here, dispatcher& d) {
  if (!change_word(d,
                   1u << ACTIVATIONS_PROCESSOR_PREEMPTED |
                       1u << ACTIVATIONS_PROCESSOR_REVOKING,
                   ACTIVATIONS_PROCESSOR_RUNNING))
    return;
  d.processor->grants.fetch_add(1, std::memory_order::relaxed);
  if (d.is(dispatcher_state::sleeping))
    wake(here, d, ACTIVATIONS_EVENT_GRANTED);
  else
    d.events |= ACTIVATIONS_EVENT_GRANTED;
}

namespace {

void warn(core& here) {
  for (unsigned i = 0; i < here.dispatcher_count; ++i) {
    dispatcher& d = *here.dispatchers[i];
    if (d.home != here.owner || !d.is(dispatcher_state::ready)) continue;
    d.processor->revoke_deadline_ns.store(here.revoked_ns,
                                          std::memory_order::relaxed);
    change_word(d, 1u << ACTIVATIONS_PROCESSOR_RUNNING,
                ACTIVATIONS_PROCESSOR_REVOKING);
    d.events |= ACTIVATIONS_EVENT_REVOKE_SOON;
  }
}

}  // namespace

void assign_core(core& here, space* to) {
  if (to != nullptr && to->is_ending.load(std::memory_order::acquire) != 0)
    to = nullptr;
  here.next_owner = to;
  if (here.owner == to) {  // taken back
    here.is_revoked = here.is_lent = false;
    here.idle_since_ns = 0;
    for (unsigned i = 0; i < here.dispatcher_count; ++i)
      if (here.dispatchers[i]->home == to &&
          here.dispatchers[i]->own_core == here.index)
        grant(here, *here.dispatchers[i]);
    return;
  }
  if (to == nullptr || here.owner == nullptr || !has_ready(here, *here.owner))
    return change_owner(here);
  if (here.is_revoked) return;  // another one, the same deadline
  here.is_revoked = true;
  here.revoked_ns = machine::now_ns() + warning_ns;
  warn(here);
}

// Who runs here is stopped by the way out of the kernel.
void change_owner(core& here) {
  space* const before = here.owner;
  // They had work, whatever core 0 was told before: ran, or were warned while
  // they ran and sleep only for that.  Told at the end: it may change the list.
  dispatcher* robbed[most_dispatchers_on_core];
  unsigned robbed_count = 0;
  here.owner = here.next_owner;
  here.is_revoked = false;
  here.is_lent = false;
  here.idle_since_ns = 0;
  for (unsigned i = 0; i < here.dispatcher_count; ++i) {
    dispatcher& d = *here.dispatchers[i];
    if (here.owner == nullptr || d.home == here.owner) {
      if (d.own_core == here.index) grant(here, d);
      continue;
    }
    if (before != nullptr && d.home != before) continue;
    bool const is_ready = d.is(dispatcher_state::ready);
    bool const was_warned = change_word(d, 1u << ACTIVATIONS_PROCESSOR_REVOKING,
                                        ACTIVATIONS_PROCESSOR_PREEMPTED);
    change_word(d, 1u << ACTIVATIONS_PROCESSOR_RUNNING,
                ACTIVATIONS_PROCESSOR_PREEMPTED);
    if (was_warned || is_ready) robbed[robbed_count++] = &d;
    if (!is_ready) continue;
    d.processor->preemptions.fetch_add(1, std::memory_order::relaxed);
    d.events |= ACTIVATIONS_EVENT_PREEMPTED;
  }
  send(here, 0, {message_kind::assigned, here.index, here.owner});
  for (unsigned i = 0; i < robbed_count; ++i)
    send(here, 0, {message_kind::stranded, 0, robbed[i]});
}

void move_dispatcher(core& here, dispatcher& d, unsigned to) {
  // On its way here it is nobody's to move: it would be in two cores' lists.
  // When it arrives it says so, if it should be elsewhere.
  if (d.core_index.load(std::memory_order::acquire) != here.index ||
      !d.is_adopted || d.is(dispatcher_state::unused) || to == here.index)
    return;
  if (here.current == &d) {  // its registers are not in `saved` now
    here.current_moves = to + 1;
    return;
  }
  leave_core(here, d);
  // Release: whoever sends to that core has seen what we did with it.
  d.core_index.store(to, std::memory_order::release);
  send(here, to, {message_kind::adopt, 0, &d});
}

void move_current(core& here) {
  u32 const to = here.current_moves;
  dispatcher* const d = here.current;
  here.current_moves = 0;
  here.current = nullptr;
  if (to != 0 && d != nullptr) move_dispatcher(here, *d, to - 1);
}

}  // namespace kernel
