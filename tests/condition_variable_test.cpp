// SPDX-License-Identifier: BSL-1.0
#include <activations/condition_variable.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include <activations/mutex.hpp>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::condition_variable;
using activations::mutex;
using activations::task;

static_assert(noexcept(std::declval<condition_variable&>().notify_one()));
static_assert(noexcept(std::declval<condition_variable&>().notify_all()));

struct monitor {
  mutex m;
  condition_variable changed;
};

constinit condition_variable static_condition;

TEST(ConditionVariable, NotifyWithoutWaitersDoesNothing) {
  static_condition.notify_one();
  static_condition.notify_all();
}

TEST(ConditionVariable, NotifyOneWakesWhoHasWaitedLongest) {
  monitor at;
  std::size_t waiting = 0;
  std::vector<int> order;
  auto is = [&at](std::size_t& value, std::size_t expected) {
    std::lock_guard hold(at.m);
    return value == expected;
  };
  crew all;
  for (int i = 0; i < 6; ++i) {
    auto wait = [&, i](int) {
      std::unique_lock hold(at.m);
      ++waiting;
      at.changed.wait(hold);
      order.push_back(i);
      --waiting;
    };
    if (i % 3 == 2)
      all.tasks(1, [&, i](int) -> task<> {
        co_await at.m.async_lock();
        ++waiting;
        co_await at.changed.async_wait(at.m);
        order.push_back(i);
        --waiting;
        at.m.unlock();
      });
    else if (i % 3 == 1)
      all.user_threads(1, wait);
    else
      all.kernel_threads(1, wait);
    wait_until([&] { return is(waiting, static_cast<std::size_t>(i) + 1); });
  }
  for (std::size_t left = 6; left > 0; --left) {
    at.changed.notify_one();
    wait_until([&] { return is(waiting, left - 1); });
  }
  all.join();
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3, 4, 5}));
}

TEST(ConditionVariable, NotifyAllWakesAllWhoWait) {
  for (bool const under_lock : {false, true}) {
    monitor at;
    std::atomic<int> waiting{0};
    crew all;
    all.threads(3, [&](int) {
      std::unique_lock hold(at.m);
      ++waiting;
      at.changed.wait(hold);
      EXPECT_TRUE(hold.owns_lock());
    });
    all.tasks(3, [&](int) -> task<> {
      co_await at.m.async_lock();
      ++waiting;
      co_await at.changed.async_wait(at.m);
      at.m.unlock();
    });
    while (waiting < 9) std::this_thread::yield();
    std::unique_lock hold(at.m);  // so the last has started to wait
    if (!under_lock) hold.unlock();
    at.changed.notify_all();
  }
}

TEST(ConditionVariable, AWaitReturnsOnlyWhenItIsNotified) {
  monitor at;
  int waiting = 0;
  std::atomic<int> returned{0};
  crew all;
  all.threads(2, [&](int) {
    std::unique_lock hold(at.m);
    ++waiting;
    at.changed.wait(hold);
    ++returned;
  });
  wait_until([&] {
    std::lock_guard hold(at.m);
    return waiting == 4;
  });
  for (int i = 0; i < 4; ++i) {
    let_others_wait();
    EXPECT_EQ(returned, i);
    at.changed.notify_one();
    wait_until([&] { return returned > i; });
  }
}

TEST(ConditionVariable, NoNotifyIsLost) {
  // Each side waits for the other's step: one lost notify and all stop.
  monitor at;
  int turn = 0;
  int const rounds = 2000 * effort;
  auto step = [&](int me, int members) {
    for (int i = 0; i < rounds; ++i) {
      std::unique_lock hold(at.m);
      at.changed.wait(hold, [&] { return turn % members == me; });
      ++turn;
      // Odd ones after the unlock.
      if (i % 2 != 0) hold.unlock();
      at.changed.notify_all();
    }
  };
  {
    crew all;
    all.kernel_threads(1, [&](int) { step(0, 3); });
    all.user_threads(2, [&](int i) { step(1 + i, 3); });
  }
  EXPECT_EQ(turn, 3 * rounds);
}

