// SPDX-License-Identifier: BSL-1.0
//
// Too few activations: whoever holds what the others need is resumed by the
// kernel itself, and all finish.
#include <malloc.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "child.hpp"
#include "mini_scheduler.hpp"

namespace kernel_tests {
namespace {

unsigned cpus() {
  return std::thread::hardware_concurrency();
}

// A holder of a lock is stopped; the one who runs instead blocks on the lock,
// and there is no third.
KERNEL_TEST(Exhaustion, AStoppedHolderOfALockIsResumedDirectly) {
  mini_options options;
  options.activations = 2;
  mini_scheduler scheduler(options);
  pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
  std::atomic<unsigned> rounds_left = 200;
  std::atomic<unsigned> held = 0, begun = 0;
  for (int k = 0; k < 2; ++k) {
    scheduler.add([&] {
      begun.fetch_add(1);
      while (begun.load() < 2) scheduler.yield();
      while (rounds_left.load() != 0) {
        pthread_mutex_lock(&lock);
        if (rounds_left.load() != 0) rounds_left.fetch_sub(1);
        held.fetch_add(1);
        scheduler.kernel().kick(0);  // stopped here, if there is another
        pthread_mutex_unlock(&lock);
        // The other one's turn.
        scheduler.yield();
      }
    });
  }
  scheduler.run();
  auto const stats = scheduler.kernel().stats();
  found(
      "lock held %u times, %llu stops, %llu direct resumes, %llu without a "
      "spare",
      held.load(), static_cast<unsigned long long>(stats.preemptions),
      static_cast<unsigned long long>(stats.direct_resumes),
      static_cast<unsigned long long>(stats.no_spare));
  EXPECT_GT(stats.direct_resumes, 0u);
}

// As many jobs as activations, one more than processors, one arena.
KERNEL_TEST(Exhaustion, StoppedHoldersOfTheLockOfMallocFinish) {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mini_options options;
  options.processors = cpus();
  options.activations = cpus() + 1;
  options.slice_ns = 100'000;
  mini_scheduler scheduler(options);
  std::atomic<std::uint64_t> blocks = 0, wrong = 0;
  auto const end = std::chrono::steady_clock::now() + budget();
  for (unsigned k = 0; k < options.activations; ++k) {
    scheduler.add([&, k] {
      random_numbers random(seed() + k);
      char* kept[64] = {};
      std::size_t sizes[64] = {};
      while (std::chrono::steady_clock::now() < end) {
        for (int n = 0; n < 100; ++n) {
          auto const slot = random.below(64);
          if (char* block = kept[slot]) {
            for (std::size_t i = 0; i < sizes[slot]; i += 257) {
              if (block[i] != static_cast<char>(slot + k)) wrong.fetch_add(1);
            }
            std::free(block);
          }
          // Too large for the thread's own cache.
          sizes[slot] = 1100 + random.below(8000);
          kept[slot] = static_cast<char*>(std::malloc(sizes[slot]));
          std::memset(kept[slot], static_cast<int>(slot + k), sizes[slot]);
        }
        blocks.fetch_add(100);
      }
      for (char* block : kept) std::free(block);
    });
  }
  scheduler.run();
  auto const stats = scheduler.kernel().stats();
  found("%llu blocks of memory, %llu stops, %llu direct resumes, %llu wrong",
        static_cast<unsigned long long>(blocks.load()),
        static_cast<unsigned long long>(stats.preemptions),
        static_cast<unsigned long long>(stats.direct_resumes),
        static_cast<unsigned long long>(wrong.load()));
  EXPECT_EQ(wrong.load(), 0u);
}

// As many activations as processors: they block and are never replaced.
KERNEL_TEST(Exhaustion, WithoutAnySpareAllFinish) {
  mini_options options;
  options.processors = cpus();
  options.activations = cpus();
  options.slice_ns = 200'000;
  options.always_work = true;
  mini_scheduler scheduler(options);
  std::atomic<std::uint64_t> sum = 0;
  for (unsigned k = 0; k < 4 * cpus(); ++k) {
    scheduler.add([&] {
      for (int i = 0; i < 50; ++i) {
        for (int n = 0; n < 2000; ++n) sum.fetch_add(1);
        timespec const time = {0, 50'000};
        raw_call(SYS_nanosleep, &time, 0);
      }
    });
  }
  scheduler.run();
  auto const stats = scheduler.kernel().stats();
  found("%llu steps, %llu blocks without a spare, %llu stops",
        static_cast<unsigned long long>(sum.load()),
        static_cast<unsigned long long>(stats.no_spare),
        static_cast<unsigned long long>(stats.preemptions));
  EXPECT_EQ(sum.load(), std::uint64_t{4} * cpus() * 50 * 2000);
  EXPECT_GT(stats.no_spare, 0u);
}

}  // namespace
}  // namespace kernel_tests
