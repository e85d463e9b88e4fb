// SPDX-License-Identifier: BSL-1.0
//
// No wake-up is lost over a long random workload, and the module's own
// histograms say how long a processor idled while work waited (P1) and how
// long a thread that came back ran beyond its processor (P2).
#include <dirent.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "scene.hpp"

namespace kernel_tests {
namespace {

using namespace std::chrono_literals;

// The lines of this process's spaces that begin with `word`.
void print_lines(std::string const& word) {
  std::string const folder = "/sys/kernel/debug/activations";
  DIR* directory = opendir(folder.c_str());
  if (!directory) {
    std::printf("no %s\n", folder.c_str());
    return;
  }
  std::string const mine = std::to_string(getpid()) + ".";
  while (dirent* entry = readdir(directory)) {
    if (std::string(entry->d_name).rfind(mine, 0) != 0) continue;
    std::istringstream text(text_of(folder + "/" + entry->d_name));
    for (std::string line; std::getline(text, line);) {
      if (line.rfind(word, 0) == 0) std::printf("  %s\n", line.c_str());
    }
  }
  closedir(directory);
}

// A token that travels through a pipe or over a futex.
class channel {
 public:
  channel() {
    if (pipe(pipe_) != 0) std::abort();
  }
  void send(bool by_pipe) {
    if (by_pipe) {
      if (raw_call(SYS_write, pipe_[1], "x", 1) != 1) std::abort();
    } else {
      tokens_.fetch_add(1, std::memory_order::seq_cst);
      raw_call(SYS_futex, &tokens_, FUTEX_WAKE_PRIVATE, 1);
    }
  }
  void receive(bool by_pipe) {
    if (by_pipe) {
      char byte;
      while (raw_call(SYS_read, pipe_[0], &byte, 1) != 1) {
      }
      return;
    }
    for (;;) {
      std::uint32_t n = tokens_.load(std::memory_order::seq_cst);
      if (n && tokens_.compare_exchange_strong(n, n - 1)) return;
      if (n == 0) {
        raw_call(SYS_futex, &tokens_, FUTEX_WAIT_PRIVATE, 0, nullptr);
      }
    }
  }

