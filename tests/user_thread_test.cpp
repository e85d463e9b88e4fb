// SPDX-License-Identifier: BSL-1.0
#include <activations/user_thread.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <sstream>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <thread>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

#include <activations/this_thread.hpp>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::scheduler;
using activations::scheduler_options;
using activations::thread_options;
using activations::threading;
using activations::user_thread;

static_assert(!std::is_copy_constructible_v<user_thread>);
static_assert(std::is_nothrow_move_constructible_v<user_thread>);
static_assert(std::is_nothrow_default_constructible_v<user_thread>);

// The errno of the std::system_error that f throws; 0: it threw none.
template <class F>
int error_of(F f) {
  try {
    f();
  } catch (std::system_error const& error) {
    return error.code().value();
  }
  return 0;
}

// Everything that holds for a user thread holds in each model.
class UserThread : public testing::TestWithParam<threading> {
 protected:
  scheduler there_{scheduler_options{.processors = 2, .model = GetParam()}};
};

INSTANTIATE_TEST_SUITE_P(
    Models, UserThread,
    testing::Values(threading::many_to_many, threading::many_to_one,
                    threading::one_to_one),
    [](auto const& info) {
      return std::string(info.param == threading::many_to_many  ? "ManyToMany"
                         : info.param == threading::many_to_one ? "ManyToOne"
                                                                : "OneToOne");
    });

TEST_P(UserThread, RunsItsFunctionOnDecayedCopies) {
  there_.run([] {
    int by_value = 1;
    int by_reference = 1;
    char const text[] = "text";
    user_thread t(
        [](int&& copy, int& original, std::string s, std::unique_ptr<int> p) {
          copy = 5;
          original = 5;
          EXPECT_EQ(s, "text");
          EXPECT_EQ(*p, 3);
        },
        by_value, std::ref(by_reference), text, std::make_unique<int>(3));
    t.join();
    EXPECT_EQ(by_value, 1);
    EXPECT_EQ(by_reference, 5);
  });
}

TEST_P(UserThread, TakesAMemberFunctionAndAMoveOnlyCallable) {
  struct counter {
    int n = 0;
    void add(int more) { n += more; }
  };
  there_.run([] {
    counter c;
    user_thread(&counter::add, &c, 3).join();
    user_thread([&c, p = std::make_unique<int>(4)] { c.n += *p; }).join();
    EXPECT_EQ(c.n, 7);
  });
}

TEST_P(UserThread, PassesAStopTokenFirstIfTheFunctionTakesOne) {
  there_.run([] {
    user_thread takes(
        [](std::stop_token token, int n) {
          EXPECT_TRUE(token.stop_possible());
          EXPECT_EQ(n, 2);
        },
        2);
    user_thread does_not([](int n) { EXPECT_EQ(n, 3); }, 3);
  });
}

TEST_P(UserThread, JoinWaitsForTheEnd) {
  there_.run([] {
    bool ended = false;
    user_thread t([&] {
      activations::this_thread::sleep_for(2ms);
      ended = true;
    });
    EXPECT_TRUE(t.joinable());
    t.join();
    EXPECT_TRUE(ended);
    EXPECT_FALSE(t.joinable());
  });
}

TEST_P(UserThread, JoinWorksFromAKernelThreadAUserThreadAndATask) {
  bool ended = false;
  auto const body = [&] {
    activations::this_thread::sleep_for(1ms);
    ended = true;
  };
  there_.spawn(body).join();
  EXPECT_TRUE(std::exchange(ended, false));
  there_.run([&] { user_thread(body).join(); });
  EXPECT_TRUE(std::exchange(ended, false));
  there_.run([&]() -> activations::task<> {
    user_thread(body).join();
    co_return;
  });
  EXPECT_TRUE(ended);
}

TEST_P(UserThread, JoinRethrowsWhatLeftTheFunction) {
  auto t = there_.spawn([] { throw std::runtime_error("from inside"); });
  try {
    t.join();
    FAIL();
  } catch (std::runtime_error const& error) {
    EXPECT_STREQ(error.what(), "from inside");
  }
  EXPECT_FALSE(t.joinable());
}

