// SPDX-License-Identifier: BSL-1.0
#include <activations/mutex.hpp>

#include <gtest/gtest.h>
#include <time.h>

#include <atomic>
#include <chrono>
#include <concepts>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include <activations/this_thread.hpp>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::mutex;
using activations::task;

template <class M>
concept timed_lockable = requires(M m, std::chrono::milliseconds d,
                                  std::chrono::steady_clock::time_point t) {
  m.lock();
  m.unlock();
  { m.try_lock() } -> std::same_as<bool>;
  { m.try_lock_for(d) } -> std::same_as<bool>;
  { m.try_lock_until(t) } -> std::same_as<bool>;
};
static_assert(timed_lockable<mutex>);
static_assert(noexcept(std::declval<mutex&>().lock()));
static_assert(noexcept(std::declval<mutex&>().unlock()));
static_assert(noexcept(std::declval<mutex&>().try_lock()));
static_assert(!std::copy_constructible<mutex>);
static_assert(sizeof(mutex) <= 32);

constinit mutex static_mutex;

TEST(Mutex, WorksWithTheStandardLockTypes) {
  mutex a, b;
  { std::lock_guard hold(a); }
  { std::scoped_lock hold(a, b); }
  std::unique_lock hold(a, std::try_to_lock);
  EXPECT_TRUE(hold.owns_lock());
  hold.unlock();
  EXPECT_TRUE(hold.try_lock_for(1ms));
  std::lock_guard also(static_mutex);
}

TEST(Mutex, TryLockFailsExactlyWhileItIsHeld) {
  mutex m;
  ASSERT_TRUE(m.try_lock());
  std::thread([&] { EXPECT_FALSE(m.try_lock()); }).join();
  m.unlock();
  std::thread([&] {
    EXPECT_TRUE(m.try_lock());
    m.unlock();
  }).join();
}

TEST(Mutex, ExcludesThreadsOfAllKindsFromEachOther) {
  mutex m;
  int inside = 0;
  long counted = 0;
  int const rounds = 2000 * effort;
  auto count = [&] {
    EXPECT_EQ(++inside, 1);
    ++counted;
    --inside;
  };
  crew all;
  all.threads(3, [&](int) {
    for (int i = 0; i < rounds; ++i) {
      std::lock_guard hold(m);
      count();
    }
  });
  all.tasks(3, [&](int) -> task<> {
    for (int i = 0; i < rounds; ++i) {
      co_await m.async_lock();
      count();
      m.unlock();
    }
  });
  all.join();
  EXPECT_EQ(counted, 9L * rounds);
}

TEST(Mutex, StaysWithATaskAcrossItsSuspensions) {
  mutex m;
  int inside = 0;
  crew all;
  all.tasks(4, [&](int) -> task<> {
    for (int i = 0; i < 100; ++i) {
      co_await m.async_lock();
      EXPECT_EQ(++inside, 1);
      co_await activations::async_yield();
      EXPECT_EQ(--inside, 0);
      m.unlock();
    }
  });
  all.threads(1, [&](int) {
    for (int i = 0; i < 100; ++i) {
      std::lock_guard hold(m);
      EXPECT_EQ(++inside, 1);
      std::this_thread::yield();
      EXPECT_EQ(--inside, 0);
    }
  });
}

template <class Attempt>
void expect_to_give_up_after(std::chrono::milliseconds least, Attempt attempt) {
  mutex m;
  std::lock_guard hold(m);
  auto check = [&](int) {
    stopwatch const watch;
    EXPECT_FALSE(attempt(m));
    EXPECT_GE(watch.time(), least);
  };
  crew all;
  all.threads(1, check);
}

TEST(Mutex, TryLockForGivesUpAfterItsTimeout) {
  expect_to_give_up_after(10ms, [](mutex& m) { return m.try_lock_for(10ms); });
  expect_to_give_up_after(10ms, [](mutex& m) {
    return m.try_lock_for(std::chrono::duration<float>(0.01f));
  });
  expect_to_give_up_after(0ms, [](mutex& m) { return m.try_lock_for(0ms); });
  expect_to_give_up_after(0ms, [](mutex& m) { return m.try_lock_for(-1h); });
}

