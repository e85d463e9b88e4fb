// SPDX-License-Identifier: BSL-1.0
// How programs that use a scheduler begin, branch, fail and end: fork, signals,
// exit, exceptions that nobody takes, schedulers within schedulers.
#include <activations/scheduler.hpp>

#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <activations/event.hpp>
#include <activations/fork_join.hpp>
#include <activations/latch.hpp>
#include <activations/mutex.hpp>
#include <activations/this_thread.hpp>

#include "blocking_ways.hpp"
#include "crew.hpp"

#if ACTIVATIONS_TSAN
// A child of fork here starts threads, as its parent did.
extern "C" char const* __tsan_default_options() {
  return "die_after_fork=0";
}
#endif

namespace {

using namespace testing_crew;
using activations::scheduler;
using activations::scheduler_options;
using activations::task;
using activations::thread_options;
using activations::threading;
using activations::user_thread;
namespace this_thread = activations::this_thread;

constexpr threading models[] = {threading::many_to_many, threading::many_to_one,
                                threading::one_to_one};

scheduler_options with_model(threading model) {
  return {.processors = 2, .model = model};
}

// Each runs in a program of its own.
class LifecycleDeathTest : public testing::Test {
 protected:
  LifecycleDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

// ---- a scheduler's end -----------------------------------------------------

TEST(SchedulerEnd, RequestsAStopOfAllAndWaitsForThem) {
  for (auto const model : models) {
    std::atomic<int> stopped{0};
    std::vector<user_thread> threads;
    {
      scheduler there(with_model(model));
      // many_to_one: all of them share the processor with each other only.
      for (int i = 0; i < 5; ++i)
        there
            .spawn([&](std::stop_token token) {
              while (!token.stop_requested()) this_thread::sleep_for(100us);
              ++stopped;
            })
            .detach();
    }
    EXPECT_EQ(stopped, 5);
  }
}

TEST(SchedulerEnd, WaitsForThreadsThatDoNotListen) {
  for (auto const model : models) {
    std::atomic<int> ended{0};
    {
      scheduler there(with_model(model));
      for (int i = 0; i < 5; ++i)
        there
            .spawn([&] {
              this_thread::sleep_for(1ms);
              ++ended;
            })
            .detach();
    }
    EXPECT_EQ(ended, 5);
  }
}

TEST(SchedulerEnd, WaitsForTasksNobodyJoins) {
  std::atomic<int> ended{0};
  {
    scheduler there({.processors = 2});
    for (int i = 0; i < 10; ++i)
      (void)there.spawn([](std::atomic<int>& ended) -> task<> {
        co_await activations::async_sleep_for(1ms);
        ++ended;
      }(ended));
  }
  EXPECT_EQ(ended, 10);
}

TEST(SchedulerEnd, WaitsForWhatTheLastOnesStart) {
  std::atomic<int> ended{0};
  struct chain {
    static void link(int left, std::atomic<int>& ended) {
      ++ended;
      if (left > 0) user_thread(&link, left - 1, std::ref(ended)).detach();
    }
  };
  {
    scheduler there({.processors = 2});
    there.spawn(&chain::link, 50, std::ref(ended)).detach();
  }
  EXPECT_EQ(ended, 51);
}

TEST(SchedulerEnd, FollowsAtOnceOnItsBeginning) {
  for (auto const model : models)
    for (int i = 0; i < 10 * effort; ++i) scheduler there(with_model(model));
}

TEST(SchedulerEnd, FollowsAtOnceOnTheLastThread) {
  for (auto const model : models)
    for (int i = 0; i < 10 * effort; ++i) {
      scheduler there(with_model(model));
      there.spawn([] {}).detach();
    }
}

TEST(SchedulerEnd, LeavesNoKernelThread) {
  auto const threads_now = [] {
    int count = 0;
    std::string const mine = "/proc/self/task";
    for ([[maybe_unused]] auto const& each :
         std::filesystem::directory_iterator(mine))
      ++count;
    return count;
  };
  // A sanitizer's own thread comes with the first.
  std::string first;
  std::thread([&] {
    first = "/proc/self/task/" + std::to_string(::gettid());
  }).join();
  // One that was joined is listed for a moment longer.
  using blocking_ways::eventually;
  EXPECT_TRUE(eventually([&] { return !std::filesystem::exists(first); }));
  auto const before = threads_now();
  {
    scheduler there({.processors = 2});
    std::vector<user_thread> threads;
    for (int i = 0; i < 20; ++i)
      threads.push_back(there.spawn([] { ::usleep(2000); }));
  }
  EXPECT_TRUE(eventually([&] { return threads_now() == before; }))
      << threads_now() << " threads, before " << before;
}

// ---- several schedulers ----------------------------------------------------

TEST(NestedScheduler, RunParksTheCallersUserThread) {
  scheduler outer({.processors = 1});
  std::atomic<bool> inner_runs{false};
  std::atomic<bool> outer_ran{false};
  auto waits = outer.spawn([&] {
    scheduler inner({.processors = 1});
    int const result = inner.run([&] {
      inner_runs = true;
      while (!outer_ran) this_thread::yield();
      return 5;
    });
    EXPECT_EQ(result, 5);
  });
  auto works = outer.spawn([&] {
    while (!inner_runs) this_thread::yield();
    outer_ran = true;
  });
}

TEST(NestedScheduler, EachModelWorksInsideEachOther) {
  for (auto const outside : models)
    for (auto const inside : models) {
      scheduler outer(with_model(outside));
      auto const sum = outer.run([&] {
        scheduler inner(with_model(inside));
        std::atomic<int> total{0};
        std::vector<user_thread> threads;
        for (int i = 1; i <= 4; ++i)
          threads.push_back(inner.spawn([&, i] {
            this_thread::yield();
            total += i;
          }));
        for (auto& each : threads) each.join();
        return total.load();
      });
      EXPECT_EQ(sum, 10);
    }
}

TEST(NestedScheduler, UserThreadBelongsToTheSchedulerItIsMadeIn) {
  scheduler outer({.processors = 1});
  outer.run([&] {
    scheduler inner({.processors = 1});
    inner.run([&] { user_thread([] {}).join(); });
    EXPECT_EQ(inner.statistics().spawned, 2u);  // with run's own
    user_thread([] {}).join();
    EXPECT_EQ(inner.statistics().spawned, 2u);
  });
}

TEST(NestedScheduler, OffersAllProcessorsOfTheProcess) {
  unsigned const outside = scheduler().processors();
  scheduler outer;
  unsigned const inside = outer.run([] { return scheduler().processors(); });
  EXPECT_EQ(inside, outside);
}

TEST(TwoSchedulers, ShareThePrimitives) {
  scheduler a({.processors = 1});
  scheduler b({.processors = 1});
  activations::mutex m;
  long counted = 0;
  auto const count = [&] {
    for (int i = 0; i < 200 * effort; ++i) {
      std::lock_guard hold(m);
      ++counted;
      if (i % 16 == 0) this_thread::yield();
    }
  };
  std::vector<user_thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.push_back(a.spawn(count));
    threads.push_back(b.spawn(count));
  }
  threads.clear();
  EXPECT_EQ(counted, 6 * 200 * effort);
}

TEST(TwoSchedulers, ThreadOfOneJoinsAThreadOfTheOther) {
  scheduler a({.processors = 1});
  scheduler b({.processors = 1});
  a.run([&] {
    for (int i = 0; i < 100; ++i) {
      int n = 0;
      b.spawn([&] { n = 1; }).join();
      EXPECT_EQ(n, 1);
    }
  });
}

TEST(TwoSchedulers, TaskOfOneAwaitsATaskOfTheOther) {
  scheduler a({.processors = 1});
  scheduler b({.processors = 1});
  auto const made = [](int n) -> task<int> {
    co_await activations::async_yield();
    co_return n;
  };
  int const sum = a.run([&]() -> task<int> {
    int sum = 0;
    for (int i = 0; i < 100; ++i) sum += co_await b.spawn(made(i));
    co_return sum;
  });
  EXPECT_EQ(sum, 4950);
}

// ---- foreign threads -------------------------------------------------------

TEST(ForeignThreads, SpawnAndJoinAllAtOnce) {
  for (auto const model : models) {
    scheduler there(with_model(model));
    std::atomic<int> ran{0};
    std::vector<std::thread> foreign;
    for (int i = 0; i < 4; ++i)
      foreign.emplace_back([&] {
        for (int n = 0; n < 20 * effort; ++n) {
          there.spawn([&] { ++ran; }).join();
          EXPECT_EQ(there.run([&] { return ++ran; }) > 0, true);
        }
      });
    for (auto& each : foreign) each.join();
    EXPECT_EQ(ran, 4 * 2 * 20 * effort);
  }
}

TEST(ForeignThreads, ThreadMadeByAUserThreadMaySpawnToo) {
  scheduler there({.processors = 2});
  std::atomic<int> ran{0};
  there.run([&] {
    std::thread([&] {
      EXPECT_EQ(this_thread::get_id(), activations::thread_id());
      there.run([&] { ++ran; });
    }).join();
  });
  EXPECT_EQ(ran, 1);
}

// ThreadSanitizer makes threads with attributes of its own.
#if !ACTIVATIONS_TSAN
TEST(ForeignThreads, ThreadMadeByAUserThreadMayRunOnAllProcessors) {
  cpu_set_t outside;
  sched_getaffinity(0, sizeof outside, &outside);
  for (auto const model : models) {
    scheduler there(with_model(model));
    there.run([&] {
      std::thread([&] {
        cpu_set_t inside;
        sched_getaffinity(0, sizeof inside, &inside);
        EXPECT_TRUE(CPU_EQUAL(&inside, &outside));
      }).join();
    });
  }
}
#endif

TEST(ForeignThreads, MayNotifyAThreadWhoseSchedulerEndsAtOnce) {
  for (int i = 0; i < 20 * effort; ++i) {
    activations::event go;
    std::atomic<bool> waits{false};
    std::thread foreign;
    {
      scheduler there({.processors = 1, .max_activations = 1});
      auto t = there.spawn([&] {
        waits = true;
        go.wait();
      });
      foreign = std::thread([&] {
        while (!waits) std::this_thread::yield();
        go.set();
      });
    }
    foreign.join();
  }
}

// ---- exceptions ------------------------------------------------------------

TEST(Exceptions, LeaveThreadsTasksAndForksThroughTheirJoins) {
  scheduler there({.processors = 2});
  auto const fails = [](int n) -> task<> {
    co_await activations::async_yield();
    throw n;
  };
  EXPECT_THROW(there.run([] { throw 1; }), int);
  EXPECT_THROW(there.run([&] { return fails(1); }), int);
  EXPECT_THROW(there.spawn(fails(1)).join(), int);
  there.run([&] {
    EXPECT_THROW(activations::fork_join([] {}, [] { throw 1; }), int);
    EXPECT_THROW(activations::fork_join([] { throw 1; }, [] {}), int);
  });
  EXPECT_THROW(there.run([&]() -> task<> {
    co_await activations::fork_join(fails(1), fails(2));
  }),
               int);
}

TEST(Exceptions, OfATaskNobodyJoinsIsDropped) {
  scheduler there({.processors = 1});
  (void)there.spawn([]() -> task<> {
    throw std::runtime_error("for nobody");
    co_return;
  }());
}

[[noreturn]] void fail() {
  throw std::runtime_error("nobody takes it");
}

TEST_F(LifecycleDeathTest, DetachedThreadThatThrowsEndsTheProgram) {
  for (auto const model : models)
    EXPECT_DEATH(
        {
          scheduler there(with_model(model));
          there.spawn(&fail).detach();
          for (;;) ::pause();
        },
        "runtime_error.*\n.*nobody takes it");
}

TEST_F(LifecycleDeathTest, DetachOfAThreadThatThrewEndsTheProgram) {
  EXPECT_DEATH(
      {
        scheduler there({.processors = 1});
        auto t = there.spawn(&fail);
        let_others_wait();
        t.detach();
        for (;;) ::pause();
      },
      "nobody takes it");
}

TEST_F(LifecycleDeathTest, ExceptionMetByADestructorEndsTheProgram) {
  EXPECT_DEATH(
      {
        scheduler there({.processors = 1});
        user_thread t = there.spawn(&fail);
      },
      "nobody takes it");
}

// ---- exit ------------------------------------------------------------------

TEST_F(LifecycleDeathTest, ExitInAUserThreadEndsTheProgram) {
  for (auto const model : models)
    EXPECT_EXIT(
        {
          scheduler there(with_model(model));
          std::vector<user_thread> others;
          for (int i = 0; i < 3; ++i)
            others.push_back(there.spawn([](std::stop_token token) {
              while (!token.stop_requested()) this_thread::yield();
            }));
          there.run([] { std::exit(7); });
        },
        testing::ExitedWithCode(7), "");
}

TEST_F(LifecycleDeathTest, ExitInAUserThreadOfAStaticScheduler) {
  for (auto const model : models)
    EXPECT_EXIT(
        {
          static scheduler there(with_model(model));
          std::vector<user_thread> others;
          for (int i = 0; i < 3; ++i)
            others.push_back(there.spawn([](std::stop_token token) {
              while (!token.stop_requested()) this_thread::yield();
            }));
          there.run([] { std::exit(8); });
        },
        testing::ExitedWithCode(8), "");
}

TEST_F(LifecycleDeathTest, ReturnFromMainEndsAStaticScheduler) {
  EXPECT_EXIT(
      {
        static scheduler there({.processors = 2});
        there
            .spawn([](std::stop_token token) {
              while (!token.stop_requested()) this_thread::sleep_for(100us);
              constexpr char text[] = "stopped\n";
              [[maybe_unused]] auto n = ::write(2, text, sizeof text - 1);
            })
            .detach();
        std::exit(9);  // the main thread's
      },
      testing::ExitedWithCode(9), "stopped");
}

TEST_F(LifecycleDeathTest, ExitInATask) {
  EXPECT_EXIT(
      {
        static scheduler there({.processors = 2});
        there.run([]() -> task<> {
          std::exit(6);
          co_return;
        });
      },
      testing::ExitedWithCode(6), "");
}

// ---- fork ------------------------------------------------------------------

// Runs f in a child made by fork() here; returns its exit status.
template <class F>
int exit_status_of_child(F f) {
  pid_t const child = ::fork();
  if (child == 0) f();  // does not return
  int status = -1;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

class Fork : public testing::TestWithParam<threading> {
 protected:
  // A program in which others run too while it forks.
  void in_a_busy_program(void (*body)()) {
    scheduler there(with_model(GetParam()));
    std::atomic<bool> over{false};
    std::vector<user_thread> others;
    for (int i = 0; i < 3; ++i)
      others.push_back(there.spawn([&] {
        while (!over) {
          this_thread::yield();
          this_thread::sleep_for(10us);
          if (GetParam() != threading::many_to_one) ::usleep(10);
        }
      }));
    there.run(body);
    over = true;
  }
};

INSTANTIATE_TEST_SUITE_P(Models, Fork, testing::ValuesIn(models),
                         [](auto const& info) {
                           return "Model" +
                                  std::to_string(static_cast<int>(info.param));
                         });

TEST_P(Fork, ChildIsAPlainKernelThread) {
  in_a_busy_program([] {
    EXPECT_EQ(exit_status_of_child([] {
                if (this_thread::get_id() != activations::thread_id())
                  ::_exit(1);
                this_thread::yield();
                this_thread::sleep_for(1ms);
                activations::mutex m;
                std::lock_guard hold(m);
                try {
                  user_thread t([] {});
                } catch (std::system_error const& error) {
                  ::_exit(error.code().value() == EPERM ? 0 : 2);
                }
                ::_exit(3);
              }),
              0);
  });
}

TEST_P(Fork, ChildMayRunOnAllProcessors) {
  static cpu_set_t outside;
  sched_getaffinity(0, sizeof outside, &outside);
  in_a_busy_program([] {
    EXPECT_EQ(exit_status_of_child([] {
                cpu_set_t inside;
                sched_getaffinity(0, sizeof inside, &inside);
                ::_exit(CPU_EQUAL(&inside, &outside) ? 0 : 1);
              }),
              0);
  });
}

TEST_P(Fork, ChildMayHaveASchedulerOfItsOwn) {
  in_a_busy_program([] {
    EXPECT_EQ(exit_status_of_child([] {
                scheduler own(with_model(GetParam()));
                ::_exit(own.run([] {
                  int n = 0;
                  user_thread([&] { n = 3; }).join();
                  return n;
                }));
              }),
              3);
  });
}

TEST_P(Fork, ChildMayThrowAndCatch) {
  in_a_busy_program([] {
    try {
      throw 1;
    } catch (int) {
      EXPECT_EQ(exit_status_of_child([] {
                  try {
                    throw 2;
                  } catch (int n) {
                    ::_exit(n);
                  }
                }),
                2);
    }
  });
}

TEST_P(Fork, ChildThatReturnsFromItsUserThreadEndsWithZero) {
  in_a_busy_program([] {
    pid_t const child = ::fork();
    if (child == 0) return;  // out of the user thread's function
    int status = -1;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
  });
}

TEST_P(Fork, ChildOfTheMainThreadMayExit) {
  scheduler there(with_model(GetParam()));
  auto other = there.spawn([](std::stop_token token) {
    while (!token.stop_requested()) this_thread::sleep_for(100us);
  });
  EXPECT_EQ(exit_status_of_child([] { ::_exit(4); }), 4);
}

TEST_P(Fork, SchedulerOfTheParentMayBeDestroyedInTheChild) {
  auto there = std::make_unique<scheduler>(with_model(GetParam()));
  there->run([] {});
  EXPECT_EQ(exit_status_of_child([&] {
              there.reset();
              ::_exit(5);
            }),
            5);
  there->run([] {});
}

TEST_P(Fork, ParentGoesOn) {
  in_a_busy_program([] {
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(exit_status_of_child([] { ::_exit(0); }), 0);
      this_thread::sleep_for(100us);
      user_thread([] {}).join();
    }
  });
}

// ---- signals ---------------------------------------------------------------

std::atomic<int> signals_seen{0};
std::atomic<pid_t> signal_thread{0};

class Signals : public testing::TestWithParam<threading> {
 protected:
  Signals() {
    signals_seen = 0;
    signal_thread = 0;
    struct sigaction action {};
    action.sa_handler = [](int) {
      signal_thread = ::gettid();
      ++signals_seen;
    };
    action.sa_flags = SA_RESTART;
    ::sigaction(SIGUSR1, &action, &before_);
  }
  ~Signals() override { ::sigaction(SIGUSR1, &before_, nullptr); }