TEST_P(UserThread, JoinAndDetachOfNoThreadAreErrors) {
  user_thread none;
  EXPECT_FALSE(none.joinable());
  EXPECT_EQ(error_of([&] { none.join(); }), EINVAL);
  EXPECT_EQ(error_of([&] { none.detach(); }), EINVAL);
  auto once = there_.spawn([] {});
  once.join();
  EXPECT_EQ(error_of([&] { once.join(); }), EINVAL);
}

TEST_P(UserThread, JoinOfItselfIsAnError) {
  std::atomic<user_thread*> self{nullptr};
  std::atomic<int> error{-1};
  user_thread t = there_.spawn([&] {
    user_thread* me;
    while ((me = self) == nullptr) activations::this_thread::yield();
    error = error_of([&] { me->join(); });
  });
  self = &t;
  while (error == -1) std::this_thread::yield();
  EXPECT_EQ(error, EDEADLK);
  t.join();
}

TEST_P(UserThread, DestructorRequestsAStopAndWaits) {
  there_.run([] {
    bool stopped = false;
    {
      user_thread t([&](std::stop_token token) {
        while (!token.stop_requested()) activations::this_thread::yield();
        stopped = true;
      });
    }
    EXPECT_TRUE(stopped);
  });
}

TEST_P(UserThread, MoveAssignmentStopsAndWaitsForTheOldOne) {
  there_.run([] {
    bool stopped = false;
    user_thread t([&](std::stop_token token) {
      while (!token.stop_requested()) activations::this_thread::yield();
      stopped = true;
    });
    bool ran = false;
    t = user_thread([&] { ran = true; });
    EXPECT_TRUE(stopped);
    t.join();
    EXPECT_TRUE(ran);
  });
}

TEST_P(UserThread, MovedFromIsNoThread) {
  auto a = there_.spawn([] {});
  auto const id = a.get_id();
  user_thread b(std::move(a));
  EXPECT_FALSE(a.joinable());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(a.get_id(), user_thread::id());
  EXPECT_EQ(b.get_id(), id);
  swap(a, b);
  EXPECT_EQ(a.get_id(), id);
  EXPECT_FALSE(b.joinable());
}

TEST_P(UserThread, DetachedOneRunsOnAndItsSchedulerWaitsForIt) {
  std::atomic<bool> ended{false};
  {
    scheduler inner({.processors = 1, .model = GetParam()});
    inner
        .spawn([&] {
          activations::this_thread::sleep_for(5ms);
          ended = true;
        })
        .detach();
  }
  EXPECT_TRUE(ended);
}

TEST_P(UserThread, StopIsRequestedOnce) {
  there_.run([] {
    std::atomic<bool> called{false};
    user_thread t([&](std::stop_token token) {
      std::stop_callback const on_stop(token, [&] { called = true; });
      while (!called) activations::this_thread::yield();
    });
    auto const token = t.get_stop_token();
    EXPECT_FALSE(token.stop_requested());
    EXPECT_TRUE(t.request_stop());
    EXPECT_FALSE(t.request_stop());
    EXPECT_TRUE(token.stop_requested());
    EXPECT_TRUE(t.get_stop_source().stop_requested());
  });
}

TEST_P(UserThread, StopRequestedBeforeAnyTokenIsSeenByTheToken) {
  there_.run([] {
    std::atomic<bool> go{false};
    std::stop_token token;
    user_thread t([&] {
      while (!go) activations::this_thread::yield();
    });
    EXPECT_TRUE(t.request_stop());
    EXPECT_TRUE(t.get_stop_token().stop_requested());
    go = true;
  });
}

TEST_P(UserThread, StopSourceMayBeAskedForAfterTheEnd) {
  for (int i = 0; i < 3; ++i) {
    std::atomic<bool> ended{false};
    auto t = there_.spawn([&] { ended = true; });
    while (!ended) std::this_thread::yield();
    let_others_wait();  // until it has let go of everything
    auto source = t.get_stop_source();
    EXPECT_TRUE(source.stop_possible());
    t.join();
    EXPECT_TRUE(source.request_stop());
  }
  there_.stop();  // finds nothing that is gone
}

TEST_P(UserThread, NoThreadHasNoStopState) {
  user_thread none;
  EXPECT_FALSE(none.get_stop_source().stop_possible());
  EXPECT_FALSE(none.get_stop_token().stop_possible());
  EXPECT_FALSE(none.request_stop());
  EXPECT_EQ(none.name(), "");
}

