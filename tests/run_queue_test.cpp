// SPDX-License-Identifier: BSL-1.0
//
// detail/run_queue.hpp with real threads. Every interleaving of small cases is
// in tests/model/run_ring_test.cpp and injection_queue_test.cpp.
#include <activations/detail/run_queue.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "queue_stress.hpp"

namespace {

using activations::detail::injection_queue;
using activations::detail::run_ring;
using activations::detail::runnable;
using activations::detail::std_atomics;
using queue_stress::effort;
using queue_stress::numbered;

numbered* cast(runnable* one) {
  return static_cast<numbered*>(one);
}

TEST(RunRing, IsFirstInFirstOut) {
  run_ring<> ring;
  numbered item[3];
  EXPECT_TRUE(ring.is_empty());
  for (auto& one : item) ASSERT_TRUE(ring.push(&one));
  EXPECT_EQ(ring.size(), 3u);
  for (auto& one : item) EXPECT_EQ(ring.pop(), &one);
  EXPECT_EQ(ring.pop(), nullptr);
  EXPECT_TRUE(ring.is_empty());
}

TEST(RunRing, RefusesWhatDoesNotFit) {
  run_ring<std_atomics, 4> ring;
  numbered item[5];
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(ring.push(&item[i]));
  EXPECT_FALSE(ring.push(&item[4]));
  EXPECT_EQ(ring.room(), 0u);
  EXPECT_EQ(ring.pop(), &item[0]);
  EXPECT_TRUE(ring.push(&item[4]));
}

TEST(RunRing, AThiefTakesTheOlderHalfRoundedUp) {
  run_ring<> from;
  run_ring<> to;
  numbered item[5];
  for (auto& one : item) ASSERT_TRUE(from.push(&one));
  runnable* first = nullptr;
  EXPECT_EQ(from.steal_into(to, first), 3u);
  EXPECT_EQ(first, &item[0]);
  EXPECT_EQ(to.pop(), &item[1]);
  EXPECT_EQ(to.pop(), &item[2]);
  EXPECT_EQ(to.pop(), nullptr);
  EXPECT_EQ(from.size(), 2u);
}

TEST(RunRing, AThiefTakesNoMoreThanItsOwnRingHolds) {
  run_ring<std_atomics, 8> from;
  run_ring<std_atomics, 8> to;
  numbered item[16];
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(from.push(&item[i]));
  for (int i = 8; i < 15; ++i) ASSERT_TRUE(to.push(&item[i]));
  runnable* first = nullptr;
  EXPECT_EQ(from.steal_into(to, first), 2u);  // one to run, one that fits
  EXPECT_EQ(to.size(), 8u);
  EXPECT_EQ(from.steal_into(to, first), 1u);  // one to run
  EXPECT_EQ(first, &item[2]);
}

TEST(RunRing, StealingFromAnEmptyRingLeavesFirstAlone) {
  run_ring<> from;
  run_ring<> to;
  runnable* first = nullptr;
  EXPECT_EQ(from.steal_into(to, first), 0u);
  EXPECT_EQ(first, nullptr);
}

TEST(InjectionQueue, IsFirstInFirstOut) {
  injection_queue<> queue;
  run_ring<> ring;
  std::vector<numbered> items(100);
  for (auto& one : items) queue.push(&one);
  std::size_t next = 0;
  runnable* first = nullptr;
  while (queue.take_into(ring, first, 7) != 0) {
    EXPECT_EQ(first, &items[next++]);
    while (auto* const one = ring.pop()) EXPECT_EQ(one, &items[next++]);
  }
  EXPECT_EQ(next, items.size());
  EXPECT_TRUE(queue.is_empty());
}

TEST(InjectionQueue, TakesABatchInItsOrder) {
  injection_queue<> queue;
  run_ring<> ring;
  numbered item[4];
  queue.push(&item[0]);
  item[1].next = &item[2];
  item[2].next = nullptr;
  queue.push_all(&item[1]);
  queue.push(&item[3]);
  runnable* first = nullptr;
  ASSERT_EQ(queue.take_into(ring, first, 10), 4u);
  EXPECT_EQ(first, &item[0]);
  for (int i = 1; i < 4; ++i) EXPECT_EQ(ring.pop(), &item[i]);
}

TEST(InjectionQueue, LeavesWhatDoesNotFit) {
  injection_queue<> queue;
  run_ring<std_atomics, 4> ring;
  numbered item[9];
  ASSERT_TRUE(ring.push(&item[8]));
  for (int i = 0; i < 8; ++i) queue.push(&item[i]);
  runnable* first = nullptr;
  EXPECT_EQ(queue.take_into(ring, first, 100), 4u);  // one to run, three fit
  EXPECT_EQ(ring.size(), 4u);
  EXPECT_FALSE(queue.is_empty());
  EXPECT_EQ(queue.take_into(ring, first, 100), 1u);
  EXPECT_EQ(first, &item[4]);
}

// Owners push, pop and steal from each other; each runnable is taken once.
TEST(RunRing, NothingIsLostOrDoubledUnderStealing) {
  constexpr std::size_t owners = 3;
  std::size_t const each = 20'000u * effort;
  queue_stress::random_source random;
  using ring = run_ring<std_atomics, 8>;
  auto const rings = std::make_unique<ring[]>(owners);
  injection_queue<> overflow;
  std::vector<numbered> items(owners * each);
  std::atomic<std::size_t> taken{0};
  std::vector<std::thread> crew;
  for (std::size_t me = 0; me < owners; ++me)
    crew.emplace_back([&, me, seed = random()] {
      std::minstd_rand local(static_cast<unsigned>(seed));
      ring& own = rings[me];
      auto const take = [&](runnable* one) {
        if (one == nullptr) return;
        cast(one)->take();
        taken.fetch_add(1, std::memory_order::relaxed);
      };
      std::size_t pushed = 0;
      while (taken.load(std::memory_order::relaxed) < items.size()) {
        for (auto n = local() % 6; n > 0 && pushed < each; --n) {
          auto& one = items[me * each + pushed++];
          one.fill(pushed);
          if (!own.push(&one)) overflow.push(&one);
        }
        for (auto n = local() % 4; n > 0; --n) take(own.pop());
        runnable* first = nullptr;
        ring& victim = rings[(me + 1 + local() % (owners - 1)) % owners];
        if (victim.steal_into(own, first) != 0) take(first);
        if (local() % 4 == 0 && overflow.take_into(own, first, 5) != 0)
          take(first);
        if (pushed == each && own.is_empty()) std::this_thread::yield();
      }
    });
  for (auto& one : crew) one.join();
  for (std::size_t i = 0; i < items.size(); ++i)
    ASSERT_EQ(items[i].times_taken(), 1) << "runnable " << i;
}

// Many producers, two takers; each producer's runnables stay in order while
// one taker is at work.
TEST(InjectionQueue, KeepsTheOrderOfEachProducer) {
  constexpr std::size_t producers = 3;
  std::size_t const each = 20'000u * effort;
  injection_queue<> queue;
  run_ring<> ring;
  std::vector<numbered> items(producers * each);
  std::vector<std::thread> crew;
  for (std::size_t me = 0; me < producers; ++me)
    crew.emplace_back([&, me] {
      for (std::size_t i = 0; i < each; ++i) {
        items[me * each + i].fill(i + 1);
        queue.push(&items[me * each + i]);
      }
    });
  std::uint64_t last[producers] = {};
  for (std::size_t n = 0; n < items.size();) {
    runnable* first = nullptr;
    if (queue.take_into(ring, first, 32) == 0) {
      std::this_thread::yield();
      continue;
    }
    for (auto* one = first; one != nullptr; one = ring.pop(), ++n) {
      auto const producer =
          static_cast<std::size_t>(cast(one) - items.data()) / each;
      auto const number = cast(one)->take();
      ASSERT_GT(number, last[producer]);
      last[producer] = number;
    }
  }
  for (auto& one : crew) one.join();
}

TEST(InjectionQueue, NothingIsLostOrDoubledByManyTakers) {
  constexpr std::size_t threads = 3;
  std::size_t const each = 10'000u * effort;
  injection_queue<> queue;
  std::vector<numbered> items(threads * each);
  std::atomic<std::size_t> taken{0};
  std::vector<std::thread> crew;
  for (std::size_t me = 0; me < threads; ++me)
    crew.emplace_back([&, me] {
      auto const ring = std::make_unique<run_ring<std_atomics, 8>>();
      std::size_t pushed = 0;
      while (taken.load(std::memory_order::relaxed) < items.size()) {
        if (pushed < each) {
          auto& one = items[me * each + pushed++];
          one.fill(pushed);
          queue.push(&one);
        }
        runnable* first = nullptr;
        if (pushed % 3 != 0 && pushed < each) continue;
        if (queue.take_into(*ring, first, 4) == 0) std::this_thread::yield();
        for (auto* one = first; one != nullptr; one = ring->pop()) {
          cast(one)->take();
          taken.fetch_add(1, std::memory_order::relaxed);
        }
      }
    });
  for (auto& one : crew) one.join();
  for (std::size_t i = 0; i < items.size(); ++i)
    ASSERT_EQ(items[i].times_taken(), 1) << "runnable " << i;
}

injection_queue<>* signalled_queue;
numbered* signalled_items;
std::size_t signalled_count;
std::atomic<std::size_t> signalled_pushes;

TEST(InjectionQueue, ASignalHandlerMayPush) {
  auto const queue = std::make_unique<injection_queue<>>();
  std::vector<numbered> from_handler(2'000);
  signalled_queue = queue.get();
  signalled_items = from_handler.data();
  signalled_count = from_handler.size();
  signalled_pushes.store(0);
  struct sigaction action = {};
  struct sigaction before = {};
  action.sa_handler = [](int) {
    if (signalled_pushes.load() == signalled_count) return;
    auto const n = signalled_pushes.fetch_add(1);
    auto& one = signalled_items[n];
    one.fill(n + 1);
    signalled_queue->push(&one);
  };
  ASSERT_EQ(sigaction(SIGALRM, &action, &before), 0);
  itimerval const often{{0, 50}, {0, 50}};
  ASSERT_EQ(setitimer(ITIMER_REAL, &often, nullptr), 0);

  std::vector<numbered> own(100'000);
  run_ring<> ring;
  runnable* first = nullptr;
  std::size_t i = 0;
  while (signalled_pushes.load() < 200) {
    own[i % own.size()].fill(1);
    queue->push(&own[i++ % own.size()]);
    // Empty it before an item is used again.
    if (i % 64 == 0)
      while (queue->take_into(ring, first, 32) != 0)
        for (auto* one = first; one != nullptr; one = ring.pop())
          cast(one)->take();
  }
  itimerval const never{};
  setitimer(ITIMER_REAL, &never, nullptr);
  sigaction(SIGALRM, &before, nullptr);
  while (queue->take_into(ring, first, 32) != 0)
    for (auto* one = first; one != nullptr; one = ring.pop()) cast(one)->take();
  for (std::size_t n = 0; n < signalled_count; ++n)
    ASSERT_EQ(from_handler[n].times_taken(),
              n < signalled_pushes.load() ? 1 : 0);
}

}  // namespace
