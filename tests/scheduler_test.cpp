// SPDX-License-Identifier: BSL-1.0
#include <activations/scheduler.hpp>

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <memory>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
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
using activations::scheduler;
using activations::scheduler_options;
using activations::task;
using activations::threading;
using activations::user_thread;
namespace this_thread = activations::this_thread;

static_assert(!std::is_copy_constructible_v<scheduler>);
static_assert(!std::is_move_constructible_v<scheduler>);

template <class F>
int error_of(F f) {
  try {
    f();
  } catch (std::system_error const& error) {
    return error.code().value();
  }
  return 0;
}

// ---- options ---------------------------------------------------------------

TEST(SchedulerOptions, ProcessorsAreAsManyAsAskedFor) {
  for (unsigned const n : {1u, 2u, 3u, 8u})
    EXPECT_EQ(scheduler({.processors = n}).processors(), n);
  // The kernel module lends fewer.
  using activations::backend_choice;
  EXPECT_EQ(scheduler({.processors = 70, .backend = backend_choice::portable})
                .processors(),
            70u);
}

TEST(SchedulerOptions, ProcessorsAreAtMostTheCpusOfTheMaskByDefault) {
  cpu_set_t before;
  sched_getaffinity(0, sizeof before, &before);
  unsigned const all = scheduler().processors();
  EXPECT_GE(all, 1u);
  EXPECT_LE(all, static_cast<unsigned>(CPU_COUNT(&before)));
  cpu_set_t one;
  CPU_ZERO(&one);
  int cpu = 0;
  while (!CPU_ISSET(cpu, &before)) ++cpu;
  CPU_SET(cpu, &one);
  sched_setaffinity(0, sizeof one, &one);
  EXPECT_EQ(scheduler().processors(), 1u);
  sched_setaffinity(0, sizeof before, &before);
}

TEST(SchedulerOptions, ManyToOneHasOneProcessor) {
  EXPECT_EQ(scheduler({.processors = 4, .model = threading::many_to_one})
                .processors(),
            1u);
}

