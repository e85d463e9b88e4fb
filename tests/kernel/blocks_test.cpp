// SPDX-License-Identifier: BSL-1.0
//
// Nothing a thread can see changes over a block: registers, flags, red zone,
// x87, SSE and AVX state, return values, errno. One processor is kept busy, so
// that a thread that comes back finds it taken, is stopped at its user
// boundary and switched to later.
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "mini_scheduler.hpp"
#include "registers.hpp"

namespace kernel_tests {
namespace {

using namespace std::chrono_literals;

constexpr unsigned blockers = 3;
constexpr unsigned rounds = 60;
// Where a block may be missed, because the other side was first, they go on
// until some were seen.
constexpr unsigned most_rounds = 100 * rounds;

// One busy job and some that block; prints what came of it.
class crowd {
 public:
  explicit crowd(park_stub stub) : scheduler_(options(stub)) {}

  // block(checker, k, round): false if what it got is wrong.
  template <class F>
  void run(F block, unsigned most = rounds) {
    std::atomic<unsigned> at_work = blockers;
    auto const has_seen_enough = [this] {
      auto const stats = scheduler_.kernel().stats();
      return stats.blocks != 0 && stats.unblocks != 0;
    };
    for (unsigned k = 0; k < blockers; ++k) {
      scheduler_.add([this, k, most, block, has_seen_enough, &at_work] {
        register_checker checker(findings, seed() + k);
        tids[k].store(gettid());
        for (unsigned round = 0;
             round < rounds || (round < most && !has_seen_enough()); ++round) {
          if (!block(checker, k, round)) wrong.fetch_add(1);
          checker.loop(200);
        }
        at_work.fetch_sub(1);
      });
    }
    scheduler_.add([this, &at_work] {
      register_checker checker(findings, seed() + blockers);
      while (at_work.load() != 0) {
        checker.loop(500);
        scheduler_.yield();
      }
    });
    scheduler_.run();
    auto const stats = scheduler_.kernel().stats();
    found(
        "%s; %llu blocks handed over, %llu stopped on return, %u wrong "
        "results",
        findings.describe().c_str(),
        static_cast<unsigned long long>(stats.blocks),
        static_cast<unsigned long long>(stats.unblocks), wrong.load());
    EXPECT_EQ(findings.corrupt.load(), 0u);
    EXPECT_EQ(wrong.load(), 0u);
    EXPECT_GT(stats.blocks, 0u);
    EXPECT_GT(stats.unblocks, 0u);
    finished = true;
  }

  bool is_blocked(unsigned tid) {
    auto& kernel = scheduler_.kernel();
    for (unsigned i = 0; i < kernel.activations(); ++i) {
      if (kernel.activation(i).tid.load() != tid) continue;
      return kernel.activation(i).state.load() ==
             ACTIVATIONS_ACTIVATION_BLOCKED;
    }
    return false;
  }

  register_findings findings;
  std::atomic<unsigned> wrong = 0;
  std::atomic<int> tids[blockers] = {};
  std::atomic<bool> finished = false;

