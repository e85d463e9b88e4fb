// SPDX-License-Identifier: BSL-1.0
//
// The algorithm of barrier.hpp under every interleaving: nobody goes on before
// all have arrived and the completion function has run, all see what it and
// the others did, the last to wait may destroy the barrier, nobody is
// forgotten, and no order in the header is idle.

// The barriers are not destroyed in the way that their destructor expects.
#define ACTIVATIONS_NO_ASSERT
#include <activations/barrier.hpp>

#include <gtest/gtest.h>

#include <vector>

#include "model/atomics.hpp"
#include "model/mutation.hpp"
#include "model/wait_seam.hpp"

namespace {

namespace model = activations::model;

struct results {
  model::plain<int> part[2];
  model::plain<int> sum{0};
};

struct sum_up {
  results* all;
  void operator()() noexcept {
    all->sum.set(all->part[0].get() + all->part[1].get());
  }
};

using barrier = activations::detail::barrier_core<sum_up, model::wait_seam>;

struct state : results {
  barrier line{2, sum_up{this}};

  void work(int me, int value) {
    part[me].set(value);
    line.arrive_and_wait();
    model::check(sum.get() == 2 * value, "the sum of another phase");
  }
};

state& make_state(model::run& r) {
  model::make_wait_words(r);
  return r.make<state>();
}

void one_phase(model::run& r) {
  auto& s = make_state(r);
  for (int me = 0; me < 2; ++me)
    r.spawn([&s, me] {
      s.work(me, 1);
      model::end_of_primitive();
    });
}

// Who reads the sum reads before the next phase changes it.
void two_phases(model::run& r) {
  auto& s = make_state(r);
  for (int me = 0; me < 2; ++me)
    r.spawn([&s, me] {
      s.work(me, 1);
      s.line.arrive_and_wait();
      s.work(me, 2);
    });
}

// One arrives first and waits later; the other does not wait.
void with_a_token(model::run& r) {
  auto& s = make_state(r);
  r.spawn([&] {
    s.part[0].set(1);
    auto const phase = s.line.arrive(1);
    s.line.wait(phase);
    model::end_of_primitive();
    model::check(s.sum.get() == 2, "not the sum");
  });
  r.spawn([&] {
    s.part[1].set(1);
    (void)s.line.arrive(1);
  });
}

// The next phase is complete with one arrival.
void one_drops_out(model::run& r) {
  auto& s = make_state(r);
  r.spawn([&] {
    s.part[0].set(1);
    s.line.arrive_and_wait();
    s.line.arrive_and_wait();
    model::end_of_primitive();
  });
  r.spawn([&] {
    s.part[1].set(1);
    s.line.arrive_and_drop();
  });
}

std::vector<model::scenario> scenarios() {
  return {
      {"one phase", "E1", {}, one_phase},
      {"with a token", "E1 E2", {}, with_a_token},
      {"one drops out", "E1", {}, one_drops_out},
  };
}

TEST(Barrier, ForgetsNobodyAndEachEdgeIsNeeded) {
  model::expect_edges_are_needed("barrier.hpp", "class barrier_core {",
                                 scenarios());
}

// Two phases have too many interleavings to try all.
TEST(Barrier, HoldsInTheFirstInterleavingsOfTwoPhases) {
  model::options some;
  some.max_executions = 200'000;
  auto const found = model::explore(some, two_phases);
  EXPECT_TRUE(found.violation.empty()) << found.report;
}

}  // namespace
