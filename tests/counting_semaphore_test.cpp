// SPDX-License-Identifier: BSL-1.0
#include <activations/counting_semaphore.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::binary_semaphore;
using activations::counting_semaphore;
using activations::task;

static_assert(binary_semaphore::max() == 1);
static_assert(counting_semaphore<7>::max() == 7);
static_assert(counting_semaphore<>::max() > (1L << 60));
static_assert(noexcept(std::declval<counting_semaphore<>&>().acquire()));
static_assert(noexcept(std::declval<counting_semaphore<>&>().try_acquire()));

constinit counting_semaphore<> static_semaphore(2);

TEST(CountingSemaphore, GivesAsManyPermitsAsThereAre) {
  EXPECT_TRUE(static_semaphore.try_acquire());
  static_semaphore.acquire();
  EXPECT_FALSE(static_semaphore.try_acquire());
  static_semaphore.release(2);
  EXPECT_TRUE(static_semaphore.try_acquire());
  EXPECT_TRUE(static_semaphore.try_acquire());
  EXPECT_FALSE(static_semaphore.try_acquire());
  static_semaphore.release(0);
  EXPECT_FALSE(static_semaphore.try_acquire());
}

TEST(CountingSemaphore, LetsInNoMoreThanItsPermits) {
  counting_semaphore<3> semaphore(3);
  std::atomic<int> inside{0};
  std::atomic<int> most{0};
  auto enter = [&] {
    int const now = ++inside;
    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);)
      continue;
  };
  int const rounds = 1000 * effort;
  crew all;
  all.threads(3, [&](int i) {
    for (int k = 0; k < rounds; ++k) {
      semaphore.acquire();
      enter();
      if (k % 16 == i) std::this_thread::yield();
      --inside;
      semaphore.release();
    }
  });
  all.tasks(3, [&](int i) -> task<> {
    for (int k = 0; k < rounds; ++k) {
      co_await semaphore.async_acquire();
      enter();
      if (k % 16 == i) co_await activations::async_yield();
      --inside;
      semaphore.release();
    }
  });
  all.join();
  EXPECT_LE(most, 3);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(semaphore.try_acquire());
  EXPECT_FALSE(semaphore.try_acquire());
}

bool waiters_are_served_in_order(std::chrono::milliseconds patience) {
  counting_semaphore<> semaphore(0);
  std::atomic<int> next{0};
  std::vector<int> order(6, -1);
  crew all;
  for (int i = 0; i < 6; ++i) {
    auto enter = [&order, &next, i] {
      order[static_cast<std::size_t>(next)] = i;
      ++next;
    };
    auto acquire = [&semaphore, enter](int) {
      semaphore.acquire();
      enter();
    };
    if (i % 3 == 2)
      all.tasks(1, [&semaphore, enter](int) -> task<> {
        co_await semaphore.async_acquire();
        enter();
      });
    else if (i % 3 == 1)
      all.user_threads(1, acquire);
    else
      all.kernel_threads(1, acquire);
    std::this_thread::sleep_for(patience);
  }
  for (int i = 0; i < 6; ++i) {
    semaphore.release();
    wait_until([&] { return next > i; });
  }
  all.join();
  return order == std::vector{0, 1, 2, 3, 4, 5};
}

TEST(CountingSemaphore, WaitersAreServedFirstInFirstOut) {
  EXPECT_TRUE(succeeds_in_some_attempt(waiters_are_served_in_order));
}

TEST(CountingSemaphore, ReleaseOfSeveralLetsAsManyGo) {
  counting_semaphore<> semaphore(0);
  std::atomic<int> got{0};
  crew all;
  all.threads(3, [&](int) {
    semaphore.acquire();
    ++got;
  });
  let_others_wait();
  semaphore.release(4);
  wait_until([&] { return got >= 4; });
  let_others_wait();
  EXPECT_EQ(got, 4);
  EXPECT_FALSE(semaphore.try_acquire());
  semaphore.release(5);
  all.join();
  EXPECT_EQ(got, 6);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(semaphore.try_acquire());
  EXPECT_FALSE(semaphore.try_acquire());
}

