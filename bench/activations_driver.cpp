// SPDX-License-Identifier: BSL-1.0
// Measures this runtime by the command line and result lines that its peers'
// drivers share, so that one run can take all of them (see run.py).
//
//   activations_driver BENCH WORKERS [N | KIND TASKS ROUNDS]
//
// A block bench is plain blocking code in user threads, with one call of the
// runtime after each round, as a server's request makes; its variants, joined
// by '-' (block-strict-hogs):
//   plain     no call of the runtime at all
//   coop      the runtime's own sleep instead of the kernel's
//   task      coroutines instead of user threads
//   strict    scheduler_options::strict
//   hogs      beside one busy process per processor
//   runnable  with a sampler that counts runnable kernel threads
// owner WORKERS [MS]: a mutex whose owner is preempted, with and without a look
// at what is published of it.
#include <activations/activations.hpp>
#include <activations/detail/context.hpp>
#include <activations/detail/mutex_core.hpp>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "driver/arguments.hpp"
#include "driver/companion.hpp"
#include "driver/fib.hpp"
#include "driver/measure.hpp"
#include "driver/suite.hpp"

namespace {

using namespace bench;
namespace act = activations;

struct user_threads {
  static constexpr char const* name = "activations";
  using thread = act::user_thread;
  using mutex = act::mutex;
  using condition_variable = act::condition_variable;

