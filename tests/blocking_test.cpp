// SPDX-License-Identifier: BSL-1.0
// P1 of docs/design.md: while something can run, no processor stands still
// because somebody blocked.  All of it is shown by counting: what must run
// counts, and nobody who is blocked is let go before the count is reached.
#include <activations/activations.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "blocking_ways.hpp"

#if ACTIVATIONS_TSAN
// libc guards what it read of resolv.conf with a lock of its own, which
// ThreadSanitizer does not see.
extern "C" char const* __tsan_default_suppressions() {
  return "race:__libc_dynarray_emplace_enlarge\n";
}
#endif

namespace {

using namespace blocking_ways;
using activations::scheduler;
using activations::scheduler_options;
using activations::task;
using activations::user_thread;

// User threads that block in one way; lets them go when it dies, so that a
// failed test ends.
class blocked_threads {
 public:
  blocked_threads(scheduler& home, blocker& way) : home_(home), way_(way) {}
  ~blocked_threads() { release(); }

  void add(int count) {
    for (int i = 0; i < count; ++i)
      threads_.push_back(home_.spawn([this] {
        ++entered_;
        way_.block();
        ++left_;
      }));
  }
  void add_task() { tasks_.push_back(home_.spawn(block_in_task())); }

  // All have called block(), and have had time to get to its end.
  [[nodiscard]] bool settle() {
    auto const all = static_cast<int>(threads_.size() + tasks_.size());
    bool const entered = eventually([&] { return entered_ == all; });
    std::this_thread::sleep_for(20ms);
    return entered && left_ == 0;
  }
  [[nodiscard]] int left() const { return left_; }
  [[nodiscard]] int entered() const { return entered_; }

  void release() {
    if (released_) return;
    released_ = true;
    // Those who come late find the way open.
    (void)eventually([&] {
      return entered_ == static_cast<int>(threads_.size() + tasks_.size());
    });
    way_.release();
    for (auto& thread : threads_) thread.join();
    for (auto& one : tasks_) one.join();
  }

 private:
  task<> block_in_task() {
    ++entered_;
    way_.block();
    ++left_;
    co_return;
  }

