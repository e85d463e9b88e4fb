// SPDX-License-Identifier: BSL-1.0
#include <activations/this_thread.hpp>

#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include <activations/event.hpp>
#include <activations/mutex.hpp>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::scheduler;
using activations::scheduler_options;
using activations::threading;
using activations::user_thread;
namespace this_thread = activations::this_thread;
using steady = std::chrono::steady_clock;

TEST(ThisThread, IdIsTheHandlesAndNobodyElses) {
  scheduler there({.processors = 2});
  EXPECT_EQ(this_thread::get_id(), activations::thread_id());
  activations::thread_id seen;
  auto t = there.spawn([&] { seen = this_thread::get_id(); });
  auto const id = t.get_id();
  t.join();
  EXPECT_EQ(seen, id);
  there.run([&]() -> activations::task<> {
    EXPECT_EQ(this_thread::get_id(), activations::thread_id());
    co_return;
  });
}

TEST(ThisThread, IdStaysTheSameAcrossWaits) {
  scheduler there({.processors = 2});
  std::vector<user_thread> threads;
  for (int i = 0; i < 20; ++i)
    threads.push_back(there.spawn([] {
      auto const id = this_thread::get_id();
      for (int n = 0; n < 20; ++n) {
        this_thread::yield();
        this_thread::sleep_for(100us);
        EXPECT_EQ(this_thread::get_id(), id);
      }
    }));
}

TEST(ThisThread, YieldOnOneProcessorTakesTurns) {
  scheduler there({.processors = 1, .max_activations = 1});
  std::vector<int> order;
  there.run([&] {
    auto const body = [&](int me) {
      for (int i = 0; i < 3; ++i) {
        order.push_back(me);
        this_thread::yield();
      }
    };
    user_thread a(body, 1);
    user_thread b(body, 2);
    user_thread c(body, 3);
  });
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3, 1, 2, 3, 1, 2, 3}));
}

TEST(ThisThread, YieldReturnsWhenNobodyWaits) {
  scheduler there({.processors = 2});
  there.run([] {
    for (int i = 0; i < 1000; ++i) this_thread::yield();
  });
  this_thread::yield();  // a plain kernel thread
}

// What the last argument does must happen for the others to go on.
TEST(ThisThread, YieldLetsSleepersAndForeignersIn) {
  scheduler there({.processors = 1});
  std::atomic<bool> slept{false};
  std::atomic<bool> sent{false};
  auto spinner = there.spawn([&] {
    while (!slept || !sent) this_thread::yield();
  });
  auto sleeper = there.spawn([&] {
    this_thread::sleep_for(1ms);
    slept = true;
  });
  auto sender = there.spawn([&] { sent = true; });
}

template <class F>
void on_each_kind(F f) {
  f();
  for (auto const model : {threading::many_to_many, threading::many_to_one,
                           threading::one_to_one}) {
    scheduler there({.processors = 2, .model = model});
    there.run(f);
    there.run([&]() -> activations::task<> {
      f();
      co_return;
    });
  }
}

TEST(ThisThread, SleepIsNeverEarly) {
  on_each_kind([] {
    for (auto const d : {1us, 100us, 3000us}) {
      auto const start = steady::now();
      this_thread::sleep_for(d);
      EXPECT_GE(steady::now() - start, d);
    }
    auto const when = steady::now() + 1ms;
    this_thread::sleep_until(when);
    EXPECT_GE(steady::now(), when);
  });
}

TEST(ThisThread, SleepTakesAnyClock) {
  on_each_kind([] {
    auto const wall = std::chrono::system_clock::now() + 1ms;
    this_thread::sleep_until(wall);
    EXPECT_GE(std::chrono::system_clock::now(), wall);
    auto const late = late_clock::now() + 2ms;
    this_thread::sleep_until(late);
    EXPECT_GE(late_clock::now(), late);
    this_thread::sleep_for(std::chrono::duration<double, std::micro>(1.5));
  });
}

TEST(ThisThread, SleepUntilThePastReturns) {
  on_each_kind([] {
    this_thread::sleep_for(0s);
    this_thread::sleep_for(-1h);
    this_thread::sleep_for(std::chrono::nanoseconds::min());
    this_thread::sleep_until(steady::time_point::min());
    this_thread::sleep_until(steady::time_point{});
    this_thread::sleep_until(std::chrono::system_clock::time_point{});
  });
}

