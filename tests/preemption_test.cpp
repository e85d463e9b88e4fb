// SPDX-License-Identifier: BSL-1.0
// Preemption: who computes longer than the slice lets others run, at any
// instruction, and goes on as if nothing had been.  Progress is counted; no
// case depends on how long anything takes.
#include <activations/activations.hpp>

#include <gtest/gtest.h>

#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "blocking_ways.hpp"

namespace {

using namespace blocking_ways;
using activations::backend_choice;
using activations::scheduler;
using activations::scheduler_options;
using activations::task;
using activations::user_thread;

#if ACTIVATIONS_TSAN
// ThreadSanitizer holds signals back until the next intercepted call, so that
// a loop without one is never stopped.
inline void let_signals_in() {
  (void)::sched_yield();
}
#else
inline void let_signals_in() {}
#endif

constexpr auto slice = 2ms;

// Uses that much CPU time.
void compute_for(std::chrono::nanoseconds time) {
  auto const used = [] {
    timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) +
           std::chrono::nanoseconds(now.tv_nsec);
  };
  for (auto const start = used(); used() - start < time;) let_signals_in();
}

scheduler_options preemptive(unsigned processors, unsigned cap = 0) {
  scheduler_options o;
  o.processors = processors;
  o.max_activations = cap;
  o.slice = slice;
  return o;
}

// Threads that compute without a call, and how often the turn went from one
// to another of them.
class hogs {
 public:
  hogs(scheduler& home, int count) {
    for (int i = 1; i <= count; ++i)
      threads_.push_back(home.spawn([this, i] { compute(i); }));
  }
  ~hogs() { stop(); }
  void stop() { stop_ = true; }

  void compute(int me) {
    while (!stop_.load(std::memory_order::relaxed)) {
      if (last_.load(std::memory_order::relaxed) != me) {
        last_.store(me, std::memory_order::relaxed);
        turns_.fetch_add(1, std::memory_order::relaxed);
        seen_.fetch_or(1u << me, std::memory_order::relaxed);
      }
      let_signals_in();
    }
  }
  [[nodiscard]] int turns() const { return turns_; }
  [[nodiscard]] unsigned seen() const { return seen_; }

 private:
  std::atomic<bool> stop_{false};
  std::atomic<int> last_{0};
  std::atomic<int> turns_{0};
  std::atomic<unsigned> seen_{0};
  std::vector<user_thread> threads_;
};

TEST(Preemption, TwoHogsTakeTurnsOnOneProcessor) {
  scheduler here(preemptive(1));
  hogs both(here, 2);
  EXPECT_TRUE(eventually([&] { return both.turns() >= 20; })) << both.turns();
  EXPECT_GT(here.statistics().kernel_threads.preemptions, 0u);
}

TEST(Preemption, ManyHogsAllGetTurns) {
  for (unsigned processors : {1u, 2u}) {
    scheduler here(preemptive(processors));
    hogs all(here, 8);
    EXPECT_TRUE(eventually([&] { return all.seen() == 0x1FE; })) << all.seen();
    auto const turns = all.turns();
    EXPECT_TRUE(eventually([&] { return all.turns() >= turns + 40; }));
  }
}

TEST(Preemption, HogsTakeTurnsWithOneSpareForAll) {
  // Every kernel thread but one is a stopped hog: who ends its slice hands
  // over to one of those.
  for (unsigned processors : {1u, 2u}) {
    scheduler here(preemptive(processors, processors + 1));
    hogs all(here, static_cast<int>(processors) + 1);
    auto const everybody = processors == 1 ? 0x6u : 0xEu;
    EXPECT_TRUE(eventually([&] { return all.seen() == everybody; }));
    auto const turns = all.turns();
    EXPECT_TRUE(eventually([&] { return all.turns() >= turns + 20; }))
        << all.turns();
    EXPECT_LE(here.statistics().kernel_threads.activations, processors + 1);
  }
}

