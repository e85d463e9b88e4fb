// SPDX-License-Identifier: BSL-1.0
//
// The algorithm of latch.hpp under every interleaving: who has waited sees what
// was done before each count_down and may destroy the latch, nobody is
// forgotten, and no order in the header is idle.

// The latches are not destroyed in the way that their destructor expects.
#define ACTIVATIONS_NO_ASSERT
#include <activations/latch.hpp>

#include <gtest/gtest.h>

#include <vector>

#include "model/atomics.hpp"
#include "model/mutation.hpp"
#include "model/wait_seam.hpp"

namespace {

namespace model = activations::model;
using latch = activations::detail::latch_core<model::wait_seam>;

struct state {
  explicit state(int count) : gate(count) {}

  latch gate;
  model::plain<int> data[2];

  void fill_and_count_down(int me) {
    data[me].set(1);
    gate.count_down(1);
  }
  void expect_filled(int count) {
    for (int i = 0; i < count; ++i)
      model::check(data[i].get() == 1, "not filled");
  }
};

state& make_state(model::run& r, int count) {
  model::make_wait_words(r);
  return r.make<state>(count);
}

void one_waits(model::run& r) {
  auto& s = make_state(r, 1);
  r.spawn([&] { s.fill_and_count_down(0); });
  r.spawn([&] {
    s.gate.wait();
    model::end_of_primitive();
    s.expect_filled(1);
  });
}

void one_looks(model::run& r) {
  auto& s = make_state(r, 1);
  r.spawn([&] { s.fill_and_count_down(0); });
  r.spawn([&] {
    if (!s.gate.try_wait()) return;
    model::end_of_primitive();
    s.expect_filled(1);
  });
}

// There is somebody to let go, and another looks.
void one_waits_and_one_looks(model::run& r) {
  auto& s = make_state(r, 1);
  auto& listed = r.make<latch::waiter>();
  model::check(s.gate.enqueue(listed), "not listed");
  r.spawn([&] { s.fill_and_count_down(0); });
  r.spawn([&] {
    if (s.gate.try_wait()) s.expect_filled(1);
  });
}

void two_count_down(model::run& r) {
  auto& s = make_state(r, 2);
  r.spawn([&] { s.fill_and_count_down(0); });
  r.spawn([&] { s.fill_and_count_down(1); });
  r.spawn([&] {
    s.gate.wait();
    model::end_of_primitive();
    s.expect_filled(2);
  });
}

void two_count_down_for_one_who_waits(model::run& r) {
  auto& s = make_state(r, 2);
  auto& listed = r.make<latch::waiter>();
  model::check(s.gate.enqueue(listed), "not listed");
  r.spawn([&] { s.fill_and_count_down(0); });
  r.spawn([&] { s.fill_and_count_down(1); });
  r.spawn([&] {
    listed.wait();
    model::end_of_primitive();
    s.expect_filled(2);
  });
}

// Either may be the one who destroys it.
void two_arrive_and_wait(model::run& r) {
  auto& s = make_state(r, 2);
  for (int me = 0; me < 2; ++me)
    r.spawn([&s, me] {
      s.data[me].set(1);
      s.gate.arrive_and_wait(1);
      model::end_of_primitive();
      s.expect_filled(2);
    });
}

void one_arrives_and_one_counts_down(model::run& r) {
  auto& s = make_state(r, 2);
  r.spawn([&] { s.fill_and_count_down(0); });
  r.spawn([&] {
    s.data[1].set(1);
    s.gate.arrive_and_wait(1);
    model::end_of_primitive();
    s.expect_filled(2);
  });
}

// The last to arrive has somebody to let go, and another looks.
void one_arrives_and_one_looks(model::run& r) {
  auto& s = make_state(r, 1);
  r.spawn([&] {
    s.data[0].set(1);
    s.gate.arrive_and_wait(1);
  });
  r.spawn([&] {
    if (!s.gate.try_wait()) return;
    model::end_of_primitive();
    s.expect_filled(1);
  });
}

std::vector<model::scenario> scenarios() {
  return {
      {"one waits", "E1", {}, one_waits},
      {"one looks", "E1", {}, one_looks},
      {"one waits, one looks", "E1", {}, one_waits_and_one_looks},
      {"one arrives, one looks", "E1", {}, one_arrives_and_one_looks},
      {"two arrive", "E1 E2", {}, two_arrive_and_wait},
      {"arrive, count down", "E1 E2", {}, one_arrives_and_one_counts_down},
      {"two for a waiter", "E2", {}, two_count_down_for_one_who_waits},
      {"two count down", "E1 E2", {}, two_count_down},
  };
}

TEST(Latch, ForgetsNobodyAndEachEdgeIsNeeded) {
  model::expect_edges_are_needed("latch.hpp", "class latch_core {",
                                 scenarios());
}

}  // namespace
