// SPDX-License-Identifier: BSL-1.0
#include <activations/fork_join.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <activations/mutex.hpp>
#include <activations/this_thread.hpp>
#include <activations/user_thread.hpp>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::async_sleep_for;
using activations::async_yield;
using activations::fork_join;
using activations::scheduler;
using activations::scheduler_options;
using activations::task;
using activations::threading;
using activations::user_thread;
namespace this_thread = activations::this_thread;

constexpr long fib_of(int n) {
  long a = 0, b = 1;
  for (; n > 0; --n) a = std::exchange(b, a + b);
  return a;
}

constexpr int depth = effort > 1 ? 22 : 15;

class ForkJoin : public testing::Test {
 protected:
  scheduler there_{scheduler_options{.processors = 2}};
};

// ---- plain callables -------------------------------------------------------

long fib(int n) {
  if (n < 2) return n;
  auto const [a, b] =
      fork_join([&] { return fib(n - 1); }, [&] { return fib(n - 2); });
  return a + b;
}

TEST_F(ForkJoin, GivesBothResults) {
  there_.run([] {
    auto [a, b] = fork_join([] { return 1; },
                            [] { return std::make_unique<std::string>("x"); });
    EXPECT_EQ(a, 1);
    EXPECT_EQ(*b, "x");
    int n = 0;
    fork_join([&] { n += 1; }, [] {});
    auto const [none, seven] = fork_join([] {}, [] { return 7; });
    (void)none;
    EXPECT_EQ(n, 1);
    EXPECT_EQ(seven, 7);
  });
}

TEST_F(ForkJoin, RunsOnAPlainKernelThread) {
  auto const [a, b] = fork_join([] { return 1; }, [] { return 2; });
  EXPECT_EQ(a + b, 3);
  EXPECT_EQ(fib(10), fib_of(10));
}

TEST_F(ForkJoin, RecursesOnAUserThreadAndInATask) {
  EXPECT_EQ(there_.run([] { return fib(depth); }), fib_of(depth));
  EXPECT_EQ(there_.run([]() -> task<long> { co_return fib(depth); }),
            fib_of(depth));
}

TEST_F(ForkJoin, RunsInEachModelAndOnManyProcessors) {
  for (auto const model :
       {threading::many_to_many, threading::many_to_one, threading::one_to_one})
    for (unsigned const processors : {1u, 2u, 5u}) {
      scheduler there({.processors = processors, .model = model});
      EXPECT_EQ(there.run([] { return fib(14); }), fib_of(14));
      EXPECT_EQ(there.run([]() -> task<long> { co_return fib(14); }),
                fib_of(14));
    }
}

TEST_F(ForkJoin, IdleProcessorTakesTheSecondPiece) {
  there_.run([] {
    std::atomic<bool> second{false};
    // The first ends only if another runs the second meanwhile.
    fork_join(
        [&] {
          while (!second) {
          }
        },
        [&] { second = true; });
  });
}

TEST_F(ForkJoin, FirstPieceMayWaitForTheSecondOnOneProcessor) {
  scheduler one({.processors = 1});
  one.run([] {
    std::atomic<bool> second{false};
    fork_join(
        [&] {
          while (!second) this_thread::yield();
        },
        [&] { second = true; });
  });
}

TEST_F(ForkJoin, PiecesMayYieldSleepAndBlock) {
  there_.run([] {
    for (int i = 0; i < 20 * effort; ++i) {
      auto const [a, b] = fork_join(
          [&] {
            this_thread::yield();
            if (i % 3 == 0) this_thread::sleep_for(10us);
            return 1;
          },
          [&] {
            if (i % 5 == 0) ::usleep(10);
            this_thread::yield();
            return 2;
          });
      EXPECT_EQ(a + b, 3);
    }
  });
}

TEST_F(ForkJoin, ManyUserThreadsForkAtOnce) {
  std::vector<user_thread> threads;
  for (int i = 0; i < 20; ++i)
    threads.push_back(there_.spawn([] {
      EXPECT_EQ(fib(12), fib_of(12));
      this_thread::yield();
      EXPECT_EQ(fib(11), fib_of(11));
    }));
}

// Deeper than a deque is long: what does not fit is run in line.
long nest(int n) {
  if (n == 0) return 0;
  auto const [a, b] = fork_join([&] { return nest(n - 1); }, [] { return 1; });
  return a + b;
}

TEST_F(ForkJoin, NestsDeeperThanItsDequeIsLong) {
  scheduler there({.processors = 2, .stack_bytes = 8 << 20});
  EXPECT_EQ(there.run([] { return nest(3000); }), 3000);
}