TEST(ConditionVariable, WaitForTimesOutAfterItsTimeout) {
  monitor at;
  crew all;
  all.threads(1, [&](int) {
    std::unique_lock hold(at.m);
    stopwatch const watch;
    EXPECT_EQ(at.changed.wait_for(hold, 10ms), std::cv_status::timeout);
    EXPECT_GE(watch.time(), 10ms);
    EXPECT_TRUE(hold.owns_lock());
    EXPECT_FALSE(at.changed.wait_for(hold, 1ms, [] { return false; }));
    EXPECT_TRUE(at.changed.wait_for(hold, -1h, [] { return true; }));
  });
}

TEST(ConditionVariable, WaitUntilTimesOutAtItsDeadlineOfAnyClock) {
  monitor at;
  crew all;
  all.threads(1, [&](int) {
    std::unique_lock hold(at.m);
    stopwatch const watch;
    EXPECT_EQ(
        at.changed.wait_until(hold, std::chrono::steady_clock::now() + 10ms),
        std::cv_status::timeout);
    EXPECT_GE(watch.time(), 10ms);
    EXPECT_EQ(
        at.changed.wait_until(hold, std::chrono::system_clock::now() + 10ms),
        std::cv_status::timeout);
    EXPECT_EQ(at.changed.wait_until(hold, late_clock::now() + 10ms),
              std::cv_status::timeout);
    EXPECT_GE(watch.time(), 26ms);
    EXPECT_FALSE(at.changed.wait_until(
        hold, std::chrono::system_clock::time_point(), [] { return false; }));
  });
}

TEST(ConditionVariable, TimedWaitReturnsWhenItIsNotifiedInTime) {
  monitor at;
  std::atomic<int> waiting{0};
  crew all;
  all.threads(2, [&](int i) {
    std::unique_lock hold(at.m);
    ++waiting;
    EXPECT_EQ(i == 0 ? at.changed.wait_for(hold, std::chrono::hours::max())
                     : at.changed.wait_until(
                           hold, std::chrono::system_clock::now() + 1h),
              std::cv_status::no_timeout);
  });
  while (waiting < 4) std::this_thread::yield();
  std::lock_guard hold(at.m);
  at.changed.notify_all();
}