TEST(SchedulerOptions, OutOfRangeIsAnError) {
  EXPECT_EQ(error_of([] { scheduler({.processors = 100'000}); }), EINVAL);
  EXPECT_EQ(error_of([] { scheduler({.max_activations = 1u << 31}); }), EINVAL);
  EXPECT_EQ(error_of([] { scheduler({.slice = -1ns}); }), EINVAL);
  using activations::backend_choice;
  scheduler({.backend = backend_choice::portable}).run([] {});
}

TEST(SchedulerOptions, MoreProcessorsThanCpusShareThem) {
  scheduler there({.processors = 16});
  std::atomic<int> ran{0};
  std::vector<user_thread> threads;
  for (int i = 0; i < 100; ++i)
    threads.push_back(there.spawn([&] {
      this_thread::yield();
      ++ran;
    }));
  threads.clear();
  EXPECT_EQ(ran, 100);
}

TEST(SchedulerOptions, KernelThreadsAreCapped) {
  scheduler there({.processors = 2, .max_activations = 5});
  std::vector<user_thread> threads;
  for (int i = 0; i < 50; ++i)
    threads.push_back(there.spawn([] { ::usleep(200); }));
  threads.clear();
  EXPECT_LE(there.statistics().kernel_threads.activations, 5u);
}

// ---- run -------------------------------------------------------------------

TEST(SchedulerRun, ReturnsTheResultOfAnyKind) {
  scheduler there({.processors = 2});
  EXPECT_EQ(there.run([] { return 3; }), 3);
  EXPECT_EQ(there.run([] { return std::string("text"); }), "text");
  EXPECT_EQ(*there.run([] { return std::make_unique<int>(4); }), 4);
  int n = 0;
  static_assert(std::is_void_v<decltype(there.run([&] { n = 1; }))>);
  there.run([&] { n = 1; });
  EXPECT_EQ(n, 1);
  static_assert(
      std::is_same_v<decltype(there.run([&]() -> int& { return n; })), int&>);
  EXPECT_EQ(&there.run([&]() -> int& { return n; }), &n);
}

TEST(SchedulerRun, ReturnsAResultThatHasNoDefault) {
  struct only {
    explicit only(int n) : n(n) {}
    only(only&&) = default;
    int n;
  };
  scheduler there({.processors = 1});
  EXPECT_EQ(there.run([] { return only(5); }).n, 5);
}

TEST(SchedulerRun, RunsTheTaskThatTheFunctionReturns) {
  scheduler there({.processors = 2});
  EXPECT_EQ(there.run([]() -> task<int> { co_return 6; }), 6);
  int n = 0;
  there.run([&]() -> task<> {
    co_await activations::async_yield();
    n = 7;
  });
  EXPECT_EQ(n, 7);
  EXPECT_EQ(&there.run([&]() -> task<int&> { co_return n; }), &n);
}

TEST(SchedulerRun, RethrowsTheException) {
  scheduler there({.processors = 1});
  EXPECT_THROW(there.run([]() -> int { throw std::logic_error("x"); }),
               std::logic_error);
  EXPECT_THROW(there.run([]() -> task<int> {
    throw std::logic_error("x");
    co_return 0;
  }),
               std::logic_error);
  EXPECT_THROW(there.run([]() -> task<int> { throw std::logic_error("x"); }),
               std::logic_error);
}

TEST(SchedulerRun, MayBeCalledByAThreadOfItsOwn) {
  for (auto const model : {threading::many_to_many, threading::many_to_one,
                           threading::one_to_one}) {
    scheduler there({.processors = 1, .model = model});
    EXPECT_EQ(there.run([&] {
      return there.run([&] { return there.run([] { return 8; }); });
    }),
              8);
  }
}

TEST(SchedulerRun, TakesAMutableAndAMoveOnlyFunction) {
  scheduler there({.processors = 1});
  int calls = 0;
  auto count = [&calls, n = 0, p = std::make_unique<int>(1)]() mutable {
    calls = n += *p;
  };
  there.run(count);
  there.run(count);
  EXPECT_EQ(calls, 2);
}

// ---- spawn and stop --------------------------------------------------------

TEST(SchedulerSpawn, PassesArgumentsAndATokenAsUserThreadDoes) {
  scheduler there({.processors = 1});
  int sum = 0;
  there
      .spawn(
          [](std::stop_token token, int a, int& sum) {
            EXPECT_FALSE(token.stop_requested());
            sum = a + 1;
          },
          4, std::ref(sum))
      .join();
  EXPECT_EQ(sum, 5);
}

TEST(SchedulerStop, ReachesAllThatListenAndAllThatCome) {
  scheduler there({.processors = 2});
  std::atomic<int> stopped{0};
  auto const listen = [&](std::stop_token token) {
    while (!token.stop_requested()) this_thread::yield();
    ++stopped;
  };
  std::vector<user_thread> threads;
  for (int i = 0; i < 10; ++i) threads.push_back(there.spawn(listen));
  there.stop();
  for (auto& each : threads) each.join();
  EXPECT_EQ(stopped, 10);
  there.spawn(listen).join();
  EXPECT_EQ(stopped, 11);
}

TEST(SchedulerStop, MayBeCalledInsideAndByManyAtOnce) {
  for (int round = 0; round < 5 * effort; ++round) {
    scheduler there({.processors = 2});
    std::atomic<int> called{0};
    std::vector<user_thread> threads;
    for (int i = 0; i < 6; ++i)
      threads.push_back(there.spawn([&](std::stop_token token) {
        std::stop_callback const on_stop(token, [&] { ++called; });
        there.stop();
      }));
    std::thread foreign([&] { there.stop(); });
    for (auto& each : threads) each.join();
    foreign.join();
    EXPECT_EQ(called, 6);
  }
}

// ---- work conservation -----------------------------------------------------

TEST(Scheduler, ThreadBlockedInTheKernelLetsOthersRun) {
  scheduler there({.processors = 1});
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  auto reader = there.spawn([&] {
    char c = 0;
    EXPECT_EQ(::read(ends[0], &c, 1), 1);
    EXPECT_EQ(c, 'x');
  });
  auto writer = there.spawn([&] {
    for (int i = 0; i < 10; ++i) this_thread::yield();
    EXPECT_EQ(::write(ends[1], "x", 1), 1);
  });
  reader.join();
  writer.join();
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(Scheduler, TaskBlockedInTheKernelLetsOthersRun) {
  scheduler there({.processors = 1});
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  auto reader = there.spawn([](int from) -> task<char> {
    char c = 0;
    (void)!::read(from, &c, 1);
    co_return c;
  }(ends[0]));
  auto writer = there.spawn([](int to) -> task<> {
    for (int i = 0; i < 10; ++i) co_await activations::async_yield();
    (void)!::write(to, "y", 1);
  }(ends[1]));
  EXPECT_EQ(reader.join(), 'y');
  writer.join();
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST(Scheduler, EveryProcessorTakesPart) {
  scheduler there({.processors = 2});
  // Both must run at once for either to end.
  std::atomic<int> here{0};
  auto const meet = [&] {
    ++here;
    while (here < 2) {
    }
  };
  auto a = there.spawn(meet);
  auto b = there.spawn(meet);
}

TEST(Scheduler, IdleProcessorStealsFromABusyOne) {
  scheduler there({.processors = 2});
  there.run([&] {
    // The maker computes: the made must find the other processor.
    std::atomic<int> ran{0};
    std::vector<user_thread> threads;
    for (int i = 0; i < 10; ++i) threads.emplace_back([&] { ++ran; });
    while (ran < 10) {
    }
  });
}

TEST(Scheduler, WakesUpForEachOfManyShortBursts) {
  scheduler there({.processors = 2});
  auto random = random_stream(1);
  for (int i = 0; i < 200 * effort; ++i) {
    there.spawn([] {}).join();
    for (auto spin = random() % 20'000; spin > 0; --spin) asm volatile("");
  }
}

TEST(Scheduler, NothingIsLostBetweenManyProducersAndSleepers) {
  scheduler there({.processors = 2});
  std::atomic<int> done{0};
  std::vector<user_thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.push_back(there.spawn([&, i] {
      auto random = random_stream(100 + i);
      for (int n = 0; n < 60 * effort; ++n) {
        switch (random() % 5) {
          case 0:
            this_thread::yield();
            break;
          case 1:
            this_thread::sleep_for(std::chrono::microseconds(random() % 100));
            break;
          case 2:
            user_thread([] { this_thread::yield(); }).join();
            break;
          case 3:
            there
                .spawn(
                    []() -> task<> { co_await activations::async_yield(); }())
                .join();
            break;
          default:
            ::usleep(static_cast<useconds_t>(random() % 50));
        }
      }
      ++done;
    }));
  for (auto& each : threads) each.join();
  EXPECT_EQ(done, 8);
}

// ---- models ----------------------------------------------------------------

// The kernel threads on which `count` user threads ran that overlap in time.
std::set<pid_t> kernel_threads_of(scheduler& there, int count) {
  std::set<pid_t> seen;
  activations::mutex m;
  std::vector<user_thread> threads;
  for (int i = 0; i < count; ++i)
    threads.push_back(there.spawn([&] {
      for (int n = 0; n < 5; ++n) {
        {
          std::lock_guard hold(m);
          seen.insert(::gettid());
        }
        this_thread::sleep_for(100us);
      }
    }));
  for (auto& each : threads) each.join();
  return seen;
}

TEST(Models, ManyToOneRunsAllOnOneKernelThread) {
  scheduler there({.model = threading::many_to_one});
  EXPECT_EQ(kernel_threads_of(there, 20).size(), 1u);
}

TEST(Models, ManyToOneStallsAllWhileOneBlocks) {
  scheduler there({.model = threading::many_to_one});
  std::atomic<bool> blocked{false};
  std::atomic<bool> other_ran{false};
  bool ran_meanwhile = true;
  auto blocks = there.spawn([&] {
    auto other = user_thread([&] { other_ran = true; });
    blocked = true;
    ::usleep(20'000);
    ran_meanwhile = other_ran;
    other.join();
  });
  blocks.join();
  EXPECT_FALSE(ran_meanwhile);
}

TEST(Models, OneToOneGivesEachItsKernelThread) {
  scheduler there({.processors = 1, .model = threading::one_to_one});
  std::atomic<int> here{0};
  std::vector<user_thread> threads;
  // Spinning, they can meet only on kernel threads of their own.
  for (int i = 0; i < 4; ++i)
    threads.push_back(there.spawn([&] {
      auto const mine = ::gettid();
      ++here;
      while (here < 4) sched_yield();
      this_thread::sleep_for(10us);
      EXPECT_EQ(::gettid(), mine);
    }));
}

TEST(Models, OneToOneRunsTasksOnItsProcessors) {
  scheduler there({.processors = 2, .model = threading::one_to_one});
  EXPECT_EQ(there.run([]() -> task<int> {
    co_await activations::async_sleep_for(100us);
    co_return 3;
  }),
            3);
}

// ---- what it says of itself ------------------------------------------------

TEST(SchedulerDescribe, IsOneLineWithBackendProcessorsAndModel) {
  auto const text = scheduler({.processors = 2}).describe();
  EXPECT_EQ(text.find('\n'), std::string::npos);
  EXPECT_NE(text.find(" backend ("), std::string::npos) << text;
  EXPECT_NE(text.find("2 processors"), std::string::npos) << text;
  auto const one = scheduler({.model = threading::many_to_one}).describe();
  EXPECT_NE(one.find("1 processor"), std::string::npos) << one;
  EXPECT_EQ(one.find("1 processors"), std::string::npos) << one;
  EXPECT_NE(one.find("many-to-one"), std::string::npos) << one;
  EXPECT_NE(
      scheduler({.model = threading::one_to_one}).describe().find("one-to-one"),
      std::string::npos);
}

TEST(SchedulerStatistics, CountThreadsAndTasksAtBothEnds) {
  scheduler there({.processors = 2});
  for (int i = 0; i < 10; ++i) {
    there.spawn([] {}).join();
    there.spawn([]() -> task<> { co_return; }()).join();
  }
  auto const live = there.spawn([](std::stop_token token) {
    while (!token.stop_requested()) this_thread::yield();
  });
  // What ended is counted once its thread is off its stack.
  wait_until([&] { return there.statistics().finished == 20; });
  EXPECT_EQ(there.statistics().spawned, 21u);
}

TEST(SchedulerStatistics, CountSwitches) {
  scheduler there({.processors = 1});
  auto const before = there.statistics().switches;
  there.run([] {
    auto const spin = [] {
      for (int i = 0; i < 100; ++i) this_thread::yield();
    };
    user_thread a(spin);
    user_thread b(spin);
  });
  EXPECT_GE(there.statistics().switches - before, 200u);
}

TEST(SchedulerStatistics, CountSteals) {
  // Nobody but the other processor's thief can run them: the maker computes,
  // and there are no spares.
  scheduler there({.processors = 2, .max_activations = 2});
  there.run([&] {
    std::atomic<int> ran{0};
    std::vector<user_thread> threads;
    for (int i = 0; i < 10; ++i) threads.emplace_back([&] { ++ran; });
    while (ran < 10) {
    }
  });
  EXPECT_GT(there.statistics().steals, 0u);
}

TEST(SchedulerStatistics, CountLiveStacks) {
  scheduler there({.processors = 2});
  activations::event go;
  std::vector<user_thread> threads;
  for (int i = 0; i < 200; ++i)
    threads.push_back(there.spawn([&] { go.wait(); }));
  EXPECT_GE(there.statistics().stacks.live, 200u);
  go.set();
}

TEST(SchedulerStatistics, CountKernelThreads) {
  scheduler there({.processors = 2});
  auto const s = there.statistics().kernel_threads;
  EXPECT_GE(s.activations, 2u);
  EXPECT_GE(s.created, s.activations);
}

TEST(SchedulerStatistics, MayBeReadByAnyoneAtAnyTime) {
  scheduler there({.processors = 2});
  std::atomic<bool> over{false};
  std::thread foreign([&] {
    std::uint64_t finished = 0;
    while (!over) {
      auto const s = there.statistics();
      EXPECT_GE(s.finished, finished);
      finished = s.finished;
      (void)there.describe();
      (void)there.block_causes();
    }
  });
  there.run([&] {
    for (int i = 0; i < 100 * effort; ++i) {
      user_thread([] { ::usleep(1); }).join();
      (void)there.statistics();
    }
  });
  over = true;
  foreign.join();
}

}  // namespace