TEST(Preemption, AHogLetsYieldersSleepersAndBlockersRun) {
  scheduler here(preemptive(1));
  hogs one(here, 1);
  std::atomic<int> yields{0};
  std::atomic<int> sleeps{0};
  std::atomic<int> blocks{0};
  std::atomic<int> resumes{0};
  auto yielder = here.spawn([&] {
    for (; yields < 100; ++yields) activations::this_thread::yield();
  });
  auto sleeper = here.spawn([&] {
    for (; sleeps < 10; ++sleeps) activations::this_thread::sleep_for(1ms);
  });
  auto blocker = here.spawn([&] {
    for (; blocks < 10; ++blocks) ::usleep(1000);
  });
  auto suspended = here.spawn([](std::atomic<int>& n) -> task<> {
    for (; n < 100; ++n) co_await activations::async_yield();
  }(resumes));
  EXPECT_TRUE(eventually([&] {
    return yields == 100 && sleeps == 10 && blocks == 10 && resumes == 100;
  })) << yields
      << ' ' << sleeps << ' ' << blocks << ' ' << resumes;
}

bool is_asleep(pid_t tid) {
  std::ifstream file("/proc/self/task/" + std::to_string(tid) + "/stat");
  std::string line;
  std::getline(file, line);
  auto const name_end = line.rfind(')');
  return name_end != std::string::npos && line.compare(name_end, 3, ") S") == 0;
}

TEST(Preemption, WhoComesBackWithoutAProcessorIsStoppedToo) {
  // The hog has the processor of the one that blocks, and no work waits when
  // that one comes back and computes on.
  scheduler here(preemptive(1));
  pipe_read pipe;
  hogs both(here, 0);
  std::atomic<pid_t> tid{0};
  auto comes_back = here.spawn([&] {
    tid = ::gettid();
    pipe.block();
    both.compute(1);
  });
  EXPECT_TRUE(eventually([&] { return tid != 0 && is_asleep(tid); }));
  auto hog = here.spawn([&] { both.compute(2); });
  EXPECT_TRUE(eventually([&] { return both.seen() == 0x4; })) << both.seen();
  pipe.release();
  EXPECT_TRUE(eventually([&] {
    auto const s = here.statistics();
    return s.portable.excess_parks + s.kernel.unblocks > 0;
  }));
  both.stop();
}

TEST(Preemption, WhoComeBackAfterALongQuietTimeAreStoppedToo) {
  // Six of them have no processor, and nothing is queued when they come back.
  scheduler here(preemptive(2));
  pipe_read pipe;
  hogs all(here, 0);
  std::atomic<int> entered{0};
  std::vector<user_thread> threads;
  for (int i = 1; i <= 8; ++i)
    threads.push_back(here.spawn([&, i] {
      ++entered;
      pipe.block();
      all.compute(i);
    }));
  EXPECT_TRUE(eventually([&] { return entered == 8; }));
  std::this_thread::sleep_for(300ms);
  auto const before = here.statistics().kernel_threads.preemptions;
  pipe.release();
  EXPECT_TRUE(eventually([&] {
    return here.statistics().kernel_threads.preemptions >= before + 100;
  })) << here.statistics().kernel_threads.preemptions
      << ' ' << before;
  all.stop();
}

task<> compute_in_task(hogs& all, int me) {
  all.compute(me);
  co_return;
}

TEST(Preemption, ATaskIsStoppedToo) {
  scheduler here(preemptive(1));
  hogs both(here, 1);
  auto computing = here.spawn(compute_in_task(both, 2));
  EXPECT_TRUE(eventually([&] { return both.turns() >= 20; }));
  both.stop();
  computing.join();
}

TEST(Preemption, ForeignWorkRunsBesideAHog) {
  scheduler here(preemptive(1));
  hogs one(here, 1);
  EXPECT_TRUE(eventually([&] { return one.turns() > 0; }));
  for (int i = 0; i < 10; ++i) EXPECT_EQ(here.run([i] { return i; }), i);
}

TEST(Preemption, WithoutASliceNobodyIsStopped) {
  scheduler here({.processors = 1});
  hogs two(here, 2);
  std::this_thread::sleep_for(50ms);
  EXPECT_EQ(here.statistics().kernel_threads.preemptions, 0u);
  EXPECT_EQ(here.statistics().portable.slices_ended, 0u);
}