// A notify goes to a waiter that returns no_timeout, not to one that has just
// timed out: counted tokens would go missing.
TEST(ConditionVariable, ANotifyThatRacesWithATimeoutIsNotLost) {
  monitor at;
  long given = 0, taken = 0;
  bool closed = false;
  crew all;
  auto take = [&](int stream) {
    auto random = random_stream(stream);
    std::unique_lock hold(at.m);
    while (!closed || given > taken) {
      if (given > taken)
        ++taken;
      else
        (void)at.changed.wait_for(hold,
                                  std::chrono::nanoseconds(random() % 20'000));
    }
  };
  // Waits without a deadline: stands or falls with the notifies.
  auto take_patiently = [&](int) {
    std::unique_lock hold(at.m);
    for (;;) {
      at.changed.wait(hold, [&] { return closed || given > taken; });
      if (given == taken) return;
      ++taken;
      // One notify may stand for several tokens.
      if (given > taken) at.changed.notify_one();
    }
  };
  all.threads(2, take);
  all.threads(1, take_patiently);
  for (int i = 0; i < 2000 * effort; ++i) {
    std::unique_lock hold(at.m);
    ++given;
    if (i % 2 == 0) hold.unlock();
    at.changed.notify_one();
  }
  {
    std::lock_guard hold(at.m);
    closed = true;
  }
  at.changed.notify_all();
  all.join();
  EXPECT_EQ(given, taken);
}

TEST(ConditionVariable, ATimeoutThatRacesWithNotifyAllLosesNobody) {
  monitor at;
  bool closed = false;
  crew all;
  auto wait = [&](int stream) {
    auto random = random_stream(stream);
    std::unique_lock hold(at.m);
    while (!closed)
      (void)at.changed.wait_for(hold,
                                std::chrono::nanoseconds(random() % 20'000));
  };
  auto wait_patiently = [&](int) {
    std::unique_lock hold(at.m);
    at.changed.wait(hold, [&] { return closed; });
  };
  all.threads(2, wait);
  all.threads(1, wait_patiently);
  for (int i = 0; i < 2000 * effort; ++i) {
    if (i % 2 == 0) {
      at.changed.notify_all();
    } else {
      std::lock_guard hold(at.m);
      at.changed.notify_all();
    }
  }
  {
    std::lock_guard hold(at.m);
    closed = true;
  }
  at.changed.notify_all();
}

// The first waiter's deadline comes about when the only notify does. Unless it
// says no_timeout, the notify belongs to the second waiter.
TEST(ConditionVariable, ATimedOutWaiterLeavesTheNotifyToTheNext) {
  for (int round = 0; round < 200 * effort; ++round) {
    monitor at;
    std::atomic<int> waiting{0};
    std::atomic<int> notified{0};
    std::thread first([&] {
      std::unique_lock hold(at.m);
      ++waiting;
      if (at.changed.wait_for(hold, 50us) == std::cv_status::no_timeout)
        ++notified;
    });
    while (waiting < 1) std::this_thread::yield();
    std::thread second([&] {
      std::unique_lock hold(at.m);
      ++waiting;
      at.changed.wait(hold);
      ++notified;
    });
    while (waiting < 2) std::this_thread::yield();
    { std::lock_guard hold(at.m); }
    at.changed.notify_one();
    first.join();
    if (notified == 1) at.changed.notify_one();  // for the second, if need be
    second.join();
    EXPECT_GE(notified, 1);
  }
}

TEST(ConditionVariable, ARequestToStopEndsTheWait) {
  monitor at;
  std::stop_source source;
  std::atomic<int> waiting{0};
  crew all;
  all.threads(1, [&](int) {
    std::unique_lock hold(at.m);
    ++waiting;
    EXPECT_FALSE(
        at.changed.wait(hold, source.get_token(), [] { return false; }));
    EXPECT_TRUE(hold.owns_lock());
  });
  all.threads(1, [&](int) {
    std::unique_lock hold(at.m);
    ++waiting;
    EXPECT_FALSE(at.changed.wait_for(hold, source.get_token(), 1h,
                                     [] { return false; }));
  });
  while (waiting < 4) std::this_thread::yield();
  source.request_stop();
  all.join();
  // And ends one that starts afterwards at once.
  std::unique_lock hold(at.m);
  EXPECT_FALSE(at.changed.wait(hold, source.get_token(), [] { return false; }));
  EXPECT_TRUE(at.changed.wait(hold, source.get_token(), [] { return true; }));
}

TEST(ConditionVariable, ARequestToStopWakesNobodyElse) {
  monitor at;
  std::stop_source source;
  std::atomic<int> waiting{0};
  std::atomic<bool> other_returned{false};
  crew all;
  all.threads(1, [&](int) {
    std::unique_lock hold(at.m);
    ++waiting;
    at.changed.wait(hold);
    other_returned = true;
  });
  all.kernel_threads(1, [&](int) {
    std::unique_lock hold(at.m);
    ++waiting;
    (void)at.changed.wait(hold, source.get_token(), [] { return false; });
  });
  while (waiting < 3) std::this_thread::yield();
  { std::lock_guard hold(at.m); }  // so the last has started to wait
  source.request_stop();
  let_others_wait();
  EXPECT_FALSE(other_returned);
  at.changed.notify_all();
}

TEST(ConditionVariable, StoppableWaitsEndByNotifyAndByDeadlineToo) {
  monitor at;
  std::stop_source source;
  bool ready = false;
  crew all;
  all.threads(1, [&](int) {
    std::unique_lock hold(at.m);
    EXPECT_TRUE(
        at.changed.wait(hold, source.get_token(), [&] { return ready; }));
  });
  all.threads(1, [&](int) {
    std::unique_lock hold(at.m);
    EXPECT_FALSE(at.changed.wait_until(hold, source.get_token(),
                                       std::chrono::system_clock::now() + 5ms,
                                       [] { return false; }));
  });
  let_others_wait();
  std::lock_guard hold(at.m);
  ready = true;
  at.changed.notify_all();
}

TEST(ConditionVariable, AStopThatRacesWithANotifyLosesNothing) {
  for (int round = 0; round < 300 * effort; ++round) {
    monitor at;
    std::stop_source source;
    std::atomic<int> waiting{0};
    bool ready = false;
    std::thread waiter([&] {
      std::unique_lock hold(at.m);
      ++waiting;
      bool const result =
          at.changed.wait(hold, source.get_token(), [&] { return ready; });
      EXPECT_EQ(result, ready);
    });
    while (waiting < 1) std::this_thread::yield();
    std::thread stopper([&] { source.request_stop(); });
    {
      std::lock_guard hold(at.m);
      ready = true;
    }
    at.changed.notify_one();
    stopper.join();
    waiter.join();
  }
}

TEST(ConditionVariable, MayBeDestroyedOnceAllWaitersAreNotified) {
  for (int round = 0; round < 100 * effort; ++round) {
    mutex m;
    auto changed = std::make_unique<condition_variable>();
    std::atomic<int> waiting{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i)
      threads.emplace_back([&, i] {
        auto* const condition = changed.get();
        std::unique_lock hold(m);
        ++waiting;
        if (i == 0)
          (void)condition->wait_for(hold, 1h);
        else
          condition->wait(hold);
      });
    while (waiting < 3) std::this_thread::yield();
    {
      std::lock_guard hold(m);
      changed->notify_all();
      changed.reset();  // none of them has left its wait
    }
    for (auto& thread : threads) thread.join();
  }
}

TEST(ConditionVariable, WaitersMayUseDifferentMutexes) {
  condition_variable changed;
  mutex mutexes[4];
  std::atomic<int> waiting{0};
  crew all;
  all.threads(2, [&](int i) {
    std::unique_lock hold(mutexes[i]);
    ++waiting;
    changed.wait(hold);
  });
  all.threads(2, [&](int i) {
    std::unique_lock hold(mutexes[2 + i]);
    ++waiting;
    changed.wait(hold);
  });
  while (waiting < 8) std::this_thread::yield();
  for (auto& m : mutexes) std::lock_guard hold(m);
  changed.notify_all();
}

// The classic use, with every kind of thread on both sides of a small queue.
TEST(ConditionVariable, ABoundedQueueBetweenAllKindsLosesNothing) {
  struct bounded_queue {
    monitor at;
    condition_variable has_room;
    std::deque<int> items;
  } queue;
  constexpr std::size_t capacity = 8;
  int const each = 1000 * effort;
  std::atomic<long> sum{0};

  auto push = [&](int) {
    for (int i = 1; i <= each; ++i) {
      std::unique_lock hold(queue.at.m);
      queue.has_room.wait(hold, [&] { return queue.items.size() < capacity; });
      queue.items.push_back(i);
      queue.at.changed.notify_one();
    }
  };
  auto pop = [&](int) {
    for (int i = 1; i <= each; ++i) {
      std::unique_lock hold(queue.at.m);
      queue.at.changed.wait(hold, [&] { return !queue.items.empty(); });
      sum += queue.items.front();
      queue.items.pop_front();
      hold.unlock();
      queue.has_room.notify_one();
    }
  };
  crew all;
  all.threads(2, push);
  all.threads(2, pop);
  all.tasks(2, [&](int) -> task<> {
    for (int i = 1; i <= each; ++i) {
      co_await queue.at.m.async_lock();
      while (queue.items.size() >= capacity)
        co_await queue.has_room.async_wait(queue.at.m);
      queue.items.push_back(i);
      queue.at.m.unlock();
      queue.at.changed.notify_one();
    }
  });
  all.tasks(2, [&](int) -> task<> {
    for (int i = 1; i <= each; ++i) {
      co_await queue.at.m.async_lock();
      while (queue.items.empty())
        co_await queue.at.changed.async_wait(queue.at.m);
      sum += queue.items.front();
      queue.items.pop_front();
      queue.has_room.notify_one();
      queue.at.m.unlock();
    }
  });
  all.join();
  EXPECT_EQ(sum, 6L * each * (each + 1) / 2);
}

TEST(ConditionVariableDeathTest, WaitingWithoutTheMutexIsDiagnosed) {
  EXPECT_DEATH(
      {
        monitor at;
        std::unique_lock hold(at.m, std::defer_lock);
        at.changed.wait(hold);
      },
      "assertion failed");
}

}  // namespace