TEST(Mutex, TryLockUntilGivesUpAtItsDeadlineOfAnyClock) {
  expect_to_give_up_after(10ms, [](mutex& m) {
    return m.try_lock_until(std::chrono::steady_clock::now() + 10ms);
  });
  expect_to_give_up_after(8ms, [](mutex& m) {
    return m.try_lock_until(std::chrono::system_clock::now() + 10ms);
  });
  expect_to_give_up_after(
      8ms, [](mutex& m) { return m.try_lock_until(late_clock::now() + 10ms); });
  expect_to_give_up_after(0ms, [](mutex& m) {
    return m.try_lock_until(std::chrono::steady_clock::time_point::min());
  });
}

TEST(Mutex, TimedLockTriesOnceWhenTheDeadlineHasPassed) {
  mutex m;
  EXPECT_TRUE(m.try_lock_for(-1s));
  m.unlock();
  EXPECT_TRUE(m.try_lock_until(std::chrono::system_clock::time_point()));
  m.unlock();
}

TEST(Mutex, TimedLockGetsWhatIsUnlockedInTime) {
  mutex m;
  m.lock();
  crew all;
  all.threads(2, [&](int i) {
    bool const got =
        i == 0 ? m.try_lock_for(std::chrono::hours::max())
               : m.try_lock_until(std::chrono::system_clock::now() + 1h);
    ASSERT_TRUE(got);
    m.unlock();
  });
  let_others_wait();
  m.unlock();
}

bool waiters_are_served_in_order(std::chrono::milliseconds patience) {
  mutex m;
  std::vector<int> order;
  m.lock();
  crew all;
  for (int i = 0; i < 6; ++i) {
    auto enter = [&order, i] { order.push_back(i); };
    auto lock = [&m, enter](int) {
      std::lock_guard hold(m);
      enter();
    };
    if (i % 3 == 2)
      all.tasks(1, [&m, enter](int) -> task<> {
        co_await m.async_lock();
        enter();
        m.unlock();
      });
    else if (i % 3 == 1)
      all.user_threads(1, lock);
    else
      all.kernel_threads(1, lock);
    std::this_thread::sleep_for(patience);
  }
  m.unlock();
  all.join();
  return order == std::vector{0, 1, 2, 3, 4, 5};
}

TEST(Mutex, WaitersAreServedFirstInFirstOut) {
  EXPECT_TRUE(succeeds_in_some_attempt(waiters_are_served_in_order));
}

// The greedy thread holds the mutex nearly all the time and takes it back at
// once. Without the hand-over the waiter would be overtaken for ever.
void expect_a_turn_beside_a_greedy_thread(
    std::function<void(crew&, mutex&, std::atomic<bool>&)> start_waiter) {
  mutex m;
  std::atomic<bool> done{false};
  crew all;
  all.kernel_threads(1, [&](int) {
    while (!done) {
      std::lock_guard hold(m);
      for (stopwatch watch; watch.time() < 50us;) {
      }
    }
  });
  let_others_wait();
  stopwatch const watch;
  start_waiter(all, m, done);
  all.join();
  EXPECT_LT(watch.time(), 10s);  // of which 20 ms are our own limit
}

TEST(Mutex, NobodyIsOvertakenForEver) {
  expect_a_turn_beside_a_greedy_thread(
      [](crew& all, mutex& m, std::atomic<bool>& done) {
        all.kernel_threads(1, [&](int) {
          for (int i = 0; i < 20; ++i) std::lock_guard hold(m);
          done = true;
        });
      });
  expect_a_turn_beside_a_greedy_thread(
      [](crew& all, mutex& m, std::atomic<bool>& done) {
        all.user_threads(1, [&](int) {
          for (int i = 0; i < 20; ++i) std::lock_guard hold(m);
          done = true;
        });
      });
  expect_a_turn_beside_a_greedy_thread(
      [](crew& all, mutex& m, std::atomic<bool>& done) {
        all.tasks(1, [&](int) -> task<> {
          for (int i = 0; i < 20; ++i) {
            co_await m.async_lock();
            m.unlock();
          }
          done = true;
        });
      });
}

double thread_cpu_seconds() {
  timespec spent;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
  return static_cast<double>(spent.tv_sec) +
         static_cast<double>(spent.tv_nsec) / 1e9;
}