// ---- locks of a library ----------------------------------------------------

TEST(Preemption, AHolderOfALibraryLockIsStoppedAndFinishes) {
  // The holder computes for many slices while everybody else waits for it, on
  // every kernel thread there may be.
  for (unsigned processors : {1u, 2u}) {
    scheduler here(preemptive(processors, processors + 1));
    pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    std::atomic<int> done{0};
    std::vector<user_thread> threads;
    for (int i = 0; i < 6; ++i)
      threads.push_back(here.spawn([&] {
        for (int round = 0; round < 3; ++round) {
          pthread_mutex_lock(&mutex);
          compute_for(3 * slice);
          pthread_mutex_unlock(&mutex);
        }
        ++done;
      }));
    EXPECT_TRUE(eventually([&] { return done == 6; })) << done;
    EXPECT_LE(here.statistics().kernel_threads.activations, processors + 1);
  }
}

TEST(Preemption, StoppedInsideMallocTheProgramStillFinishes) {
  // One arena, sizes that the per-thread caches do not keep: every call takes
  // the one lock.
  mallopt(M_ARENA_MAX, 1);
  for (unsigned processors : {1u, 2u}) {
    scheduler_options options = preemptive(processors, processors + 1);
    options.slice = 200us;
    scheduler here(options);
    std::atomic<int> done{0};
    std::atomic<unsigned> sum{0};
    std::vector<user_thread> threads;
#if ACTIVATIONS_ASAN || ACTIVATIONS_TSAN
    constexpr int rounds = 2000;
#else
    constexpr int rounds = 60000;
#endif
    for (int i = 0; i < 8; ++i)
      threads.push_back(here.spawn([&, i] {
        unsigned mine = 0;
        void* kept[16] = {};
        for (int round = 0; round < rounds; ++round) {
          auto& slot = kept[round % 16];
          std::free(slot);
          slot = std::malloc(2000 + static_cast<std::size_t>(i) * 512);
          std::memset(slot, i, 64);
          mine += static_cast<unsigned char*>(slot)[63];
        }
        for (void* const each : kept) std::free(each);
        sum += mine;
        ++done;
      }));
    EXPECT_TRUE(eventually([&] { return done == 8; })) << done;
    EXPECT_EQ(sum, 28u * rounds);
    EXPECT_LE(here.statistics().kernel_threads.activations, processors + 1);
  }
}

TEST(Preemption, ThreadsThatAllocateAndSpawnUnderPreemption) {
  // The runtime's own calls, stopped anywhere.
  scheduler_options options = preemptive(2);
  options.slice = 100us;
  scheduler here(options);
  std::atomic<int> ended{0};
  std::vector<user_thread> threads;
  activations::mutex mutex;
  long shared = 0;
#if ACTIVATIONS_ASAN || ACTIVATIONS_TSAN
  constexpr int rounds = 50;
#else
  constexpr int rounds = 1000;
#endif
  for (int i = 0; i < 8; ++i)
    threads.push_back(here.spawn([&] {
      for (int round = 0; round < rounds; ++round) {
        user_thread inner([&] {
          std::vector<int> some(100, 1);
          std::lock_guard const lock(mutex);
          shared += some[50];
        });
        if (round % 3 == 0) activations::this_thread::yield();
        inner.join();
        if (round % 100 == 0) activations::this_thread::sleep_for(100us);
      }
      ++ended;
    }));
  EXPECT_TRUE(eventually([&] { return ended == 8; })) << ended;
  EXPECT_EQ(shared, 8 * rounds);
}

// ---- what a stopped thread keeps -------------------------------------------

// Runs `probe(others)` as a user thread on one processor beside a thread that
// sets `others`, which it can do only when the probe is stopped.
template <class Probe>
void while_stopped(Probe probe) {
  scheduler here(preemptive(1));
  for (int round = 0; round < 5; ++round) {
    std::atomic<bool> others{false};
    std::atomic<bool> started{false};
    auto probing = here.spawn([&] {
      started = true;
      probe(others);
    });
    auto other = here.spawn([&] {
      while (!started) activations::this_thread::yield();
      // What it does with its own copies must not show in the probe's.
      errno = EDOM;
      others = true;
    });
    probing.join();
    other.join();
  }
}

