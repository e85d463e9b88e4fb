// SPDX-License-Identifier: BSL-1.0
//
// When the stub's call cannot be made, because the descriptor is closed or a
// filter refuses it, the thread is put back and goes on.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstddef>

#include "registers.hpp"
#include "scene.hpp"
#include "space.hpp"

namespace kernel_tests {
namespace {

enum class obstacle { closed, filtered };

void refuse_lseek() {
  sock_filter rules[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_lseek, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  sock_fprog const program = {4, rules};
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  if (raw_call(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC,
               &program) != 0) {
    ADD_FAILURE() << "no filter";
  }
}

// A thread that computes is stopped, but cannot get to its parking place.
void run_without_parking(park_stub stub, obstacle what, unsigned threads) {
  register_findings findings;
  unsigned damaged = 0;
  std::uint64_t fallbacks = 0;
  bool mask_kept = true;
  for (unsigned n = 0; n < threads; ++n) {
    space one(1, 2, stub);
    std::atomic<int> step = 0;
    std::thread spare([&] {
      one.own(1).disabled = 1;
      one.attach(1, none);
      while (one.activation(1).state.load() != ACTIVATIONS_ACTIVATION_UNUSED) {
        if (one.park() != 0) break;
        if (one.activation(1).events.load() & ACTIVATIONS_EVENT_EXIT) break;
        // Dispatched after all, by a stop that worked.
        while (one.switch_to(0) == -EAGAIN && step.load() < 3) {
        }
      }
      one.detach();
    });
    std::uint64_t before = 0;
    std::thread worker([&] {
      register_checker checker(findings, seed() + n);
      one.attach(0, 0);
      step = 1;
      while (step.load() < 2) sched_yield();
      before = findings.corrupt.load();
      // On a busy machine until a kick has found it.
      for (int i = 0; i < 300 || (i < 30'000 && one.stats().fallbacks == 0);
           ++i) {
        checker.loop(2000);
      }
      sigset_t mask;
      pthread_sigmask(SIG_SETMASK, nullptr, &mask);
      if (sigismember(&mask, SIGHUP) || sigismember(&mask, SIGUSR1)) {
        mask_kept = false;
      }
      step = 3;
      one.detach();
    });
    while (step.load() < 1 || one.info().spare_count.load() == 0) sched_yield();
    one.control().work_waiting.store(1);
    if (what == obstacle::closed) one.close_threads_file();
    if (what == obstacle::filtered && n == 0) refuse_lseek();
    step = 2;
    while (step.load() < 3) {
      one.kick(0);
      timespec const time = {0, 100'000};
      raw_call(SYS_nanosleep, &time, 0);
    }
    worker.join();
    if (findings.corrupt.load() != before) ++damaged;
    fallbacks += one.stats().fallbacks;
    one.end(1);
    spare.join();
  }
  found("%u of %u threads corrupt; %s; %llu fallbacks", damaged, threads,
        findings.describe().c_str(),
        static_cast<unsigned long long>(fallbacks));
  EXPECT_TRUE(mask_kept) << "signals are blocked after the fallback";
  EXPECT_GT(fallbacks, 0u);
  EXPECT_EQ(damaged, 0u);
}

KERNEL_TEST(Fallback, AClosedDescriptorHarmsNothing) {
  run_without_parking(park_stub::plain(), obstacle::closed, 10);
}
KERNEL_TEST(Fallback, AClosedDescriptorHarmsNothingWithTheStubWide) {
  run_without_parking(park_stub::wide(), obstacle::closed, 10);
}
KERNEL_TEST(Fallback, AFilterThatRefusesTheCallHarmsNothing) {
  run_without_parking(park_stub::wide(), obstacle::filtered, 10);
}
// The areas go, the threads do not: nothing of the kernel depends on them.
TEST(Fallback, UnmappedAreasHarmNobodyElse) {
  child process([] {
    scene now(scene_kind::storm);
    now.begin();
    now.scheduler().kernel().unmap_info();
    for (;;) pause();
  });
  outcome const result = process.wait();
  EXPECT_TRUE(result.killed_by(SIGSEGV)) << result.describe();
  EXPECT_TRUE(module_becomes_idle());
  found("%s", result.describe().c_str());
}

}  // namespace
}  // namespace kernel_tests
