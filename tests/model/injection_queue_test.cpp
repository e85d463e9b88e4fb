// SPDX-License-Identifier: BSL-1.0
//
// injection_queue of detail/run_queue.hpp under every interleaving: each
// runnable is taken once, in order where takers do not overlap, by somebody
// who sees its contents, and no order in the header is idle.
#include <activations/detail/run_queue.hpp>

#include <gtest/gtest.h>

#include "model/atomics.hpp"
#include "model/item.hpp"
#include "model/mutation.hpp"

namespace {

namespace model = activations::model;
using activations::detail::runnable;
using activations::model::item;
using activations::model::take;

struct state {
  activations::detail::injection_queue<model::atomics> queue;
  activations::detail::run_ring<model::atomics, 2> rings[3];
  item items[6];
  bool ordered = false;

  void push(int i) { queue.push(items[i].fill(i + 1)); }

  // One take of at most `limit`; runs what it got. Returns the last one.
  item* take_some(int taker, std::size_t limit) {
    runnable* first = nullptr;
    auto const n = queue.take_into(rings[taker], first, limit);
    if (n == 0) return nullptr;
    item* last = take(first);
    for (std::size_t i = 1; i < n; ++i) {
      auto* const next = take(rings[taker].pop());
      model::check(next != nullptr, "counted more than it gave");
      if (ordered) model::check(next > last, "out of order");
      last = next;
    }
    return last;
  }

  void finish(int pushed) {
    while (take_some(2, 3) != nullptr) {
    }
    model::check(queue.is_empty(), "not empty in the end");
    for (int i = 0; i < pushed; ++i)
      model::check(items[i].taken == 1, "a runnable was lost");
  }
};

void pushers_and_taker(model::run& r) {
  auto& s = r.make<state>();
  r.spawn([&] { s.push(0); });
  r.spawn([&] {
    s.push(1);
    s.push(2);
  });
  r.spawn([&] { s.take_some(0, 2); });
  r.finally([&] { s.finish(3); });
}

// What one taker puts back another takes.
void takers(model::run& r, std::size_t limit) {
  auto& s = r.make<state>();
  r.spawn([&] {
    s.push(0);
    s.push(1);
    s.push(2);
  });
  for (int i = 0; i < 2; ++i)
    r.spawn([&, i, limit] {
      s.take_some(i, limit);
      s.take_some(i, limit);
    });
  r.finally([&] { s.finish(3); });
}

// Two takers put back at once.
void put_back_twice(model::run& r) {
  auto& s = r.make<state>();
  for (int i = 0; i < 3; ++i) s.push(i);
  r.spawn([&] {
    s.push(3);
    s.push(4);
  });
  for (int i = 0; i < 2; ++i) r.spawn([&, i] { s.take_some(i, 1); });
  r.finally([&] { s.finish(5); });
}

void one_taker_keeps_the_order(model::run& r) {
  auto& s = r.make<state>();
  s.ordered = true;
  r.spawn([&] {
    s.push(0);
    for (int i = 1; i < 3; ++i) s.items[i].fill(i + 1);
    s.items[1].next = &s.items[2];
    s.items[2].next = nullptr;
    s.queue.push_all(&s.items[1]);
    s.push(3);
  });
  r.spawn([&] {
    item* before = nullptr;
    for (int i = 0; i < 3; ++i) {
      auto* const last = s.take_some(0, 2);
      model::check(last == nullptr || before < last, "out of order");
      if (last != nullptr) before = last;
    }
  });
  r.finally([&] { s.finish(4); });
}

enum class event { push, put_back, rest };

// Either who makes work available sees the idle thread, or that one sees it.
void sleeper(model::run& r, event what) {
  auto& s = r.make<state>();
  auto& idle = r.make<model::atomic<int>>(0);
  auto& slept = r.make<bool>(false);
  auto& woke = r.make<bool>(false);
  auto& pushed = r.make<int>(1);
  if (what != event::push) {
    for (int i = 0; i < 3; ++i) s.push(i);
    pushed = 3;
  }
  r.spawn([&, what] {
    runnable* first = nullptr;
    if (what == event::push) {
      s.push(0);
    } else {
      auto const n =
          s.queue.take_into(s.rings[0], first, what == event::rest ? 3 : 1,
                            std::memory_order::seq_cst);
      model::check(n == (what == event::rest ? 3u : 1u), "took another number");
    }
    woke = idle.load(std::memory_order::seq_cst) != 0;
    take(first);
  });
  r.spawn([&] {
    idle.store(1, std::memory_order::seq_cst);
    runnable* first = nullptr;
    // What a taker has in its hands is told of when it is out of them.
    slept = s.queue.is_empty();
    if (slept) slept = s.rings[0].steal_into(s.rings[1], first) == 0;
    take(first);
  });
  r.finally([&] {
    model::check(!slept || woke, "a thread sleeps beside a runnable");
    for (auto& ring : s.rings)
      while (take(ring.pop()) != nullptr) {
      }
    s.finish(pushed);
  });
}

std::vector<model::scenario> scenarios() {
  model::options future;
  future.future_reads = 1;
  model::options weak;
  weak.spurious = 1;
  return {
      {"sleeper, push", "E3", future,
       [](model::run& r) { sleeper(r, event::push); }},
      {"sleeper, put back", "E3", future,
       [](model::run& r) { sleeper(r, event::put_back); }},
      {"sleeper, rest", "", future,
       [](model::run& r) { sleeper(r, event::rest); }},
      {"pushers and taker", "E1 E2", future, pushers_and_taker},
      {"spurious failures", "E1 E2", weak, pushers_and_taker},
      {"order", "E1 E2", future, one_taker_keeps_the_order},
      {"put back twice", "E1 E2", future, put_back_twice},
      {"takers of one", "E1 E2", future, [](model::run& r) { takers(r, 1); }},
      {"takers of two", "E1 E2", future, [](model::run& r) { takers(r, 2); }},
  };
}

TEST(InjectionQueue, EachRunnableIsTakenOnceAndEachEdgeIsNeeded) {
  model::expect_edges_are_needed("run_queue.hpp", "class injection_queue {",
                                 scenarios());
}

}  // namespace
