// SPDX-License-Identifier: BSL-1.0
#include <activations/detail/context.hpp>
#include <activations/detail/stack.hpp>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <span>
#include <thread>
#include <utility>
#include <vector>

namespace {

using namespace activations;
using namespace activations::detail;

stack_pool_options with_policy(guard_policy policy) {
  stack_pool_options options;
  options.policy = policy;
  return options;
}

std::uintptr_t number(void const* address) {
  return reinterpret_cast<std::uintptr_t>(address);
}

// Pages of [from, to) that hold memory.
std::size_t resident_pages(std::byte* from, std::byte* to) {
  std::vector<unsigned char> present(
      static_cast<std::size_t>(to - from + 4095) / 4096);
  EXPECT_EQ(
      ::mincore(from, static_cast<std::size_t>(to - from), present.data()), 0);
  std::size_t count = 0;
  for (auto const each : present) count += each & 1;
  return count;
}

TEST(StackPool, GivesAlignedUsableBytesOfAtLeastTheSizeAsked) {
  stack_pool pool;
  for (std::size_t const bytes :
       {std::size_t{1}, std::size_t{16384}, std::size_t{16385},
        std::size_t{65536}, std::size_t{100000}, default_stack_bytes,
        std::size_t{8} << 20}) {
    for (int i = 0; i < 20; ++i) {
      stack const s = pool.allocate(bytes);
      ASSERT_TRUE(s);
      EXPECT_GE(s.size, bytes);
      EXPECT_GE(s.size, minimum_stack_bytes);
      EXPECT_EQ(number(s.top()) % 64, 0u);
      std::memset(s.base, 1, s.size);
      pool.release(s);
    }
  }
  EXPECT_EQ(pool.statistics().live, 0u);
}

TEST(StackPool, LiveStacksDoNotOverlap) {
  stack_pool pool;
  std::set<std::pair<std::byte*, std::byte*>> ranges;
  for (int i = 0; i < 300; ++i) {
    auto const s = pool.allocate(i % 2 == 0 ? 20000 : default_stack_bytes);
    ranges.emplace(s.base, s.top());
  }
  std::byte* end = nullptr;
  for (auto const& [base, top] : ranges) {
    EXPECT_GE(base, end + (end != nullptr ? guard_bytes() : 0));
    end = top;
  }
  EXPECT_EQ(pool.statistics().live, 300u);
}

TEST(StackPool, GivesTheMostRecentlyReleasedStackFirst) {
  stack_pool pool;
  auto const a = pool.allocate();
  auto const b = pool.allocate();
  auto const other = pool.allocate(1 << 20);
  pool.release(a);
  pool.release(b);
  pool.release(other);
  EXPECT_EQ(pool.allocate().base, b.base);
  EXPECT_EQ(pool.allocate().base, a.base);
  EXPECT_EQ(pool.allocate(1 << 20).base, other.base);
}

// The first-level cache has few sets: equal offsets would share them.
TEST(StackPool, TopsOfNeighboursDifferInTheirPageOffset) {
  stack_pool pool;
  std::set<std::uintptr_t> offsets;
  for (int i = 0; i < 16; ++i)
    offsets.insert(number(pool.allocate().top()) % 4096);
  EXPECT_EQ(offsets.size(), 16u);
}

TEST(StackPool, FailureReturnsAnEmptyStackAndIsCounted) {
  stack_pool pool;
  EXPECT_FALSE(pool.allocate(std::size_t{2} << 30));
  auto const counters = pool.statistics();
  EXPECT_EQ(counters.failures, 1u);
  EXPECT_EQ(counters.last_error, EINVAL);
  EXPECT_EQ(counters.live, 0u);
}

// The sanitizers reserve terabytes of address space, so no limit is possible.
#if !ACTIVATIONS_ASAN && !ACTIVATIONS_TSAN
TEST(StackPoolDeathTest, OutOfMemoryReturnsAnEmptyStackAndKeepsErrno) {
  EXPECT_EXIT(
      {
        rlimit limit;
        limit.rlim_cur = limit.rlim_max = 256 << 20;
        ::setrlimit(RLIMIT_AS, &limit);
        stack_pool pool;
        std::vector<stack> got;
        got.reserve(10000);
        errno = 77;
        for (stack s; (s = pool.allocate());) got.push_back(s);
        auto const counters = pool.statistics();
        bool right = got.size() > 100 && counters.failures == 1 &&
                     counters.last_error == ENOMEM && errno == 77;
        pool.release(got.back());
        right = right && pool.allocate();
        ::_exit(right ? 0 : 1);
      },
      testing::ExitedWithCode(0), "");
}
#endif

TEST(StackPool, MemoryGoesBackBeyondTheBounds) {
  stack_pool_options options;
  options.warm_stacks = 2;
  options.trimmed_stacks = 4;
  stack_pool pool(options);
  std::vector<stack> all;
  for (int i = 0; i < 6; ++i) {
    all.push_back(pool.allocate());
    std::memset(all.back().base, 1, all.back().size);
  }
  auto const whole = (all[0].size + 4095) / 4096;
  for (auto const& each : all) pool.release(each);
  for (std::size_t i = 0; i < 6; ++i)
    EXPECT_EQ(resident_pages(all[i].base, all[i].top()), i < 2   ? whole
                                                         : i < 4 ? 1
                                                                 : 0);
  EXPECT_EQ(pool.statistics().trims, 4u);
  for (int i = 0; i < 6; ++i) {
    auto const again = pool.allocate();
    ASSERT_TRUE(again);
    std::memset(again.base, 2, again.size);
  }
  EXPECT_EQ(pool.statistics().live, 6u);
}

TEST(StackPool, TwoPagesHoldAThreadThatHasOnlyParked) {
  stack_pool pool;
  static context outside;
  static context inside;
  context_init_native(outside);
  for (int i = 0; i < 20; ++i) {
    auto const s = pool.allocate();
    if (s.guard == guard_kind::canary) continue;
    context_make(
        inside, s.base, s.size,
        [](void*) {
          context_enter(inside);
          context_switch_final(inside, outside);
        },
        nullptr);
    context_switch(outside, inside);
    context_finish(inside);
    EXPECT_LE(resident_pages(s.base, s.top()), 2u);
  }
}

TEST(StackPool, AnyThreadMayAllocateAndRelease) {
  stack_pool pool;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&pool] {
      std::vector<stack> mine;
      for (int i = 0; i < 2000; ++i) {
        if (i % 3 != 2) {
          mine.push_back(pool.allocate(i % 5 == 0 ? 32768 : 65536));
          *mine.back().base = std::byte{1};
          *(mine.back().top() - 1) = std::byte{1};
        } else {
          pool.release(mine.back());
          mine.pop_back();
        }
      }
      pool.release_some(mine);
    });
  for (auto& each : threads) each.join();
  EXPECT_EQ(pool.statistics().live, 0u);
  EXPECT_EQ(pool.statistics().failures, 0u);
}

