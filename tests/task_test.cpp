// SPDX-License-Identifier: BSL-1.0
#include <activations/task.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <activations/event.hpp>
#include <activations/mutex.hpp>
#include <activations/this_thread.hpp>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::async_sleep_for;
using activations::async_sleep_until;
using activations::async_yield;
using activations::join_handle;
using activations::scheduler;
using activations::scheduler_options;
using activations::task;
using activations::threading;
using activations::user_thread;
using steady = std::chrono::steady_clock;

static_assert(!std::is_copy_constructible_v<task<int>>);
static_assert(std::is_nothrow_move_constructible_v<task<int>>);
static_assert(!std::is_copy_constructible_v<join_handle<int>>);
static_assert(std::is_nothrow_move_constructible_v<join_handle<int>>);

task<int> give(int n) {
  co_return n;
}

task<int> give_later(int n) {
  co_await async_yield();
  co_return n;
}

[[noreturn]] void fail() {
  throw std::runtime_error("from a task");
}

task<> fails() {
  fail();
  co_return;
}

task<> fails_later() {
  co_await async_sleep_for(10us);
  fail();
}

struct counted {
  static inline std::atomic<int> alive{0};
  counted() { ++alive; }
  counted(counted const&) { ++alive; }
  counted(counted&&) noexcept { ++alive; }
  ~counted() { --alive; }
};

class Task : public testing::Test {
 protected:
  Task() { counted::alive = 0; }
  scheduler there_{scheduler_options{.processors = 2}};
};

// ---- a task ----------------------------------------------------------------

TEST_F(Task, StartsOnlyWhenAwaited) {
  there_.run([]() -> task<> {
    bool started = false;
    auto t = [](bool& started) -> task<> {
      started = true;
      co_return;
    }(started);
    co_await async_yield();
    EXPECT_FALSE(started);
    co_await std::move(t);
    EXPECT_TRUE(started);
  });
}

TEST_F(Task, GivesValuesReferencesAndMoveOnlyResults) {
  there_.run([]() -> task<> {
    EXPECT_EQ(co_await give(3), 3);
    int n = 1;
    int& same = co_await [](int& n) -> task<int&> { co_return n; }(n);
    EXPECT_EQ(&same, &n);
    auto p = co_await []() -> task<std::unique_ptr<int>> {
      co_return std::make_unique<int>(4);
    }();
    EXPECT_EQ(*p, 4);
    std::string const s =
        co_await []() -> task<std::string> { co_return "converted"; }();
    EXPECT_EQ(s, "converted");
  });
}

TEST_F(Task, RethrowsToWhoAwaitsIt) {
  there_.run([]() -> task<> {
    int caught = 0;
    try {
      co_await fails();
    } catch (std::runtime_error const& error) {
      EXPECT_STREQ(error.what(), "from a task");
      ++caught;
    }
    try {
      co_await fails_later();
    } catch (std::runtime_error const&) {
      ++caught;
    }
    EXPECT_EQ(caught, 2);
  });
}

TEST_F(Task, UnstartedOneMayBeDropped) {
  {
    auto t = [](counted) -> task<> { co_return; }(counted());
    EXPECT_EQ(counted::alive, 1);
    auto u = std::move(t);
    EXPECT_FALSE(static_cast<bool>(t));  // NOLINT(bugprone-use-after-move)
    EXPECT_TRUE(static_cast<bool>(u));
    u = [](counted) -> task<> { co_return; }(counted());
    EXPECT_EQ(counted::alive, 1);
  }
  EXPECT_EQ(counted::alive, 0);
}

TEST_F(Task, FrameIsDestroyedWithItsResultWhenItWasAwaited) {
  there_.run([]() -> task<> {
    for (int i = 0; i < 10; ++i) {
      {
        auto const c = co_await [](counted, bool later) -> task<counted> {
          counted const local;
          if (later) co_await async_yield();
          co_return counted();
        }(counted(), i % 2 == 0);
        EXPECT_EQ(counted::alive, 1);
      }
      EXPECT_EQ(counted::alive, 0);
    }
  });
}

task<long> sum_down(int n) {
  if (n == 0) co_return 0;
  co_return n + co_await sum_down(n - 1);
}