TEST(ThisThread, SleepersOnOneKernelThreadWakeInOrderOfTheirDeadlines) {
  scheduler there({.model = threading::many_to_one});
  std::vector<int> order;
  // A machine that is so slow that not all sleep by then gets more time.
  bool all_slept = false;
  for (auto lead = 20ms; !all_slept; lead *= 2) {
    order.clear();
    all_slept = true;
    there.run([&] {
      std::vector<user_thread> threads;
      auto const start = steady::now() + lead;
      for (int const n : {7, 2, 9, 0, 4, 1, 8, 3, 6, 5})
        threads.emplace_back([&, start, n] {
          all_slept = all_slept && steady::now() < start;
          this_thread::sleep_until(start + n * 50us);
          order.push_back(n);
        });
    });
  }
  EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
}

TEST(ThisThread, EarlierSleepWakesFirstThoughALaterOneIsAwaited) {
  scheduler there({.processors = 2});
  activations::event early_over;
  auto late = there.spawn([](std::stop_token token) {
    while (!token.stop_requested()) this_thread::sleep_for(20ms);
  });
  let_others_wait();  // everything is idle, waiting for that deadline
  auto early = there.spawn([] { this_thread::sleep_for(100us); });
  early.join();
}

TEST(ThisThread, SleepersHoldNoKernelThread) {
  scheduler there({.processors = 2, .max_activations = 10});
  std::vector<user_thread> threads;
  std::atomic<int> sleeping{0};
  for (int i = 0; i < 1000; ++i)
    threads.push_back(there.spawn([&] {
      ++sleeping;
      this_thread::sleep_for(20ms);
    }));
  while (sleeping < 1000) std::this_thread::yield();
  EXPECT_LE(there.statistics().kernel_threads.activations, 10u);
}

// Nobody is ever idle for long here and nobody is ever late for ever: sleeps,
// blocks in the kernel and computations take turns on few processors.
TEST(ThisThread, SleepsEndWhileOthersBlockAndCompute) {
  scheduler there({.processors = 2});
  for (int round = 0; round < 4 * effort; ++round) {
    std::vector<user_thread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.push_back(there.spawn([i] {
        for (int n = 0; n < 5; ++n) {
          this_thread::sleep_for(std::chrono::microseconds(50 * i));
          ::usleep(static_cast<useconds_t>(100 * i));
        }
      }));
      threads.push_back(there.spawn([] {
        auto const until = steady::now() + 200us;
        while (steady::now() < until) {
        }
      }));
    }
    for (auto& each : threads) each.join();
    // Now only sleepers are left.
    threads.clear();
    for (int i = 0; i < 4; ++i)
      threads.push_back(there.spawn([] { this_thread::sleep_for(1ms); }));
  }
}

// ---- pinned_scope ----------------------------------------------------------

class PinnedScope : public testing::TestWithParam<scheduler_options> {
 protected:
  scheduler there_{GetParam()};
};

INSTANTIATE_TEST_SUITE_P(
    Options, PinnedScope,
    testing::Values(scheduler_options{.processors = 1},
                    scheduler_options{.processors = 2},
                    scheduler_options{.processors = 2, .max_activations = 2},
                    scheduler_options{.processors = 2, .max_activations = 3},
                    scheduler_options{.processors = 2, .slice = 1ms},
                    scheduler_options{.model = threading::many_to_one},
                    scheduler_options{.processors = 2,
                                      .model = threading::one_to_one}),
    [](auto const& info) {
      auto const& o = info.param;
      std::string name = o.model == threading::many_to_one  ? "ManyToOne"
                         : o.model == threading::one_to_one ? "OneToOne"
                         : o.processors == 1                ? "OneProcessor"
                                                            : "TwoProcessors";
      if (o.max_activations != 0)
        name += "Cap" + std::to_string(o.max_activations);
      if (o.slice.count() != 0) name += "Sliced";
      return name;
    });

TEST_P(PinnedScope, StaysOnItsKernelThreadAcrossSleepsAndYields) {
  std::atomic<bool> over{false};
  std::vector<user_thread> others;
  for (int i = 0; i < 3; ++i)
    others.push_back(there_.spawn([&] {
      while (!over) this_thread::yield();
    }));
  std::vector<user_thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.push_back(there_.spawn([] {
      for (int n = 0; n < 20; ++n) {
        this_thread::pinned_scope const pinned;
        auto const here = ::gettid();
        this_thread::sleep_for(50us);
        EXPECT_EQ(::gettid(), here);
        this_thread::yield();
        EXPECT_EQ(::gettid(), here);
      }
    }));
  threads.clear();
  over = true;
}

