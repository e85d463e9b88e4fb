// SPDX-License-Identifier: BSL-1.0
#include <activations/barrier.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::barrier;
using activations::task;

constinit barrier<> static_barrier(1);

static_assert(std::movable<barrier<>::arrival_token>);
static_assert(!std::copyable<barrier<>::arrival_token>);

TEST(Barrier, NobodyGoesOnBeforeAllHaveArrived) {
  constexpr int members = 9;
  int const phases = 200 * effort;
  std::atomic<long> arrived{0};
  barrier<> line(members);
  auto check = [&](int phase) {
    EXPECT_GE(arrived, long{members} * (phase + 1));
  };
  crew all;
  all.threads(3, [&](int) {
    for (int phase = 0; phase < phases; ++phase) {
      ++arrived;
      line.arrive_and_wait();
      check(phase);
    }
  });
  all.tasks(3, [&](int) -> task<> {
    for (int phase = 0; phase < phases; ++phase) {
      ++arrived;
      co_await line.async_arrive_and_wait();
      check(phase);
    }
  });
  all.join();
  EXPECT_EQ(arrived, long{members} * phases);
}

TEST(Barrier, CompletionRunsOncePerPhaseBeforeAnybodyGoesOn) {
  constexpr int members = 4;
  int const phases = 200 * effort;
  // Not atomic: the barrier orders all accesses.
  long values[members] = {};
  long total = 0, completions = 0;
  auto sum_up = [&]() noexcept {
    total = 0;
    for (long value : values) total += value;
    ++completions;
  };
  barrier line(members, sum_up);
  crew all;
  auto work = [&](int me) {
    for (int phase = 1; phase <= phases; ++phase) {
      values[me] = phase;
      line.arrive_and_wait();
      EXPECT_EQ(total, long{members} * phase);
      line.arrive_and_wait();
    }
  };
  all.kernel_threads(2, work);
  all.user_threads(2, [&](int i) { work(2 + i); });
  all.join();
  EXPECT_EQ(completions, 2L * phases);
}

TEST(Barrier, ArriveDoesNotWaitAndItsTokenDoes) {
  barrier<> line(2);
  auto token = line.arrive();
  std::atomic<bool> through{false};
  std::thread waiter([&] {
    line.wait(std::move(token));
    through = true;
  });
  let_others_wait();
  EXPECT_FALSE(through);
  auto last = line.arrive();
  waiter.join();
  line.wait(std::move(last));  // over already
}

TEST(Barrier, WaitingWithATokenSeesWhatTheOthersDid) {
  for (int round = 0; round < 200 * effort; ++round) {
    int value = 0;
    barrier<> line(2);
    std::thread other([&] {
      value = 1;
      (void)line.arrive();
    });
    auto token = line.arrive();
    if (round % 2 == 0) std::this_thread::sleep_for(50us);
    line.wait(std::move(token));
    EXPECT_EQ(value, 1);
    other.join();
  }
}

TEST(Barrier, ArriveMayCountForSeveral) {
  barrier<> line(3);
  auto first = line.arrive(3);
  line.wait(std::move(first));
  auto second = line.arrive(2);
  line.arrive_and_wait();
  line.wait(std::move(second));
}

TEST(Barrier, WhoDropsOutIsNotExpectedAgain) {
  barrier<> line(3);
  crew all;
  all.threads(1, [&](int) {
    line.arrive_and_wait();
    line.arrive_and_wait();
  });
  line.arrive_and_drop();
  all.join();
  static_barrier.arrive_and_wait();
}

// AddressSanitizer sees an arrival that touches it too late.
TEST(Barrier, MayBeDestroyedByWhoHasWaitedForTheLastPhase) {
  for (int round = 0; round < 300 * effort; ++round) {
    auto line = std::make_unique<barrier<>>(3);
    auto* const shared = line.get();
    std::thread one([shared] { shared->arrive_and_wait(); });
    std::thread other([shared, round] {
      if (round % 2 == 0)
        shared->arrive_and_wait();
      else
        (void)shared->arrive();
    });
    line->arrive_and_wait();
    line.reset();
    one.join();
    other.join();
  }
}

TEST(BarrierDeathTest, OneArrivalTooManyIsDiagnosed) {
  EXPECT_DEATH(
      {
        barrier<> line(2);
        (void)line.arrive(3);
      },
      "assertion failed");
}

}  // namespace
