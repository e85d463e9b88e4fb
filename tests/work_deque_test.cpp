// SPDX-License-Identifier: BSL-1.0
//
// detail/work_deque.hpp with real threads. Every interleaving of small cases
// is in tests/model/work_deque_test.cpp.
#include <activations/detail/work_deque.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "queue_stress.hpp"

namespace {

using activations::detail::runnable;
using activations::detail::runnable_kind;
using activations::detail::work_deque;
using queue_stress::effort;
using queue_stress::numbered;

TEST(WorkDeque, OwnerTakesNewestFirst) {
  work_deque<> jobs;
  numbered item[3];
  for (auto& one : item) ASSERT_TRUE(jobs.push(&one));
  EXPECT_EQ(jobs.size(), 3u);
  EXPECT_EQ(jobs.pop(), &item[2]);
  EXPECT_EQ(jobs.pop(), &item[1]);
  EXPECT_EQ(jobs.pop(), &item[0]);
  EXPECT_EQ(jobs.pop(), nullptr);
  EXPECT_EQ(jobs.size(), 0u);
}

TEST(WorkDeque, ThievesTakeOldestFirst) {
  work_deque<> jobs;
  numbered item[3];
  for (auto& one : item) ASSERT_TRUE(jobs.push(&one));
  EXPECT_EQ(jobs.steal(), &item[0]);
  EXPECT_EQ(jobs.steal(), &item[1]);
  EXPECT_EQ(jobs.pop(), &item[2]);
  EXPECT_EQ(jobs.steal(), nullptr);
}

TEST(WorkDeque, RefusesWhatDoesNotFit) {
  work_deque<activations::detail::std_atomics, 4> jobs;
  numbered item[6];
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(jobs.push(&item[i]));
  EXPECT_FALSE(jobs.push(&item[4]));
  EXPECT_EQ(jobs.size(), 4u);
  EXPECT_EQ(jobs.steal(), &item[0]);
  EXPECT_TRUE(jobs.push(&item[4]));
  EXPECT_FALSE(jobs.push(&item[5]));
  EXPECT_EQ(jobs.pop(), &item[4]);
}

// Slots come round many times; each job is taken once, with its contents.
TEST(WorkDeque, NothingIsLostOrDoubledUnderStealing) {
  constexpr int thieves = 3;
  int const rounds = 2'000 * effort;
  queue_stress::random_source random;
  work_deque<activations::detail::std_atomics, 16> jobs;
  std::vector<numbered> items(static_cast<std::size_t>(rounds) * 16);
  std::atomic<bool> done{false};
  std::vector<std::thread> crew;
  for (int i = 0; i < thieves; ++i)
    crew.emplace_back([&] {
      while (!done.load(std::memory_order::acquire))
        if (auto* const one = static_cast<numbered*>(jobs.steal()))
          one->take();
        else
          std::this_thread::yield();
    });
  std::size_t next = 0;
  for (int round = 0; round < rounds; ++round) {
    for (auto n = 1 + random() % 16; n > 0; --n) {
      auto& one = items[next++];
      one.fill(next);
      if (!jobs.push(&one)) one.take();  // full: run in line
    }
    for (auto n = random() % 20; n > 0; --n)
      if (auto* const one = static_cast<numbered*>(jobs.pop())) one->take();
  }
  while (auto* const one = static_cast<numbered*>(jobs.pop())) one->take();
  done.store(true, std::memory_order::release);
  for (auto& one : crew) one.join();
  for (std::size_t i = 0; i < next; ++i)
    ASSERT_EQ(items[i].times_taken(), 1) << "job " << i;
}

}  // namespace
