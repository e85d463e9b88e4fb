// SPDX-License-Identifier: BSL-1.0
#include <activations/detail/waiter.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <coroutine>
#include <optional>
#include <thread>

#include <activations/this_thread.hpp>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::scheduler;
using activations::scheduler_options;
using activations::task;
using activations::detail::runnable;
using activations::detail::steady_time;
using activations::detail::waiter;

steady_time soon() {
  return std::chrono::steady_clock::now() + 2ms;
}
steady_time late() {
  return std::chrono::steady_clock::now() + 1h;
}

// f runs on a plain kernel thread, as a user thread, and inside a task.
template <class F>
void on_each_kind(F f) {
  f();
  scheduler there({.processors = 2});
  there.run(f);
  there.run([&]() -> task<> {
    f();
    co_return;
  });
}

TEST(Waiter, WaitReturnsAtOnceAfterNotify) {
  on_each_kind([] {
    waiter self;
    self.notify();
    self.wait();
    waiter timed;
    timed.notify();
    EXPECT_TRUE(timed.wait_until(late()));
  });
}

TEST(Waiter, NotifyEndsTheWait) {
  on_each_kind([] {
    for (bool const timed : {false, true}) {
      waiter self;
      int written = 0;
      std::thread other([&] {
        std::this_thread::sleep_for(1ms);
        written = 1;
        self.notify();
      });
      if (timed)
        EXPECT_TRUE(self.wait_until(late()));
      else
        self.wait();
      EXPECT_EQ(written, 1);
      other.join();
    }
  });
}

TEST(Waiter, DeadlineEndsTheWaitAndIsNeverEarly) {
  on_each_kind([] {
    auto const deadline = soon();
    waiter self;
    EXPECT_FALSE(self.wait_until(deadline));
    EXPECT_GE(std::chrono::steady_clock::now(), deadline);
  });
}

TEST(Waiter, DeadlineInThePastEndsTheWait) {
  on_each_kind([] {
    for (auto const deadline : {steady_time{}, steady_time::min()}) {
      waiter self;
      EXPECT_FALSE(self.wait_until(deadline));
    }
  });
}

TEST(Waiter, NotifyUnderWayAtTheDeadlineEndsASecondWait) {
  on_each_kind([] {
    waiter self;
    ASSERT_FALSE(self.wait_until(soon()));
    std::thread other([&] {
      std::this_thread::sleep_for(1ms);
      self.notify();
    });
    self.wait();
    other.join();
  });
}

TEST(Waiter, NotifyBetweenTheDeadlineAndTheSecondWaitIsNotLost) {
  on_each_kind([] {
    waiter self;
    ASSERT_FALSE(self.wait_until(steady_time{}));
    self.notify();
    self.wait();
  });
}

struct suspended {
  std::atomic<waiter*>& place;
  std::optional<waiter> self;
  bool await_ready() noexcept { return false; }
  template <class Promise>
  [[gnu::noinline]] void await_suspend(
      std::coroutine_handle<Promise> handle) noexcept {
    place = &self.emplace(static_cast<runnable&>(handle.promise()));
  }
  void await_resume() noexcept {}
};

TEST(Waiter, NotifyResumesASuspendedTask) {
  scheduler there({.processors = 2});
  std::atomic<waiter*> waiting{nullptr};
  auto handle = there.spawn([](std::atomic<waiter*>& place) -> task<int> {
    co_await suspended{place, {}};
    co_return 7;
  }(waiting));
  waiter* found;
  while ((found = waiting) == nullptr) std::this_thread::yield();
  EXPECT_FALSE(handle.is_done());
  found->notify();
  EXPECT_EQ(handle.join(), 7);
}

// The waker of each round is the sleeper of the next.
template <class Yield>
void play_catch(std::atomic<waiter*>& hand, int me, int rounds, Yield yield) {
  for (int i = 0; i < rounds; ++i) {
    if (i % 2 == me) {
      waiter self;
      hand = &self;
      self.wait();
    } else {
      waiter* other;
      while ((other = hand.exchange(nullptr)) == nullptr) yield();
      other->notify();
    }
  }
}

TEST(Waiter, UserThreadsOfTwoSchedulersNotifyEachOther) {
  scheduler a({.processors = 1});
  scheduler b({.processors = 1});
  std::atomic<waiter*> hand{nullptr};
  auto const play = [&](int me) {
    play_catch(hand, me, 100 * effort, &activations::this_thread::yield);
  };
  auto first = a.spawn(play, 0);
  auto second = b.spawn(play, 1);
  first.join();
  second.join();
}

TEST(Waiter, UserThreadAndKernelThreadNotifyEachOther) {
  scheduler there({.processors = 2});
  std::atomic<waiter*> hand{nullptr};
  auto user = there.spawn([&] {
    play_catch(hand, 0, 100 * effort, &activations::this_thread::yield);
  });
  play_catch(hand, 1, 100 * effort, &std::this_thread::yield);
  user.join();
}

// Whoever finds the waiter in the shared place is the one that may, and must,
// notify it: what a primitive's list does.
TEST(Waiter, NotifyAndDeadlineAtOnceEndTheWaitExactlyOnce) {
  scheduler there({.processors = 2});
  std::atomic<waiter*> place{nullptr};
  std::atomic<bool> over{false};
  std::atomic<int> notified{0};
  auto const notifier = [&](auto yield) {
    while (!over) {
      if (waiter* const found = place.exchange(nullptr)) {
        ++notified;
        found->notify();
      }
      yield();
    }
  };
  std::thread kernel([&] { notifier(&std::this_thread::yield); });
  auto user = there.spawn([&] { notifier(&activations::this_thread::yield); });
  int by_notify = 0;
  int by_deadline = 0;
  auto random = random_stream(1);
  auto const wait_often = [&](int rounds) {
    for (int i = 0; i < rounds; ++i) {
      auto const deadline = std::chrono::steady_clock::now() +
                            std::chrono::nanoseconds(random() % 30'000);
      waiter self;
      place = &self;
      if (self.wait_until(deadline)) {
        ++by_notify;
      } else {
        waiter* mine = &self;
        if (place.compare_exchange_strong(mine, nullptr)) {
          ++by_deadline;
        } else {
          self.wait();
          ++by_notify;
        }
      }
    }
  };
  int const rounds = 500 * effort;
  wait_often(rounds);
  there.run([&] { wait_often(rounds); });
  over = true;
  kernel.join();
  user.join();
  EXPECT_EQ(by_notify, notified);
  EXPECT_EQ(by_notify + by_deadline, 2 * rounds);
}

// The notifier is still inside notify when the woken thread ends, and with it
// the scheduler.
TEST(Waiter, SchedulerMayEndWhileAForeignNotifyReturns) {
  for (int i = 0; i < 40 * effort; ++i) {
    std::atomic<waiter*> place{nullptr};
    std::thread foreign([&] {
      waiter* found;
      while ((found = place) == nullptr) {
      }
      found->notify();
    });
    {
      scheduler there({.processors = 1, .max_activations = 1});
      there.run([&] {
        waiter self;
        place = &self;
        self.wait();
      });
    }
    foreign.join();
  }
}

}  // namespace
