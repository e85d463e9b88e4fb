// SPDX-License-Identifier: BSL-1.0
// The measure of everything here: one kernel thread for each thread, as
// std::thread gives it. The same benches as activations_driver, and the same
// code where both can run it (driver/suite.hpp). Contains nothing of the
// runtime, so that nothing of it can help or hinder.
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <future>
#include <mutex>
#include <thread>
#include <vector>

#include "driver/arguments.hpp"
#include "driver/companion.hpp"
#include "driver/fib.hpp"
#include "driver/measure.hpp"
#include "driver/suite.hpp"

namespace {

using namespace bench;

struct kernel_threads {
  static constexpr char const* name = "pthread-1:1";
  using thread = std::thread;
  using mutex = std::mutex;
  using condition_variable = std::condition_variable;

  // The kernel needs no calls to schedule: none are made.
  static void yield() {}
  static void sleep_for(std::chrono::nanoseconds d) {
    std::this_thread::sleep_for(d);
  }
  template <class F>
  static void inside(runtime_wish, F f) {
    // glibc's mutex is cheaper while a process has one thread only.
    std::atomic<bool> over{false};
    std::thread company([&] { over.wait(false); });
    f();
    over = true;
    over.notify_one();
    company.join();
  }
};

void pin_to(int cpu) {
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(cpu, &only);
  sched_setaffinity(0, sizeof only, &only);
}

void futex(std::atomic<int>& word, int operation, int value) {
  syscall(SYS_futex, &word, operation, value, nullptr, nullptr, 0);
}

// The shortest hand-over that two kernel threads can make.
void futex_pair(char const* bench, long n, bool one_cpu) {
  std::atomic<int> turn{0};
  auto side = [&](int me) {
    pin_to(one_cpu ? 0 : me);
    for (long i = 0; i < n; ++i) {
      int seen;
      while ((seen = turn.load(std::memory_order::acquire)) != me)
        futex(turn, FUTEX_WAIT_PRIVATE, seen);
      turn.store(1 - me, std::memory_order::release);
      futex(turn, FUTEX_WAKE_PRIVATE, 1);
    }
  };
  stopwatch const watch;
  std::thread a(side, 0), b(side, 1);
  a.join();
  b.join();
  emit_each(kernel_threads::name, bench, watch.stop(), 2 * n, "ns/switch");
}

void switch_bench(arguments const& args) {
  long const n = args.n ? args.n : 200'000;
  auto side = [&] {
    pin_to(0);
    for (long i = 0; i < n; ++i) sched_yield();
  };
  stopwatch const watch;
  std::thread a(side), b(side);
  a.join();
  b.join();
  emit_each(kernel_threads::name, "switch", watch.stop(), 2 * n, "ns/switch");
  futex_pair("switch-futex-1core", n, true);
  if (std::thread::hardware_concurrency() > 1)
    futex_pair("switch-futex-2core", n, false);
}

void spawn_join_bench(arguments const& args) {
  long const n = args.n ? args.n : 50'000;
  {
    stopwatch const watch;
    for (long i = 0; i < n; ++i) std::thread([] {}).join();
    emit_each(kernel_threads::name, "spawnjoin", watch.stop(), n, "ns");
  }
  stopwatch const watch;
  for (long i = 0; i < n; ++i) std::async(std::launch::async, [] {}).get();
  emit_each("std::async", "spawnjoin", watch.stop(), n, "ns");
}

long fib_async(long n) {
  if (n < 2) return n;
  auto first = std::async(std::launch::async, fib_async, n - 1);
  long const second = fib_async(n - 2);
  return first.get() + second;
}

// Plain calls, which the compiler may not turn into a loop.
[[gnu::noinline]] long fib_serial(long n) {
  if (n < 2) return n;
  long first = fib_serial(n - 1);
  asm volatile("" : "+r"(first));
  return first + fib_serial(n - 2);
}

void fib_bench(arguments const& args) {
  measure_fib("serial", 39, fib_serial);
  measure_fib("std::async", args.n ? args.n : 20, fib_async);
}

// As many as there can be: a process runs out of process numbers or mappings.
void parked_bench(arguments const& args) {
  long const n = args.n ? args.n : 100'000;
  sem_t go;
  sem_init(&go, 0, 0);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 64 * 1024);
  std::vector<pthread_t> threads;
  threads.reserve(static_cast<std::size_t>(n));
  memory_now const before;
  stopwatch const watch;
  for (long i = 0; i < n; ++i) {
    pthread_t thread;
    auto body = [](void* semaphore) -> void* {
      while (sem_wait(static_cast<sem_t*>(semaphore))) {
      }
      return nullptr;
    };
    if (pthread_create(&thread, &attributes, body, &go)) break;
    threads.push_back(thread);
  }
  auto const time = watch.stop();
  usleep(300'000);  // the last ones enter their wait
  auto const made = threads.size();
  emit(kernel_threads::name, "parked-count", static_cast<double>(made),
       "threads", time.cpu);
  emit_memory(kernel_threads::name, "parked", before, made, time.cpu);
  emit_each(kernel_threads::name, "parked-create", time, made, "ns/thread");
  for (std::size_t i = 0; i < threads.size(); ++i) sem_post(&go);
  for (auto thread : threads) pthread_join(thread, nullptr);
}

int block(arguments const& args) {
  for (auto variant : {"plain", "coop", "task", "strict"})
    if (args.has(variant)) return no_such_bench;
  block_setting const how{.peer = kernel_threads::name, .bench = {}};
  return block_bench(
      args, how, [](auto f) { f(); }, all_rounds<kernel_threads>);
}

int ping_pong(arguments const& args) {
  if (args.has("strict")) return no_such_bench;
  block_setting const how{.peer = kernel_threads::name, .bench = {}};
  return ping_pong_bench<kernel_threads>(args, how);
}

int run(arguments const& args) {
  if (args.is_block()) return block(args);
  if (args.is_ping_pong()) return ping_pong(args);
  if (args.bench == "memory") return memory_bench<kernel_threads>(args);
  if (args.bench == "switch")
    switch_bench(args);
  else if (args.bench == "spawnjoin")
    spawn_join_bench(args);
  else if (args.bench == "fib")
    fib_bench(args);
  else if (args.bench == "mutex")
    mutex_bench<kernel_threads>(args);
  else if (args.bench == "handoff")
    handoff_bench<kernel_threads>(args, 200'000);
  else if (args.bench == "channel")
    channel_bench<kernel_threads>(args);
  else if (args.bench == "parked")
    parked_bench(args);
  else if (args.bench == "calibrate")
    emit(kernel_threads::name, "calibrate", steps_per_us(), "steps/us", 1);
  else
    return no_such_bench;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (auto const status = companion_main(argc, argv)) return *status;
  return run(arguments(argc, argv));
}
