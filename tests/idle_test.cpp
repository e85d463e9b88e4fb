// SPDX-License-Identifier: BSL-1.0
// Idle costs nothing: a program in which nothing can run makes no system call
// and takes no CPU.  Measured for each kernel thread over a second: CPU time
// in nanoseconds, clock ticks, and context switches.  The thread that measures
// is left out.
// ctest: serial
#include <activations/activations.hpp>

#include <gtest/gtest.h>

#include <dirent.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "blocking_ways.hpp"

namespace {

using namespace blocking_ways;
using activations::scheduler;
using activations::user_thread;

struct use {
  std::uint64_t cpu_ns = 0;    // 0 where /proc has no schedstat
  std::uint64_t ticks = 0;     // utime + stime
  std::uint64_t switches = 0;  // voluntary and not
  bool operator==(use const&) const = default;

  friend std::ostream& operator<<(std::ostream& out, use const& u) {
    return out << u.cpu_ns << " ns, " << u.ticks << " ticks, " << u.switches
               << " switches";
  }
};

use use_of(std::string const& task) {
  use u;
  std::ifstream(task + "/schedstat") >> u.cpu_ns;
  std::string stat;
  std::getline(std::ifstream(task + "/stat"), stat);
  if (auto const name_end = stat.rfind(')'); name_end != std::string::npos) {
    std::istringstream rest(stat.substr(name_end + 1));
    std::string field;
    for (int i = 3; i <= 15 && rest >> field; ++i)
      if (i >= 14) u.ticks += std::strtoull(field.c_str(), nullptr, 10);
  }
  std::ifstream status(task + "/status");
  for (std::string line; std::getline(status, line);)
    if (auto const at = line.find("ctxt_switches:"); at != std::string::npos)
      u.switches += std::strtoull(line.c_str() + at + 14, nullptr, 10);
  return u;
}

std::set<std::string> kernel_threads() {
  std::set<std::string> names;
  DIR* const tasks = ::opendir("/proc/self/task");
  while (dirent const* const entry = ::readdir(tasks))
    if (entry->d_name[0] != '.') names.insert(entry->d_name);
  ::closedir(tasks);
  return names;
}

// The caller, and a sanitizer's own thread, which comes with the first other.
std::set<std::string> const& strangers() {
  static std::set<std::string> const before = [] {
    std::thread([] {}).join();
    return kernel_threads();
  }();
  return before;
}

// Of every kernel thread of ours.
std::map<std::string, use> everybodys_use() {
  std::map<std::string, use> all;
  for (std::string const& name : kernel_threads())
    if (!strangers().contains(name))
      all[name] = use_of("/proc/self/task/" + name);
  return all;
}

class Idle : public testing::Test {
 protected:
  static void SetUpTestSuite() { (void)strangers(); }
};

// True if no thread did anything for a second, or came or went.
bool is_quiet_for_a_second() {
  auto const before = everybodys_use();
  std::this_thread::sleep_for(1s);
  return everybodys_use() == before;
}

// What is left to be done after a burst may take a while (surplus threads end
// half a second after another); then there must be quiet seconds, two in a
// row.
testing::AssertionResult comes_to_rest() {
  for (int attempt = 0; attempt < 20; ++attempt)
    if (is_quiet_for_a_second() && is_quiet_for_a_second())
      return testing::AssertionSuccess();
  auto const before = everybodys_use();
  std::this_thread::sleep_for(1s);
  auto failure = testing::AssertionFailure();
  for (auto const& [task, now] : everybodys_use()) {
    auto const then = before.find(task);
    if (then == before.end() || then->second != now)
      failure << task << ": " << then->second << " -> " << now << '\n';
  }
  return failure;
}

TEST_F(Idle, TheMeasureSeesAThreadThatSleepsNowAndThen) {
  // The negative control: one system call in 100 ms.
  std::atomic<bool> stop{false};
  std::thread ticking([&] {
    while (!stop) std::this_thread::sleep_for(100ms);
  });
  EXPECT_FALSE(is_quiet_for_a_second());
  stop = true;
  ticking.join();
}

TEST_F(Idle, ANewSchedulerCostsNothing) {
  for (unsigned processors : {1u, 2u}) {
    scheduler here({.processors = processors});
    EXPECT_TRUE(comes_to_rest());
  }
}

TEST_F(Idle, ASchedulerWithASliceCostsNothing) {
  scheduler here({.processors = 2, .slice = 1ms});
  here.run([] {});
  EXPECT_TRUE(comes_to_rest());
}

TEST_F(Idle, WaitingThreadsAndTasksCostNothing) {
  scheduler here({.processors = 2});
  activations::event go;
  std::vector<user_thread> threads;
  for (int i = 0; i < 100; ++i)
    threads.push_back(here.spawn([&] { go.wait(); }));
  auto task = here.spawn([](activations::event& e) -> activations::task<> {
    co_await e.async_wait();
  }(go));
  EXPECT_TRUE(comes_to_rest());
  go.set();
}

TEST_F(Idle, BlockedThreadsCostNothing) {
  // All processors are kept by blocked owners.
  scheduler here({.processors = 2});
  pipe_read pipe;
  std::vector<user_thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.push_back(here.spawn([&] { pipe.block(); }));
  EXPECT_TRUE(comes_to_rest());
  pipe.release();
}

TEST_F(Idle, ABurstOfBlocksLeavesNothingBehind) {
  scheduler here({.processors = 2});
  {
    std::vector<user_thread> threads;
    for (int i = 0; i < 64; ++i)
      threads.push_back(here.spawn([] {
        for (int round = 0; round < 10; ++round) ::usleep(500);
      }));
  }
  EXPECT_TRUE(comes_to_rest());
}

TEST_F(Idle, ADistantTimerCostsNothing) {
  scheduler here({.processors = 2});
  activations::event go;
  auto sleeper = here.spawn([&] { (void)go.wait_for(1h); });
  pipe_read pipe;
  auto blocked = here.spawn([&] { pipe.block(); });
  EXPECT_TRUE(comes_to_rest());
  pipe.release();
  go.set();
}

TEST_F(Idle, StoppedHogsLeaveNothingBehind) {
  scheduler here({.processors = 1, .slice = 500us});
  {
    std::atomic<bool> stop{false};
    std::vector<user_thread> hogs;
    for (int i = 0; i < 4; ++i)
      hogs.push_back(here.spawn([&] {
        while (!stop) (void)::getppid();
      }));
    EXPECT_TRUE(eventually(
        [&] { return here.statistics().kernel_threads.preemptions > 10; }));
    stop = true;
  }
  EXPECT_TRUE(comes_to_rest());
}

TEST_F(Idle, NoHandOverCostsNothing) {
  scheduler here({.model = activations::threading::many_to_one});
  activations::event go;
  auto waiting = here.spawn([&] { go.wait(); });
  EXPECT_TRUE(comes_to_rest());
  go.set();
}

}  // namespace