TEST(Mutex, WaitingForAHolderThatSleepsTakesNoProcessorTime) {
  mutex m;
  crew all;
  all.user_threads(1, [&](int) {
    std::lock_guard hold(m);
    activations::this_thread::sleep_for(200ms);
  });
  let_others_wait();
  all.kernel_threads(2, [&](int) {
    double const before = thread_cpu_seconds();
    { std::lock_guard hold(m); }
    EXPECT_LT(thread_cpu_seconds() - before, 0.05);
  });
}

TEST(Mutex, ATimeoutThatRacesWithAnUnlockLosesNothing) {
  mutex m;
  long got = 0;
  std::atomic<long> successes{0};
  crew all;
  auto attempt = [&](int stream) {
    auto random = random_stream(stream);
    for (int i = 0; i < 1000 * effort; ++i) {
      if (!m.try_lock_for(std::chrono::nanoseconds(random() % 3000))) continue;
      ++got;
      ++successes;
      m.unlock();
    }
  };
  all.kernel_threads(3, attempt);
  all.user_threads(3, [&](int i) { attempt(10 + i); });
  all.join();
  EXPECT_EQ(got, successes);
  EXPECT_TRUE(m.try_lock());
  m.unlock();
}

// Each of two threads may be the one that destroys the mutex, right after its
// unlock. AddressSanitizer sees an unlock that touches it too late.
TEST(Mutex, MayBeDestroyedByTheLastToUnlockIt) {
  struct shared {
    mutex m;
    int users = 3;
  };
  for (int round = 0; round < 200 * effort; ++round) {
    auto* const object = new shared;
    auto leave = [object](int) {
      object->m.lock();
      bool const last = --object->users == 0;
      object->m.unlock();
      if (last) delete object;
    };
    auto leave_timed = [object](int) {
      while (!object->m.try_lock_for(1us)) {
      }
      bool const last = --object->users == 0;
      object->m.unlock();
      if (last) delete object;
    };
    std::thread one(leave, 0);
    std::thread other(leave_timed, 0);
    leave(0);
    one.join();
    other.join();
  }
}

TEST(Mutex, MixedUseKeepsEveryUpdate) {
  struct guarded {
    mutex m;
    long count = 0;
  };
  std::vector<guarded> objects(4);
  std::atomic<long> updates{0};
  int const rounds = 1000 * effort;
  auto update = [&](guarded& object) {
    ++object.count;
    updates.fetch_add(1, std::memory_order::relaxed);
    object.m.unlock();
  };
  auto work = [&](int stream) {
    auto random = random_stream(stream);
    for (int i = 0; i < rounds; ++i) {
      auto& object = objects[random() % objects.size()];
      switch (random() % 3) {
        case 0:
          object.m.lock();
          break;
        case 1:
          if (!object.m.try_lock()) continue;
          break;
        case 2:
          if (!object.m.try_lock_for(std::chrono::microseconds(random() % 20)))
            continue;
          break;
      }
      if (random() % 16 == 0) std::this_thread::yield();
      update(object);
    }
  };
  crew all;
  all.kernel_threads(3, work);
  all.user_threads(6, [&](int i) { work(10 + i); });
  all.tasks(6, [&](int stream) -> task<> {
    auto random = random_stream(20 + stream);
    for (int i = 0; i < rounds; ++i) {
      auto& object = objects[random() % objects.size()];
      co_await object.m.async_lock();
      if (random() % 8 == 0) co_await activations::async_yield();
      update(object);
    }
  });
  all.join();
  long sum = 0;
  for (auto& object : objects) sum += object.count;
  EXPECT_EQ(sum, updates);
}

using MutexDeathTest = ::testing::Test;

TEST(MutexDeathTest, UnlockingAFreeMutexIsDiagnosed) {
  mutex m;
  EXPECT_DEATH(m.unlock(), "assertion failed");
}

TEST(MutexDeathTest, UnlockingSomebodyElsesMutexIsDiagnosed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        mutex m;
        std::thread([&] { m.lock(); }).join();
        m.unlock();
      },
      "assertion failed");
}

TEST(MutexDeathTest, DestroyingALockedMutexIsDiagnosed) {
  EXPECT_DEATH(
      {
        mutex m;
        m.lock();
      },
      "assertion failed");
}

}  // namespace