thread_local int per_thread = 0;

TEST(Preemption, KeepsErrnoThreadLocalsAndTheKernelThread) {
  while_stopped([](std::atomic<bool>& others) {
    errno = EXDEV;
    auto const thread = ::gettid();
    int* const address = &per_thread;
    *address = 42;
    while (!others) let_signals_in();
    EXPECT_EQ(errno, EXDEV);
    EXPECT_EQ(::gettid(), thread);
    EXPECT_EQ(address, &per_thread);
    EXPECT_EQ(*address, 42);
  });
}

TEST(Preemption, KeepsTheExceptionBeingHandled) {
  while_stopped([](std::atomic<bool>& others) {
    try {
      throw 17;
    } catch (...) {
      while (!others) let_signals_in();
      try {
        throw;
      } catch (int caught) {
        EXPECT_EQ(caught, 17);
      }
    }
    EXPECT_EQ(std::current_exception(), nullptr);
  });
}

#if defined(__x86_64__) && !ACTIVATIONS_TSAN
TEST(Preemption, KeepsFloatingPointControl) {
  while_stopped([](std::atomic<bool>& others) {
    std::uint32_t mxcsr = 0x7F80;  // round to zero, all masked
    std::uint16_t control = 0x0E7F;
    asm volatile("ldmxcsr %0; fldcw %1" : : "m"(mxcsr), "m"(control));
    while (!others) {
    }
    std::uint32_t mxcsr_after;
    std::uint16_t control_after;
    asm volatile("stmxcsr %0; fnstcw %1"
                 : "=m"(mxcsr_after), "=m"(control_after));
    std::uint32_t const usual = 0x1F80;
    asm volatile("ldmxcsr %0; fninit" : : "m"(usual));
    EXPECT_EQ(mxcsr_after & ~0x3Fu, mxcsr);
    EXPECT_EQ(control_after, control);
  });
}

// Fills every general and SSE register and the red zone with marks, loops in
// five instructions until *flag, and compares.  Returns 0, or the number of
// what differs.
extern "C" long keep_registers(std::atomic<bool>* flag);
asm(R"(
  .text
  .p2align 4
  .type keep_registers, @function
keep_registers:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov $0x1111, %ebx
  mov $0x2222, %ebp
  mov $0x3333, %r12d
  mov $0x4444, %r13d
  mov $0x5555, %r14d
  mov $0x6666, %r15d
  mov $0x7777, %r8d
  mov $0x8888, %r9d
  mov $0x9999, %r10d
  mov $0xAAAA, %r11d
  mov $0xBBBB, %ecx
  mov $0xCCCC, %edx
  mov $0xDDDD, %esi
  movq %rbx, %xmm0
  movq %rbp, %xmm1
  movq %r12, %xmm7
  movq %r13, %xmm8
  movq %r14, %xmm14
  movq %r15, %xmm15
  punpcklqdq %xmm0, %xmm0
  punpcklqdq %xmm15, %xmm15
  fld1
  fldpi
  movq $0x0123456, -8(%rsp)
  movq $0x1234567, -64(%rsp)
  movq $0x2345678, -128(%rsp)
  stc
1:
  movzbl (%rdi), %eax
  jnc 9f
  inc %eax
  dec %eax
  jz 1b
  mov $1, %eax
  jnc 9f
  cmp $0x1111, %rbx
  jne 9f
  cmp $0x2222, %rbp
  jne 9f
  cmp $0x3333, %r12
  jne 9f
  cmp $0x4444, %r13
  jne 9f
  cmp $0x5555, %r14
  jne 9f
  cmp $0x6666, %r15
  jne 9f
  mov $2, %eax
  cmp $0x7777, %r8
  jne 9f
  cmp $0x8888, %r9
  jne 9f
  cmp $0x9999, %r10
  jne 9f
  cmp $0xAAAA, %r11
  jne 9f
  cmp $0xBBBB, %rcx
  jne 9f
  cmp $0xCCCC, %rdx
  jne 9f
  cmp $0xDDDD, %rsi
  jne 9f
  mov $3, %eax
  cmpq $0x0123456, -8(%rsp)
  jne 9f
  cmpq $0x1234567, -64(%rsp)
  jne 9f
  cmpq $0x2345678, -128(%rsp)
  jne 9f
  mov $4, %eax
  movq %xmm0, %rcx
  cmp %rbx, %rcx
  jne 9f
  punpckhqdq %xmm0, %xmm0
  movq %xmm0, %rcx
  cmp %rbx, %rcx
  jne 9f
  movq %xmm1, %rcx
  cmp %rbp, %rcx
  jne 9f
  movq %xmm7, %rcx
  cmp %r12, %rcx
  jne 9f
  movq %xmm8, %rcx
  cmp %r13, %rcx
  jne 9f
  movq %xmm14, %rcx
  cmp %r14, %rcx
  jne 9f
  punpckhqdq %xmm15, %xmm15
  movq %xmm15, %rcx
  cmp %r15, %rcx
  jne 9f
  mov $5, %eax
  fldpi
  fcomip %st(1), %st
  jne 9f
  fstp %st(0)
  fld1
  fcomip %st(1), %st
  jne 9f
  fstp %st(0)
  xor %eax, %eax
9:
  fninit
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .size keep_registers, .-keep_registers
)");

