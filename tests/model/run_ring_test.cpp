// SPDX-License-Identifier: BSL-1.0
//
// run_ring of detail/run_queue.hpp under every interleaving: each runnable is
// taken once, in order, by somebody who sees its contents, and no order in
// the header is idle.
#include <activations/detail/run_queue.hpp>

#include <gtest/gtest.h>

#include "model/atomics.hpp"
#include "model/item.hpp"
#include "model/mutation.hpp"

namespace {

namespace model = activations::model;
using activations::model::item;
using activations::model::take;

template <std::uint32_t Capacity>
struct state {
  using ring = activations::detail::run_ring<model::atomics, Capacity>;
  ring own;
  ring others[2];
  item items[6];
  int pushed = 0;  // by the owner

  void push() {
    if (own.push(items[pushed].fill(pushed + 1))) ++pushed;
  }
  void steal(int thief, bool drain = true) {
    activations::detail::runnable* first = nullptr;
    if (own.steal_into(others[thief], first) > 0) take(first);
    if (drain)
      while (take(others[thief].pop()) != nullptr) {
      }
  }
  void finish() {
    while (take(own.pop()) != nullptr) {
    }
    for (auto& ring : others)
      while (take(ring.pop()) != nullptr) {
      }
    for (int i = 0; i < pushed; ++i)
      model::check(items[i].taken == 1, "a runnable was lost");
  }
};

// The owner pops while thieves take half.
template <int Thieves>
void shared(model::run& r) {
  auto& s = r.make<state<4>>();
  r.spawn([&] {
    s.push();
    s.push();
    s.push();
    take(s.own.pop());
    take(s.own.pop());
  });
  for (int i = 0; i < Thieves; ++i) r.spawn([&, i] { s.steal(i); });
  r.finally([&] { s.finish(); });
}

// Slots are used again.
void reuse(model::run& r) {
  auto& s = r.make<state<2>>();
  r.spawn([&] {
    s.push();
    s.push();
    s.push();
    take(s.own.pop());
    s.push();
  });
  r.spawn([&] {
    s.steal(0);
    s.steal(0);
  });
  r.finally([&] { s.finish(); });
}

// A thief whose own ring is stolen from, and whose slots are used again.
void stolen_again(model::run& r) {
  auto& s = r.make<state<4>>();
  // The thief's ring starts at an odd place, so that its slots come round.
  for (int i = 0; i < 3; ++i) {
    model::check(s.others[0].push(s.items[5].fill(9)), "full");
    (void)s.others[0].pop();
  }
  r.spawn([&] {
    for (int i = 0; i < 3; ++i) s.push();
  });
  r.spawn([&] {
    s.steal(0, false);
    s.steal(0, false);
    take(s.others[0].pop());
  });
  r.spawn([&] {
    activations::detail::runnable* got = nullptr;
    if (s.others[0].steal_into(s.others[1], got) > 0) take(got);
  });
  r.finally([&] { s.finish(); });
}

// One thread's takes are in the order of the pushes.
void in_order(model::run& r) {
  auto& s = r.make<state<4>>();
  r.spawn([&] {
    s.push();
    s.push();
    auto* const one = take(s.own.pop());
    s.push();
    auto* const two = take(s.own.pop());
    model::check(one == nullptr || two == nullptr || one < two,
                 "popped out of order");
  });
  r.spawn([&] {
    activations::detail::runnable* got = nullptr;
    if (s.own.steal_into(s.others[0], got) == 0) return;
    auto* before = take(got);
    while (auto* const next = take(s.others[0].pop())) {
      model::check(before < next, "stolen out of order");
      before = next;
    }
  });
  r.finally([&] { s.finish(); });
}

enum class look { steal, is_empty, move };

// The ring of one that lost its processor moves over to its successor, while
// its owner goes on for a while.
void adopted(model::run& r, int thieves) {
  auto& s = r.make<state<4>>();
  r.spawn([&] {
    s.push();
    s.push();
    take(s.own.pop());
    s.push();
  });
  r.spawn([&] {
    for (int i = 0; i < 2; ++i)
      if (s.own.move_into(s.others[0]) > 0)
        while (take(s.others[0].pop()) != nullptr) {
        }
  });
  for (int i = 0; i < thieves; ++i)
    r.spawn([&] {
      activations::detail::runnable* got = nullptr;
      if (s.others[0].steal_into(s.others[1], got) > 0) take(got);
    });
  r.finally([&] { s.finish(); });
}

// Its slots are used again afterwards.
void adopted_and_reused(model::run& r) {
  auto& s = r.make<state<2>>();
  r.spawn([&] {
    for (int i = 0; i < 4; ++i) s.push();
  });
  r.spawn([&] {
    if (s.own.move_into(s.others[0]) > 0)
      while (take(s.others[0].pop()) != nullptr) {
      }
  });
  r.finally([&] { s.finish(); });
}

// A batch arrives while a thief looks.
void batch(model::run& r) {
  auto& s = r.make<state<4>>();
  s.pushed = 2;
  r.spawn([&] {
    auto* const chain = s.items[0].fill(1);
    chain->next = s.items[1].fill(2);
    s.own.append(chain, 2, std::memory_order::release);
  });
  r.spawn([&] { s.steal(0); });
  r.finally([&] { s.finish(); });
}

// Either the pusher sees the idle thief, or the thief sees the runnable.
void sleeping_thief(model::run& r, look how) {
  auto& s = r.make<state<2>>();
  auto& idle = r.make<model::atomic<int>>(0);
  auto& slept = r.make<bool>(false);
  auto& woke = r.make<bool>(false);
  r.spawn([&] {
    model::check(s.own.push(s.items[0].fill(1), std::memory_order::seq_cst),
                 "full");
    ++s.pushed;
    woke = idle.load(std::memory_order::seq_cst) != 0;
  });
  r.spawn([&, how] {
    idle.store(1, std::memory_order::seq_cst);
    if (how == look::is_empty) {
      slept = s.own.is_empty();
      return;
    }
    if (how == look::move) {
      slept = s.own.move_into(s.others[0]) == 0;
      return;
    }
    activations::detail::runnable* got = nullptr;
    slept = s.own.steal_into(s.others[0], got) == 0;
    take(got);
  });
  r.finally([&] {
    model::check(!slept || woke, "a thief sleeps beside a runnable");
    s.finish();
  });
}

// The same for what a thief leaves in its own ring, and for a batch.
enum class source { steal, batch, move };

void sleeping_second_thief(model::run& r, source from) {
  auto& s = r.make<state<4>>();
  auto& idle = r.make<model::atomic<int>>(0);
  auto& slept = r.make<bool>(false);
  auto& woke = r.make<bool>(false);
  for (int i = 0; i < 3; ++i) s.push();
  r.spawn([&, from] {
    activations::detail::runnable* got = nullptr;
    if (from == source::batch) {
      auto* const chain = s.items[3].fill(4);
      chain->next = s.items[4].fill(5);
      s.pushed = 5;
      s.others[0].append(chain, 2, std::memory_order::seq_cst);
    } else if (from == source::move) {
      model::check(
          s.own.move_into(s.others[0], std::memory_order::seq_cst) == 3,
          "not all of it");
    } else {
      model::check(
          s.own.steal_into(s.others[0], got, std::memory_order::seq_cst) == 2,
          "not the half");
      take(got);
    }
    woke = idle.load(std::memory_order::seq_cst) != 0;
  });
  r.spawn([&] {
    idle.store(1, std::memory_order::seq_cst);
    activations::detail::runnable* got = nullptr;
    slept = s.others[0].steal_into(s.others[1], got) == 0;
    take(got);
  });
  r.finally([&] {
    model::check(!slept || woke, "a thief sleeps beside a runnable");
    s.finish();
  });
}

std::vector<model::scenario> scenarios() {
  model::options future;
  future.future_reads = 1;
  model::options weak;
  weak.spurious = 1;
  return {
      {"sleeping thief", "E3", future,
       [](model::run& r) { sleeping_thief(r, look::steal); }},
      {"thief that looks", "E3", future,
       [](model::run& r) { sleeping_thief(r, look::is_empty); }},
      {"second thief", "E3", future,
       [](model::run& r) { sleeping_second_thief(r, source::steal); }},
      {"second thief, batch", "E3", future,
       [](model::run& r) { sleeping_second_thief(r, source::batch); }},
      {"successor that looks", "E3", future,
       [](model::run& r) { sleeping_thief(r, look::move); }},
      {"second thief, moved", "E3", future,
       [](model::run& r) { sleeping_second_thief(r, source::move); }},
      {"batch", "E1 E2", future, batch},
      {"adopted", "E1 E2", future, [](model::run& r) { adopted(r, 0); }},
      {"adopted and stolen", "E1 E2", future,
       [](model::run& r) { adopted(r, 1); }},
      {"adopted and reused", "E1 E2", future, adopted_and_reused},
      {"one thief", "E1 E2", future, shared<1>},
      {"spurious failures", "E1 E2", weak, shared<1>},
      {"reuse", "E1 E2", future, reuse},
      {"stolen again", "E1 E2", future, stolen_again},
      {"in order", "E1 E2", future, in_order},
      {"two thieves", "E1 E2", future, shared<2>},
  };
}

TEST(RunRing, EachRunnableIsTakenOnceAndEachEdgeIsNeeded) {
  model::expect_edges_are_needed("run_queue.hpp", "class run_ring {",
                                 scenarios());
}

}  // namespace
