// SPDX-License-Identifier: BSL-1.0
#include <activations/latch.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::latch;
using activations::task;

static_assert(noexcept(std::declval<latch const&>().try_wait()));

constinit latch static_latch(1);

TEST(Latch, WaitReturnsAtOnceWhenTheCountIsZero) {
  latch open(0);
  EXPECT_TRUE(open.try_wait());
  open.wait();
  open.count_down(0);
  EXPECT_FALSE(static_latch.try_wait());
  static_latch.count_down();
  EXPECT_TRUE(static_latch.try_wait());
  static_latch.wait();
}

TEST(Latch, LetsAllGoWhenTheCountReachesZeroAndNotBefore) {
  latch gate(4);
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
  gate.count_down(3);
  EXPECT_FALSE(gate.try_wait());
  let_others_wait();
  EXPECT_EQ(through, 0);
  gate.count_down();
  all.join();
  EXPECT_EQ(through, 9);
}

TEST(Latch, ArriveAndWaitCountsAndWaits) {
  latch gate(8);
  std::atomic<int> arrived{0};
  crew all;
  all.threads(2, [&](int) {
    ++arrived;
    gate.arrive_and_wait();
    EXPECT_EQ(arrived, 5);
  });
  all.tasks(1, [&](int) -> task<> {
    co_await gate.async_wait();
    EXPECT_EQ(arrived, 5);
  });
  let_others_wait();
  ++arrived;
  gate.arrive_and_wait(4);
}

TEST(Latch, PublishesWhatWasDoneBeforeEachCountDown) {
  for (int round = 0; round < 100 * effort; ++round) {
    constexpr int members = 4;
    int done[members] = {};
    latch gate(members);
    std::vector<std::thread> threads;
    for (int i = 0; i < members; ++i)
      threads.emplace_back([&, i] {
        done[i] = 1;
        gate.count_down();
      });
    if (round % 2 == 0)
      gate.wait();
    else
      while (!gate.try_wait()) std::this_thread::yield();
    for (int each : done) EXPECT_EQ(each, 1);
    for (auto& thread : threads) thread.join();
  }
}

// AddressSanitizer sees a count_down that touches it too late.
TEST(Latch, MayBeDestroyedByWhoHasWaited) {
  for (int round = 0; round < 300 * effort; ++round) {
    auto gate = std::make_unique<latch>(2);
    auto* const shared = gate.get();
    std::thread one([shared] { shared->count_down(); });
    std::thread other([shared, round] {
      if (round % 2 == 0)
        shared->count_down();
      else
        shared->arrive_and_wait();
    });
    gate->wait();
    gate.reset();
    one.join();
    other.join();
  }
}

TEST(LatchDeathTest, CountingBelowZeroIsDiagnosed) {
  EXPECT_DEATH(
      {
        latch gate(1);
        gate.count_down(2);
      },
      "assertion failed");
}

}  // namespace