TEST(Preemption, KeepsRegistersFlagsAndTheRedZone) {
  while_stopped(
      [](std::atomic<bool>& others) { EXPECT_EQ(keep_registers(&others), 0); });
}

__attribute__((target("avx"))) bool keep_avx(std::atomic<bool>& others) {
  alignas(32) std::array<std::uint64_t, 4> in{1, 2, 3, 4};
  alignas(32) std::array<std::uint64_t, 4> low{};
  alignas(32) std::array<std::uint64_t, 4> high{};
  asm volatile(
      "vmovdqa %[in], %%ymm2\n"
      "vmovdqa %[in], %%ymm13\n"
      "1: cmpb $0, %[flag]\n"
      "je 1b\n"
      "vmovdqa %%ymm2, %[low]\n"
      "vmovdqa %%ymm13, %[high]\n"
      "vzeroupper"
      : [low] "=m"(low), [high] "=m"(high)
      : [in] "m"(in), [flag] "m"(others)
      : "xmm2", "xmm13", "memory", "cc");
  return low == in && high == in;
}

TEST(Preemption, KeepsAvxRegisters) {
  if (!__builtin_cpu_supports("avx"))
    GTEST_SKIP() << "this processor has no AVX";
  while_stopped(
      [](std::atomic<bool>& others) { EXPECT_TRUE(keep_avx(others)); });
}
#endif

// ---- system calls under preemption -----------------------------------------

TEST(Preemption, ABlockedReadIsNotInterrupted) {
  // The slice ends while others keep the processor busy and the reader waits.
  scheduler here(preemptive(1));
  pipe_read pipe;  // throws on EINTR
  std::atomic<int> through{0};
  std::vector<user_thread> readers;
  for (int i = 0; i < 4; ++i)
    readers.push_back(here.spawn([&, i] {
      // Computes first, so that the signal finds it near the call.
      for (int n = 0; n < 300000 * (i + 1); ++n) asm volatile("" : : "r"(n));
      pipe.block();
      ++through;
    }));
  {
    hogs two(here, 2);
    EXPECT_TRUE(eventually([&] { return two.turns() >= 30; }));
  }
  pipe.release();
  EXPECT_TRUE(eventually([&] { return through == 4; }));
}

// ---- disabled regions and the signal itself --------------------------------

// Nobody is stopped before there is somebody to go on in his place.
bool has_spares(scheduler& here) {
  return eventually(
      [&] { return here.statistics().kernel_threads.spares > 0; });
}

// Sends the slice signal as the monitor does.
void end_slice_of(pid_t tid) {
  activations::detail::preempt_signal const same_as_ours;
  same_as_ours.send(tid);
}