 private:
  int pipe_[2];
  std::atomic<std::uint32_t> tokens_ = 0;
};

struct workload {
  unsigned processors;
  std::uint64_t slice_ns;
  unsigned spares;  // beyond one activation a job
};

void run_workload(workload const& what) {
  constexpr unsigned pairs = 6;
  mini_options options;
  options.processors = what.processors;
  options.activations = 3 * pairs + what.spares;
  options.slice_ns = what.slice_ns;
  mini_scheduler scheduler(options);
  channel there[pairs], back[pairs];
  std::atomic<std::uint64_t> exchanges = 0, sleeps = 0;
  std::atomic<bool> over = false;
  std::atomic<std::uint64_t> sent[pairs] = {}, received[pairs] = {};
  auto const compute = [](random_numbers& random) {
    std::uint64_t volatile turns = random.below(3000);
    while (turns) turns = turns - 1;
  };
  for (unsigned k = 0; k < pairs; ++k) {
    // Both draw the same numbers for what both must do alike.
    scheduler.add([&, k] {
      random_numbers shared(seed() + k), mine(seed() + 100 + k);
      for (;;) {
        bool const by_pipe = shared.below(2);
        compute(mine);
        bool const last = over.load();
        sent[k].fetch_add(1);
        there[k].send(by_pipe);
        back[k].receive(by_pipe);
        exchanges.fetch_add(1);
        if (last) break;
        if (mine.below(8) == 0) scheduler.yield();
      }
      // A last token by either way ends the partner.
      sent[k].store(~std::uint64_t{0});
      there[k].send(shared.below(2));
    });
    scheduler.add([&, k] {
      random_numbers shared(seed() + k), mine(seed() + 200 + k);
      for (;;) {
        bool const by_pipe = shared.below(2);
        there[k].receive(by_pipe);
        if (sent[k].load() == ~std::uint64_t{0}) break;
        received[k].fetch_add(1);
        compute(mine);
        back[k].send(by_pipe);
      }
    });
    scheduler.add([&, k] {
      random_numbers mine(seed() + 300 + k);
      while (!over.load()) {
        compute(mine);
        timespec const time = {0, static_cast<long>(mine.below(1'000'000))};
        raw_call(SYS_nanosleep, &time, 0);
        sleeps.fetch_add(1);
      }
    });
  }
  scheduler.start();
  std::this_thread::sleep_for(budget());
  over = true;
  scheduler.finish();
  auto const stats = scheduler.kernel().stats();
  found(
      "seed %llu: %llu exchanges, %llu sleeps; %llu blocks, %llu keeps, "
      "%llu stopped on return, %llu stops, %llu without a spare, %llu direct "
      "resumes; all finished",
      static_cast<unsigned long long>(seed()),
      static_cast<unsigned long long>(exchanges.load()),
      static_cast<unsigned long long>(sleeps.load()),
      static_cast<unsigned long long>(stats.blocks),
      static_cast<unsigned long long>(stats.keeps),
      static_cast<unsigned long long>(stats.unblocks),
      static_cast<unsigned long long>(stats.preemptions),
      static_cast<unsigned long long>(stats.no_spare),
      static_cast<unsigned long long>(stats.direct_resumes));
  print_lines("excess");
  print_lines("idle_with_work");
  EXPECT_GT(exchanges.load(), 0u);
}

unsigned cpus() {
  return std::thread::hardware_concurrency();
}

KERNEL_TEST(Conservation, NoWakeupIsLostOnOneProcessor) {
  run_workload({1, 0, 4});
}
KERNEL_TEST(Conservation, NoWakeupIsLostOnAllProcessors) {
  run_workload({cpus(), 0, 4});
}
KERNEL_TEST(Conservation, NoWakeupIsLostWithSlices) {
  run_workload({cpus(), 200'000, 4});
}
KERNEL_TEST(Conservation, NoWakeupIsLostWithoutSpares) {
  run_workload({cpus(), 200'000, 0});
}

// The module looks at its own state at each change, and complains if it is wrong.
KERNEL_TEST(Conservation, TheModulesInvariantsHold) {
  module_parameter const invariants("check", "1");
  found("invariants are %s", invariants.exists() ? "checked" : "not built in");
  run_workload({cpus(), 200'000, 1});
}

// Releases with deadlines, and work that comes while all idle.
KERNEL_TEST(Conservation, AnIdleProcessorWakesForItsTimerAndForWork) {
  space one(1, 2);
  std::atomic<unsigned> timers = 0, wakes = 0;
  std::atomic<bool> over = false;
  std::thread owner([&] {
    one.own(0).disabled = 1;
    ASSERT_EQ(one.attach(0, 0), 0);
    for (unsigned n = 0; !over.load(); ++n) {
      timespec time;
      clock_gettime(CLOCK_MONOTONIC, &time);
      std::uint64_t const soon =
          static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
          static_cast<std::uint64_t>(time.tv_nsec) + 300'000;
      one.control().work_waiting.store(0);
      long const result = one.release(n % 2 ? soon : never);
      if (result != 0) continue;
      auto const events = one.activation(0).events.load();
      (events & ACTIVATIONS_EVENT_TIMER ? timers : wakes).fetch_add(1);
    }
    one.detach();
  });
  unsigned woken = 0;
  patience const time;
  while (time.lasts(timers.load() != 0)) {
    if (one.is_idle(0) && one.wake(0) == 1) ++woken;
    std::this_thread::sleep_for(500us);
  }
  over = true;
  while (one.activation(0).state.load() != ACTIVATIONS_ACTIVATION_UNUSED) {
    one.wake(0);
    std::this_thread::sleep_for(1ms);
  }
  owner.join();
  found(
      "%u timers, %u dispatches for work, %u calls of WAKE that found it "
      "idle",
      timers.load(), wakes.load(), woken);
  EXPECT_GT(timers.load(), 0u);
  EXPECT_GE(timers.load() + wakes.load(), woken);
}

}  // namespace
}  // namespace kernel_tests
