// SPDX-License-Identifier: BSL-1.0
//
// Ends of threads and processes in every state: the process ends as one
// without the module would, and the module keeps nothing.
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "scene.hpp"

extern char** environ;

namespace kernel_tests {
namespace {

using namespace std::chrono_literals;

class Lifecycle : public ::testing::TestWithParam<scene_kind> {
 protected:
  void TearDown() override { EXPECT_TRUE(module_becomes_idle()); }
};

INSTANTIATE_TEST_SUITE_P(In, Lifecycle,
                         ::testing::Values(scene_kind::busy, scene_kind::idle,
                                           scene_kind::keeper,
                                           scene_kind::storm),
                         [](auto const& info) { return name_of(info.param); });

void wait_for_ever() {
  for (;;) pause();
}

TEST_P(Lifecycle, SigkillEndsTheProcess) {
  int const times = GetParam() == scene_kind::storm ? 20 : 5;
  random_numbers random(seed());
  for (int i = 0; i < times; ++i) {
    child process([] {
      scene now(GetParam());
      now.begin();
      wait_for_ever();
    });
    ASSERT_TRUE(process.wait_for(1));
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(8000)));
    kill(process.pid(), SIGKILL);
    outcome const result = process.wait();
    ASSERT_TRUE(result.killed_by(SIGKILL)) << result.describe();
  }
  found("killed %d times", times);
}

TEST_P(Lifecycle, ExitOfTheMainThreadEndsTheProcess) {
  child process([] {
    scene now(GetParam());
    now.begin();
    _exit(7);
  });
  outcome const result = process.wait();
  EXPECT_TRUE(result.exited_with(7)) << result.describe();
  found("%s", result.describe().c_str());
}

TEST_P(Lifecycle, ExecByTheMainThreadReplacesTheProcess) {
  child process([] {
    scene now(GetParam());
    now.begin();
    execl("/proc/self/exe", "kernel_tests", "--exit-7", nullptr);
  });
  outcome const result = process.wait();
  EXPECT_TRUE(result.exited_with(7)) << result.describe();
  found("%s", result.describe().c_str());
}

TEST_P(Lifecycle, SigstopAndSigcontStopAndContinue) {
  child process([] {
    scene now(GetParam());
    now.begin();
    while (!has_reached(2)) std::this_thread::sleep_for(5ms);
    now.finish();
    EXPECT_EQ(now.findings.corrupt.load(), 0u) << now.findings.describe();
  });
  ASSERT_TRUE(process.wait_for(1));
  int stopped = 0, continued = 0;
  for (int i = 0; i < 10; ++i) {
    int status = 0;
    kill(process.pid(), SIGSTOP);
    if (waitpid(process.pid(), &status, WUNTRACED) == process.pid() &&
        WIFSTOPPED(status)) {
      ++stopped;
    }
    std::this_thread::sleep_for(2ms);
    kill(process.pid(), SIGCONT);
    if (waitpid(process.pid(), &status, WCONTINUED) == process.pid() &&
        WIFCONTINUED(status)) {
      ++continued;
    }
    std::this_thread::sleep_for(2ms);
  }
  reached(2);
  outcome const result = process.wait();
  found("stopped %d times, continued %d times", stopped, continued);
  EXPECT_EQ(stopped, 10);
  EXPECT_EQ(continued, 10);
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
}

// By a thread that owns a processor.
class LifecycleOfOwner : public Lifecycle {};
INSTANTIATE_TEST_SUITE_P(In, LifecycleOfOwner,
                         ::testing::Values(scene_kind::busy, scene_kind::storm),
                         [](auto const& info) { return name_of(info.param); });

outcome run_in_job(scene_kind kind, std::function<void()> action,
                   bool goes_on) {
  child process([&] {
    scene now(kind);
    now.begin([&] {
      action();
      reached(2);
    });
    if (!goes_on) wait_for_ever();
    std::this_thread::sleep_for(300ms);
    now.finish();
    EXPECT_EQ(now.findings.corrupt.load(), 0u) << now.findings.describe();
  });
  EXPECT_TRUE(!goes_on || process.wait_for(2));
  return process.wait();
}

TEST_P(LifecycleOfOwner, ExitEndsTheProcess) {
  outcome const result = run_in_job(
      GetParam(), [] { _exit(7); }, false);
  EXPECT_TRUE(result.exited_with(7)) << result.describe();
  found("%s", result.describe().c_str());
}

TEST_P(LifecycleOfOwner, AbortKillsTheProcess) {
  outcome const result = run_in_job(
      GetParam(), [] { std::abort(); }, false);
  EXPECT_TRUE(result.killed_by(SIGABRT)) << result.describe();
  found("%s", result.describe().c_str());
}

TEST_P(LifecycleOfOwner, ExecReplacesTheProcess) {
  outcome const result = run_in_job(
      GetParam(),
      [] { execl("/proc/self/exe", "kernel_tests", "--exit-7", nullptr); },
      false);
  EXPECT_TRUE(result.exited_with(7)) << result.describe();
  found("%s", result.describe().c_str());
}