  static void yield() { act::this_thread::yield(); }
  static void sleep_for(std::chrono::nanoseconds d) {
    act::this_thread::sleep_for(d);
  }
  template <class F>
  static void inside(runtime_wish wish, F f) {
    act::scheduler_options options;
    options.processors = wish.workers;
    options.max_activations = wish.kernel_threads;
    options.strict = wish.strict;
    act::scheduler scheduler(options);
    scheduler.run([&] { f(); });
  }
};

constexpr char const* tasks_name = "activations-task";
constexpr char const* calls_name = "activations-call";

// Runs the coroutine `make_task()` on a scheduler of its own.
template <class MakeTask>
void run_task(unsigned workers, MakeTask make_task) {
  act::scheduler_options options;
  options.processors = workers;
  act::scheduler scheduler(options);
  scheduler.run([&] { return make_task(scheduler); });
}

// --------------------------------------------------------------------- switch

struct switch_pair {
  act::detail::context main, other;
};

void bounce(void* argument) {
  auto& pair = *static_cast<switch_pair*>(argument);
  act::detail::context_enter(pair.other);
  for (;;) act::detail::context_switch(pair.other, pair.main);
}

// What is left of a switch without a scheduler.
void bare_switch_bench(arguments const& args) {
  long const n = args.n ? args.n : 20'000'000;
  std::vector<std::byte> stack(64 * 1024);
  switch_pair pair;
  act::detail::context_init_native(pair.main);
  act::detail::context_make(pair.other, stack.data(), stack.size(), bounce,
                            &pair);
  stopwatch const watch;
  for (long i = 0; i < n; ++i)
    act::detail::context_switch(pair.main, pair.other);
  emit_each("activations-context", "bare-switch", watch.stop(), 2 * n,
            "ns/switch");
  act::detail::context_finish(pair.other);
}

act::task<> yield_repeatedly(long n) {
  for (long i = 0; i < n; ++i) co_await act::async_yield();
}

void switch_bench(arguments const& args) {
  long const n = args.n ? args.n : 5'000'000;
  user_threads::inside({.workers = 1}, [&] {
    auto side = [&] {
      for (long i = 0; i < n; ++i) act::this_thread::yield();
    };
    stopwatch const watch;
    act::user_thread a(side), b(side);
    a.join();
    b.join();
    emit_each(user_threads::name, "switch", watch.stop(), 2 * n, "ns/switch");
  });
  act::scheduler scheduler({.processors = 1});
  stopwatch const watch;
  auto a = scheduler.spawn(yield_repeatedly(n));
  auto b = scheduler.spawn(yield_repeatedly(n));
  a.join();
  b.join();
  emit_each(tasks_name, "switch", watch.stop(), 2 * n, "ns/switch");
}

// ---------------------------------------------------------------- spawn, join

act::task<> nothing() {
  co_return;
}

act::task<> spawn_repeatedly(act::scheduler& scheduler, long n) {
  stopwatch const watch;
  for (long i = 0; i < n; ++i) co_await scheduler.spawn(nothing());
  emit_each(tasks_name, "spawnjoin", watch.stop(), n, "ns");
}

void spawn_join_bench(arguments const& args) {
  long const n = args.n ? args.n : 2'000'000;
  run_task(args.workers,
           [&](act::scheduler& s) { return spawn_repeatedly(s, n); });
  user_threads::inside({.workers = args.workers}, [&] {
    {
      stopwatch const watch;
      for (long i = 0; i < n / 4; ++i) act::user_thread([] {}).join();
      emit_each(user_threads::name, "spawnjoin", watch.stop(), n / 4, "ns");
    }
    stopwatch const watch;
    for (long i = 0; i < n * 4; ++i) act::fork_join([] {}, [] {});
    emit_each(calls_name, "spawnjoin", watch.stop(), n * 4, "ns");
  });
}

// ------------------------------------------------------------------ fork, join

act::task<long> fib_task(long n) {
  if (n < 2) co_return n;
  auto [a, b] = co_await act::fork_join(fib_task(n - 1), fib_task(n - 2));
  co_return a + b;
}

long fib_call(long n) {
  if (n < 2) return n;
  auto [a, b] = act::fork_join([=] { return fib_call(n - 1); },
                               [=] { return fib_call(n - 2); });
  return a + b;
}

void fib_bench(arguments const& args) {
  long const n = args.n ? args.n : 32;
  act::scheduler_options options;
  options.processors = args.workers;
  act::scheduler scheduler(options);
  auto by_tasks = [&](long of) {
    return scheduler.run([=] { return fib_task(of); });
  };
  auto by_calls = [&](long of) {
    return scheduler.run([=] { return fib_call(of); });
  };
  by_tasks(20);
  measure_fib(tasks_name, n, by_tasks);
  by_calls(20);
  measure_fib(calls_name, n + 3, by_calls);
}

// --------------------------------------------------------------------- parked

void parked_threads(arguments const& args) {
  long const n = args.n ? args.n : 100'000;
  user_threads::inside({.workers = args.workers}, [&] {
    act::event go;
    std::atomic<long> arrived{0};
    std::vector<act::user_thread> threads;
    threads.reserve(static_cast<std::size_t>(n));
    memory_now const before;
    stopwatch const watch;
    for (long i = 0; i < n; ++i)
      threads.emplace_back([&] {
        ++arrived;
        go.wait();
      });
    while (arrived.load() < n) act::this_thread::yield();
    auto const time = watch.stop();
    emit_memory(user_threads::name, "parked", before, n, time.cpu);
    emit_each(user_threads::name, "parked-create", time, n, "ns/thread");
    go.set();
    for (auto& thread : threads) thread.join();
  });
}

act::task<> park(act::event& go, std::atomic<long>& arrived) {
  ++arrived;
  co_await go.async_wait();
}

void parked_tasks(arguments const& args) {
  long const n = args.n ? args.n * 10 : 1'000'000;
  act::scheduler_options options;
  options.processors = args.workers;
  act::scheduler scheduler(options);
  act::event go;
  std::atomic<long> arrived{0};
  scheduler.run([&] {
    std::vector<act::join_handle<void>> tasks;
    tasks.reserve(static_cast<std::size_t>(n));
    memory_now const before;
    stopwatch const watch;
    for (long i = 0; i < n; ++i)
      tasks.push_back(scheduler.spawn(park(go, arrived)));
    while (arrived.load() < n) act::this_thread::yield();
    auto const time = watch.stop();
    emit_memory(tasks_name, "parked", before, n, time.cpu);
    emit_each(tasks_name, "parked-create", time, n, "ns/thread");
    go.set();
    for (auto& task : tasks) task.join();
  });
}

// ------------------------------------------------------------------- blocking

act::task<> rounds_of_task(block_work& work, block_setting const& how,
                           int task) {
  for (int round = 0; round < work.rounds(); ++round) {
    double const start = now();
    work.compute();
    if (how.cooperative)
      co_await act::async_sleep_for(
          std::chrono::nanoseconds(block_work::wait_ns));
    else
      work.block(task, round);
    if (how.yields) co_await act::async_yield();
    work.note_latency(task, round, now() - start);
  }
}

void all_rounds_of_tasks(act::scheduler& scheduler, block_work& work,
                         block_setting const& how) {
  std::vector<act::join_handle<void>> tasks;
  for (int task = 0; task < work.tasks(); ++task)
    tasks.push_back(scheduler.spawn(rounds_of_task(work, how, task)));
  for (auto& task : tasks) task.join();
}

block_setting setting_of(arguments const& args) {
  block_setting how{.peer = user_threads::name, .bench = {}};
  how.yields = !args.has("plain");
  how.cooperative = args.has("coop");
  for (auto variant : {"task", "plain", "coop", "strict"})
    if (args.has(variant)) how.peer += std::string("-") + variant;
  return how;
}

int block(arguments const& args) {
  act::scheduler_options options;
  options.processors = args.workers;
  options.strict = args.has("strict");
  std::optional<act::scheduler> scheduler;
  auto inside = [&](auto f) {
    scheduler.emplace(options);
    scheduler->run([&] { f(); });
  };
  if (args.has("task"))
    return block_bench(args, setting_of(args), inside,
                       [&](block_work& work, block_setting const& how) {
                         all_rounds_of_tasks(*scheduler, work, how);
                       });
  return block_bench(args, setting_of(args), inside, all_rounds<user_threads>);
}

// ----------------------------------------------------------- preempted owners

// Spins for a millisecond or more: `informed`, while the owner runs by all that
// is published of it; `blind`, as long as somebody has the mutex.
struct informed : act::detail::native_mutex {
  static constexpr int spin_turns = 100'000;
};
struct blind : informed {
  class owner : public act::detail::lock_owner {
   public:
    // Relaxed: hints, as all that the base class keeps.
    void set_to_caller() noexcept {
      lock_owner::set_to_caller();
      is_here_.store(true, std::memory_order::relaxed);
    }
    void set_to_absent() noexcept {
      is_here_.store(false, std::memory_order::relaxed);
      lock_owner::set_to_absent();
    }
    bool may_be_running() const noexcept {
      return is_here_.load(std::memory_order::relaxed);
    }

