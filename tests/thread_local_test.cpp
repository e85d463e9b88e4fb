// SPDX-License-Identifier: BSL-1.0
// P3 of docs/design.md.  A thread that is stopped anywhere, or blocks, goes on
// on the same kernel thread with all that is per kernel thread; one that waits
// in a call of the runtime may move, and keeps its C++ exceptions.
// tests/lto builds this with link-time optimisation, in two units.
#include <gtest/gtest.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <exception>
#include <functional>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <activations/activations.hpp>

#include "crew.hpp"
#include "thread_state.hpp"
#ifndef THREAD_STATE_IS_ELSEWHERE
#include "lto/program/thread_state.cpp"
#endif

namespace {

using namespace testing_crew;
using activations::async_yield;
using activations::scheduler;
using activations::scheduler_options;
using activations::task;
using activations::user_thread;
namespace this_thread = activations::this_thread;

constexpr int threads_at_once = 8;

// Runs f(i) as some user threads, all at once.
template <class F>
void run_all(scheduler& there, F f) {
  std::vector<user_thread> threads;
  for (int i = 0; i < threads_at_once; ++i)
    threads.push_back(there.spawn([&, i] { f(i); }));
  for (auto& each : threads) each.join();
}

// ---- involuntary -----------------------------------------------------------

// What stops a thread without its asking.
struct interruption {
  char const* name;
  scheduler_options options;
  void (*stop)(int round);
};

// A slice that ends as the call begins may interrupt it: usleep would say so in
// errno.
void block(int round) {
  timespec const time{0, 1000 * (20 + round % 50)};
  (void)::clock_nanosleep(CLOCK_MONOTONIC, 0, &time, nullptr);
}

// Long enough for slices to end in it now and then.
void run_on(int round) {
  thread_state::compute(1'000'000 + 10'000u * static_cast<unsigned>(round % 7));
}

class Involuntary : public testing::TestWithParam<interruption> {
 protected:
  scheduler there_{GetParam().options};
  // Each calls this between a change and its check.
  static void stop(int round) { GetParam().stop(round); }
  static constexpr int rounds = 10 * effort;
};

INSTANTIATE_TEST_SUITE_P(
    Stops, Involuntary,
    testing::Values(
        interruption{"Blocks", {.processors = 2}, &block},
        interruption{"BlocksOnOneProcessor", {.processors = 1}, &block},
        interruption{
            "BlocksStrictly", {.processors = 2, .strict = true}, &block},
        interruption{"Slices", {.processors = 2, .slice = 1ms}, &run_on},
        interruption{
            "SlicesOnOneProcessor", {.processors = 1, .slice = 1ms}, &run_on},
        interruption{
            "SlicesAndBlocks",
            {.processors = 2, .slice = 1ms},
            [](int round) { round % 2 == 0 ? block(round) : run_on(round); }}),
    [](auto const& info) { return info.param.name; });

// What uses thread_locals between two waits is a function of its own: inlined,
// the compiler would keep their addresses across the waits.
[[gnu::noinline]] void check_thread_locals(int me, int i, void (*stop)(int)) {
  int const mark = 1000 * me + i;
  auto const thread = ::pthread_self();
  auto const tid = thread_state::remembered_tid();
  int* const address = &thread_state::plain;
  thread_state::plain = mark;
  thread_state::lazy = thread_state::make_text(me, 100);
  stop(i);
  EXPECT_EQ(thread_state::plain, mark);
  EXPECT_EQ(&thread_state::plain, address);
  EXPECT_TRUE(thread_state::is_text_of(me, thread_state::lazy));
  EXPECT_TRUE(::pthread_equal(::pthread_self(), thread));
  EXPECT_EQ(::gettid(), tid);
  EXPECT_EQ(thread_state::remembered_tid(), tid);
}

TEST_P(Involuntary, KeepsTheKernelThreadAndItsThreadLocals) {
  run_all(there_, [](int me) {
    for (int i = 0; i < rounds; ++i) {
      check_thread_locals(me, i, &stop);
      this_thread::yield();  // others use the kernel thread in between
    }
  });
}

[[gnu::noinline]] void check_errno(int me, int i, void (*stop)(int)) {
  thread_state::set_errno(me + 1);
  stop(i);
  EXPECT_EQ(thread_state::get_errno(), me + 1);
  EXPECT_EQ(errno, me + 1);
}

TEST_P(Involuntary, KeepsErrno) {
  run_all(there_, [](int me) {
    for (int i = 0; i < rounds; ++i) {
      check_errno(me, i, &stop);
      this_thread::yield();
    }
  });
}

TEST_P(Involuntary, KeepsTheHeapWhole) {
  run_all(there_, [](int me) {
    auto random = random_stream(me);
    std::vector<std::string> texts(50);
    for (int i = 0; i < rounds; ++i) {
      for (int n = 0; n < 200; ++n)
        texts[random() % texts.size()] =
            thread_state::make_text(me, random() % 3000);
      stop(i);
      for (auto const& each : texts)
        ASSERT_TRUE(thread_state::is_text_of(me, each));
      this_thread::yield();
    }
  });
}

TEST_P(Involuntary, KeepsTheExceptionBeingHandled) {
  run_all(there_, [](int me) {
    for (int i = 0; i < rounds; ++i) {
      try {
        throw std::runtime_error(std::to_string(me));
      } catch (std::runtime_error const& error) {
        stop(i);
        EXPECT_EQ(error.what(), std::to_string(me));
        try {
          throw;
        } catch (std::runtime_error const& again) {
          EXPECT_EQ(&again, &error);
        }
      }
      EXPECT_EQ(std::current_exception(), nullptr);
      this_thread::yield();
    }
  });
}

// Slices end in the middle of throwing, too.
TEST(Slices, EndInsideThrowsAndAllocations) {
  scheduler there({.processors = 2, .slice = 1ms});
  std::atomic<bool> over{false};
  std::vector<user_thread> threads;
  for (int me = 0; me < threads_at_once; ++me)
    threads.push_back(there.spawn([&, me] {
      while (!over) {
        try {
          auto const text =
              std::make_unique<std::string>(thread_state::make_text(me, 300));
          throw std::runtime_error(*text);
        } catch (std::runtime_error const& error) {
          ASSERT_TRUE(thread_state::is_text_of(me, error.what()));
        }
      }
    }));
  wait_until(
      [&] { return there.statistics().kernel_threads.preemptions > 100; });
  over = true;
}

// ---- voluntary -------------------------------------------------------------

// The ways of giving way.
struct wait {
  char const* name;
  void (*now)(int round);
};

class Voluntary : public testing::TestWithParam<wait> {
 protected:
  static void give_way(int round) { GetParam().now(round); }
  scheduler there_{scheduler_options{.processors = 3}};
  static constexpr int rounds = 100 * effort;
};

activations::mutex shared_mutex;

INSTANTIATE_TEST_SUITE_P(
    Waits, Voluntary,
    testing::Values(wait{"Yield", [](int) { this_thread::yield(); }},
                    wait{"Sleep",
                         [](int round) {
                           this_thread::sleep_for(
                               std::chrono::microseconds(round % 5));
                         }},
                    wait{"Mutex",
                         [](int) {
                           std::lock_guard hold(shared_mutex);
                           this_thread::yield();
                         }},
                    wait{"Join", [](int) { user_thread([] {}).join(); }},
                    wait{"Mixed",
                         [](int round) {
                           if (round % 7 == 0) ::usleep(1);
                           if (round % 3 == 0)
                             this_thread::sleep_for(1us);
                           else
                             this_thread::yield();
                         }}),
    [](auto const& info) { return info.param.name; });

TEST_P(Voluntary, KeepsTheExceptionBeingHandled) {
  run_all(there_, [](int me) {
    for (int i = 0; i < rounds; ++i) {
      try {
        throw me;
      } catch (int& caught) {
        give_way(i);
        EXPECT_EQ(caught, me);
        try {
          throw;
        } catch (int& again) {
          EXPECT_EQ(&again, &caught);
          give_way(i);
        }
        auto const pointer = std::current_exception();
        give_way(i);
        EXPECT_EQ(std::current_exception(), pointer);
      }
      EXPECT_EQ(std::current_exception(), nullptr);
    }
  });
}

TEST_P(Voluntary, KeepsNestedExceptions) {
  run_all(there_, [](int me) {
    for (int i = 0; i < rounds; ++i) {
      try {
        throw me;
      } catch (int outer) {
        give_way(i);
        try {
          throw std::string(1, static_cast<char>('a' + me));
        } catch (std::string const& inner) {
          give_way(i);
          EXPECT_EQ(inner[0], 'a' + me);
        }
        give_way(i);
        EXPECT_EQ(outer, me);
        try {
          throw;
        } catch (int again) {
          EXPECT_EQ(again, me);
        }
      }
    }
  });
}

// A destructor that waits while an exception goes past it.
struct waits_in_destructor {
  int round;
  void (*give_way)(int);
  ~waits_in_destructor() {
    EXPECT_EQ(std::uncaught_exceptions(), 1);
    give_way(round);
    EXPECT_EQ(std::uncaught_exceptions(), 1);
    try {
      throw 'x';  // and catches others meanwhile
    } catch (char) {
      give_way(round);
    }
    EXPECT_EQ(std::uncaught_exceptions(), 1);
  }
};

TEST_P(Voluntary, KeepsTheExceptionUnderWay) {
  run_all(there_, [](int me) {
    for (int i = 0; i < rounds; ++i) {
      EXPECT_EQ(std::uncaught_exceptions(), 0);
      try {
        waits_in_destructor const w{i, &give_way};
        throw me;
      } catch (int caught) {
        EXPECT_EQ(caught, me);
        EXPECT_EQ(std::uncaught_exceptions(), 0);
      }
      // Beside those who are handling or throwing, one who does neither.
      give_way(i);
      EXPECT_EQ(std::current_exception(), nullptr);
    }
  });
}

TEST_P(Voluntary, KeepsWhoItIs) {
  run_all(there_, [](int) {
    auto const id = this_thread::get_id();
    for (int i = 0; i < rounds; ++i) {
      give_way(i);
      ASSERT_EQ(this_thread::get_id(), id);
    }
  });
}

TEST_P(Voluntary, SeesTheThreadLocalsOfTheKernelThreadItIsOn) {
  run_all(there_, [](int) {
    for (int i = 0; i < rounds; ++i) {
      give_way(i);
      ASSERT_EQ(thread_state::remembered_tid(), ::gettid());
    }
  });
}

TEST_P(Voluntary, MayFreeElsewhereWhatItAllocated) {
  run_all(there_, [](int me) {
    auto random = random_stream(me);
    std::vector<std::string> texts(20);
    for (int i = 0; i < rounds; ++i) {
      for (int n = 0; n < 10; ++n)
        texts[random() % texts.size()] =
            thread_state::make_text(me, random() % 2000);
      give_way(i);
      for (auto const& each : texts)
        ASSERT_TRUE(thread_state::is_text_of(me, each));
    }
  });
}

// So that the above means anything.
TEST(Moves, DoHappen) {
  scheduler there({.processors = 2});
  std::atomic<bool> moved{false};
  std::vector<user_thread> threads;
  for (int i = 0; i < threads_at_once; ++i)
    threads.push_back(there.spawn([&] {
      auto const first = ::gettid();
      while (!moved) {
        this_thread::yield();
        this_thread::sleep_for(1us);
        if (::gettid() != first) moved = true;
      }
    }));
}

[[gnu::noinline]] void check_pinned(int me) {
  this_thread::pinned_scope const pinned;
  int* const address = &thread_state::plain;
  thread_state::plain = me;
  auto const tid = ::gettid();
  this_thread::yield();
  this_thread::sleep_for(1us);
  thread_state::compute(10'000);
  { std::lock_guard hold(shared_mutex); }
  EXPECT_EQ(::gettid(), tid);
  EXPECT_EQ(thread_state::remembered_tid(), tid);
  EXPECT_EQ(*address, me);  // nobody else ran here
}

TEST(Moves, DoNotHappenInAPinnedScope) {
  scheduler there({.processors = 2, .slice = 1ms});
  run_all(there, [](int me) {
    for (int i = 0; i < 20 * effort; ++i) check_pinned(me);
  });
}

// ---- tasks -----------------------------------------------------------------

task<> rethrow_across_waits(int me, int rounds) {
  for (int i = 0; i < rounds; ++i) {
    std::exception_ptr kept;
    try {
      throw me;
    } catch (...) {
      kept = std::current_exception();
      this_thread::yield();  // the carrier waits, inside the handler
      EXPECT_EQ(std::current_exception(), kept);
    }
    co_await async_yield();
    EXPECT_EQ(std::current_exception(), nullptr);
    try {
      std::rethrow_exception(kept);
    } catch (int caught) {
      EXPECT_EQ(caught, me);
    }
  }
}

TEST(Tasks, KeepTheirExceptionsAcrossWaitsAndMoves) {
  scheduler there({.processors = 2, .slice = 1ms});
  std::vector<activations::join_handle<>> handles;
  for (int i = 0; i < threads_at_once; ++i)
    handles.push_back(there.spawn(rethrow_across_waits(i, 100 * effort)));
  for (auto& each : handles) each.join();
}

}  // namespace
