// SPDX-License-Identifier: BSL-1.0
#include "message.hpp"

#include <machine.hpp>

#include "core.hpp"
#include "space.hpp"

namespace kernel {
namespace {

constexpr u32 ring_lines = 32;

// W: `full` by both, one after the other; the rest by whoever `full` says.
struct alignas(64) line {
  std::atomic<u32> full;
  message what;
};
struct mailbox {
  line lines[ring_lines];
  alignas(64) u32 written;  // the sender's
  alignas(64) u32 read;     // the reader's
};
mailbox mail[most_cores][most_cores];  // [from][to]

void handle(core& here, message const& m) {
  here.was_told = true;
  switch (m.kind) {
    case message_kind::none:
      return;
    case message_kind::adopt:
      return adopt(here, *static_cast<dispatcher*>(m.about));
    case message_kind::wake:
      return take_notice(here, *static_cast<dispatcher*>(m.about));
    case message_kind::flush:
      // Loading the tables again forgets all of them.
      if (here.loaded != nullptr && here.loaded->home == m.about)
        machine::use_tables(here.loaded->home->tables.root());
      return;
    case message_kind::drop:
      return drop_space(here, *static_cast<space*>(m.about));
    case message_kind::dropped:
      return space_dropped(here, *static_cast<space*>(m.about));
    case message_kind::request:
      return divide_request(here, *static_cast<space*>(m.about), m.value);
    case message_kind::assigned:
      return divide_assigned(here, static_cast<space*>(m.about), m.value);
    case message_kind::idle:
    case message_kind::busy:
      return divide_idle(here, m.value, m.kind == message_kind::idle);
    case message_kind::stranded:
      return divide_stranded(here, *static_cast<dispatcher*>(m.about));
    case message_kind::arrived:
      return divide_arrived(here, *static_cast<dispatcher*>(m.about));
    case message_kind::assign:
      return assign_core(here, static_cast<space*>(m.about));
    case message_kind::move:
      return move_dispatcher(here, *static_cast<dispatcher*>(m.about), m.value);
    case message_kind::stop:
      for (;;) (void)machine::wait();
  }
}

}  // namespace

void send(core& from, unsigned to, message const& what) {
  if (to == from.index) return handle(from, what);
  mailbox& box = mail[from.index][to];
  line& l = box.lines[box.written++ % ring_lines];
  // Acquire and release: who finds the line empty may write it, who finds it
  // full may read it.
  while (l.full.load(std::memory_order::acquire) != 0) read_mail(from);
  l.what = what;
  l.full.store(1, std::memory_order::release);
  machine::send_kick(to);
}

void read_mail(core& here) {
  for (unsigned from = 0; from < core_count; ++from) {
    mailbox& box = mail[from][here.index];
    for (;;) {
      line& l = box.lines[box.read % ring_lines];
      if (l.full.load(std::memory_order::acquire) == 0) break;
      message const m = l.what;
      ++box.read;
      l.full.store(0, std::memory_order::release);
      handle(here, m);
    }
  }
}

}  // namespace kernel