  scheduler& home_;
  blocker& way_;
  std::atomic<int> entered_{0};
  std::atomic<int> left_{0};
  bool released_ = false;
  std::vector<user_thread> threads_;
  std::vector<activations::join_handle<>> tasks_;
};

task<> count_in_task(std::atomic<int>& counter, int times) {
  for (int i = 0; i < times; ++i) {
    ++counter;
    co_await activations::async_yield();
  }
}

void count_in_thread(std::atomic<int>& counter, int times) {
  for (int i = 0; i < times; ++i) {
    ++counter;
    activations::this_thread::yield();
  }
}

class Blocking : public testing::TestWithParam<std::tuple<way, unsigned>> {
 protected:
  std::unique_ptr<blocker> way_ = std::get<0>(GetParam()).make();
  scheduler_options options_{.processors = std::get<1>(GetParam())};
};

constexpr int many = 2000;
constexpr int blocked = 8;

TEST_P(Blocking, OtherThreadsAndTasksKeepRunning) {
  scheduler here(options_);
  std::atomic<int> by_thread{0};
  std::atomic<int> by_task{0};
  blocked_threads threads(here, *way_);
  threads.add(blocked / 2);
  auto counting = here.spawn([&] { count_in_thread(by_thread, many); });
  auto counting_task = here.spawn(count_in_task(by_task, many));
  threads.add(blocked / 2);
  EXPECT_TRUE(eventually([&] { return by_thread == many && by_task == many; }))
      << by_thread << ' ' << by_task << ' ' << threads.entered();
  EXPECT_EQ(threads.left(), 0);
  threads.release();
  EXPECT_EQ(threads.left(), blocked);
}

TEST_P(Blocking, WorkThatArrivesLaterRuns) {
  // All block with nothing waiting and so keep their processors.
  scheduler here(options_);
  blocked_threads threads(here, *way_);
  threads.add(blocked);
  ASSERT_TRUE(threads.settle());
  std::atomic<int> by_thread{0};
  std::atomic<int> by_task{0};
  auto counting = here.spawn([&] { count_in_thread(by_thread, many); });
  auto counting_task = here.spawn(count_in_task(by_task, many));
  EXPECT_TRUE(eventually([&] { return by_thread == many && by_task == many; }))
      << by_thread << ' ' << by_task;
  EXPECT_EQ(threads.left(), 0);
}

TEST_P(Blocking, ABlockingTaskStopsNobody) {
  scheduler here(options_);
  std::atomic<int> by_thread{0};
  std::atomic<int> by_task{0};
  blocked_threads threads(here, *way_);
  for (int i = 0; i < blocked; ++i) threads.add_task();
  auto counting = here.spawn([&] { count_in_thread(by_thread, many); });
  auto counting_task = here.spawn(count_in_task(by_task, many));
  EXPECT_TRUE(eventually([&] { return by_thread == many && by_task == many; }))
      << by_thread << ' ' << by_task;
  EXPECT_EQ(threads.left(), 0);
  threads.release();
  EXPECT_EQ(threads.left(), blocked);
}

TEST_P(Blocking, AForeignWakeUpGetsThrough) {
  scheduler here(options_);
  activations::counting_semaphore<> calls(0);
  std::atomic<int> answered{0};
  auto listener = here.spawn([&](std::stop_token stop) {
    for (;;) {
      calls.acquire();
      if (stop.stop_requested()) return;
      ++answered;
    }
  });
  blocked_threads threads(here, *way_);
  threads.add(blocked);
  EXPECT_TRUE(threads.settle());
  for (int call = 1; call <= 20; ++call) {
    calls.release();
    EXPECT_TRUE(eventually([&] { return answered == call; })) << call;
  }
  EXPECT_EQ(threads.left(), 0);
  listener.request_stop();
  calls.release();
  listener.join();
}

TEST_P(Blocking, TimersFire) {
  scheduler here(options_);
  std::atomic<int> rounds{0};
  auto const sleep_often = [&] {
    for (int i = 0; i < 10; ++i) {
      activations::this_thread::sleep_for(1ms);
      ++rounds;
    }
    activations::this_thread::sleep_for(60ms);
    ++rounds;
  };
  auto first = here.spawn(sleep_often);
  auto second = here.spawn(sleep_often);
  blocked_threads threads(here, *way_);
  threads.add(blocked);
  EXPECT_TRUE(eventually([&] { return rounds == 22; })) << rounds;
  EXPECT_EQ(threads.left(), 0);
}

INSTANTIATE_TEST_SUITE_P(All, Blocking,
                         testing::Combine(testing::ValuesIn(all_ways()),
                                          testing::Values(1u, 2u)),
                         [](auto const& given) {
                           return std::string(std::get<0>(given.param).name) +
                                  "On" +
                                  std::to_string(std::get<1>(given.param));
                         });

TEST(BlockingThreads, OneBlockedProcessorLeavesTimersToTheIdleOne) {
  // The processor that keeps the timers is woken for a thread that blocks;
  // another one, idle too, has to keep them from then on.
  for (int round = 0; round < 20; ++round) {
    scheduler here({.processors = 2});
    pipe_read pipe;
    std::atomic<int> woken{0};
    std::atomic<bool> asleep{false};
    auto sleeper = here.spawn([&] {
      asleep = true;
      activations::this_thread::sleep_for(15ms);
      ++woken;
    });
    EXPECT_TRUE(eventually([&] { return asleep.load(); }));
    std::this_thread::sleep_for(2ms);
    blocked_threads threads(here, pipe);
    threads.add(1);
    ASSERT_TRUE(eventually([&] { return woken == 1; })) << "round " << round;
    EXPECT_EQ(threads.left(), 0);
  }
}

TEST(BlockingThreads, AReturnerThatTakesTheTimekeepersProcessorKeepsTimers) {
  scheduler here({.processors = 1});
  pipe_read first;
  pipe_read second;
  std::atomic<bool> asleep{false};
  std::atomic<bool> woken{false};
  std::atomic<int> step{0};
  auto returner = here.spawn([&] {
    step = 1;
    first.block();
    activations::this_thread::yield();  // takes the idle processor
    step = 2;
    second.block();
  });
  EXPECT_TRUE(eventually([&] { return step == 1; }));
  std::this_thread::sleep_for(5ms);
  auto sleeper = here.spawn([&] {
    asleep = true;
    activations::this_thread::sleep_for(80ms);
    woken = true;
  });
  EXPECT_TRUE(eventually([&] { return asleep.load(); }));
  std::this_thread::sleep_for(5ms);
  first.release();
  EXPECT_TRUE(eventually([&] { return woken.load(); })) << step;
  second.release();
}

TEST(BlockingThreads, WhoReturnsGoesOnWhileAllOthersStayBlocked) {
  // One after another is let go; each must get to its end by itself.
  scheduler here({.processors = 1});
  constexpr int count = 10;
  std::vector<std::unique_ptr<pipe_read>> pipes;
  for (int i = 0; i < count; ++i)
    pipes.push_back(std::make_unique<pipe_read>());
  std::atomic<int> through{0};
  std::vector<user_thread> threads;
  for (auto& pipe : pipes)
    threads.push_back(here.spawn([&] {
      pipe->block();
      activations::this_thread::yield();
      ++through;
    }));
  std::this_thread::sleep_for(10ms);
  for (int i = 0; i < count; ++i) {
    pipes[static_cast<std::size_t>(i)]->release();
    EXPECT_TRUE(eventually([&] { return through == i + 1; })) << i;
  }
}

TEST(BlockingThreads, AHolderOfALibraryLockBlocksAndStillUnlocks) {
  // All others wait for the lock of one that is blocked.
  for (unsigned processors : {1u, 2u}) {
    scheduler here({.processors = processors});
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    std::atomic<int> done{0};
    std::vector<user_thread> threads;
    for (int i = 0; i < 32; ++i)
      threads.push_back(here.spawn([&] {
        for (int round = 0; round < 5; ++round) {
          pthread_mutex_lock(&mutex);
          ::usleep(200);
          pthread_mutex_unlock(&mutex);
        }
        ++done;
      }));
    EXPECT_TRUE(eventually([&] { return done == 32; })) << done;
  }
}

TEST(BlockingThreads, AReturnerRunsBesideThreadsThatOnlyYield) {
  scheduler here({.processors = 1});
  std::atomic<bool> stop{false};
  std::atomic<int> rounds{0};
  auto const spin = [&] {
    while (!stop) activations::this_thread::yield();
  };
  auto a = here.spawn(spin);
  auto b = here.spawn(spin);
  auto sleeper = here.spawn([&] {
    for (int i = 0; i < 50; ++i) {
      ::usleep(500);
      ++rounds;
      activations::this_thread::yield();
    }
  });
  EXPECT_TRUE(eventually([&] { return rounds == 50; })) << rounds;
  stop = true;
}

TEST(BlockingThreads, BlockAndPassWorkToAndFro) {
  // Producers block in a pipe, consumers in a primitive of ours: each item
  // crosses from one kind of wait to the other.
  scheduler here({.processors = 2});
  constexpr int items = 3000;
  int ends[2];
  check(::pipe2(ends, O_CLOEXEC) == 0, "pipe");
  activations::counting_semaphore<> full(0);
  std::atomic<int> received{0};
  std::atomic<int> consumed{0};
  std::vector<user_thread> readers;
  for (int i = 0; i < 4; ++i)
    readers.push_back(here.spawn([&] {
      char byte;
      while (::read(ends[0], &byte, 1) == 1) {
        ++received;
        full.release();
      }
    }));
  std::vector<user_thread> consumers;
  for (int i = 0; i < 4; ++i)
    consumers.push_back(here.spawn([&] {
      for (int n = 0; n < items / 4; ++n) {
        full.acquire();
        ++consumed;
      }
    }));
  for (int i = 0; i < items; ++i) {
    check(::write(ends[1], "x", 1) == 1, "write");
    if (i % 50 == 0) std::this_thread::sleep_for(100us);
  }
  EXPECT_TRUE(eventually([&] { return consumed == items; }))
      << received << ' ' << consumed;
  ::close(ends[1]);
  for (auto& reader : readers) reader.join();
  ::close(ends[0]);
  EXPECT_EQ(received, items);
}

TEST(BlockingThreads, HandOversAreCounted) {
  scheduler here({.processors = 1});
  pipe_read pipe;
  std::atomic<int> counted{0};
  blocked_threads threads(here, pipe);
  threads.add(4);
  EXPECT_TRUE(threads.settle());
  auto counting = here.spawn([&] { count_in_thread(counted, 10); });
  EXPECT_TRUE(eventually([&] { return counted == 10; }));
  auto const s = here.statistics();
  // Four were taken from, by whoever noticed.
  EXPECT_GE(
      s.portable.sentinel_takes + s.portable.monitor_takes + s.kernel.blocks,
      1u);
  EXPECT_GE(s.kernel_threads.activations, 5u);
  EXPECT_EQ(here.statistics().spawned, 5u);
  threads.release();
  counting.join();
  EXPECT_TRUE(eventually([&] { return here.statistics().finished == 5; }));
}

TEST(BlockingThreads, AScarceSpareServesEveryProcessor) {
  // One spare for two processors, whichever of them has the blocked owner and
  // whichever the one that computes on and on.
  for (int round = 0; round < 10; ++round) {
    scheduler here({.processors = 2, .max_activations = 3});
    pipe_read pipe;
    std::atomic<bool> stop{false};
    std::atomic<int> counted{0};
    auto hog = here.spawn([&] {
      while (!stop) {
      }
    });
    blocked_threads threads(here, pipe);
    threads.add(1);
    auto counting = here.spawn([&] { count_in_thread(counted, 100); });
    EXPECT_TRUE(eventually([&] { return counted == 100; })) << round;
    EXPECT_EQ(threads.left(), 0);
    stop = true;
  }
}

TEST(BlockingThreads, ManyToOneStallsAndSaysSo) {
  // The negative control: without hand-over the counter stands still.
  scheduler here({.model = activations::threading::many_to_one});
  pipe_read pipe;
  std::atomic<int> counted{0};
  blocked_threads threads(here, pipe);
  threads.add(1);
  EXPECT_TRUE(threads.settle());
  auto counting = here.spawn([&] { count_in_thread(counted, 10); });
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(counted, 0);
  EXPECT_NE(here.describe().find("keeps its own"), std::string::npos);
  threads.release();
  counting.join();
  EXPECT_EQ(counted, 10);
}

}  // namespace