  struct sigaction before_ {};
};

INSTANTIATE_TEST_SUITE_P(Models, Signals, testing::ValuesIn(models),
                         [](auto const& info) {
                           return "Model" +
                                  std::to_string(static_cast<int>(info.param));
                         });

// The kernel prefers the main thread, unless that is still in the handler of
// the last one, however long it was off its CPU there.
template <class Pause>
bool signals_reach_main(Pause pause) {
  int on_main = 0;
  return blocking_ways::eventually([&] {
    int const before = signals_seen;
    ::kill(::getpid(), SIGUSR1);
    while (signals_seen == before) pause();
    on_main += signal_thread == ::getpid();
    return on_main == 20;
  });
}

TEST_P(Signals, SentToTheProcessReachTheMainThread) {
  scheduler there(with_model(GetParam()));
  std::atomic<bool> over{false};
  std::vector<user_thread> others;
  for (int i = 0; i < 3; ++i)
    others.push_back(there.spawn([&] {
      while (!over) this_thread::yield();
    }));
  EXPECT_TRUE(signals_reach_main(&std::this_thread::yield));
  over = true;
}

// ThreadSanitizer holds a signal back until its thread makes a call that it
// knows, and a waiting main thread makes none.
#if !ACTIVATIONS_TSAN
TEST_P(Signals, ReachTheMainThreadWhileItWaitsInRun) {
  scheduler there(with_model(GetParam()));
  there.run([] { EXPECT_TRUE(signals_reach_main(&this_thread::yield)); });
}

#endif

TEST_P(Signals, BlockedBeforehandCanBeWaitedFor) {
  sigset_t only;
  sigset_t before;
  sigemptyset(&only);
  sigaddset(&only, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &only, &before);
  {
    scheduler there(with_model(GetParam()));
    auto waits = there.spawn([&] {
      int number = 0;
      EXPECT_EQ(sigwait(&only, &number), 0);
      EXPECT_EQ(number, SIGUSR1);
    });
    ::kill(::getpid(), SIGUSR1);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(signals_seen, 0);
}

TEST_P(Signals, HandlerOnAUserThreadMayInterruptAnything) {
  scheduler there(with_model(GetParam()));
  std::atomic<bool> over{false};
  std::vector<user_thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.push_back(there.spawn([&] {
      while (!over) {
        std::vector<user_thread> some;
        for (int n = 0; n < 4; ++n)
          some.emplace_back([] { this_thread::yield(); });
        ::pthread_kill(::pthread_self(), SIGUSR1);
      }
    }));
  while (signals_seen < 100 * effort) std::this_thread::yield();
  over = true;
}

}  // namespace
