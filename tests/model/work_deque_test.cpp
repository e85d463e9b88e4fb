// SPDX-License-Identifier: BSL-1.0
//
// detail/work_deque.hpp under every interleaving: each job is taken once, by
// somebody who sees its contents, and no order in the header is idle.
#include <activations/detail/work_deque.hpp>

#include <gtest/gtest.h>

#include "model/atomics.hpp"
#include "model/item.hpp"
#include "model/mutation.hpp"

namespace {

namespace model = activations::model;
using activations::model::item;
using activations::model::take;

using deque = activations::detail::work_deque<model::atomics, 2>;

struct state {
  deque jobs;
  item items[4];

  // All that was pushed is taken in the end, once.
  void drain(int pushed) {
    while (take(jobs.pop()) != nullptr) {
    }
    for (int i = 0; i < pushed; ++i)
      model::check(items[i].taken == 1, "a job was lost");
  }
};

// The oldest of two, whether or not the owner took the other one back: no
// thief can be after the owner's.
void publish(model::run& r) {
  auto& s = r.make<state>();
  r.spawn([&] {
    model::check(s.jobs.push(s.items[0].fill(1)), "full");
    model::check(s.jobs.push(s.items[1].fill(2)), "full");
    take(s.jobs.pop());
  });
  r.spawn([&] { take(s.jobs.steal()); });
  r.finally([&] { s.drain(2); });
}

// The only job: the owner raises bottom_ again after it lost or won it.
void only_job(model::run& r) {
  auto& s = r.make<state>();
  r.spawn([&] {
    model::check(s.jobs.push(s.items[0].fill(1)), "full");
    take(s.jobs.pop());
  });
  r.spawn([&] { take(s.jobs.steal()); });
  r.finally([&] { s.drain(1); });
}

// The owner takes back what it pushed while others steal.
void push_push_pop_pop(model::run& r, int thieves) {
  auto& s = r.make<state>();
  r.spawn([&] {
    model::check(s.jobs.push(s.items[0].fill(1)), "full");
    model::check(s.jobs.push(s.items[1].fill(2)), "full");
    take(s.jobs.pop());
    take(s.jobs.pop());
  });
  for (int i = 0; i < thieves; ++i) r.spawn([&] { take(s.jobs.steal()); });
  r.finally([&] { s.drain(2); });
}

// Slots are used again, which only stealing makes room for.
void reuse(model::run& r) {
  auto& s = r.make<state>();
  auto& pushed = r.make<int>(2);
  r.spawn([&] {
    model::check(s.jobs.push(s.items[0].fill(1)), "full");
    model::check(s.jobs.push(s.items[1].fill(2)), "full");
    if (s.jobs.push(s.items[2].fill(3))) ++pushed;
    take(s.jobs.pop());
  });
  r.spawn([&] {
    take(s.jobs.steal());
    take(s.jobs.steal());
  });
  r.finally([&] { s.drain(pushed); });
}

void push_pop_push_pop(model::run& r) {
  auto& s = r.make<state>();
  r.spawn([&] {
    model::check(s.jobs.push(s.items[0].fill(1)), "full");
    take(s.jobs.pop());
    model::check(s.jobs.push(s.items[1].fill(2)), "full");
    take(s.jobs.pop());
  });
  r.spawn([&] { take(s.jobs.steal()); });
  r.spawn([&] { take(s.jobs.steal()); });
  r.finally([&] { s.drain(2); });
}

// Everything at once: longer, and thieves that come back.
void crowd(model::run& r) {
  auto& s = r.make<state>();
  auto& pushed = r.make<int>(2);
  r.spawn([&] {
    model::check(s.jobs.push(s.items[0].fill(1)), "full");
    model::check(s.jobs.push(s.items[1].fill(2)), "full");
    take(s.jobs.pop());
    if (s.jobs.push(s.items[2].fill(3))) ++pushed;
    take(s.jobs.pop());
  });
  r.spawn([&] {
    take(s.jobs.steal());
    take(s.jobs.steal());
  });
  r.spawn([&] { take(s.jobs.steal()); });
  r.finally([&] { s.drain(pushed); });
}

// Either the pusher sees the idle thief, or the thief sees the job.
void sleeping_thief(model::run& r, bool looks) {
  auto& s = r.make<state>();
  auto& idle = r.make<model::atomic<int>>(0);
  auto& slept = r.make<bool>(false);
  auto& woke = r.make<bool>(false);
  r.spawn([&] {
    model::check(s.jobs.push(s.items[0].fill(1), std::memory_order::seq_cst),
                 "full");
    woke = idle.load(std::memory_order::seq_cst) != 0;
  });
  r.spawn([&, looks] {
    idle.store(1, std::memory_order::seq_cst);
    slept = looks ? s.jobs.size() == 0 : take(s.jobs.steal()) == nullptr;
  });
  r.finally([&] {
    model::check(!slept || woke, "a thief sleeps beside a job");
    s.drain(1);
  });
}

model::options with_future_reads() {
  model::options o;
  o.future_reads = 1;
  return o;
}

std::vector<model::scenario> scenarios() {
  return {
      {"sleeping thief", "E4", with_future_reads(),
       [](model::run& r) { sleeping_thief(r, false); }},
      {"thief that looks", "E4", with_future_reads(),
       [](model::run& r) { sleeping_thief(r, true); }},
      {"publish", "E1", with_future_reads(), publish},
      {"only job", "E1", with_future_reads(), only_job},
      {"one thief", "E2", with_future_reads(),
       [](model::run& r) { push_push_pop_pop(r, 1); }},
      {"reuse", "E2 E3", with_future_reads(), reuse},
      {"push pop push pop", "E2", with_future_reads(), push_pop_push_pop},
      {"crowd", "E2", with_future_reads(), crowd},
      {"two thieves", "E2", with_future_reads(),
       [](model::run& r) { push_push_pop_pop(r, 2); }},
  };
}

TEST(WorkDeque, EachJobIsTakenOnceAndEachEdgeIsNeeded) {
  model::expect_edges_are_needed("work_deque.hpp", "class work_deque {",
                                 scenarios());
}

}  // namespace