TEST(Preemption, IsDeferredToTheEndOfADisabledRegion) {
  scheduler_options options = preemptive(1);
  options.slice = 1h;  // nobody but the test ends slices
  options.backend = backend_choice::portable;
  scheduler here(options);
  ASSERT_TRUE(has_spares(here));
  std::atomic<bool> other_ran{false};
  here.run([&] {
    user_thread other([&] { other_ran = true; });
    auto const stops = [&] {
      return here.statistics().kernel_threads.preemptions;
    };
    auto const before = stops();
    {
      activations::detail::disabled_region const outer;
      {
        activations::detail::disabled_region const inner;
        end_slice_of(::gettid());
      }
      // Delivered by now, and only noted.
      let_signals_in();
      EXPECT_EQ(stops(), before);
      EXPECT_FALSE(other_ran);
    }
    EXPECT_EQ(stops(), before + 1);
    EXPECT_TRUE(eventually([&] { return other_ran.load(); }));
    other.join();
  });
}

TEST(Preemption, IsDeliveredAtOnceOutsideOfThem) {
  scheduler_options options = preemptive(1);
  options.slice = 1h;
  options.backend = backend_choice::portable;
  scheduler here(options);
  ASSERT_TRUE(has_spares(here));
  std::atomic<bool> other_ran{false};
  here.run([&] {
    user_thread other([&] { other_ran = true; });
    auto const thread = ::gettid();
    for (int i = 0; i < 100; ++i) end_slice_of(::gettid());
    EXPECT_EQ(::gettid(), thread);
    EXPECT_TRUE(other_ran);
    other.join();
  });
  EXPECT_GE(here.statistics().kernel_threads.preemptions, 1u);
}

std::atomic<int> urgent{0};
std::atomic<int> urgent_value{0};

void on_urgent(int, siginfo_t* info, void*) {
  ++urgent;
  urgent_value = info->si_value.sival_int;
}
void on_urgent_plain(int) {
  ++urgent;
}

TEST(Preemption, SignalsOfOthersReachTheHandlerBefore) {
  struct sigaction mine {};
  struct sigaction before {};
  mine.sa_sigaction = &on_urgent;
  mine.sa_flags = SA_SIGINFO;
  sigaction(SIGURG, &mine, &before);
  urgent = 0;
  {
    auto options = preemptive(1);
    options.backend = backend_choice::portable;
    scheduler here(options);
    hogs one(here, 1);
    EXPECT_TRUE(eventually([&] { return one.turns() > 0; }));
    // To the process, to this thread, with a value, to a user thread's kernel
    // thread.
    ::raise(SIGURG);
    EXPECT_TRUE(eventually([&] { return urgent == 1; }));
    sigval const value{.sival_int = 99};
    ::sigqueue(::getpid(), SIGURG, value);
    EXPECT_TRUE(eventually([&] { return urgent == 2; }));
    EXPECT_EQ(urgent_value, 99);
    here.run([] { ::raise(SIGURG); });
    EXPECT_TRUE(eventually([&] { return urgent == 3; }));
    // The slices that end meanwhile are not passed on.
    auto const ended = here.statistics().portable.slices_ended;
    hogs two(here, 2);
    EXPECT_TRUE(eventually(
        [&] { return here.statistics().portable.slices_ended >= ended + 5; }));
    EXPECT_EQ(urgent, 3);
  }
  struct sigaction now {};
  sigaction(SIGURG, &before, &now);
  EXPECT_EQ(now.sa_sigaction, &on_urgent);
}

TEST(Preemption, SignalsOfOthersReachAPlainHandlerOrNobody) {
  struct sigaction mine {};
  struct sigaction before {};
  mine.sa_handler = &on_urgent_plain;
  sigaction(SIGURG, &mine, &before);
  urgent = 0;
  {
    scheduler here(preemptive(1));
    ::raise(SIGURG);
    EXPECT_EQ(urgent, 1);
  }
  sigaction(SIGURG, &before, nullptr);
  {
    scheduler here(preemptive(1));
    ::raise(SIGURG);  // ignored, as if we were not here
    EXPECT_EQ(urgent, 1);
  }
}

}  // namespace
