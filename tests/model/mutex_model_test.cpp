// SPDX-License-Identifier: BSL-1.0
//
// detail/mutex_core.hpp under every interleaving: one thread at a time is
// inside and sees what the others did, no waiter is forgotten (that would be a
// deadlock), the last to unlock may destroy it, and no order in the header is
// idle.

// The mutexes are not destroyed in the way that their destructor expects.
#define ACTIVATIONS_NO_ASSERT
#include <activations/detail/mutex_core.hpp>

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <utility>
#include <vector>

#include "model/atomics.hpp"
#include "model/mutation.hpp"
#include "model/wait_seam.hpp"

namespace {

namespace model = activations::model;
using activations::detail::steady_time;

struct no_owner {
  void set_to_caller() noexcept {}
  void set_to_absent() noexcept {}
  void clear() noexcept {}
  bool is_caller() const noexcept { return true; }
  bool may_be_running() const noexcept { return true; }
};

struct seam : model::wait_seam {
  using owner = no_owner;
  static constexpr int spin_turns = 0;
  // So that whoever was called and finds it locked is due.
  static constexpr std::chrono::nanoseconds overtaking_limit{0};
  static steady_time now() noexcept { return {}; }
};

using mutex = activations::detail::mutex_core<seam>;

struct state {
  mutex m;
  model::plain<int> count{0};