TEST(StackCache, GivesBackWhatItTookAndNothingElse) {
  stack_pool pool;
  stack_cache cache;
  auto const first = cache.allocate(pool);
  cache.release(pool, first);
  EXPECT_EQ(cache.allocate(pool).base, first.base);
  std::vector<stack> all{first};
  for (int i = 0; i < 100; ++i) all.push_back(cache.allocate(pool));
  std::set<std::byte*> distinct;
  for (auto const& each : all) distinct.insert(each.base);
  EXPECT_EQ(distinct.size(), all.size());
  for (auto const& each : all) cache.release(pool, each);
  auto const odd = pool.allocate(1 << 20);
  cache.release(pool, odd);
  EXPECT_EQ(cache.allocate(pool).base, all.back().base);
  cache.release(pool, all.back());
  cache.clear(pool);
  EXPECT_EQ(pool.statistics().live, 0u);
}

TEST(StackGuard, PagesStayWithinTheirShareAndCanariesFollow) {
  auto options = with_policy(guard_policy::pages);
  options.guard_pages_limit = 10;
  {
    stack_pool pool(options);
    stack_pool second(options);
    for (int i = 0; i < 8; ++i)
      EXPECT_EQ(pool.allocate().guard, guard_kind::pages);
    for (int i = 0; i < 8; ++i)
      EXPECT_EQ(second.allocate().guard,
                i < 2 ? guard_kind::pages : guard_kind::canary);
    EXPECT_EQ(second.statistics().page_guards, 2u);
    EXPECT_EQ(second.statistics().canaries, 6u);
  }
  EXPECT_EQ(guard_pages_in_use.load(), 0u);
}

TEST(StackGuard, MappingLimitOfTheKernelIsRead) {
  EXPECT_GE(read_max_map_count(), 1000u);
}