TEST_P(LifecycleOfOwner, AForkedChildIsNoActivation) {
  outcome const result = run_in_job(
      GetParam(),
      [] {
        for (int i = 0; i < 5; ++i) {
          pid_t const pid = fork();
          if (pid == 0) {
            // Runs on, is stopped by nothing, has no space.
            register_findings findings;
            register_checker checker(findings, 1);
            for (int n = 0; n < 100; ++n) checker.loop(1000);
            _exit(findings.corrupt == 0 ? 3 : 4);
          }
          int status = 0;
          waitpid(pid, &status, 0);
          EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 3) << status;
        }
      },
      true);
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
  found("%s", result.describe().c_str());
}

TEST_P(LifecycleOfOwner, ASpawnedProgramIsNoActivation) {
  outcome const result = run_in_job(
      GetParam(),
      [] {
        for (int i = 0; i < 5; ++i) {
          char name[] = "kernel_tests", argument[] = "--exit-7";
          char* arguments[] = {name, argument, nullptr};
          pid_t pid = 0;
          ASSERT_EQ(posix_spawn(&pid, "/proc/self/exe", nullptr, nullptr,
                                arguments, environ),
                    0);
          int status = 0;
          waitpid(pid, &status, 0);
          EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 7) << status;
        }
      },
      true);
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
  found("%s", result.describe().c_str());
}

// libc makes every thread change its ids, by a signal that each must handle.
TEST_P(LifecycleOfOwner, SetuidReachesStoppedActivations) {
  outcome const result = run_in_job(
      GetParam(),
      [] {
        for (int i = 0; i < 20; ++i) {
          EXPECT_EQ(setresuid(i % 2 ? 0u : 1000u, i % 2 ? 0u : 1000u, 0), 0);
        }
      },
      true);
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
  found("ids changed 20 times: %s", result.describe().c_str());
}

KERNEL_TEST(ThreadEnd, AnOwnerThatExitsPassesItsProcessorOn) {
  mini_options options;
  options.activations = 24;
  mini_scheduler scheduler(options);
  std::atomic<unsigned> others = 0;
  for (int k = 0; k < 16; ++k) {
    scheduler.add([&] {
      scheduler.yield();
      scheduler.job_done();
      raw_call(SYS_exit, 0);
    });
    scheduler.add([&] {
      scheduler.yield();
      others.fetch_add(1);
    });
  }
  scheduler.run();
  EXPECT_EQ(others.load(), 16u);
  found("16 owners ended, %u others went on", others.load());
}

KERNEL_TEST(ThreadEnd, ASlotIsUsedAgainWithANewGeneration) {
  space one(1, 2);
  unsigned generations = 0;
  std::uint32_t last = ~0u;
  for (int k = 0; k < 50; ++k) {
    std::thread thread([&] {
      ASSERT_EQ(one.attach(0, k % 2 ? 0 : none), 0);
      auto const generation = one.activation(0).generation.load();
      if (generation != last) ++generations;
      last = generation;
      if (k % 3 == 0) one.detach();
    });
    thread.join();
    // A thread is gone a little after it was joined.
    while (one.activation(0).state.load() != ACTIVATIONS_ACTIVATION_UNUSED) {
    }
    EXPECT_EQ(one.processor_state(0), unsigned{ACTIVATIONS_PROCESSOR_OFFLINE});
  }
  EXPECT_EQ(generations, 50u);
  found("%u generations of one slot", generations);
}

// The canceller is no activation; the cancelled one is stopped, and handles
// the signal when it is switched to.
KERNEL_TEST(ThreadEnd, PthreadCancelReachesAStoppedActivation) {
  mini_options options;
  options.activations = 12;
  options.slice_ns = 100'000;
  mini_scheduler scheduler(options);
  std::atomic<unsigned> unwound = 0;
  std::atomic<bool> over = false;
  std::atomic<unsigned> indices[6];
  for (auto& index : indices) index = none;
  struct on_unwind {
    std::atomic<unsigned>& count;
    mini_scheduler& scheduler;
    ~on_unwind() {
      count.fetch_add(1);
      scheduler.job_done();
    }
  };
  for (auto& index : indices) {
    scheduler.add([&] {
      on_unwind guard{unwound, scheduler};
      index = mini_scheduler::self();
      for (;;) pthread_testcancel();
    });
  }
  scheduler.add([&] {
    while (!over.load()) scheduler.yield();
  });
  scheduler.start();
  for (auto& index : indices) {
    while (index.load() == none) std::this_thread::sleep_for(1ms);
    pthread_cancel(scheduler.thread(index.load()).native_handle());
  }
  while (unwound.load() < 6) std::this_thread::sleep_for(1ms);
  over = true;
  scheduler.finish();
  found("%u threads cancelled and unwound", unwound.load());
}

}  // namespace
}  // namespace kernel_tests
