// SPDX-License-Identifier: BSL-1.0
//
// Nothing a thread can see changes when it is stopped between any two
// instructions: by slices at nominal 1, 5 and 10 kHz and by kicks, while
// signals arrive, and with the stub's windows open.
#include <setjmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>

#include "scene.hpp"

namespace kernel_tests {
namespace {

struct storm {
  park_stub stub = park_stub::plain();
  std::uint64_t slice_ns = 0;
  bool kicks = false;
  // Sent to all threads in turn.
  int signal = 0;
  // A negative control: corruption is what has to be found.
  bool spoils = false;
};

unsigned cpus() {
  return std::thread::hardware_concurrency();
}

void pause_ns(long ns) {
  timespec const time = {0, ns};
  raw_call(SYS_nanosleep, &time, 0);
}

// What the handlers of signals saw.
std::atomic<unsigned> handled;
std::atomic<unsigned> handled_in_stub;

// Three jobs a processor, each running f(checker, k) until the time is up.
template <class F>
activations_stats run_storm(storm const& what, F f) {
  mini_options options;
  options.processors = cpus();
  options.activations = cpus() * 4 + 2;
  options.stub = what.stub;
  options.slice_ns = what.slice_ns;
  options.pinned = true;
  register_findings findings;
  std::atomic<bool> over = false;
  std::atomic<unsigned> wrong = 0;
  unsigned const jobs = 3 * cpus();
  std::vector<std::atomic<int>> tids(jobs);
  mini_scheduler scheduler(options);
  for (unsigned k = 0; k < jobs; ++k) {
    scheduler.add([&, k] {
      register_checker checker(findings, seed() + k);
      tids[k] = gettid();
      while (!over.load(std::memory_order::relaxed)) {
        checker.loop(2000);
        if (!f(checker, k)) wrong.fetch_add(1);
      }
      tids[k] = 0;
    });
  }
  scheduler.start();
  auto const has_seen_enough = [&] {
    return scheduler.kernel().stats().preemptions != 0 &&
           (!what.spoils || findings.corrupt.load() != 0) &&
           (!what.signal || handled.load() != 0);
  };
  patience const time;
  unsigned sent = 0;
  for (unsigned n = 0; time.lasts(has_seen_enough()); ++n) {
    if (what.kicks) {
      for (int i = 0; i < 10; ++i) scheduler.kernel().kick(n % cpus());
    }
    if (what.signal) {
      int const tid = tids[n % jobs].load();
      if (tid && raw_call(SYS_tgkill, getpid(), tid, what.signal) == 0) ++sent;
    }
    pause_ns(what.kicks || what.signal ? 100'000 : 10'000'000);
  }
  over = true;
  scheduler.finish();
  auto const stats = scheduler.kernel().stats();
  found(
      "%llu stops, %llu dispatches, %llu stale bits, %u signals; %s; "
      "%llu fallbacks, %u wrong",
      static_cast<unsigned long long>(stats.preemptions),
      static_cast<unsigned long long>(scheduler.dispatches()),
      static_cast<unsigned long long>(scheduler.stale()), sent,
      findings.describe().c_str(),
      static_cast<unsigned long long>(stats.fallbacks), wrong.load());
  EXPECT_EQ(findings.corrupt.load() != 0, what.spoils);
  EXPECT_EQ(wrong.load(), 0u);
  EXPECT_GT(stats.preemptions, 0u);
  return stats;
}

bool nothing_more(register_checker&, unsigned) {
  return true;
}

// A call, whose registers have rules of their own, and errno.
bool call_and_errno(register_checker& checker, unsigned k) {
  errno = static_cast<int>(k) + 1000;
  long result;
  checker.call(SYS_getppid, 0, 0, 0, 0, result);
  bool const right = result == getppid();
  checker.loop(500);
  return right && errno == static_cast<int>(k) + 1000;
}

KERNEL_TEST(Preemption, SlicesOfAMillisecondKeepEverything) {
  run_storm({.slice_ns = 1'000'000}, nothing_more);
}
KERNEL_TEST(Preemption, SlicesOfAFifthOfAMillisecondKeepEverything) {
  run_storm({.slice_ns = 200'000}, nothing_more);
}
KERNEL_TEST(Preemption, SlicesOfATenthOfAMillisecondKeepEverything) {
  run_storm({.slice_ns = 100'000}, call_and_errno);
}
KERNEL_TEST(Preemption, SlicesWithTheStubWideKeepEverything) {
  run_storm({.stub = park_stub::wide(), .slice_ns = 100'000}, call_and_errno);
}
KERNEL_TEST(Preemption, KicksKeepEverything) {
  run_storm({.kicks = true}, nothing_more);
}
KERNEL_TEST(Preemption, KicksAndSlicesWithTheStubWideKeepEverything) {
  run_storm({.stub = park_stub::wide(), .slice_ns = 200'000, .kicks = true},
            call_and_errno);
}

KERNEL_TEST(Preemption, ControlAStubThatChangesAVectorRegisterIsFound) {
  run_storm({.stub = park_stub::spoils_vector(), .kicks = true, .spoils = true},
            nothing_more);
}
KERNEL_TEST(Preemption, ControlAStubThatResetsX87IsFound) {
  run_storm({.stub = park_stub::spoils_x87(), .kicks = true, .spoils = true},
            nothing_more);
}
KERNEL_TEST(Preemption, ControlAStubThatWritesTheRedZoneIsFound) {
  run_storm(
      {.stub = park_stub::spoils_red_zone(), .kicks = true, .spoils = true},
      nothing_more);
}
KERNEL_TEST(Preemption, WhatTheStubDoesToGeneralRegistersIsUndone) {
  run_storm({.stub = park_stub::spoils_general(), .kicks = true}, nothing_more);
}

void look_at(void* frame) {
  handled.fetch_add(1, std::memory_order::relaxed);
  auto const stub = park_stub::wide();
  auto const ip = static_cast<std::uint64_t>(
      static_cast<ucontext_t*>(frame)->uc_mcontext.gregs[REG_RIP]);
  if (ip >= stub.address && ip < stub.address + stub.bytes) {
    handled_in_stub.fetch_add(1, std::memory_order::relaxed);
  }
}

void counting_handler(int, siginfo_t*, void* frame) {
  look_at(frame);
}

void sleeping_handler(int, siginfo_t*, void* frame) {
  look_at(frame);
  pause_ns(50'000);
}

thread_local sigjmp_buf way_out;
thread_local volatile bool may_jump;

void jumping_handler(int, siginfo_t*, void* frame) {
  look_at(frame);
  if (may_jump) {
    may_jump = false;
    siglongjmp(way_out, 1);
  }
}

void handle(void (*handler)(int, siginfo_t*, void*)) {
  struct sigaction action = {};
  action.sa_sigaction = handler;
  action.sa_flags = SA_SIGINFO | SA_RESTART;
  sigaction(SIGUSR2, &action, nullptr);
}

void expect_no_handler_on_the_stub() {
  found("%u handlers ran, %u on the stub", handled.load(),
        handled_in_stub.load());
  EXPECT_GT(handled.load(), 0u);
  EXPECT_EQ(handled_in_stub.load(), 0u);
}

storm const signal_storm = {.stub = park_stub::wide(),
                            .slice_ns = 200'000,
                            .kicks = true,
                            .signal = SIGUSR2};

KERNEL_TEST(Preemption, SignalsDuringStopsFindTheRealContext) {
  handle(counting_handler);
  run_storm(signal_storm, call_and_errno);
  expect_no_handler_on_the_stub();
}

KERNEL_TEST(Preemption, AHandlerMaySleepDuringStops) {
  handle(sleeping_handler);
  run_storm(signal_storm, nothing_more);
  expect_no_handler_on_the_stub();
}

KERNEL_TEST(Preemption, AHandlerMayJumpAwayDuringStops) {
  handle(jumping_handler);
  run_storm(signal_storm, [](register_checker&, unsigned) {
    volatile std::uint64_t turns = 0;
    if (sigsetjmp(way_out, 1) == 0) {
      may_jump = true;
      // Nothing here owns anything that the jump could lose.
      while (turns < 3000) turns = turns + 1;
    }
    may_jump = false;
    sigset_t mask;
    sigprocmask(SIG_SETMASK, nullptr, &mask);
    return sigismember(&mask, SIGUSR2) == 0 && sigismember(&mask, SIGHUP) == 0;
  });
  expect_no_handler_on_the_stub();
}

// Without the signal mask between stop and stub a handler sooner or later runs
// on the stub, and mostly the program dies of it.
TEST(Preemption, ControlWithoutTheSignalMaskHandlersRunOnTheStub) {
  module_parameter const skip("skip", "1");
  if (!skip.exists()) GTEST_SKIP() << "not a test build of the module";
  unsigned broken = 0, times = 0;
  std::string how;
  for (; times < 100 && broken == 0; ++times) {
    child process([] {
      std::fclose(stdout);  // of failures that are wanted
      handle(counting_handler);
      run_storm(signal_storm, nothing_more);
      if (handled_in_stub.load()) _exit(9);
    });
    outcome const result = process.wait();
    if (!result.exited_with(0)) ++broken;
    how = result.describe();
  }
  found("run %u of it: %s", times, how.c_str());
  EXPECT_GT(broken, 0u);
}

// What looks like a restart code to the kernel is an ordinary number here.
KERNEL_TEST(Preemption, NegativeResultsAreNotTakenForRestarts) {
  handle(counting_handler);
  run_storm(signal_storm, [](register_checker&, unsigned) {
    for (long code = -516; code <= -512; ++code) {
      long value = code;
      std::uint64_t turns = 300;
      asm volatile("1: dec %1\n jnz 1b" : "+a"(value), "+r"(turns));
      if (value != code) return false;
    }
    return true;
  });
}

}  // namespace
}  // namespace kernel_tests