TEST_F(ForkJoin, SplitsWorkOverAllElements) {
  std::vector<int> numbers(20'000 * effort);
  std::iota(numbers.begin(), numbers.end(), 0);
  struct visit {
    static void all(int* from, int* to) {
      if (to - from <= 64) {
        for (; from != to; ++from) *from *= 2;
        return;
      }
      auto* const middle = from + (to - from) / 2;
      fork_join([=] { all(from, middle); }, [=] { all(middle, to); });
    }
  };
  there_.run(
      [&] { visit::all(numbers.data(), numbers.data() + numbers.size()); });
  for (std::size_t i = 0; i < numbers.size(); ++i)
    ASSERT_EQ(numbers[i], 2 * static_cast<int>(i));
}

// ---- exceptions of callables -----------------------------------------------

TEST_F(ForkJoin, RethrowsTheFirstInOrderAfterBothHaveEnded) {
  there_.run([&] {
    for (int i = 0; i < 50 * effort; ++i) {
      std::atomic<int> running{0};
      struct scope {
        std::atomic<int>& running;
        explicit scope(std::atomic<int>& r) : running(r) { ++running; }
        ~scope() { --running; }
      };
      auto const piece = [&](int fails_with, bool yields) {
        return [&running, fails_with, yields] {
          scope const here(running);
          if (yields) this_thread::yield();
          if (fails_with != 0) throw fails_with;
        };
      };
      for (auto const& [f, g, expected] :
           {std::tuple{1, 0, 1}, {0, 2, 2}, {1, 2, 1}}) {
        try {
          fork_join(piece(f, i % 2 == 0), piece(g, i % 3 == 0));
          FAIL();
        } catch (int caught) {
          EXPECT_EQ(caught, expected);
          EXPECT_EQ(running, 0);
        }
      }
    }
  });
}

TEST_F(ForkJoin, ExceptionPassesThroughDeepForks) {
  struct throws {
    static long at(int n) {
      if (n == 0) throw std::runtime_error("at the bottom");
      auto const [a, b] =
          fork_join([&] { return at(n - 1); }, [&] { return fib(5); });
      return a + b;
    }
  };
  there_.run([] {
    for (int i = 0; i < 10; ++i) {
      EXPECT_THROW(throws::at(50), std::runtime_error);
      EXPECT_EQ(fib(10), fib_of(10));  // the deque is as it was
    }
  });
}

// ---- coroutines ------------------------------------------------------------

task<long> co_fib(int n) {
  if (n < 2) co_return n;
  auto const [a, b] = co_await fork_join(co_fib(n - 1), co_fib(n - 2));
  co_return a + b;
}

task<int> give(int n) {
  co_return n;
}

TEST_F(ForkJoin, OfTasksGivesAllResults) {
  there_.run([]() -> task<> {
    auto [a, b, c] = co_await fork_join(
        give(1),
        []() -> task<std::unique_ptr<int>> {
          co_return std::make_unique<int>(2);
        }(),
        []() -> task<> { co_return; }());
    EXPECT_EQ(a, 1);
    EXPECT_EQ(*b, 2);
    (void)c;
    auto const [only] = co_await fork_join(give(4));
    EXPECT_EQ(only, 4);
    auto const [p, q, r, s, t] =
        co_await fork_join(give(1), give(2), give(3), give(4), give(5));
    EXPECT_EQ(p + 10 * q + 100 * r + 1000 * s + 10000 * t, 54321);
  });
}

TEST_F(ForkJoin, OfTasksRecurses) {
  for (unsigned const processors : {1u, 2u, 5u}) {
    scheduler there({.processors = processors});
    EXPECT_EQ(there.run([] { return co_fib(depth); }), fib_of(depth));
  }
}

TEST_F(ForkJoin, OfTasksRunsInEachModel) {
  for (auto const model : {threading::many_to_one, threading::one_to_one}) {
    scheduler there({.processors = 2, .model = model});
    EXPECT_EQ(there.run([] { return co_fib(14); }), fib_of(14));
  }
}

// Suspends between, before and after its forks, in every way there is.
struct restless {
  activations::mutex m;
  std::atomic<long> visits{0};

  task<> pause(std::uint64_t how) {
    ++visits;
    switch (how % 7) {
      case 0:
        co_await async_yield();
        break;
      case 1:
        co_await async_sleep_for(std::chrono::microseconds(how % 20));
        break;
      case 2: {
        co_await m.async_lock();
        m.unlock();
        break;
      }
      case 3:
        this_thread::yield();
        break;
      case 4:
        if (how % 13 == 0) ::usleep(5);
        break;
      default:
        break;
    }
  }

  task<long> fib(int n, std::uint64_t seed) {
    std::minstd_rand random(static_cast<unsigned>(seed));
    if (random() % 4 == 0) co_await pause(random());
    if (n < 2) co_return n;
    auto const left = random();
    auto const right = random();
    if (random() % 3 != 0) {
      auto const [a, b] =
          co_await fork_join(fib(n - 1, left), fib(n - 2, right));
      if (random() % 4 == 0) co_await pause(random());
      co_return a + b;
    }
    // One after the other, with a fork that means nothing in between.
    long const a = co_await fib(n - 1, left);
    co_await fork_join(pause(left), pause(right), pause(left + right));
    co_return a + co_await fib(n - 2, right);
  }
};

TEST_F(ForkJoin, OfTasksSurvivesSuspensionsBetweenForks) {
  auto random = random_stream(1);
  for (unsigned const processors : {1u, 2u, 4u}) {
    scheduler there({.processors = processors});
    for (int i = 0; i < 3 * effort; ++i) {
      restless r;
      EXPECT_EQ(there.run([&] { return r.fib(10, random()); }), fib_of(10));
    }
  }
}

TEST_F(ForkJoin, OfManyTasksAtOnceSurvivesSuspensions) {
  auto random = random_stream(2);
  restless r;
  std::vector<activations::join_handle<long>> handles;
  for (int i = 0; i < 20; ++i)
    handles.push_back(there_.spawn(r.fib(8, random())));
  for (auto& each : handles) EXPECT_EQ(each.join(), fib_of(8));
}

// Both forms, one inside the other, on the same deque.
task<long> mixed(int n) {
  if (n < 2) co_return n;
  auto const [plain, nothing] =
      fork_join([&] { return ::fib_of(n - 1); }, [&] { return fib(n / 2); });
  (void)nothing;
  auto const [a, b] = co_await fork_join(mixed(n - 1), mixed(n - 2));
  EXPECT_EQ(a, plain);
  co_return a + b;
}

TEST_F(ForkJoin, OfTasksAndOfCallablesMix) {
  EXPECT_EQ(there_.run([] { return mixed(13); }), fib_of(13));
}

TEST_F(ForkJoin, OfMoreTasksThanADequeHolds) {
  struct deep {
    static task<long> down(int n) {
      if (n == 0) co_return 0;
      auto const [a, b] = co_await fork_join(down(n - 1), give(1));
      co_return a + b;
    }
  };
#if defined(__OPTIMIZE__) && !ACTIVATIONS_ASAN && !ACTIVATIONS_TSAN
  EXPECT_EQ(there_.run([] { return deep::down(5000); }), 5000);
#else
  scheduler there({.processors = 2, .stack_bytes = 64 << 20});
  EXPECT_EQ(there.run([] { return deep::down(3000); }), 3000);
#endif
}

// ---- exceptions of tasks ---------------------------------------------------

TEST_F(ForkJoin, OfTasksRethrowsTheFirstInOrderAfterAllHaveEnded) {
  std::atomic<int> running{0};
  auto const piece = [](std::atomic<int>& running, int fails_with,
                        std::uint64_t how) -> task<> {
    ++running;
    struct scope {
      std::atomic<int>& running;
      ~scope() { --running; }
    } const here{running};
    if (how % 3 == 0) co_await async_yield();
    if (how % 5 == 0) co_await async_sleep_for(5us);
    if (fails_with != 0) throw fails_with;
  };
  auto random = random_stream(3);
  for (int i = 0; i < 60 * effort; ++i) {
    int const fails = 1 + static_cast<int>(random() % 7);  // a bit for each
    int const expected = fails & 1 ? 1 : fails & 2 ? 2 : 3;
    int caught = 0;
    try {
      there_.run([&]() -> task<> {
        co_await fork_join(piece(running, fails & 1 ? 1 : 0, random()),
                           piece(running, fails & 2 ? 2 : 0, random()),
                           piece(running, fails & 4 ? 3 : 0, random()));
      });
    } catch (int n) {
      caught = n;
      EXPECT_EQ(running, 0);
    }
    EXPECT_EQ(caught, expected);
  }
}

TEST_F(ForkJoin, ResultsAndFramesAreDestroyedOnce) {
  static std::atomic<int> alive{0};
  struct counted {
    counted() { ++alive; }
    counted(counted const&) { ++alive; }
    counted(counted&&) noexcept { ++alive; }
    ~counted() { --alive; }
  };
  auto const piece = [](counted, bool fails) -> task<counted> {
    co_await async_yield();
    if (fails) throw 1;
    co_return counted();
  };
  for (int i = 0; i < 20; ++i) {
    there_.run([&]() -> task<> {
      auto const both =
          co_await fork_join(piece(counted(), false), piece(counted(), false));
      EXPECT_EQ(alive, 2);
    });
    EXPECT_THROW(there_.run([&]() -> task<> {
      co_await fork_join(piece(counted(), false), piece(counted(), true));
    }),
                 int);
    wait_until([&] { return alive == 0; });
  }
}

}  // namespace