  void add() { count.set(count.get() + 1); }
  void lock_add_unlock() {
    m.lock();
    add();
    m.unlock();
  }
  bool timed_lock_add_unlock() {
    if (!m.lock_until(steady_time{})) return false;
    add();
    m.unlock();
    return true;
  }
  void lock_as_task() {
    if (m.try_lock_task()) return;
    mutex::node node;
    if (m.enqueue_task(node)) node.wait();
  }
  void task_lock_add_unlock() {
    lock_as_task();
    add();
    m.unlock();
  }
};

state& make_state(model::run& r) {
  model::make_wait_words(r);
  return r.make<state>();
}

void check_end(state& s, int expected) {
  model::check(s.count.get() == expected, "an update was lost");
  model::check(s.m.try_lock(), "it is locked though nobody is left");
}

void lockers(model::run& r, int count) {
  auto& s = make_state(r);
  for (int i = 0; i < count; ++i) r.spawn([&] { s.lock_add_unlock(); });
  r.finally([&s, count] { check_end(s, count); });
}

void try_locker(model::run& r) {
  auto& s = make_state(r);
  auto& expected = r.make<int>(1);
  r.spawn([&] { s.lock_add_unlock(); });
  r.spawn([&] {
    if (!s.m.try_lock()) return;
    s.add();
    s.m.unlock();
    ++expected;
  });
  r.finally([&] { check_end(s, expected); });
}

void timed_locker(model::run& r, int others) {
  auto& s = make_state(r);
  auto& expected = r.make<int>(others);
  for (int i = 0; i < others; ++i) r.spawn([&] { s.lock_add_unlock(); });
  r.spawn([&] { expected += s.timed_lock_add_unlock(); });
  r.finally([&] { check_end(s, expected); });
}

void tasks(model::run& r, int others) {
  auto& s = make_state(r);
  for (int i = 0; i < others; ++i) r.spawn([&] { s.lock_add_unlock(); });
  r.spawn([&] { s.task_lock_add_unlock(); });
  r.finally([&s, others] { check_end(s, 1 + others); });
}

// One thread overtakes the other, but not when it waits for the second time:
// then it is due, and the next unlock gives it the mutex.
void overtaken(model::run& r) {
  auto& s = make_state(r);
  auto& node = r.make<mutex::node>();
  auto& is_inside = r.make<bool>(false);
  s.m.lock();
  s.m.requeue(node);
  r.spawn([&] {
    node.wait();
    s.m.lock_after(node);
    is_inside = true;
    s.add();
    s.m.unlock();
  });
  r.spawn([&] {
    bool was_due = false;
    for (int i = 0; i < 2; ++i) {
      s.m.unlock();
      s.m.lock();
      model::check(!was_due || is_inside, "overtaken when it was due");
      was_due = model::waits_of(0) > 1;
      s.add();
    }
    s.m.unlock();
  });
  r.finally([&] { check_end(s, 3); });
}

// What condition_variable does: a waiter, which had the mutex at the start, is
// notified under the lock or without it.
void requeued(model::run& r, bool under_lock, bool as_task, bool third) {
  auto& s = make_state(r);
  auto& node = r.make<mutex::node>();
  node.is_due = as_task;
  s.m.lock();
  r.spawn([&s, &node, as_task] {
    s.m.unlock();
    node.wait();
    if (!as_task) s.m.lock_after(node);
    s.add();
    s.m.unlock();
  });
  r.spawn([&s, &node, under_lock] {
    if (under_lock) s.m.lock();
    s.m.requeue(node);
    if (under_lock) s.m.unlock();
  });
  if (third) r.spawn([&] { s.lock_add_unlock(); });
  r.finally([&s, third] { check_end(s, 1 + third); });
}

// The last to unlock it destroys it.
void destroyed(model::run& r, bool timed, bool as_task) {
  auto& s = make_state(r);
  s.count.set(2);  // users
  auto leave = [&s] {
    bool const is_last = s.count.get() == 1;
    s.count.set(s.count.get() - 1);
    s.m.unlock();
    if (is_last) model::end_of_primitive();
  };
  r.spawn([&s, leave] {
    s.m.lock();
    leave();
  });
  r.spawn([&s, leave, timed, as_task] {
    if (as_task)
      s.lock_as_task();
    else if (!timed || !s.m.lock_until(steady_time{}))
      s.m.lock();
    leave();
  });
}

// An unlock that calls a waiter, who does not come, lets others in as well.
void overtaking(model::run& r) {
  auto& s = make_state(r);
  auto& node = r.make<mutex::node>();
  s.m.lock();
  s.m.requeue(node);
  r.spawn([&] {
    s.add();
    s.m.unlock();
  });
  r.spawn([&] {
    if (!s.m.try_lock()) return;
    s.add();
    s.m.unlock();
  });
  r.finally([&] {
    model::check(node.outcome == mutex::result::turn, "nobody was called");
  });
}

// The unlock finds that the waiter that it saw has given up.
void gives_up_and_comes_back(model::run& r) {
  auto& s = make_state(r);
  s.m.lock();
  r.spawn([&] {
    s.add();
    s.m.unlock();
  });
  r.spawn([&] {
    if (!s.timed_lock_add_unlock()) s.lock_add_unlock();
  });
  r.finally([&] { check_end(s, 2); });
}

// One finds it free and loses it to the other, who was there before.
void locks_again(model::run& r) {
  auto& s = make_state(r);
  s.m.lock();
  r.spawn([&] {
    s.m.unlock();
    s.lock_add_unlock();
  });
  r.spawn([&] { s.lock_add_unlock(); });
  r.finally([&] { check_end(s, 2); });
}

// A task's waiter may find the mutex free and so get it at once.
void requeued_to_a_free_mutex(model::run& r) {
  auto& s = make_state(r);
  r.spawn([&] { s.lock_add_unlock(); });
  r.spawn([&] {
    mutex::node node;
    node.is_due = true;
    s.m.requeue(node);
    node.wait();
    s.add();
    s.m.unlock();
  });
  r.finally([&] { check_end(s, 2); });
}

std::vector<model::scenario> scenarios() {
  using model::run;
  return {
      {"two lockers", "E1", {}, [](run& r) { lockers(r, 2); }},
      {"a try_lock", "E1", {}, try_locker},
      {"timed", "E1", {}, [](run& r) { timed_locker(r, 1); }},
      {"task", "E1", {}, [](run& r) { tasks(r, 1); }},
      {"overtaking", "E1", {}, overtaking},
      {"gives up, comes back", "E1", {}, gives_up_and_comes_back},
      {"locks again", "", {}, locks_again},
      {"to a free mutex", "E3", {}, requeued_to_a_free_mutex},
      {"requeued", "", {}, [](run& r) { requeued(r, false, false, false); }},
      {"  under the lock",
       "",
       {},
       [](run& r) { requeued(r, true, false, false); }},
      {"  a task", "", {}, [](run& r) { requeued(r, false, true, false); }},
      {"  both", "", {}, [](run& r) { requeued(r, true, true, false); }},
      {"destroyed", "", {}, [](run& r) { destroyed(r, false, false); }},
      {"  by a task", "", {}, [](run& r) { destroyed(r, false, true); }},
  };
}

TEST(Mutex, ExcludesAndForgetsNobodyAndEachEdgeIsNeeded) {
  model::expect_edges_are_needed("mutex_core.hpp", "class mutex_core {",
                                 scenarios());
}

// These have too many interleavings to try all.
TEST(Mutex, HoldsInTheFirstInterleavingsOfLongerScenarios) {
  model::options some;
  some.max_executions = 50'000;
  for (auto const& body : std::vector<std::function<void(model::run&)>>{
           overtaken, [](model::run& r) { destroyed(r, true, false); },
           [](model::run& r) { lockers(r, 3); },
           [](model::run& r) { timed_locker(r, 2); },
           [](model::run& r) { tasks(r, 2); },
           [](model::run& r) { requeued(r, false, false, true); },
           [](model::run& r) { requeued(r, true, true, true); }}) {
    auto const found = model::explore(some, body);
    EXPECT_TRUE(found.violation.empty()) << found.report;
  }
}

}  // namespace