TEST_P(PinnedScope, SleepEndsWhenNothingElseRuns) {
  there_.run([] {
    this_thread::pinned_scope const pinned;
    for (int i = 0; i < 5; ++i) {
      this_thread::sleep_for(500us);
      this_thread::yield();
    }
  });
}

TEST_P(PinnedScope, ScopesNest) {
  there_.run([] {
    this_thread::pinned_scope const outer;
    auto const here = ::gettid();
    {
      this_thread::pinned_scope const inner;
      this_thread::sleep_for(50us);
    }
    this_thread::sleep_for(50us);
    EXPECT_EQ(::gettid(), here);
  });
}

TEST_P(PinnedScope, EndOfTheScopeAllowsMovesAgain) {
  std::atomic<int> done{0};
  std::vector<user_thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.push_back(there_.spawn([&] {
      for (int n = 0; n < 50; ++n) {
        { this_thread::pinned_scope const pinned; }
        this_thread::yield();
        this_thread::sleep_for(10us);
      }
      ++done;
    }));
  threads.clear();
  EXPECT_EQ(done, 4);
}

TEST_P(PinnedScope, IsWokenByAKernelThread) {
  activations::event ready;
  auto t = there_.spawn([&] {
    this_thread::pinned_scope const pinned;
    auto const here = ::gettid();
    ready.wait();
    EXPECT_EQ(::gettid(), here);
  });
  std::this_thread::sleep_for(1ms);
  ready.set();
}

TEST(PinnedScopeOutside, DoesNothingOnAKernelThread) {
  this_thread::pinned_scope const pinned;
  this_thread::sleep_for(1us);
}

// An error-checking mutex refuses to be unlocked by another kernel thread.
TEST(PinnedScopeUse, PthreadMutexMayBeHeldAcrossAWait) {
  pthread_mutexattr_t kind;
  pthread_mutexattr_init(&kind);
  pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_ERRORCHECK);
  pthread_mutex_t lock;
  pthread_mutex_init(&lock, &kind);
  int counted = 0;
  {
    scheduler there({.processors = 2});
    std::vector<user_thread> threads;
    for (int i = 0; i < 6; ++i)
      threads.push_back(there.spawn([&] {
        for (int n = 0; n < 10; ++n) {
          this_thread::pinned_scope const pinned;
          EXPECT_EQ(pthread_mutex_lock(&lock), 0);
          int const before = counted;
          this_thread::sleep_for(20us);
          this_thread::yield();
          counted = before + 1;
          EXPECT_EQ(pthread_mutex_unlock(&lock), 0);
        }
      }));
  }
  EXPECT_EQ(counted, 60);
  pthread_mutex_destroy(&lock);
}

TEST(PinnedScopeUse, OthersRunWhileAPinnedThreadWaits) {
  scheduler there({.processors = 1});
  activations::event go;
  std::atomic<bool> pinned_waits{false};
  auto pinned = there.spawn([&] {
    this_thread::pinned_scope const scope;
    pinned_waits = true;
    go.wait();
  });
  auto other = there.spawn([&] {
    while (!pinned_waits) this_thread::yield();
    for (int i = 0; i < 10; ++i) this_thread::yield();
    go.set();
  });
}

TEST(PinnedScopeUse, AnotherThreadEndsThePinnedWaitUnderContention) {
  scheduler there({.processors = 2});
  activations::mutex m;
  int counted = 0;
  std::vector<user_thread> threads;
  for (int i = 0; i < 6; ++i)
    threads.push_back(there.spawn([&, i] {
      for (int n = 0; n < 40 * effort; ++n) {
        if ((i + n) % 2 == 0) {
          this_thread::pinned_scope const pinned;
          auto const here = ::gettid();
          std::lock_guard hold(m);
          ++counted;
          this_thread::yield();
          EXPECT_EQ(::gettid(), here);
        } else {
          std::lock_guard hold(m);
          ++counted;
          this_thread::yield();
        }
      }
    }));
  threads.clear();
  EXPECT_EQ(counted, 6 * 40 * effort);
}

}  // namespace
