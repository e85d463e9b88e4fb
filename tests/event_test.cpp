// SPDX-License-Identifier: BSL-1.0
#include <activations/event.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::event;
using activations::task;

static_assert(noexcept(std::declval<event&>().set()));
static_assert(noexcept(std::declval<event&>().wait()));

constinit event static_event;

TEST(Event, IsSetFromSetToReset) {
  EXPECT_FALSE(static_event.is_set());
  static_event.set();
  EXPECT_TRUE(static_event.is_set());
  static_event.wait();
  EXPECT_TRUE(static_event.is_set());
  static_event.reset();
  EXPECT_FALSE(static_event.is_set());
  EXPECT_TRUE(event(true).is_set());
}

TEST(Event, SetLetsAllGoWhoWait) {
  event gate;
  std::atomic<int> through{0};
  crew all;
  all.threads(3, [&](int) {
    gate.wait();
    ++through;
  });
  all.tasks(3, [&](int) -> task<> {
    co_await gate.async_wait();
    ++through;
  });
  let_others_wait();
  EXPECT_EQ(through, 0);
  gate.set();
  all.join();
  EXPECT_EQ(through, 9);
}

bool a_pulse_lets_all_go(std::chrono::milliseconds patience) {
  event gate;
  std::atomic<int> through{0};
  crew all;
  all.threads(2, [&](int) {
    gate.wait();
    ++through;
  });
  all.tasks(2, [&](int) -> task<> {
    co_await gate.async_wait();
    ++through;
  });
  std::this_thread::sleep_for(patience);
  gate.set();
  gate.reset();
  std::this_thread::sleep_for(patience);
  bool const all_at_once = through == 6;
  gate.set();  // for those that had not started to wait
  return all_at_once;
}

TEST(Event, SetLetsThoseGoWhoWaitedEvenIfItIsResetAtOnce) {
  EXPECT_TRUE(succeeds_in_some_attempt(a_pulse_lets_all_go));
}

TEST(Event, WaitersOfALaterRoundWaitForALaterSet) {
  event gate;
  for (int round = 0; round < 20; ++round) {
    std::atomic<bool> through{false};
    std::thread waiter([&] {
      gate.wait();
      through = true;
    });
    std::this_thread::sleep_for(1ms);
    EXPECT_FALSE(through);
    gate.set();
    waiter.join();
    gate.reset();
  }
}

TEST(Event, TimedWaitGivesUpAtItsDeadlineOfAnyClock) {
  event gate;
  crew all;
  all.threads(1, [&](int) {
    stopwatch const watch;
    EXPECT_FALSE(gate.wait_for(10ms));
    EXPECT_GE(watch.time(), 10ms);
    EXPECT_FALSE(gate.wait_until(std::chrono::steady_clock::now() + 10ms));
    EXPECT_GE(watch.time(), 20ms);
    EXPECT_FALSE(gate.wait_until(std::chrono::system_clock::now() + 10ms));
    EXPECT_FALSE(gate.wait_until(late_clock::now() + 10ms));
    EXPECT_GE(watch.time(), 36ms);
    EXPECT_FALSE(gate.wait_for(std::chrono::duration<double>(-1)));
  });
  all.join();
  gate.set();
  EXPECT_TRUE(gate.wait_for(-1h));
}

TEST(Event, TimedWaitReturnsWhenItIsSetInTime) {
  event gate;
  crew all;
  all.threads(1, [&](int) {
    EXPECT_TRUE(gate.wait_for(std::chrono::hours::max()));
    EXPECT_TRUE(gate.wait_for(std::chrono::duration<double>(1e300)));
    EXPECT_TRUE(gate.wait_until(std::chrono::steady_clock::time_point::max()));
  });
  let_others_wait();
  gate.set();
}

TEST(Event, ATimeoutThatRacesWithASetLosesNothing) {
  event gate;
  std::atomic<bool> done{false};
  crew all;
  auto work = [&](int stream) {
    auto random = random_stream(stream);
    for (int i = 0; i < 1000 * effort; ++i)
      (void)gate.wait_for(std::chrono::nanoseconds(random() % 5000));
  };
  all.kernel_threads(2, work);
  all.user_threads(2, [&](int i) { work(10 + i); });
  std::thread setter([&] {
    while (!done) {
      gate.set();
      gate.reset();
    }
  });
  all.join();
  done = true;
  setter.join();
  gate.set();
}

// "Reset, look for work, wait": a set that finds the event set already must
// not get lost between the reset and the wait.
TEST(Event, ResetThenLookThenWaitMissesNothing) {
  event work_came(true);
  std::atomic<long> work{0};
  long const items = 5000 * effort;
  crew all;
  all.kernel_threads(1, [&](int) {
    for (long i = 1; i <= items; ++i) {
      work.store(i, std::memory_order::relaxed);
      work_came.set();
    }
  });
  all.user_threads(1, [&](int) {
    for (;;) {
      work_came.reset();
      if (work.load(std::memory_order::relaxed) == items) break;
      work_came.wait();
    }
  });
}

TEST(Event, PublishesWhatWasDoneBeforeTheSet) {
  for (int round = 0; round < 200 * effort; ++round) {
    event ready;
    int value = 0;
    std::thread setter([&] {
      value = 1;
      ready.set();
    });
    if (round % 2 == 0)
      ready.wait();
    else
      while (!ready.is_set()) std::this_thread::yield();
    EXPECT_EQ(value, 1);
    setter.join();
  }
}

// AddressSanitizer sees a set that touches it too late.
TEST(Event, MayBeDestroyedByWhoHasWaited) {
  for (int round = 0; round < 300 * effort; ++round) {
    auto* const ready = new event;
    std::thread setter([ready] { ready->set(); });
    if (round % 3 == 0)
      while (!ready->is_set()) std::this_thread::yield();
    else if (round % 3 == 1)
      ready->wait();
    else
      while (!ready->wait_for(1us)) {
      }
    delete ready;
    setter.join();
  }
}

}  // namespace
