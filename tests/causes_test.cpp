// SPDX-License-Identifier: BSL-1.0
// Why threads blocked: what was sampled can be asked for, with the arguments
// of the call.
#include <activations/activations.hpp>

#include <gtest/gtest.h>

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <optional>
#include <thread>
#include <vector>

#include "blocking_ways.hpp"

namespace {

using namespace blocking_ways;
using activations::block_cause;
using activations::scheduler;
using activations::user_thread;
using activations::detail::block_causes;

activations_cause system_call(std::uint32_t number, std::uint64_t first = 0) {
  activations_cause c{};
  c.kind = ACTIVATIONS_CAUSE_SYSCALL;
  c.number = number;
  c.arguments[0] = first;
  return c;
}

std::optional<block_cause> find_call(std::vector<block_cause> const& all,
                                     long number) {
  for (auto const& one : all)
    if (one.what == block_cause::kind::system_call && one.system_call == number)
      return one;
  return std::nullopt;
}

TEST(BlockCauses, AreEmptyAtFirst) {
  EXPECT_TRUE(block_causes().snapshot().empty());
}

TEST(BlockCauses, AreCountedByCallWithTheLastArguments) {
  block_causes causes;
  causes.add(system_call(SYS_read, 3), 16);
  causes.add(system_call(SYS_read, 4), 16);
  causes.add(system_call(SYS_nanosleep, 9), 1);
  auto const all = causes.snapshot();
  ASSERT_EQ(all.size(), 2u);
  auto const read = find_call(all, SYS_read);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->count, 32u);
  EXPECT_EQ(read->last.kind, unsigned{ACTIVATIONS_CAUSE_SYSCALL});
  EXPECT_EQ(read->last.number, unsigned{SYS_read});
  EXPECT_EQ(read->last.arguments[0], 4u);
  EXPECT_EQ(find_call(all, SYS_nanosleep)->count, 1u);
}

TEST(BlockCauses, AFaultHasAnEntryOfItsOwn) {
  block_causes causes;
  activations_cause fault{};
  fault.kind = ACTIVATIONS_CAUSE_FAULT;
  fault.address = 0x401000;
  causes.add(fault, 2);
  auto const all = causes.snapshot();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].what, block_cause::kind::fault);
  EXPECT_EQ(all[0].system_call, -1);
  EXPECT_EQ(all[0].count, 2u);
  EXPECT_EQ(all[0].last.address, 0x401000u);
}

TEST(BlockCauses, AFutexCallKeepsItsKind) {
  block_causes causes;
  activations_cause futex{};
  futex.kind = ACTIVATIONS_CAUSE_FUTEX;
  futex.number = SYS_futex;
  futex.arguments[0] = 0x7000;
  causes.add(futex, 1);
  auto const all = causes.snapshot();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0].system_call, SYS_futex);
  EXPECT_EQ(all[0].last.kind, unsigned{ACTIVATIONS_CAUSE_FUTEX});
  EXPECT_EQ(all[0].last.arguments[0], 0x7000u);
}

TEST(BlockCauses, ANumberBeyondTheTableIsNotLost) {
  block_causes causes;
  causes.add(system_call(4'000'000'000u), 1);
  std::uint64_t sum = 0;
  for (auto const& one : causes.snapshot()) sum += one.count;
  EXPECT_EQ(sum, 1u);
}

TEST(BlockCauses, CountsAreExactAndSamplesWholeUnderContention) {
  block_causes causes;
  constexpr int each = 20000;
  std::atomic<bool> stop{false};
  std::vector<std::thread> writers;
  for (std::uint64_t w = 1; w <= 3; ++w)
    writers.emplace_back([&causes, w] {
      activations_cause mine = system_call(SYS_read);
      mine.address = w;
      for (auto& argument : mine.arguments) argument = w;
      for (int i = 0; i < each; ++i) causes.add(mine, 2);
    });
  std::thread reader([&] {
    while (!stop)
      for (auto const& one : causes.snapshot())
        for (auto const argument : one.last.arguments)
          EXPECT_EQ(argument, one.last.address);
  });
  for (auto& writer : writers) writer.join();
  stop = true;
  reader.join();
  EXPECT_EQ(find_call(causes.snapshot(), SYS_read)->count, 3u * 2 * each);
}

// Blocks threads in one way, with others to take over, until the scheduler
// reports a cause for which wanted() is true.
template <class Wanted>
bool is_reported(blocker& way, Wanted wanted) {
  scheduler here({.processors = 1});
  std::atomic<bool> stop{false};
  std::vector<user_thread> threads;
  // Enough for several samples of one in sixteen.
  for (int i = 0; i < 64; ++i)
    threads.push_back(here.spawn([&] { way.block(); }));
  // Keeps a queue, so that there is somebody to hand over to.
  auto other = here.spawn([&] {
    while (!stop) {
      user_thread brief([] {});
      brief.join();
      activations::this_thread::sleep_for(100us);
    }
  });
  bool const found = eventually([&] {
    auto const all = here.block_causes();
    EXPECT_TRUE(std::is_sorted(
        all.begin(), all.end(),
        [](auto const& a, auto const& b) { return a.count > b.count; }));
    return std::any_of(all.begin(), all.end(), wanted);
  });
  stop = true;
  way.release();
  return found;
}

TEST(BlockCauses, AReadIsReportedWithItsDescriptor) {
  pipe_read pipe;
  EXPECT_TRUE(is_reported(pipe, [&](block_cause const& c) {
    return c.system_call == SYS_read && c.count > 0 &&
           c.last.arguments[0] == static_cast<unsigned>(pipe.read_end()) &&
           c.last.arguments[2] == 1;
  }));
}

TEST(BlockCauses, ASleepIsReported) {
  short_sleeps sleeps;
  EXPECT_TRUE(is_reported(sleeps, [](block_cause const& c) {
    return c.system_call == SYS_clock_nanosleep ||
           c.system_call == SYS_nanosleep;
  }));
}

TEST(BlockCauses, AFutexInsideALibraryIsReported) {
  library_mutex mutex;
  EXPECT_TRUE(is_reported(mutex, [](block_cause const& c) {
    return c.system_call == SYS_futex &&
           c.last.kind == ACTIVATIONS_CAUSE_FUTEX && c.last.arguments[0] != 0;
  }));
}

TEST(BlockCauses, APageFaultIsReported) {
  if (!page_fault::is_permitted())
    GTEST_SKIP() << "userfaultfd is forbidden here";
  page_fault pages;
  EXPECT_TRUE(is_reported(pages, [](block_cause const& c) {
    return c.what == block_cause::kind::fault && c.last.address != 0;
  }));
}

}  // namespace
