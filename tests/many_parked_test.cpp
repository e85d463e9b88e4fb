// SPDX-License-Identifier: BSL-1.0
// How many may wait at once, and what each of them holds.  Prints the memory.
// ctest: serial
#include <activations/activations.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <vector>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::event;
using activations::scheduler;
using activations::task;
using activations::user_thread;

constexpr bool is_instrumented = ACTIVATIONS_ASAN || ACTIVATIONS_TSAN;
constexpr int thread_count = is_instrumented ? 1'000 : 100'000;
constexpr int task_count = is_instrumented ? 10'000 : 1'000'000;

// Resident memory of this process, in bytes.
std::size_t resident_bytes() {
  std::size_t pages = 0;
  std::size_t resident = 0;
  std::ifstream("/proc/self/statm") >> pages >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// Says how much one of `count` holds, and expects no more than `most`.
void report(char const* what, int count, std::size_t before, std::size_t most) {
  auto const now = resident_bytes();
  auto const each =
      (now - std::min(now, before)) / static_cast<std::size_t>(count);
  std::printf("%d parked %s: %zu bytes each\n", count, what, each);
  testing::Test::RecordProperty("bytes_each", static_cast<int>(each));
  EXPECT_LE(each, is_instrumented ? SIZE_MAX : most);
}

TEST(ManyParked, HundredThousandUserThreads) {
  scheduler there({.processors = 2});
  auto const before = resident_bytes();
  event go;
  std::atomic<int> here{0};
  there.run([&] {
    std::vector<user_thread> threads;
    threads.reserve(thread_count);
    for (int i = 0; i < thread_count; ++i)
      threads.emplace_back([&] {
        ++here;
        go.wait();
      });
    wait_until([&] { return here == thread_count; });
    report("user threads", thread_count, before, 12 * 1024);
    go.set();
  });
}

task<> wait_for(event& go, std::atomic<int>& here) {
  here.fetch_add(1, std::memory_order::relaxed);
  co_await go.async_wait();
}

TEST(ManyParked, MillionTasks) {
  scheduler there({.processors = 2});
  auto const before = resident_bytes();
  event go;
  std::atomic<int> here{0};
  there.run([&] {
    std::vector<activations::join_handle<>> handles;
    handles.reserve(task_count);
    for (int i = 0; i < task_count; ++i)
      handles.push_back(there.spawn(wait_for(go, here)));
    wait_until([&] { return here == task_count; });
    report("tasks", task_count, before, 320);
    go.set();
    for (auto& each : handles) each.join();
  });
}

task<> nap(std::atomic<int>& here, int i) {
  co_await activations::async_sleep_for(std::chrono::microseconds(i % 50'000));
  here.fetch_add(1, std::memory_order::relaxed);
}

TEST(ManyParked, SleepersAllWakeUp) {
  scheduler there({.processors = 2});
  std::atomic<int> woken{0};
  int const count = task_count / 10;
  there.run([&] {
    std::vector<activations::join_handle<>> handles;
    for (int i = 0; i < count; ++i)
      handles.push_back(there.spawn(nap(woken, i)));
    for (auto& each : handles) each.join();
  });
  EXPECT_EQ(woken, count);
}

TEST(ManyParked, MemoryIsUsedAgain) {
  scheduler there({.processors = 2});
  // A slab or two more than the first round's, because processors keep some
  // stacks for themselves; not the eightfold.
  std::size_t after_first = 0;
  for (int round = 0; round < 8; ++round) {
    event go;
    std::atomic<int> here{0};
    there.run([&] {
      std::vector<user_thread> threads;
      for (int i = 0; i < thread_count / 10; ++i)
        threads.emplace_back([&] {
          ++here;
          go.wait();
        });
      wait_until([&] { return here == thread_count / 10; });
      go.set();
    });
    if (round == 0) after_first = there.statistics().stacks.mapped_bytes;
  }
  EXPECT_LE(there.statistics().stacks.mapped_bytes, 3 * after_first);
}

}  // namespace