TEST_P(UserThread, IdsAreUniqueOrderedHashedAndPrinted) {
  std::set<user_thread::id> ordered;
  std::unordered_set<user_thread::id> hashed;
  std::vector<user_thread> threads;
  for (int i = 0; i < 100; ++i) {
    threads.push_back(there_.spawn([] {}));
    ordered.insert(threads.back().get_id());
    hashed.insert(threads.back().get_id());
  }
  EXPECT_EQ(ordered.size(), 100u);
  EXPECT_EQ(hashed.size(), 100u);
  EXPECT_EQ(ordered.count(user_thread::id()), 0u);
  std::ostringstream text;
  text << threads[0].get_id();
  EXPECT_EQ(text.str(), std::to_string(threads[0].get_id().value()));
}

TEST_P(UserThread, NameIsCutToFifteenCharacters) {
  auto t = there_.spawn({.name = "a name that is too long"}, [] {});
  EXPECT_EQ(t.name(), "a name that is ");
  EXPECT_EQ(there_.spawn({.name = "short"}, [] {}).name(), "short");
}

struct counted {
  static inline std::atomic<int> alive{0};
  counted() { ++alive; }
  counted(counted const&) { ++alive; }
  counted(counted&&) noexcept { ++alive; }
  ~counted() { --alive; }
};

TEST_P(UserThread, FunctionAndArgumentsAreDestroyedBeforeJoinReturns) {
  counted::alive = 0;
  there_.run([] {
    user_thread([c = counted()](counted const&) {}, counted()).join();
    EXPECT_EQ(counted::alive, 0);
    user_thread t([c = counted()](counted const&) { throw 1; }, counted());
    EXPECT_THROW(t.join(), int);
    EXPECT_EQ(counted::alive, 0);
  });
}

TEST_P(UserThread, CopyThatThrowsLeavesNothingBehind) {
  struct fails {
    fails() = default;
    fails(fails const&) { throw 7; }
    void operator()() const {}
  };
  there_.run([] { user_thread([] {}).join(); });
  auto const before = there_.statistics();
  fails const f;
  EXPECT_THROW((void)there_.spawn(f), int);
  // The thread before may just be giving its stack back.
  EXPECT_LE(there_.statistics().stacks.live, before.stacks.live);
  EXPECT_EQ(there_.statistics().spawned, before.spawned);
}

TEST_P(UserThread, OverAlignedFunctionIsAligned) {
  struct alignas(256) wide {
    char bytes[256];
    bool operator()() const {
      return reinterpret_cast<std::uintptr_t>(this) % 256 == 0;
    }
  };
  there_.run([] { user_thread([w = wide()] { EXPECT_TRUE(w()); }).join(); });
}

TEST_P(UserThread, ArgumentsThatDoNotFitOnTheStackAreAnError) {
  struct large {
    char bytes[2 * activations::default_stack_bytes];
  };
  auto const l = std::make_unique<large>();
  EXPECT_EQ(error_of([&] { (void)there_.spawn([](large const&) {}, *l); }),
            EINVAL);
}

TEST_P(UserThread, UserThreadsStartUserThreads) {
  std::atomic<int> leaves{0};
  struct tree {
    static void grow(int depth, std::atomic<int>& leaves) {
      if (depth == 0) {
        ++leaves;
        return;
      }
      user_thread left(&grow, depth - 1, std::ref(leaves));
      user_thread right(&grow, depth - 1, std::ref(leaves));
    }
  };
  there_.run([&] { tree::grow(5, leaves); });
  EXPECT_EQ(leaves, 32);
}

TEST_P(UserThread, WhatItWroteIsVisibleAfterJoin) {
  there_.run([] {
    for (int i = 0; i < 200 * effort; ++i) {
      int value = 0;
      user_thread t([&] { value = i + 1; });
      t.join();
      ASSERT_EQ(value, i + 1);
    }
  });
}

TEST(UserThreadOutside, NeedsASchedulerAround) {
  EXPECT_EQ(error_of([] { user_thread t([] {}); }), EPERM);
}

}  // namespace
