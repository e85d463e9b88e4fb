// SPDX-License-Identifier: BSL-1.0
//
// The windows between the instructions of the user's critical sequences are
// opened by branches, and stops land in them: a disabled activation is never
// stopped, and a stop that came meanwhile is taken when it is enabled.
#include <sys/syscall.h>
#include <time.h>

#include "child.hpp"
#include "mini_scheduler.hpp"

namespace kernel_tests {
namespace {

#define GAP "jmp 7f\n7:\n"
#define GAPS GAP GAP GAP GAP GAP GAP GAP GAP

// Adds one to `inside`, lingers, takes it away again. Returns what `inside`
// was: not 0 if somebody else ran on this processor in the middle.
std::uint64_t linger(std::atomic<std::uint64_t>& inside) {
  std::uint64_t seen = 1;
  asm volatile(GAPS "xaddq %0, %1\n" GAPS GAPS GAPS GAPS "decq %1\n" GAPS
               : "+r"(seen), "+m"(inside)
               :
               : "memory", "cc");
  return seen;
}

struct seen_in_sections {
  std::uint64_t sections = 0, broken = 0, stops = 0;
};

seen_in_sections run_sections(bool disabled) {
  mini_options options;
  options.activations = 8;
  options.slice_ns = 100'000;
  options.stub = park_stub::wide();
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> inside = 0, sections = 0, broken = 0;
  mini_scheduler scheduler(options);
  for (unsigned k = 0; k < 4; ++k) {
    scheduler.add([&] {
      auto& kernel = scheduler.kernel();
      unsigned const i = mini_scheduler::self();
      while (!over.load(std::memory_order::relaxed)) {
        if (disabled) kernel.disable(i);
        if (linger(inside) != 0) broken.fetch_add(1);
        sections.fetch_add(1, std::memory_order::relaxed);
        // As space::enable, with its windows open.
        if (disabled) {
          auto& own = kernel.own(i);
          std::uint32_t pending;
          asm volatile(GAPS "movl $0, %[disabled]\n" GAPS "mfence\n" GAPS
                            "movl %[pending], %[result]\n" GAPS
                       : [disabled] "=m"(own.disabled), [result] "=r"(pending)
                       : [pending] "m"(own.pending)
                       : "memory");
          if (pending) {
            own.pending.store(0, std::memory_order::seq_cst);
            kernel.stop();
          }
        }
      }
    });
  }
  scheduler.start();
  // What must happen is a stop in the section, or a look at it.
  patience const time;
  while (time.lasts(disabled ? sections.load() != 0 : broken.load() != 0)) {
    scheduler.kernel().kick(0);
    timespec const pause = {0, 100'000};
    raw_call(SYS_nanosleep, &pause, 0);
  }
  over = true;
  scheduler.finish();
  seen_in_sections result;
  result.sections = sections;
  result.broken = broken;
  result.stops = scheduler.kernel().stats().preemptions;
  found("%llu sections, %llu broken, %llu stops",
        static_cast<unsigned long long>(result.sections),
        static_cast<unsigned long long>(result.broken),
        static_cast<unsigned long long>(result.stops));
  return result;
}

KERNEL_TEST(Windows, ADisabledActivationIsNeverStopped) {
  auto const result = run_sections(true);
  EXPECT_EQ(result.broken, 0u);
  EXPECT_GT(result.sections, 0u);
}

KERNEL_TEST(Windows, ControlAnEnabledOneIsStoppedInTheSameSection) {
  auto const result = run_sections(false);
  EXPECT_GT(result.broken, 0u);
}

// Level-triggered: the wish is there when the section ends.
KERNEL_TEST(Windows, AKickWhileDisabledStopsAtTheEnd) {
  mini_options options;
  options.activations = 4;
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> taken = 0, other = 0, unseen = 0;
  mini_scheduler scheduler(options);
  scheduler.add([&] {
    auto& kernel = scheduler.kernel();
    unsigned const i = mini_scheduler::self();
    while (other.load() == 0 || kernel.info().spare_count.load() == 0) {
      scheduler.yield();
    }
    for (int round = 0; round < 200; ++round) {
      kernel.disable(i);
      // By a call of this very thread: it comes at once.
      kernel.kick(0);
      std::uint64_t turns = 0;
      while (kernel.own(i).pending.load() == 0 && ++turns < 1'000'000) {
      }
      if (kernel.own(i).pending.load() == 0) unseen.fetch_add(1);
      std::uint64_t const before = scheduler.dispatches();
      kernel.enable(i);
      if (scheduler.dispatches() != before) taken.fetch_add(1);
    }
    over = true;
  });
  scheduler.add([&] {
    while (!over.load(std::memory_order::relaxed)) {
      other.fetch_add(1, std::memory_order::relaxed);
      scheduler.yield();
    }
  });
  scheduler.run();
  found("200 kicks while disabled: %llu not pending, %llu upcalls at the end",
        static_cast<unsigned long long>(unseen.load()),
        static_cast<unsigned long long>(taken.load()));
  EXPECT_EQ(unseen.load(), 0u);
  EXPECT_EQ(taken.load(), 200u);
}

}  // namespace
}  // namespace kernel_tests
