// SPDX-License-Identifier: BSL-1.0
#include <activations/detail/timer_queue.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <thread>
#include <vector>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::detail::timer_node;
using activations::detail::timer_queue;

struct probe : timer_node {
  explicit probe(std::uint64_t when = 0) {
    deadline_ns = when;
    expire = [](timer_node& due) noexcept {
      auto& self = static_cast<probe&>(due);
      ++self.expired;
      if (self.log != nullptr) self.log->push_back(&self);
    };
  }
  int expired = 0;
  std::vector<probe*>* log = nullptr;
};

TEST(TimerQueue, IsNeverDueWhenEmpty) {
  timer_queue queue;
  EXPECT_EQ(queue.earliest_ns(), UINT64_MAX);
  EXPECT_EQ(queue.expire_due(UINT64_MAX), 0u);
}

TEST(TimerQueue, AddTellsWhetherTheNodeIsTheEarliest) {
  timer_queue queue;
  probe a(20), b(30), c(10);
  EXPECT_TRUE(queue.add(a));
  EXPECT_FALSE(queue.add(b));
  EXPECT_EQ(queue.earliest_ns(), 20u);
  EXPECT_TRUE(queue.add(c));
  EXPECT_EQ(queue.earliest_ns(), 10u);
}

TEST(TimerQueue, ExpiresWhatIsDueInOrderAndLeavesTheRest) {
  timer_queue queue;
  std::vector<probe*> log;
  std::vector<std::unique_ptr<probe>> nodes;
  for (std::uint64_t when : {50, 10, 40, 20, 30, 60}) {
    nodes.push_back(std::make_unique<probe>(when));
    nodes.back()->log = &log;
    queue.add(*nodes.back());
  }
  EXPECT_EQ(queue.expire_due(40), 4u);
  std::vector<std::uint64_t> order;
  for (probe* each : log) order.push_back(each->deadline_ns);
  EXPECT_EQ(order, (std::vector<std::uint64_t>{10, 20, 30, 40}));
  EXPECT_EQ(queue.earliest_ns(), 50u);
}

TEST(TimerQueue, RemovedNodeDoesNotExpire) {
  timer_queue queue;
  probe a(10), b(20), c(30);
  for (probe* each : {&a, &b, &c}) queue.add(*each);
  queue.remove(a);
  EXPECT_EQ(queue.earliest_ns(), 20u);
  queue.remove(c);
  EXPECT_EQ(queue.expire_due(100), 1u);
  EXPECT_EQ(a.expired + c.expired, 0);
  EXPECT_EQ(b.expired, 1);
}

TEST(TimerQueue, RemoveAfterTheExpiryDoesNothing) {
  timer_queue queue;
  probe a(10), b(20);
  queue.add(a);
  queue.add(b);
  queue.expire_due(10);
  queue.remove(a);
  queue.remove(a);
  EXPECT_EQ(queue.earliest_ns(), 20u);
}

TEST(TimerQueue, NodeMayBeAddedAgainAfterItsExpiry) {
  timer_queue queue;
  probe a(10);
  for (int i = 1; i <= 3; ++i) {
    queue.add(a);
    EXPECT_EQ(queue.expire_due(10), 1u);
    EXPECT_EQ(a.expired, i);
  }
}

TEST(TimerQueue, AgreesWithAMultimapUnderRandomOperations) {
  auto random = random_stream(1);
  auto const below = [&](std::uint64_t n) { return random() % n; };
  for (int round = 0; round < 20; ++round) {
    timer_queue queue;
    std::multimap<std::uint64_t, probe*> reference;
    std::vector<probe> nodes(1 + below(200));
    std::vector<probe*> log;
    for (probe& each : nodes) each.log = &log;
    std::uint64_t now = 0;
    std::uint64_t const spread = 1 + below(1000);  // small: many equal ones
    for (int step = 0; step < 2000; ++step) {
      probe& node = nodes[below(nodes.size())];
      switch (below(node.linked ? 4 : 2)) {
        case 0: {  // time goes on
          now += below(spread / 4 + 2);
          log.clear();
          auto const due = reference.upper_bound(now);
          auto const expected = std::distance(reference.begin(), due);
          ASSERT_EQ(queue.expire_due(now), expected);
          ASSERT_EQ(log.size(), static_cast<std::size_t>(expected));
          auto at = reference.begin();
          for (probe* each : log) {
            ASSERT_EQ(each->deadline_ns, (at++)->first);
            ASSERT_FALSE(each->linked);
          }
          std::vector<probe*> same;
          for (auto it = reference.begin(); it != due; ++it)
            same.push_back(it->second);
          std::sort(same.begin(), same.end());
          std::sort(log.begin(), log.end());
          ASSERT_EQ(same, log);
          reference.erase(reference.begin(), due);
          break;
        }
        case 1:
          if (node.linked) break;
          node.deadline_ns = now + 1 + below(spread);
          {
            bool const first = reference.empty() ||
                               node.deadline_ns < reference.begin()->first;
            bool const said = queue.add(node);
            ASSERT_TRUE(said || !first);
            reference.emplace(node.deadline_ns, &node);
          }
          break;
        default: {
          queue.remove(node);
          ASSERT_FALSE(node.linked);
          auto it = reference.lower_bound(node.deadline_ns);
          while (it->second != &node) ++it;
          reference.erase(it);
        }
      }
      ASSERT_EQ(queue.earliest_ns(),
                reference.empty() ? UINT64_MAX : reference.begin()->first);
    }
  }
}

TEST(TimerQueue, RemoveWaitsForAnExpiryInProgress) {
  struct slow : timer_node {
    std::atomic<bool> begun{false};
    std::atomic<bool> ended{false};
  } node;
  node.expire = [](timer_node& due) noexcept {
    auto& self = static_cast<slow&>(due);
    self.begun = true;
    std::this_thread::sleep_for(5ms);
    self.ended = true;
  };
  timer_queue queue;
  queue.add(node);
  std::thread expirer([&] { queue.expire_due(1); });
  while (!node.begun) std::this_thread::yield();
  queue.remove(node);
  EXPECT_TRUE(node.ended);
  expirer.join();
}

// Each thread adds and removes its own nodes while another lets time pass:
// each node has either expired once or was removed in time.
TEST(TimerQueue, NodeIsExpiredOrRemovedButNotBothUnderContention) {
  timer_queue queue;
  std::atomic<std::uint64_t> now{1};
  std::atomic<bool> over{false};
  std::thread clock([&] {
    while (!over) queue.expire_due(now.fetch_add(1));
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      auto random = random_stream(10 + t);
      for (int i = 0; i < 400 * effort; ++i) {
        probe nodes[8];
        for (probe& each : nodes) {
          each.deadline_ns = now + random() % 4;
          queue.add(each);
        }
        if (random() % 4 == 0) std::this_thread::yield();
        for (probe& each : nodes) {
          queue.remove(each);
          EXPECT_LE(each.expired, 1);
          EXPECT_FALSE(each.linked);
        }
      }
    });
  for (auto& each : threads) each.join();
  over = true;
  clock.join();
  EXPECT_EQ(queue.earliest_ns(), UINT64_MAX);
}

}  // namespace
