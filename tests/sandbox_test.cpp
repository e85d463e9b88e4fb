// SPDX-License-Identifier: BSL-1.0
// Sandboxes: a filter that refuses the calls by which we pin, notice and
// order, or a /proc that tells nothing.  Blocking code still finishes, and
// other threads still run where either of the two ways to notice is left.
#include <activations/activations.hpp>
#include <activations/config.hpp>

#include <gtest/gtest.h>

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <initializer_list>
#include <vector>

#include "blocking_ways.hpp"

namespace {

using namespace blocking_ways;
using activations::scheduler;
using activations::scheduler_options;
using activations::user_thread;

enum result { good = 0, wrong = 4, impossible = 5 };

int in_child(std::function<result()> const& body) {
  std::fflush(nullptr);
  pid_t const child = ::fork();
  check(child >= 0, "fork");
  if (child == 0) {
    ::alarm(static_cast<unsigned>(hang_limit.count()));
    result r = wrong;
    try {
      r = body();
    } catch (std::exception const& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
    }
    ::_exit(r);
  }
  int status = 0;
  check(::waitpid(child, &status, 0) == child, "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// From now on these calls fail with EPERM, in all threads made later.
bool refuse(std::initializer_list<long> calls) {
  std::vector<sock_filter> program;
  program.push_back(
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
               static_cast<unsigned>(offsetof(seccomp_data, nr))));
  for (long const call : calls) {
    program.push_back(
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(call), 0, 1));
    program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM));
  }
  program.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
  sock_fprog const whole{static_cast<unsigned short>(program.size()),
                         program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &whole) == 0;
}

// An empty /proc, for this process alone.
bool hide_proc() {
  return ::unshare(CLONE_NEWNS) == 0 &&
         ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("none", "/proc", "tmpfs", 0, nullptr) == 0;
}

// Others run while threads stay blocked; then the blocked ones finish.
bool others_run_beside_blocked(scheduler_options const& options) {
  scheduler here(options);
  pipe_read pipe;
  std::atomic<int> counted{0};
  std::vector<user_thread> threads;
  for (int i = 0; i < 6; ++i)
    threads.push_back(here.spawn([&] { pipe.block(); }));
  for (int i = 0; i < 4; ++i)
    threads.push_back(here.spawn([&] {
      for (int n = 0; n < 100; ++n) {
        ++counted;
        activations::this_thread::yield();
      }
    }));
  bool const ran = eventually([&] { return counted == 400; });
  pipe.release();
  threads.clear();
  return ran;
}

// Blocks end by themselves here.
bool blocking_code_finishes(scheduler_options const& options) {
  scheduler here(options);
  std::atomic<int> done{0};
  std::vector<user_thread> threads;
  for (int i = 0; i < 10; ++i)
    threads.push_back(here.spawn([&] {
      for (int n = 0; n < 10; ++n) {
        ::usleep(300);
        activations::this_thread::sleep_for(100us);
      }
      ++done;
    }));
  threads.clear();
  return done == 10;
}

bool all_is_well(unsigned processors) {
  return others_run_beside_blocked({.processors = processors}) &&
         blocking_code_finishes({.processors = processors}) &&
         others_run_beside_blocked(
             {.processors = processors, .strict = true}) &&
         others_run_beside_blocked({.processors = processors, .slice = 2ms});
}

class Sandbox : public testing::TestWithParam<unsigned> {};

TEST_P(Sandbox, WithoutMembarrier) {
  EXPECT_EQ(in_child([] {
              if (!refuse({SYS_membarrier})) return impossible;
              return all_is_well(GetParam()) ? good : wrong;
            }),
            good);
}

TEST_P(Sandbox, WithoutTheIdleClass) {
  EXPECT_EQ(in_child([] {
              if (!refuse({SYS_sched_setscheduler})) return impossible;
              return all_is_well(GetParam()) ? good : wrong;
            }),
            good);
}

// The sanitizers ask for each new thread's attributes, affinity included.
#if !ACTIVATIONS_ASAN && !ACTIVATIONS_TSAN
TEST_P(Sandbox, WithoutAnyAffinity) {
  EXPECT_EQ(in_child([] {
              if (!refuse({SYS_sched_setaffinity, SYS_sched_getaffinity}))
                return impossible;
              return all_is_well(GetParam()) ? good : wrong;
            }),
            good);
}
#endif

TEST_P(Sandbox, WithoutSettingAffinity) {
  EXPECT_EQ(in_child([] {
              if (!refuse({SYS_sched_setaffinity})) return impossible;
              return all_is_well(GetParam()) ? good : wrong;
            }),
            good);
}

TEST_P(Sandbox, WithoutSignalsToThreads) {
  EXPECT_EQ(in_child([] {
              if (!refuse({SYS_rt_tgsigqueueinfo})) return impossible;
              return all_is_well(GetParam()) ? good : wrong;
            }),
            good);
}

TEST_P(Sandbox, WithAProcThatTellsNothing) {
  auto const is = in_child([] {
    if (!hide_proc()) return impossible;
    return all_is_well(GetParam()) ? good : wrong;
  });
  if (is == impossible) GTEST_SKIP() << "needs a mount namespace";
  EXPECT_EQ(is, good);
}

TEST_P(Sandbox, WithNoWayToNoticeABlock) {
  // Every thread keeps its processor while it is blocked, like a kernel
  // thread, and the program is right.
  auto const is = in_child([] {
    if (!hide_proc() || !refuse({SYS_sched_setscheduler, SYS_sched_setaffinity,
                                 SYS_membarrier}))
      return impossible;
    return blocking_code_finishes({.processors = GetParam()}) ? good : wrong;
  });
  if (is == impossible) GTEST_SKIP() << "needs a mount namespace";
  EXPECT_EQ(is, good);
}

INSTANTIATE_TEST_SUITE_P(Processors, Sandbox, testing::Values(1u, 2u),
                         testing::PrintToStringParamName());

}  // namespace