TEST_F(Task, AwaitsNestDeeplyWithoutStack) {
  // Unoptimised or sanitized code has no guaranteed tail calls: there the
  // depth has to fit on the carrier's stack.
#if defined(__OPTIMIZE__) && !ACTIVATIONS_ASAN && !ACTIVATIONS_TSAN
  EXPECT_EQ(there_.run([] { return sum_down(200'000); }), 20'000'100'000);
#else
  EXPECT_EQ(there_.run([] { return sum_down(200); }), 20'100);
#endif
}

TEST_F(Task, AwaitsInALoopNeedNoStack) {
  constexpr int rounds = 20'000 * effort;
  auto const sum = there_.run([]() -> task<long> {
    long sum = 0;
    for (int i = 0; i < rounds; ++i) sum += co_await give(1);
    co_return sum;
  });
  EXPECT_EQ(sum, rounds);
}

TEST_F(Task, LargeFramesWorkToo) {
  auto const large = [](int n) -> task<int> {
    char volatile bytes[8000];
    bytes[n] = 1;
    co_await async_yield();
    co_return bytes[n] + n;
  };
  there_.run([&]() -> task<> {
    for (int i = 0; i < 50; ++i) EXPECT_EQ(co_await large(i), i + 1);
  });
}

// ---- waiting ---------------------------------------------------------------

TEST_F(Task, YieldLetsOthersRun) {
  scheduler one({.processors = 1, .max_activations = 1});
  std::vector<int> order;
  auto const turn = [](int me, std::vector<int>& order) -> task<> {
    for (int i = 0; i < 3; ++i) {
      order.push_back(me);
      co_await async_yield();
    }
  };
  one.run([&] {
    auto a = one.spawn(turn(1, order));
    auto b = one.spawn(turn(2, order));
    a.join();
    b.join();
  });
  EXPECT_EQ(order, (std::vector<int>{1, 2, 1, 2, 1, 2}));
}

TEST_F(Task, SleepIsNeverEarly) {
  there_.run([]() -> task<> {
    for (auto const d : {1us, 200us, 2000us}) {
      auto const start = steady::now();
      co_await async_sleep_for(d);
      EXPECT_GE(steady::now() - start, d);
    }
    auto const when = steady::now() + 1ms;
    co_await async_sleep_until(when);
    EXPECT_GE(steady::now(), when);
  });
}

TEST_F(Task, SleepUntilThePastReturns) {
  there_.run([]() -> task<> {
    co_await async_sleep_for(0s);
    co_await async_sleep_for(-1h);
    co_await async_sleep_until(steady::time_point::min());
    co_await async_sleep_until(steady::time_point{});
  });
}

TEST_F(Task, ManySleepsEndWhateverTheirOrder) {
  std::atomic<int> ended{0};
  auto const sleeper = [](int us, std::atomic<int>& ended) -> task<> {
    co_await async_sleep_for(std::chrono::microseconds(us));
    ++ended;
  };
  auto random = random_stream(1);
  std::vector<join_handle<>> handles;
  for (int i = 0; i < 1000; ++i)
    handles.push_back(
        there_.spawn(sleeper(static_cast<int>(random() % 3000), ended)));
  for (auto& each : handles) each.join();
  EXPECT_EQ(ended, 1000);
}

TEST_F(Task, SleepThatExpiresAtOnceIsSafe) {
  auto const naps = []() -> task<> {
    for (int i = 0; i < 500; ++i) co_await async_sleep_for(100ns);
  };
  std::vector<join_handle<>> handles;
  for (int i = 0; i < 8; ++i) handles.push_back(there_.spawn(naps()));
  for (auto& each : handles) each.join();
}

TEST_F(Task, BlockingWaitParksTheCarrierAndLetsOthersRun) {
  scheduler one({.processors = 1, .max_activations = 1});
  activations::event go;
  auto waits = one.spawn([](activations::event& go) -> task<int> {
    go.wait();  // on the stack
    activations::this_thread::sleep_for(100us);
    co_await async_yield();
    activations::this_thread::yield();
    co_return 5;
  }(go));
  auto sets = one.spawn([](activations::event& go) -> task<> {
    go.set();
    co_return;
  }(go));
  EXPECT_EQ(waits.join(), 5);
  sets.join();
}

TEST_F(Task, ManyMayWaitOnTheirStacksAtOnce) {
  activations::event go;
  std::atomic<int> here{0};
  std::vector<join_handle<>> handles;
  for (int i = 0; i < 300; ++i)
    handles.push_back(there_.spawn(
        [](activations::event& go, std::atomic<int>& here) -> task<> {
          ++here;
          go.wait();
          co_return;
        }(go, here)));
  wait_until([&] { return here == 300; });
  go.set();
  for (auto& each : handles) each.join();
}

// ---- join_handle -----------------------------------------------------------

TEST_F(Task, SpawnedOneIsJoinedByAKernelThreadAUserThreadAndATask) {
  EXPECT_EQ(there_.spawn(give_later(1)).join(), 1);
  there_.run([&] { EXPECT_EQ(there_.spawn(give_later(2)).join(), 2); });
  there_.run([&]() -> task<> {
    EXPECT_EQ(co_await there_.spawn(give_later(3)), 3);
    auto handle = there_.spawn(give_later(4));
    EXPECT_EQ(co_await std::move(handle), 4);
    EXPECT_EQ(there_.spawn(give_later(5)).join(), 5);  // parks the carrier
  });
}

TEST_F(Task, JoinAfterTheEndReturnsAtOnce) {
  auto handle = there_.spawn(give(6));
  wait_until([&] { return handle.is_done(); });
  EXPECT_EQ(handle.join(), 6);
  there_.run([&]() -> task<> {
    auto done = there_.spawn(give(7));
    while (!done.is_done()) co_await async_yield();
    EXPECT_EQ(co_await std::move(done), 7);
  });
}

TEST_F(Task, JoinRethrowsAndReleasesTheTask) {
  auto handle = there_.spawn([](counted) -> task<> {
    fail();
    co_return;
  }(counted()));
  EXPECT_THROW(handle.join(), std::runtime_error);
  EXPECT_FALSE(handle.joinable());
  EXPECT_EQ(counted::alive, 0);
}

TEST_F(Task, ResultAndFrameAreDestroyedWithTheJoin) {
  {
    auto const c = there_
                       .spawn([](counted) -> task<counted> {
                         co_return counted();
                       }(counted()))
                       .join();
    EXPECT_EQ(counted::alive, 1);
  }
  EXPECT_EQ(counted::alive, 0);
}

TEST_F(Task, DroppedHandleLetsItRunOn) {
  std::atomic<int> ran{0};
  auto const body = [](std::atomic<int>& ran, counted) -> task<counted> {
    co_await async_sleep_for(100us);
    ++ran;
    co_return counted();
  };
  for (int i = 0; i < 20; ++i) (void)there_.spawn(body(ran, counted()));
  auto handle = there_.spawn(body(ran, counted()));
  handle = there_.spawn(body(ran, counted()));
  handle.detach();
  EXPECT_FALSE(handle.joinable());
  wait_until([&] { return ran == 22 && counted::alive == 0; });
}

TEST_F(Task, HandleMayBeDroppedInTheMomentOfTheEnd) {
  auto const body = [](counted, int spin) -> task<counted> {
    for (; spin > 0; --spin) asm volatile("");
    co_return counted();
  };
  auto random = random_stream(2);
  for (int i = 0; i < 300 * effort; ++i) {
    auto handle =
        there_.spawn(body(counted(), static_cast<int>(random() % 20'000)));
    for (auto spin = random() % 20'000; spin > 0; --spin) asm volatile("");
    if (i % 2 == 0)
      handle.detach();
    else
      (void)handle.join();
  }
  wait_until([&] { return counted::alive == 0; });
}

TEST_F(Task, SpawnsTasksThatOutliveIt) {
  std::atomic<int> leaves{0};
  struct tree {
    static task<> grow(scheduler& there, int depth, std::atomic<int>& leaves) {
      if (depth == 0) {
        ++leaves;
        co_return;
      }
      (void)there.spawn(grow(there, depth - 1, leaves));
      (void)there.spawn(grow(there, depth - 1, leaves));
    }
  };
  (void)there_.spawn(tree::grow(there_, 8, leaves));
  wait_until([&] { return leaves == 256; });
}

TEST_F(Task, ForeignThreadsSpawnAllAtOnce) {
  std::vector<std::thread> foreign;
  std::atomic<long> sum{0};
  for (int f = 0; f < 4; ++f)
    foreign.emplace_back([&] {
      for (int i = 0; i < 100 * effort; ++i)
        sum += there_.spawn(give_later(i)).join();
    });
  for (auto& each : foreign) each.join();
  long const n = 100 * effort;
  EXPECT_EQ(sum, 4 * n * (n - 1) / 2);
}

TEST_F(Task, WhatItWroteIsVisibleAfterTheJoin) {
  for (int i = 0; i < 100 * effort; ++i) {
    int value = 0;
    there_
        .spawn([](int& value, int i) -> task<> {
          co_await async_yield();
          value = i;
        }(value, i))
        .join();
    ASSERT_EQ(value, i);
  }
}

TEST_F(Task, EachModelRunsThem) {
  for (auto const model : {threading::many_to_many, threading::many_to_one,
                           threading::one_to_one}) {
    scheduler there({.processors = 2, .model = model});
    EXPECT_EQ(there.run([&]() -> task<int> {
      int sum = 0;
      for (int i = 0; i < 10; ++i) {
        co_await async_sleep_for(10us);
        sum += co_await there.spawn(give_later(1));
        user_thread([&] { ++sum; }).join();
      }
      co_return sum;
    }),
              20);
  }
}

// ---- memory ----------------------------------------------------------------

TEST_F(Task, FramesMoveFreelyBetweenProcessorsAndForeignThreads) {
  std::vector<task<int>> made;
  for (int i = 0; i < 200; ++i) made.push_back(give_later(i));  // here
  there_.run([&]() -> task<> {
    int expected = 0;
    for (auto& each : made) {
      int const n = co_await std::move(each);
      EXPECT_EQ(n, expected++);
    }
    for (auto& each : made) each = give_later(1);  // there
  });
  made.clear();  // here again
}

}  // namespace