   private:
    std::atomic<bool> is_here_{false};
  };
};

// Two threads a processor take turns in a critical section of 20 us, as many
// compute beside them, and each processor has a busy process to compete with:
// twice as many runnable threads as CPUs, so that owners are preempted in the
// critical section. The value is all rounds, of both kinds.
template <class Seam>
void owner_bench(arguments const& args, char const* name) {
  double const seconds = args.n ? 1e-3 * static_cast<double>(args.n) : 1;
  auto const steps = static_cast<std::uint64_t>(20 * steps_per_us());
  cpu_hogs const hogs(args.workers);
  std::atomic<long> sections{0}, others{0};
  elapsed time{};
  user_threads::inside({.workers = args.workers}, [&] {
    act::detail::mutex_core<Seam> mutex;
    double const end = now() + seconds;
    std::vector<act::user_thread> threads;
    auto rounds = [&](std::atomic<long>& count, auto round) {
      threads.emplace_back([&count, round, end, steps] {
        while (now() < end) {
          round();
          ++count;
          compute(steps / 4);
          act::this_thread::yield();
        }
      });
    };
    stopwatch const watch;
    for (unsigned i = 0; i < 2 * args.workers; ++i) {
      rounds(sections, [&mutex, steps] {
        mutex.lock();
        compute(steps);
        mutex.unlock();
      });
      rounds(others, [steps] { compute(steps); });
    }
    for (auto& thread : threads) thread.join();
    time = watch.stop();
  });
  std::printf(
      "{\"peer\":\"%s\",\"bench\":\"owner\",\"value\":%.6g,"
      "\"unit\":\"rounds/s\",\"sections_per_s\":%.6g,\"cpu\":%.3f}\n",
      name, static_cast<double>(sections + others) / time.wall,
      static_cast<double>(sections) / time.wall, time.cpu);
  std::fflush(stdout);
}

int run(arguments const& args) {
  if (args.is_block()) return block(args);
  if (args.is_ping_pong())
    return ping_pong_bench<user_threads>(args, setting_of(args));
  if (args.bench == "memory") return memory_bench<user_threads>(args);
  if (args.bench == "switch")
    bare_switch_bench(args), switch_bench(args);
  else if (args.bench == "bare-switch")
    bare_switch_bench(args);
  else if (args.bench == "spawnjoin")
    spawn_join_bench(args);
  else if (args.bench == "fib")
    fib_bench(args);
  else if (args.bench == "mutex")
    mutex_bench<user_threads>(args);
  else if (args.bench == "handoff")
    handoff_bench<user_threads>(args, 1'000'000);
  else if (args.bench == "channel")
    channel_bench<user_threads>(args);
  else if (args.bench == "parked")
    parked_threads(args), parked_tasks(args);
  else if (args.bench == "owner")
    owner_bench<informed>(args, "informed"), owner_bench<blind>(args, "blind");
  else if (args.bench == "describe") {
    act::scheduler_options options;
    options.processors = args.workers;
    std::puts(act::scheduler(options).describe().c_str());
  } else
    return no_such_bench;
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (auto const status = companion_main(argc, argv)) return *status;
  return run(arguments(argc, argv));
}