TEST(CountingSemaphore, TimedAcquireGivesUpAtItsDeadlineOfAnyClock) {
  binary_semaphore semaphore(0);
  crew all;
  all.threads(1, [&](int) {
    stopwatch const watch;
    EXPECT_FALSE(semaphore.try_acquire_for(10ms));
    EXPECT_GE(watch.time(), 10ms);
    EXPECT_FALSE(
        semaphore.try_acquire_until(std::chrono::steady_clock::now() + 10ms));
    EXPECT_GE(watch.time(), 20ms);
    EXPECT_FALSE(
        semaphore.try_acquire_until(std::chrono::system_clock::now() + 10ms));
    EXPECT_FALSE(semaphore.try_acquire_until(late_clock::now() + 10ms));
    EXPECT_GE(watch.time(), 36ms);
    EXPECT_FALSE(semaphore.try_acquire_for(-1s));
  });
}

TEST(CountingSemaphore, TimedAcquireTakesWhatIsReleasedInTime) {
  counting_semaphore<> semaphore(0);
  crew all;
  all.threads(1, [&](int) {
    EXPECT_TRUE(semaphore.try_acquire_for(std::chrono::hours::max()));
  });
  all.threads(1, [&](int) {
    EXPECT_TRUE(
        semaphore.try_acquire_until(std::chrono::system_clock::now() + 1h));
  });
  let_others_wait();
  semaphore.release(4);
}

TEST(CountingSemaphore, ATimeoutThatRacesWithAReleaseLosesNoPermit) {
  counting_semaphore<> semaphore(2);
  int const rounds = 1000 * effort;
  crew all;
  auto work = [&](int stream) {
    auto random = random_stream(stream);
    for (int i = 0; i < rounds; ++i) {
      if (!semaphore.try_acquire_for(std::chrono::nanoseconds(random() % 3000)))
        continue;
      semaphore.release();
    }
  };
  all.kernel_threads(3, work);
  all.user_threads(3, [&](int i) { work(10 + i); });
  all.tasks(2, [&](int) -> task<> {
    for (int i = 0; i < rounds; ++i) {
      co_await semaphore.async_acquire();
      semaphore.release();
    }
  });
  all.join();
  EXPECT_TRUE(semaphore.try_acquire());
  EXPECT_TRUE(semaphore.try_acquire());
  EXPECT_FALSE(semaphore.try_acquire());
}

TEST(CountingSemaphore, PublishesWhatWasDoneBeforeTheRelease) {
  binary_semaphore full(0), empty(1);
  long slot = 0;
  long sum = 0;
  int const rounds = 2000 * effort;
  crew all;
  all.kernel_threads(1, [&](int) {
    for (int i = 1; i <= rounds; ++i) {
      empty.acquire();
      slot = i;
      full.release();
    }
  });
  all.user_threads(1, [&](int) {
    for (int i = 1; i <= rounds; ++i) {
      full.acquire();
      sum += slot;
      empty.release();
    }
  });
  all.join();
  EXPECT_EQ(sum, long{rounds} * (rounds + 1) / 2);
}

// AddressSanitizer sees a release that touches it too late.
TEST(CountingSemaphore, MayBeDestroyedByWhoGotTheLastPermit) {
  for (int round = 0; round < 300 * effort; ++round) {
    auto* const semaphore = new binary_semaphore(0);
    std::thread releaser([semaphore] { semaphore->release(); });
    if (round % 3 == 0)
      while (!semaphore->try_acquire()) std::this_thread::yield();
    else if (round % 3 == 1)
      semaphore->acquire();
    else
      while (!semaphore->try_acquire_for(1us)) {
      }
    delete semaphore;
    releaser.join();
  }
}

TEST(CountingSemaphoreDeathTest, MorePermitsThanTheMaximumAreDiagnosed) {
  EXPECT_DEATH(
      {
        binary_semaphore semaphore(1);
        semaphore.release();
      },
      "assertion failed");
  EXPECT_DEATH(
      {
        binary_semaphore semaphore(0);
        semaphore.release(-1);
      },
      "assertion failed");
}

}  // namespace