class StackGuardOfAnyKind : public testing::TestWithParam<guard_policy> {};

INSTANTIATE_TEST_SUITE_P(Policies, StackGuardOfAnyKind,
                         testing::Values(guard_policy::best,
                                         guard_policy::pages,
                                         guard_policy::canaries));

TEST_P(StackGuardOfAnyKind, HundredThousandStacksLiveOnDefaultLimits) {
  constexpr std::size_t count = 100'000;
  stack_pool pool(with_policy(GetParam()));
  std::vector<stack> all;
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back(pool.allocate());
    ASSERT_TRUE(all.back());
    *(all.back().top() - 1) = std::byte{1};
  }
  auto const counters = pool.statistics();
  EXPECT_EQ(counters.live, count);
  EXPECT_EQ(counters.region_guards + counters.page_guards + counters.canaries,
            count);
  switch (GetParam()) {
    case guard_policy::best:
      EXPECT_GT(counters.region_guards + counters.page_guards, 0u);
      break;
    case guard_policy::pages:
      EXPECT_EQ(counters.region_guards, 0u);
      EXPECT_EQ(counters.page_guards,
                std::min(count, read_max_map_count() / 4));
      break;
    case guard_policy::canaries:
      EXPECT_EQ(counters.canaries, count);
      break;
  }
  // Others can still map memory.
  std::vector<void*> others;
  for (int i = 0; i < 1000; ++i) {
    others.push_back(::mmap(nullptr, 4096, i % 2 == 0 ? PROT_READ : PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    ASSERT_NE(others.back(), MAP_FAILED);
  }
  for (auto* each : others) ::munmap(each, 4096);
  pool.release_some(all);
}

TEST_P(StackGuardOfAnyKind, NeighbouringBytesAreToldApart) {
  stack_pool pool(with_policy(GetParam()));
  auto const s = pool.allocate();
  bool const guarded = s.guard != guard_kind::canary;
  EXPECT_EQ(stack_contains_guard(s, s.base - 1), guarded);
  EXPECT_EQ(stack_contains_guard(s, s.base - guard_bytes()), guarded);
  EXPECT_FALSE(stack_contains_guard(s, s.base - guard_bytes() - 1));
  EXPECT_FALSE(stack_contains_guard(s, s.base));
  EXPECT_FALSE(stack_contains_guard(s, s.top()));
  EXPECT_FALSE(stack_contains_guard(s, nullptr));
}

TEST(StackCanary, TellsOverwrittenAndLeftStacks) {
  stack_pool pool(with_policy(guard_policy::canaries));
  for (std::size_t offset = 0; offset < canary_bytes; ++offset) {
    auto const s = pool.allocate();
    ASSERT_EQ(s.guard, guard_kind::canary);
    EXPECT_TRUE(stack_is_intact(s, s.top() - 8));
    EXPECT_TRUE(stack_is_intact(s, s.base));
    EXPECT_FALSE(stack_is_intact(s, s.base - 1));
    EXPECT_FALSE(stack_is_intact(s, s.top()));
    s.base[offset] ^= std::byte{1};
    EXPECT_FALSE(stack_is_intact(s, s.top() - 8));
    pool.release(s);  // the next one starts with a new canary
  }
}

TEST(UserSuppliedStack, IsAlignedCheckedAndHasACanary) {
  std::vector<std::byte> memory(minimum_stack_bytes + 200);
  auto const all = std::span(memory);
  EXPECT_FALSE(adopt_stack({}));
  EXPECT_FALSE(adopt_stack(all.first(minimum_stack_bytes - 1)));
  for (std::size_t skip = 0; skip < 64; ++skip) {
    auto const s = adopt_stack(all.subspan(skip, minimum_stack_bytes + 128));
    ASSERT_TRUE(s);
    EXPECT_EQ(number(s.base) % 64, 0u);
    EXPECT_EQ(s.size % 64, 0u);
    EXPECT_GE(s.base, memory.data() + skip);
    EXPECT_LE(s.top(), memory.data() + skip + minimum_stack_bytes + 128);
    EXPECT_GE(s.size, minimum_stack_bytes);
    EXPECT_EQ(s.guard, guard_kind::canary);
    EXPECT_TRUE(stack_is_intact(s, s.top() - 8));
    disown_stack(s);
  }
}

}  // namespace
