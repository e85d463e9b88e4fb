// SPDX-License-Identifier: BSL-1.0
//
// The algorithm of event.hpp under every interleaving: a waiter sees what was
// done before the set that let it go and may destroy the event, nobody is
// forgotten, and "reset, look, wait" misses nothing. No order in the header is
// idle.

// The events are not destroyed in the way that their destructor expects.
#define ACTIVATIONS_NO_ASSERT
#include <activations/event.hpp>

#include <gtest/gtest.h>

#include <vector>

#include "model/atomics.hpp"
#include "model/mutation.hpp"
#include "model/wait_seam.hpp"

namespace {

namespace model = activations::model;
using activations::detail::steady_time;
using event = activations::detail::event_core<model::wait_seam>;

struct state {
  event ready{false};
  model::plain<int> data{0};
  model::atomic<int> work{0};

  void fill_and_set() {
    data.set(1);
    ready.set();
  }
  void expect_filled() { model::check(data.get() == 1, "not filled"); }
};

state& make_state(model::run& r) {
  model::make_wait_words(r);
  return r.make<state>();
}

void one_waits(model::run& r) {
  auto& s = make_state(r);
  r.spawn([&] { s.fill_and_set(); });
  r.spawn([&] {
    s.ready.wait();
    model::end_of_primitive();
    s.expect_filled();
  });
}

void one_looks(model::run& r) {
  auto& s = make_state(r);
  r.spawn([&] { s.fill_and_set(); });
  r.spawn([&] {
    if (!s.ready.is_set()) return;
    model::end_of_primitive();
    s.expect_filled();
  });
}

void two_wait(model::run& r) {
  auto& s = make_state(r);
  r.spawn([&] { s.fill_and_set(); });
  for (int i = 0; i < 2; ++i)
    r.spawn([&] {
      s.ready.wait();
      s.expect_filled();
    });
}

// The set has a waiter to let go, and another comes without waiting.
void one_comes_late(model::run& r) {
  auto& s = make_state(r);
  auto& listed = r.make<event::node>();
  model::check(s.ready.enqueue(listed), "not listed");
  r.spawn([&] { s.fill_and_set(); });
  r.spawn([&] {
    if (s.ready.is_set()) s.expect_filled();
  });
}

// The deadline comes at any moment, and the waiter waits again.
void one_gives_up(model::run& r) {
  auto& s = make_state(r);
  r.spawn([&] { s.fill_and_set(); });
  r.spawn([&] {
    if (!s.ready.wait_until(steady_time{})) s.ready.wait();
    model::end_of_primitive();
    s.expect_filled();
  });
}

void one_gives_up_beside_another(model::run& r) {
  auto& s = make_state(r);
  auto& listed = r.make<event::node>();
  model::check(s.ready.enqueue(listed), "not listed");
  r.spawn([&] { s.fill_and_set(); });
  r.spawn([&] {
    if (s.ready.wait_until(steady_time{})) s.expect_filled();
  });
  r.spawn([&] {
    listed.wait();
    s.expect_filled();
  });
}

// Who was let go is so, though the event is reset before it runs.
void pulse(model::run& r) {
  auto& s = make_state(r);
  auto& listed = r.make<event::node>();
  model::check(s.ready.enqueue(listed), "not listed");
  r.spawn([&] {
    s.fill_and_set();
    s.ready.reset();
  });
  r.spawn([&] {
    listed.wait();
    s.expect_filled();
  });
}

// The event is set already when work comes: the set that changes nothing must
// not be lost to the waiter that has just reset it.
void reset_look_wait(model::run& r) {
  auto& s = make_state(r);
  s.ready.set();
  r.spawn([&] {
    s.work.store(1, std::memory_order::relaxed);
    s.ready.set();
  });
  r.spawn([&] {
    s.ready.reset();
    if (s.work.load(std::memory_order::relaxed) == 0) s.ready.wait();
  });
}

// The same when the set has somebody to let go.
void reset_look_wait_beside_another(model::run& r) {
  auto& s = make_state(r);
  auto& listed = r.make<event::node>();
  model::check(s.ready.enqueue(listed), "not listed");
  r.spawn([&] {
    s.work.store(1, std::memory_order::relaxed);
    s.ready.set();
  });
  r.spawn([&] {
    s.ready.reset();
    if (s.work.load(std::memory_order::relaxed) == 0) s.ready.wait();
  });
}

// Two setters take turns with the waiter's resets.
void reset_look_wait_twice(model::run& r) {
  auto& s = make_state(r);
  s.ready.set();
  for (int i = 0; i < 2; ++i)
    r.spawn([&] {
      s.work.fetch_add(1, std::memory_order::relaxed);
      s.ready.set();
    });
  r.spawn([&] {
    for (;;) {
      s.ready.reset();
      if (s.work.load(std::memory_order::relaxed) == 2) break;
      s.ready.wait();
    }
  });
}

std::vector<model::scenario> scenarios() {
  return {
      {"one waits", "E1", {}, one_waits},
      {"one looks", "E1", {}, one_looks},
      {"one comes late", "E1", {}, one_comes_late},
      {"one gives up", "E1", {}, one_gives_up},
      {"reset, look, wait", "E2", {}, reset_look_wait},
      {"  beside another", "E2", {}, reset_look_wait_beside_another},
      {"pulse", "", {}, pulse},
      {"one of two gives up", "", {}, one_gives_up_beside_another},
  };
}

TEST(Event, ForgetsNobodyAndEachEdgeIsNeeded) {
  model::expect_edges_are_needed("event.hpp", "class event_core {",
                                 scenarios());
}

// Three threads have too many interleavings to try all.
TEST(Event, HoldsInTheFirstInterleavingsOfThreeThreads) {
  model::options some;
  some.max_executions = 200'000;
  for (auto const scenario : {two_wait, reset_look_wait_twice}) {
    auto const found = model::explore(some, scenario);
    EXPECT_TRUE(found.violation.empty()) << found.report;
  }
}

}  // namespace
