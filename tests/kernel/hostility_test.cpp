// SPDX-License-Identifier: BSL-1.0
//
// Programs that do everything wrong: random calls in random states, garbage
// written to the control area while upcalls fly, threads that come and go,
// areas unmapped, descriptors closed. The programs may die of it; the kernel
// may not complain, the processes must be killable, and others go on working.
// ACTIVATIONS_SECONDS says for how long, ACTIVATIONS_SEED repeats the choices.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "scene.hpp"

namespace kernel_tests {
namespace {

using namespace std::chrono_literals;

std::uint64_t now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<std::uint64_t>(time.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(time.tv_nsec);
}

struct victim {
  space one;
  int pipe[2];
  explicit victim(random_numbers& random)
      : one(1 + static_cast<unsigned>(random.below(2)),
            2 + static_cast<unsigned>(random.below(12)),
            random.below(2) ? park_stub::wide() : park_stub::plain()) {
    if (::pipe(pipe) != 0) std::abort();
  }
};

std::uint64_t odd_number(random_numbers& random) {
  switch (random.below(6)) {
    case 0:
      return random();
    case 1:
      return random.below(20);
    case 2:
      return none + random.below(3) - 1;
    case 3:
      return ~std::uint64_t{0} - random.below(3);
    case 4:
      return std::uint64_t{1} << random.below(64);
    default:
      return now_ns() + random.below(2'000'000);
  }
}

void compute(random_numbers& random) {
  std::uint64_t volatile turns = random.below(20'000);
  while (turns) turns = turns - 1;
}

void one_call(victim& of, random_numbers& random) {
  auto& one = of.one;
  unsigned const i = static_cast<unsigned>(random.below(one.activations()));
  unsigned const v = static_cast<unsigned>(random.below(one.processors()));
  switch (random.below(24)) {
    case 0:
      one.park();
      break;
    case 1:
    case 2:
    case 3:
      one.switch_to(i);
      break;
    case 4:
      one.release(now_ns() + random.below(500'000));
      break;
    case 5:
      one.release(odd_number(random));
      break;
    case 6:
    case 7:
      one.kick(v);
      break;
    case 8:
      one.slice(v, random.below(400'000));
      break;
    case 9:
      one.wake(v);
      break;
    case 10:
      one.stop();
      break;
    case 11:
      one.timer(odd_number(random));
      break;
    case 12:
      one.end(i);
      break;
    case 13:
      one.end(odd_number(random));
      break;
    case 14:
      one.detach();
      break;
    case 15:
    case 16:
      one.attach(i, random.below(2) ? v : none);
      break;
    case 17: {
      // Registers anywhere; the index mostly right.
      activations_attach argument = {i, v, odd_number(random)};
      raw_ioctl(one.fd(), ACTIVATIONS_IOCTL_ATTACH, &argument);
      break;
    }
    case 18:
      one.call(_IOC(random.below(4), ACTIVATIONS_IOCTL_TYPE, random.below(20),
                    random.below(64)),
               odd_number(random));
      break;
    case 19:
      raw_call(SYS_lseek, one.fd(), odd_number(random), random.below(5));
      break;
    case 20: {
      timespec const time = {0, static_cast<long>(random.below(300'000))};
      raw_call(SYS_nanosleep, &time, 0);
      break;
    }
    case 21: {
      char byte;
      if (random.below(2)) {
        raw_call(SYS_write, of.pipe[1], "x", 1);
      } else {
        raw_call(SYS_read, of.pipe[0], &byte, 1);
      }
      break;
    }
    case 22:
      one.request(static_cast<unsigned>(odd_number(random)));
      break;
    default:
      compute(random);
  }
}

void random_thread(victim& of, std::uint64_t number) {
  random_numbers random(number);
  if (random.below(8)) {
    of.one.attach(static_cast<unsigned>(random.below(of.one.activations())),
                  random.below(2) ? 0 : none);
  }
  std::uint64_t const life = 50 + random.below(4000);
  for (std::uint64_t n = 0; n < life; ++n) {
    one_call(of, random);
    if (random.below(4) == 0) compute(random);
    count();
  }
}

// Writes to the control area, mostly to the words the kernel reads.
void scribble(victim& of, std::uint64_t number) {
  random_numbers random(number);
  auto* words = reinterpret_cast<std::uint32_t volatile*>(&of.one.control());
  std::size_t const n = of.one.opened().control_bytes / 4;
  for (;;) {
    for (int k = 0; k < 50; ++k) {
      switch (random.below(5)) {
        case 0:
          words[random.below(n)] = static_cast<std::uint32_t>(random());
          break;
        case 1:
          words[random.below(n)] = 0;
          break;
        case 2:
          of.one.control().work_waiting = random.below(2) != 0;
          break;
        case 3:
          of.one.own(static_cast<unsigned>(random.below(of.one.activations())))
              .disabled = random.below(4) == 0;
          break;
        default:
          of.one.stopped_words()[0] = random.below(2) ? ~0ull : 0;
      }
    }
    for (unsigned v = 0; v < of.one.processors(); ++v) of.one.kick(v);
    of.one.wake(0);
    for (unsigned i = 0; i < of.one.activations(); ++i) {
      if (random.below(50) == 0) of.one.end(i);
    }
    if (random.below(20) == 0) {
      timespec const time = {0, static_cast<long>(random.below(2'000'000))};
      raw_call(SYS_nanosleep, &time, 0);
    }
    raw_call(SYS_write, of.pipe[1], "x", 1);
  }
}

// What a program does to itself besides calls.
void disturb(victim& of, std::uint64_t number) {
  random_numbers random(number);
  for (;;) {
    timespec const time = {0, static_cast<long>(random.below(3'000'000))};
    raw_call(SYS_nanosleep, &time, 0);
    switch (random.below(12)) {
      case 0: {
        pid_t const pid = static_cast<pid_t>(raw_call(SYS_fork));
        if (pid == 0) {
          of.one.kick(0);
          of.one.park();
          raw_call(SYS_exit_group, 0);
        }
        if (pid > 0) raw_call(SYS_wait4, pid, nullptr, 0, nullptr);
        break;
      }
      case 1:
        raw_call(SYS_tgkill, getpid(), getpid(), SIGUSR1);
        break;
      case 2:
      case 3:
        kill(getpid(), SIGUSR1);
        break;
      case 4: {
        void* info = mmap(nullptr, of.one.opened().info_bytes, PROT_READ,
                          MAP_SHARED, of.one.fd(), 0);
        if (info != MAP_FAILED) munmap(info, of.one.opened().info_bytes);
        break;
      }
      case 5: {
        // A second space of the same process.
        int const fd = open_device();
        auto argument = open_argument(1, 2);
        if (fd >= 0) raw_ioctl(fd, ACTIVATIONS_IOCTL_OPEN, &argument);
        close(fd);
        break;
      }
      case 6:
        if (random.below(4) == 0) of.one.close_threads_file();
        break;
      case 7:
        if (random.below(10) == 0) of.one.close_file();
        break;
      case 8:
        if (random.below(100) == 0) {
          mprotect(&of.one.control(), 4096, PROT_READ);
        }
        break;
      case 9:
        if (random.below(100) == 0) of.one.unmap_info();
        break;
      default:
        std::thread(random_thread, std::ref(of), random()).detach();
    }
  }
}

void ignore(int) {}

TEST(Hostility, GarbageHarmsNobodyElse) {
  module_parameter const invariants("check", "1");
  random_numbers random(seed());
  auto const end = std::chrono::steady_clock::now() + budget();
  unsigned programs = 0, killed = 0, died = 0;
  std::uint64_t calls = 0;
  std::map<std::string, unsigned> ends;
  do {
    std::uint64_t const number = random();
    child process([number] {
      random_numbers mine(number);
      ::signal(SIGUSR1, ignore);
      victim of(mine);
      if (mine.below(4)) of.one.slice(0, 100'000 + mine.below(1'000'000));
      for (int k = 0; k < 10; ++k) {
        std::thread(random_thread, std::ref(of), mine()).detach();
      }
      if (mine.below(4)) std::thread(scribble, std::ref(of), mine()).detach();
      if (mine.below(2)) std::thread(disturb, std::ref(of), mine()).detach();
      reached(1);
      for (;;) {
        usleep(20'000);
        for (int k = 0; k < 3; ++k) {
          std::thread(random_thread, std::ref(of), mine()).detach();
        }
      }
    });
    process.wait_for(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(random.below(600)));
    kill(process.pid(), SIGKILL);
    outcome const result = process.wait(30s);
    calls += process.counted();
    ASSERT_FALSE(result.hung) << "program " << number;
    ++programs;
    (result.killed_by(SIGKILL) ? killed : died) += 1;
    if (!result.killed_by(SIGKILL)) ends[result.describe()] += 1;
  } while (std::chrono::steady_clock::now() < end);
  found("seed %llu: %u programs, %llu random calls, %u killed, %u died of it",
        static_cast<unsigned long long>(seed()), programs,
        static_cast<unsigned long long>(calls), killed, died);
  for (auto const& [how, times] : ends) {
    std::printf("  %s: %u\n", how.c_str(), times);
  }
  EXPECT_TRUE(module_becomes_idle());
  child process([] {
    scene now(scene_kind::storm);
    now.begin();
    now.finish();
    EXPECT_EQ(now.findings.corrupt.load(), 0u) << now.findings.describe();
  });
  EXPECT_TRUE(process.wait().exited_with(0));
}

// One interrupt serves all who kick a processor; they must not trip over it.
KERNEL_TEST(Hostility, KicksFromAllThreadsAtOnce) {
  unsigned const cpus = std::thread::hardware_concurrency();
  mini_options options;
  options.processors = cpus;
  options.activations = 3 * cpus + 2;
  mini_scheduler scheduler(options);
  register_findings findings;
  std::atomic<bool> over = false;
  for (unsigned k = 0; k < 2 * cpus; ++k) {
    scheduler.add([&, k] {
      register_checker checker(findings, seed() + k);
      while (!over.load(std::memory_order::relaxed)) checker.loop(500);
    });
  }
  std::atomic<std::uint64_t> kicks = 0;
  std::vector<std::thread> kickers;
  for (unsigned k = 0; k < 3 * cpus; ++k) {
    kickers.emplace_back([&, k] {
      random_numbers random(seed() + 1000 + k);
      while (!over.load(std::memory_order::relaxed)) {
        unsigned const v = static_cast<unsigned>(random.below(cpus));
        for (int n = 0; n < 50; ++n) scheduler.kernel().kick(v);
        if (random.below(4) == 0) {
          scheduler.kernel().slice(v, random.below(2) ? 0 : 500'000);
        }
        kicks.fetch_add(50, std::memory_order::relaxed);
      }
    });
  }
  scheduler.start();
  std::this_thread::sleep_for(budget());
  over = true;
  for (auto& kicker : kickers) kicker.join();
  scheduler.finish();
  found("%llu kicks of %u processors by %u threads, %llu stops; %s",
        static_cast<unsigned long long>(kicks.load()), cpus, 3 * cpus,
        static_cast<unsigned long long>(scheduler.kernel().stats().preemptions),
        findings.describe().c_str());
  EXPECT_EQ(findings.corrupt.load(), 0u);
}

// A well-behaved program beside a hostile one.
TEST(Hostility, AnotherProcessGoesOnUnharmed) {
  child good([] {
    scene now(scene_kind::storm);
    now.begin();
    std::this_thread::sleep_for(budget());
    now.finish();
    found("beside it: %s", now.findings.describe().c_str());
    EXPECT_EQ(now.findings.corrupt.load(), 0u);
  });
  ASSERT_TRUE(good.wait_for(1));
  child bad([] {
    random_numbers mine(seed());
    victim of(mine);
    of.one.slice(0, 100'000);
    std::thread(scribble, std::ref(of), mine()).detach();
    for (;;) {
      for (int k = 0; k < 5; ++k) {
        std::thread(random_thread, std::ref(of), mine()).detach();
      }
      usleep(20'000);
    }
  });
  outcome const result = good.wait(120s);
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
  kill(bad.pid(), SIGKILL);
  EXPECT_FALSE(bad.wait(30s).hung);
  EXPECT_TRUE(module_becomes_idle());
}

}  // namespace
}  // namespace kernel_tests
