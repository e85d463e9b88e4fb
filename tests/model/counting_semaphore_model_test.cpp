// SPDX-License-Identifier: BSL-1.0
//
// The algorithm of counting_semaphore.hpp under every interleaving: permits
// are neither lost nor doubled, who gets one sees what was done before it was
// released and may destroy the semaphore if it was the last, nobody is
// forgotten, and no order in the header is idle.

// They are not destroyed in the way that their destructor expects.
#define ACTIVATIONS_NO_ASSERT
#include <activations/counting_semaphore.hpp>

#include <gtest/gtest.h>

#include <vector>

#include "model/atomics.hpp"
#include "model/mutation.hpp"
#include "model/wait_seam.hpp"

namespace {

namespace model = activations::model;
using activations::detail::steady_time;
using semaphore = activations::detail::semaphore_core<model::wait_seam>;

struct state {
  explicit state(int permits) : s(permits) {}

  semaphore s;
  model::plain<int> data{0};

  void release(int permits = 1) { s.release(permits, semaphore::max); }
  void fill_and_release() {
    data.set(1);
    release();
  }
  void expect_filled() { model::check(data.get() == 1, "not filled"); }
  // As many as are left over in the end.
  void check_left(int permits) {
    for (int i = 0; i < permits; ++i)
      model::check(s.try_acquire(), "a permit was lost");
    model::check(!s.try_acquire(), "a permit too many");
  }
};

state& make_state(model::run& r, int permits) {
  model::make_wait_words(r);
  return r.make<state>(permits);
}

void one_waits(model::run& r) {
  auto& s = make_state(r, 0);
  r.spawn([&] { s.fill_and_release(); });
  r.spawn([&] {
    s.s.acquire();
    s.expect_filled();
  });
  r.finally([&] { s.check_left(0); });
}

void one_tries(model::run& r) {
  auto& s = make_state(r, 0);
  auto& left = r.make<int>(1);
  r.spawn([&] { s.fill_and_release(); });
  r.spawn([&] {
    if (!s.s.try_acquire()) return;
    s.expect_filled();
    --left;
  });
  r.finally([&] { s.check_left(left); });
}

// The deadline comes at any moment.
void one_gives_up(model::run& r) {
  auto& s = make_state(r, 0);
  auto& left = r.make<int>(1);
  r.spawn([&] { s.fill_and_release(); });
  r.spawn([&] {
    if (!s.s.acquire_until(steady_time{})) return;
    s.expect_filled();
    --left;
  });
  r.finally([&] { s.check_left(left); });
}

// Who got the last permit destroys it.
void destroyed_after_a_wait(model::run& r) {
  auto& s = make_state(r, 0);
  r.spawn([&] { s.release(); });
  r.spawn([&] {
    s.s.acquire();
    model::end_of_primitive();
  });
}

void destroyed_after_a_try(model::run& r) {
  auto& s = make_state(r, 0);
  r.spawn([&] { s.release(); });
  r.spawn([&] {
    if (s.s.try_acquire()) model::end_of_primitive();
  });
}

void destroyed_after_giving_up(model::run& r) {
  auto& s = make_state(r, 0);
  r.spawn([&] { s.release(); });
  r.spawn([&] {
    if (!s.s.acquire_until(steady_time{})) s.s.acquire();
    model::end_of_primitive();
  });
}

// One permit goes to the waiter, the other to whoever comes.
void two_released_for_one(model::run& r) {
  auto& s = make_state(r, 0);
  auto& listed = r.make<semaphore::node>();
  auto& left = r.make<int>(1);
  model::check(s.s.enqueue(listed), "not listed");
  r.spawn([&] {
    s.data.set(1);
    s.release(2);
  });
  r.spawn([&] {
    if (!s.s.try_acquire()) return;
    s.expect_filled();
    --left;
  });
  r.finally([&] { s.check_left(left); });
}

// The only permit goes to one of two, of whom one is about to wait.
void one_enqueues(model::run& r) {
  auto& s = make_state(r, 1);
  auto& listed = r.make<semaphore::node>();
  auto& left = r.make<int>(1);
  r.spawn([&] { left -= !s.s.enqueue(listed); });
  r.spawn([&] { left -= s.s.try_acquire(); });
  r.finally([&] {
    model::check(left == 0, "a permit was lost or doubled");
    s.check_left(0);
  });
}

// The release saw a waiter, which gives up and releases something itself.
void one_gives_up_and_releases(model::run& r) {
  auto& s = make_state(r, 0);
  auto& left = r.make<int>(0);
  r.spawn([&] { s.release(); });
  r.spawn([&] {
    if (s.s.acquire_until(steady_time{})) return;
    s.release();
    left = 2;
  });
  r.finally([&] { s.check_left(left); });
}

// Used as a mutex: a permit comes back and is taken again.
void as_mutex(model::run& r) {
  auto& s = make_state(r, 1);
  for (int i = 0; i < 2; ++i)
    r.spawn([&] {
      s.s.acquire();
      s.data.set(s.data.get() + 1);
      s.release();
    });
  r.finally([&] {
    s.check_left(1);
    model::check(s.data.get() == 2, "an update was lost");
  });
}

void two_wait_and_one_gives_up(model::run& r) {
  auto& s = make_state(r, 0);
  auto& listed = r.make<semaphore::node>();
  auto& left = r.make<int>(1);
  model::check(s.s.enqueue(listed), "not listed");
  r.spawn([&] {
    s.release();
    s.release();
  });
  r.spawn([&] { left -= s.s.acquire_until(steady_time{}); });
  r.spawn([&] { listed.wait(); });
  r.finally([&] { s.check_left(left); });
}

std::vector<model::scenario> scenarios() {
  return {
      {"one waits", "E1", {}, one_waits},
      {"one tries", "E1", {}, one_tries},
      {"one gives up", "E1", {}, one_gives_up},
      {"two released for one", "E1", {}, two_released_for_one},
      {"as mutex", "E1", {}, as_mutex},
      {"one enqueues", "", {}, one_enqueues},
      {"gives up, releases", "", {}, one_gives_up_and_releases},
      {"destroyed: wait", "", {}, destroyed_after_a_wait},
      {"destroyed: try", "", {}, destroyed_after_a_try},
      {"destroyed: give up", "", {}, destroyed_after_giving_up},
      {"one of two gives up", "", {}, two_wait_and_one_gives_up},
  };
}

TEST(CountingSemaphore, LosesNoPermitAndEachEdgeIsNeeded) {
  model::expect_edges_are_needed("counting_semaphore.hpp",
                                 "class semaphore_core {", scenarios());
}

}  // namespace
