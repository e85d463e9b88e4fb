// SPDX-License-Identifier: BSL-1.0
// Each counter of scheduler::statistics() counts what its comment says: for
// every one a program that must raise it, and one that must not.
#include <activations/activations.hpp>

#include <gtest/gtest.h>

#include <time.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "blocking_ways.hpp"

namespace {

using namespace blocking_ways;
using activations::backend_choice;
using activations::portable_statistics;
using activations::scheduler;
using activations::user_thread;

void compute_for(std::chrono::nanoseconds time) {
  auto const used = [] {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) +
           std::chrono::nanoseconds(now.tv_nsec);
  };
  for (auto const start = used(); used() - start < time;) {
  }
}

// Runs rounds of `work` in `count` user threads until holds(statistics).
template <class Work, class Condition>
bool until(scheduler& here, int count, Work work, Condition holds) {
  std::atomic<bool> stop{false};
  std::vector<user_thread> threads;
  for (int i = 0; i < count; ++i)
    threads.push_back(here.spawn([&] {
      while (!stop) work();
    }));
  bool const held =
      eventually([&] { return holds(here.statistics().portable); });
  stop = true;
  return held;
}

void block_and_compute() {
  ::usleep(500);
  compute_for(50us);
  activations::this_thread::yield();
}

TEST(Statistics, ExcessIsWhatThreadsRanAfterALoss) {
  using activations::duration_histogram;
  duration_histogram empty;
  EXPECT_EQ(empty.total(), 0u);
  scheduler here({.processors = 2, .backend = backend_choice::portable});
  EXPECT_EQ(here.statistics().portable.excess.total(), 0u);
  // After each block 400 us of computing without a scheduling point: those
  // who lost their processor meanwhile run that long in excess.
  EXPECT_TRUE(until(
      here, 16,
      [] {
        ::usleep(500);
        compute_for(400us);
        activations::this_thread::yield();
      },
      [](portable_statistics const& s) { return s.excess.total() >= 640; }));
  duration_histogram const excess = here.statistics().portable.excess;
  EXPECT_EQ(excess.total() % 16, 0u);
  EXPECT_GT(excess.bound(0.75), 400'000u);
}

TEST(Statistics, DurationsAreSortedByPowersOfTwo) {
  activations::detail::shared_histogram h;
  for (std::uint64_t const ns : {0u, 1u, 2u, 3u, 1023u, 1024u}) h.add(ns);
  h.add(~0ull, 10);
  auto const seen = h.snapshot();
  EXPECT_EQ(seen.counts[0], 2u);
  EXPECT_EQ(seen.counts[1], 2u);
  EXPECT_EQ(seen.counts[9], 1u);
  EXPECT_EQ(seen.counts[10], 1u);
  EXPECT_EQ(seen.counts.back(), 10u);
  EXPECT_EQ(seen.total(), 16u);
  EXPECT_EQ(seen.bound(0.1), 2u);
  EXPECT_EQ(seen.bound(0.3), 1024u);
}

TEST(Statistics, ThreadsAndTasksAreCountedAtBothEnds) {
  scheduler here({.processors = 2});
  EXPECT_EQ(here.statistics().spawned, 0u);
  activations::event go;
  {
    std::vector<user_thread> threads;
    for (int i = 0; i < 10; ++i)
      threads.push_back(here.spawn([&] { go.wait(); }));
    auto task = here.spawn([](activations::event& e) -> activations::task<> {
      co_await e.async_wait();
    }(go));
    EXPECT_EQ(here.statistics().spawned, 11u);
    EXPECT_EQ(here.statistics().finished, 0u);
    go.set();
    task.join();
  }
  EXPECT_TRUE(eventually([&] { return here.statistics().finished == 11; }));
  EXPECT_EQ(here.statistics().spawned, 11u);
}

TEST(Statistics, YieldsAreSwitches) {
  scheduler here({.processors = 1});
  auto const before = here.statistics().switches;
  std::atomic<int> started{0};
  auto const yield_often = [&] {
    for (++started; started < 2;) activations::this_thread::yield();
    for (int i = 0; i < 1000; ++i) activations::this_thread::yield();
  };
  user_thread a = here.spawn(yield_often);
  user_thread b = here.spawn(yield_often);
  a.join();
  b.join();
  EXPECT_GE(here.statistics().switches, before + 1000);
}

TEST(Statistics, ReturnersTakeProcessorsAndAreCounted) {
  scheduler here({.processors = 1, .backend = backend_choice::portable});
  EXPECT_TRUE(until(here, 16, block_and_compute,
                    [](portable_statistics const& s) { return s.returns; }));
}

TEST(Statistics, ReturnersThatFindNoProcessorAreCounted) {
  // Strict: one that comes back asks, and the owner computes.
  scheduler here(
      {.processors = 1, .strict = true, .backend = backend_choice::portable});
  EXPECT_TRUE(until(
      here, 16,
      [] {
        ::usleep(300);
        activations::this_thread::yield();
        compute_for(200us);
      },
      [](portable_statistics const& s) { return s.excess_parks; }));
}

TEST(Statistics, WhoNoticedABlockIsCounted) {
  scheduler here({.processors = 1, .backend = backend_choice::portable});
  pipe_read pipe;
  std::vector<user_thread> threads;
  std::atomic<int> entered{0};
  for (int i = 0; i < 20; ++i)
    threads.push_back(here.spawn([&] {
      ++entered;
      pipe.block();
    }));
  EXPECT_TRUE(eventually([&] { return entered == 20; }));
  // Nobody came back, so each of the 19 hand-overs was a spare's.
  auto const s = here.statistics().portable;
  EXPECT_EQ(s.returns, 0u);
  EXPECT_GE(s.sentinel_takes + s.monitor_takes, 19u);
  EXPECT_GE(s.created, 20u);
  pipe.release();
}

TEST(Statistics, EndedSlicesAreCounted) {
  scheduler here(
      {.processors = 1, .slice = 1ms, .backend = backend_choice::portable});
  EXPECT_TRUE(until(
      here, 2, [] {},
      [](portable_statistics const& s) {
        return s.slices_ended > 5 && s.preemptions > 5;
      }));
}

TEST(Statistics, ThreadsThatOnlyWaitCooperativelyCostNoHandOver) {
  scheduler here({.processors = 1});
  std::vector<user_thread> threads;
  for (int i = 0; i < 50; ++i)
    threads.push_back(here.spawn([] {
      for (int round = 0; round < 20; ++round) {
        activations::this_thread::sleep_for(100us);
        activations::this_thread::yield();
      }
    }));
  threads.clear();
  auto const s = here.statistics().kernel_threads;
  EXPECT_EQ(s.preemptions, 0u);
  EXPECT_EQ(s.creation_failures, 0u);
  EXPECT_EQ(s.direct_resumes, 0u);
}

TEST(Statistics, DescribeNamesTheBackendAndItsBounds) {
  scheduler here({.processors = 2, .max_activations = 7, .slice = 3ms});
  auto const text = here.describe();
  EXPECT_NE(text.find(" backend ("), std::string::npos) << text;
  EXPECT_NE(text.find("2 processors"), std::string::npos) << text;
  EXPECT_NE(text.find("7 kernel threads"), std::string::npos) << text;
  EXPECT_NE(text.find("3000 us"), std::string::npos) << text;
  EXPECT_EQ(text.find('\n'), std::string::npos) << text;
}

}  // namespace
