// SPDX-License-Identifier: BSL-1.0
//
// Restartable sequences: a counter for each CPU, incremented without atomics,
// loses nothing when threads are stopped inside the sequence and continue on
// another CPU, or on the same one after others.
#include <linux/rseq.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>

#include <cstdio>
#include <cstring>
#include <fstream>

#include "scene.hpp"

namespace kernel_tests {
namespace {

struct alignas(64) slot {
  volatile std::uint64_t value;
};

struct rseq* area() noexcept {
  return reinterpret_cast<struct rseq*>(
      static_cast<char*>(__builtin_thread_pointer()) + __rseq_offset);
}

// One to counters[cpu]; false if the sequence was aborted. `GAP` opens the
// window between load and store to an emulator that takes interrupts only at
// branches.
#define GAP "jmp 7f\n7:\n"
bool add_one(slot* counters) noexcept {
  struct rseq* mine = area();
  std::uint32_t const cpu = mine->cpu_id_start;
  volatile std::uint64_t* target = &counters[cpu].value;
  std::uint64_t scratch;
  asm goto volatile(
      ".pushsection __rseq_cs, \"aw\"\n"
      ".balign 32\n"
      "3: .long 0, 0\n"
      ".quad 1f, 2f - 1f, 4f\n"
      ".popsection\n"
      "leaq 3b(%%rip), %%rax\n"
      "movq %%rax, %[rseq_cs]\n"
      "1:\n"
      "cmpl %[cpu], %[current]\n"
      "jnz 4f\n" GAP "movq (%[target]), %%rax\n" GAP GAP GAP
      "incq %%rax\n" GAP GAP GAP
      "movq %%rax, (%[target])\n"
      "2:\n"
      ".pushsection __rseq_failure, \"ax\"\n"
      ".byte 0x0f, 0xb9, 0x3d\n"  // ud1, then the signature
      ".long 0x53053053\n"
      "4: jmp %l[aborted]\n"
      ".popsection\n"
      :
      : [rseq_cs] "m"(mine->rseq_cs), [cpu] "r"(cpu),
        [current] "m"(mine->cpu_id), [target] "r"(target)
      : "rax", "memory", "cc"
      : aborted);
  static_cast<void>(scratch);
  return true;
aborted:
  return false;
}
#undef GAP

struct totals {
  std::uint64_t added = 0, counted = 0, aborted = 0;
};

totals count_under_stops(park_stub stub) {
  unsigned const cpus = std::thread::hardware_concurrency();
  std::vector<slot> counters(1024);
  for (auto& counter : counters) counter.value = 0;
  mini_options options;
  options.processors = cpus;
  options.activations = cpus * 4 + 2;
  options.slice_ns = 100'000;
  options.stub = stub;
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> added = 0, aborted = 0;
  mini_scheduler scheduler(options);
  for (unsigned k = 0; k < 3 * cpus; ++k) {
    scheduler.add([&] {
      std::uint64_t mine = 0, failed = 0;
      while (!over.load(std::memory_order::relaxed)) {
        for (int i = 0; i < 200; ++i) {
          if (add_one(counters.data())) {
            ++mine;
          } else {
            ++failed;
          }
        }
      }
      added += mine;
      aborted += failed;
    });
  }
  scheduler.start();
  auto const end = std::chrono::steady_clock::now() + budget();
  for (unsigned n = 0; std::chrono::steady_clock::now() < end; ++n) {
    scheduler.kernel().kick(n % cpus);
    timespec const time = {0, 200'000};
    raw_call(SYS_nanosleep, &time, 0);
  }
  over = true;
  scheduler.finish();
  totals result;
  result.added = added;
  result.aborted = aborted;
  for (auto& counter : counters) result.counted += counter.value;
  found(
      "%llu added, %llu counted, %llu aborted, %llu stops",
      static_cast<unsigned long long>(result.added),
      static_cast<unsigned long long>(result.counted),
      static_cast<unsigned long long>(result.aborted),
      static_cast<unsigned long long>(scheduler.kernel().stats().preemptions));
  return result;
}

KERNEL_TEST(Rseq, ACounterLosesNothing) {
  ASSERT_GT(__rseq_size, 0u) << "libc registered no area";
  totals const t = count_under_stops(park_stub::plain());
  EXPECT_EQ(t.added, t.counted);
}

KERNEL_TEST(Rseq, ACounterLosesNothingWithTheStubWide) {
  ASSERT_GT(__rseq_size, 0u) << "libc registered no area";
  totals const t = count_under_stops(park_stub::wide());
  EXPECT_EQ(t.added, t.counted);
}

// Preempted at the stub, a thread is restored into a section that others have
// been through meanwhile. Rare: the counts say whether it was seen.
TEST(Rseq, ControlWithoutTheModulesCare) {
  module_parameter const skip("skip", "2");
  if (!skip.exists()) GTEST_SKIP() << "not a test build of the module";
  child process([] {
    totals const t = count_under_stops(park_stub::wide());
    found("%lld lost", static_cast<long long>(t.added - t.counted));
  });
  EXPECT_TRUE(process.wait().exited_with(0));
}

}  // namespace
}  // namespace kernel_tests