 private:
  static mini_options options(park_stub stub) {
    mini_options result;
    result.activations = blockers + 5;
    result.stub = stub;
    result.always_work = true;
    return result;
  }
  mini_scheduler scheduler_;
};

void pause_a_little() {
  timespec const time = {0, 300'000};
  raw_call(SYS_nanosleep, &time, 0);
}

void over_pipes(park_stub stub) {
  crowd all(stub);
  int pipes[blockers][2];
  for (auto& ends : pipes) ASSERT_EQ(pipe(ends), 0);
  std::atomic<unsigned> asked[blockers] = {};
  std::thread writer([&] {
    unsigned written[blockers] = {};
    while (!all.finished.load()) {
      pause_a_little();
      for (unsigned k = 0; k < blockers; ++k) {
        if (written[k] == asked[k].load()) continue;
        char const byte = static_cast<char>(written[k]++);
        if (write(pipes[k][1], &byte, 1) != 1) std::abort();
      }
    }
  });
  all.run(
      [&](register_checker& checker, unsigned k, unsigned round) {
        char byte = 0;
        long result;
        asked[k].fetch_add(1);
        checker.call(SYS_read, pipes[k][0], call_argument(&byte), 1, 0, result);
        return result == 1 && byte == static_cast<char>(round);
      },
      most_rounds);
  writer.join();
}

KERNEL_TEST(Blocks, ReadOfAPipeKeepsEverything) {
  over_pipes(park_stub::plain());
}
KERNEL_TEST(Blocks, ReadOfAPipeKeepsEverythingWithTheStubWide) {
  over_pipes(park_stub::wide());
}

KERNEL_TEST(Blocks, NanosleepKeepsEverything) {
  crowd all(park_stub::wide());
  all.run(
      [&](register_checker& checker, unsigned k, unsigned) {
        timespec const time = {0, 100'000 + 50'000 * k};
        long result;
        checker.call(SYS_nanosleep, call_argument(&time), 0, 0, 0, result);
        return result == 0;
      },
      most_rounds);
}

KERNEL_TEST(Blocks, FutexKeepsEverything) {
  crowd all(park_stub::wide());
  std::atomic<std::uint32_t> words[blockers] = {};
  std::thread waker([&] {
    while (!all.finished.load()) {
      pause_a_little();
      for (auto& word : words) {
        word.fetch_add(1);
        raw_call(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1);
      }
    }
  });
  all.run(
      [&](register_checker& checker, unsigned k, unsigned) {
        std::uint32_t const seen = words[k].load();
        long result;
        checker.call(SYS_futex, call_argument(&words[k]), FUTEX_WAIT_PRIVATE,
                     seen, 0, result);
        return result == 0 || result == -EAGAIN;
      },
      most_rounds);
  waker.join();
}

KERNEL_TEST(Blocks, FaultOfUserfaultfdKeepsEverything) {
  std::size_t const page = 4096;
  std::size_t const bytes = page * blockers * rounds;
  int const uffd = static_cast<int>(raw_call(SYS_userfaultfd, O_CLOEXEC));
  ASSERT_GE(uffd, 0);
  uffdio_api api = {};
  api.api = UFFD_API;
  ASSERT_EQ(ioctl(uffd, UFFDIO_API, &api), 0);
  auto* memory =
      static_cast<unsigned char*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  uffdio_register area = {};
  area.range = {reinterpret_cast<std::uint64_t>(memory), bytes};
  area.mode = UFFDIO_REGISTER_MODE_MISSING;
  ASSERT_EQ(ioctl(uffd, UFFDIO_REGISTER, &area), 0);
  std::thread server([&] {
    static unsigned char source[4096];
    for (unsigned n = 0; n < blockers * rounds; ++n) {
      uffd_msg message;
      if (read(uffd, &message, sizeof(message)) != sizeof(message)) {
        std::abort();
      }
      pause_a_little();
      std::uint64_t const at = message.arg.pagefault.address & ~0xfffull;
      std::memset(source,
                  static_cast<int>((at - area.range.start) / page % 251), page);
      uffdio_copy copy = {};
      copy.dst = at;
      copy.src = reinterpret_cast<std::uint64_t>(source);
      copy.len = page;
      ioctl(uffd, UFFDIO_COPY, &copy);
    }
  });
  crowd all(park_stub::wide());
  all.run([&](register_checker& checker, unsigned k, unsigned round) {
    unsigned const n = k * rounds + round;
    unsigned char byte = 0;
    checker.fault(memory + n * page, byte);
    return byte == n % 251;
  });
  server.join();
}

KERNEL_TEST(Blocks, FaultOnAFileOfASlowDiskKeepsEverything) {
  char const* path = std::getenv("ACTIVATIONS_SLOW_DISK");
  if (!path) path = "/disk/pages";
  int const fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    GTEST_SKIP() << "no slow disk: neither ACTIVATIONS_SLOW_DISK nor " << path;
  }
  std::size_t const page = 4096;
  std::size_t const bytes = page * blockers * rounds;
  std::vector<unsigned char> expected(blockers * rounds);
  for (std::size_t n = 0; n < expected.size(); ++n) {
    ASSERT_EQ(pread(fd, &expected[n], 1, static_cast<off_t>(n * page)), 1);
  }
  auto* memory = static_cast<unsigned char const*>(
      mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd, 0));
  ASSERT_NE(memory, MAP_FAILED);
  madvise(const_cast<unsigned char*>(memory), bytes, MADV_RANDOM);
  ASSERT_EQ(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
  crowd all(park_stub::wide());
  all.run([&](register_checker& checker, unsigned k, unsigned round) {
    unsigned const n = k * rounds + round;
    unsigned char byte = 0;
    checker.fault(memory + n * page, byte);
    return byte == expected[n];
  });
}

std::atomic<unsigned> handled;
void counting_handler(int) {
  handled.fetch_add(1);
}

void handle(int signal, int flags) {
  struct sigaction action = {};
  action.sa_handler = counting_handler;
  action.sa_flags = flags;
  sigaction(signal, &action, nullptr);
}

// Sends SIGUSR1 to the blockers in turn while they are blocked.
std::thread sender(crowd& all) {
  return std::thread([&all] {
    for (unsigned k = 0; !all.finished.load(); ++k) {
      int const tid = all.tids[k % blockers].load();
      if (tid && all.is_blocked(static_cast<unsigned>(tid))) {
        raw_call(SYS_tgkill, getpid(), tid, SIGUSR1);
      }
      pause_a_little();
    }
  });
}

KERNEL_TEST(Blocks, ASignalWhileBlockedGivesEintr) {
  handle(SIGUSR1, 0);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  crowd all(park_stub::wide());
  std::thread signals = sender(all);
  all.run([&](register_checker& checker, unsigned, unsigned) {
    char byte;
    long result;
    checker.call(SYS_read, ends[0], call_argument(&byte), 1, 0, result);
    return result == -EINTR;
  });
  signals.join();
  found("%u signals handled", handled.load());
}

KERNEL_TEST(Blocks, ASignalWhileBlockedSetsErrno) {
  handle(SIGUSR1, 0);
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  crowd all(park_stub::wide());
  std::thread signals = sender(all);
  all.run([&](register_checker& checker, unsigned k, unsigned) {
    char byte;
    errno = static_cast<int>(1000 + k);
    checker.loop(100);
    if (errno != static_cast<int>(1000 + k)) return false;
    ssize_t const result = read(ends[0], &byte, 1);
    return result == -1 && errno == EINTR;
  });
  signals.join();
}

KERNEL_TEST(Blocks, ReadIsRestartedUnderSaRestart) {
  handle(SIGUSR1, SA_RESTART);
  int pipes[blockers][2];
  for (auto& ends : pipes) ASSERT_EQ(pipe(ends), 0);
  crowd all(park_stub::wide());
  std::thread signals = sender(all);
  std::thread writer([&] {
    for (unsigned round = 0; round < rounds; ++round) {
      unsigned const before = handled.load();
      // Some reads see signals, some none; but one in all does.
      for (int i = 0; (i < 20 && handled.load() < before + 3) ||
                      (i < 50'000 && handled.load() == 0);
           ++i) {
        pause_a_little();
      }
      for (auto& ends : pipes) {
        if (write(ends[1], "x", 1) != 1) std::abort();
      }
    }
  });
  all.run([&](register_checker& checker, unsigned k, unsigned) {
    char byte = 0;
    long result;
    checker.call(SYS_read, pipes[k][0], call_argument(&byte), 1, 0, result);
    return result == 1 && byte == 'x';
  });
  signals.join();
  writer.join();
  found("%u signals handled", handled.load());
  EXPECT_GT(handled.load(), 0u);
}

std::int64_t now_ns() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec * std::int64_t{1'000'000'000} + time.tv_nsec;
}

TEST(Blocks, NanosleepLastsItsTimeOverSigstop) {
  child process([] {
    crowd all(park_stub::wide());
    std::atomic<unsigned> in_call = 0;
    all.run([&](register_checker& checker, unsigned k, unsigned round) {
      if (round >= 12) return true;
      timespec const time = {0, 30'000'000 + 1'000'000 * k};
      std::int64_t const begin = now_ns();
      long result;
      checker.call(SYS_nanosleep, call_argument(&time), 0, 0, 0, result);
      reached(1);
      return result == 0 && now_ns() - begin >= time.tv_nsec;
    });
  });
  unsigned stops = 0;
  process.wait_for(1);
  for (int i = 0; i < 25; ++i) {
    if (kill(process.pid(), SIGSTOP) != 0) break;
    std::this_thread::sleep_for(5ms);
    if (kill(process.pid(), SIGCONT) != 0) break;
    ++stops;
    std::this_thread::sleep_for(10ms);
  }
  outcome const result = process.wait();
  found("%u times stopped and continued", stops);
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
}

}  // namespace
}  // namespace kernel_tests
