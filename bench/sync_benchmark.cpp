// SPDX-License-Identifier: BSL-1.0
// What the primitives cost: alone, and between two user threads.
#include <activations/activations.hpp>
#include <mutex>

#include <benchmark/benchmark.h>

namespace {

namespace act = activations;

template <class Body>
void on_scheduler(unsigned processors, Body body) {
  act::scheduler scheduler({.processors = processors});
  scheduler.run(body);
}

void uncontended_mutex(benchmark::State& state) {
  on_scheduler(2, [&] {
    act::mutex mutex;
    for (auto _ : state) std::lock_guard hold(mutex);
  });
}
BENCHMARK(uncontended_mutex)->MeasureProcessCPUTime();

// The primitives also serve plain kernel threads.
void mutex_of_a_kernel_thread(benchmark::State& state) {
  act::mutex mutex;
  for (auto _ : state) std::lock_guard hold(mutex);
}
BENCHMARK(mutex_of_a_kernel_thread);

void uncontended_semaphore(benchmark::State& state) {
  on_scheduler(2, [&] {
    act::counting_semaphore<8> semaphore(1);
    for (auto _ : state) {
      semaphore.acquire();
      semaphore.release();
    }
  });
}
BENCHMARK(uncontended_semaphore)->MeasureProcessCPUTime();

// An iteration is there and back: two hand-offs.
void mutex_and_condition_variable_exchange(benchmark::State& state) {
  on_scheduler(static_cast<unsigned>(state.range(0)), [&] {
    act::mutex mutex;
    act::condition_variable changed;
    int turn = 0;
    bool over = false;
    auto pass = [&](int me) {
      std::unique_lock hold(mutex);
      changed.wait(hold, [&] { return turn == me || over; });
      turn = 1 - me;
      changed.notify_one();
      return !over;
    };
    act::user_thread other([&] {
      while (pass(1)) {
      }
    });
    for (auto _ : state) pass(0);
    std::unique_lock hold(mutex);
    over = true;
    changed.notify_all();
  });
}
BENCHMARK(mutex_and_condition_variable_exchange)
    ->Arg(1)
    ->Arg(2)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

void semaphore_exchange(benchmark::State& state) {
  on_scheduler(static_cast<unsigned>(state.range(0)), [&] {
    act::binary_semaphore ping(0), pong(0);
    bool over = false;  // ordered by the semaphores
    act::user_thread other([&] {
      for (;;) {
        ping.acquire();
        if (over) return;
        pong.release();
      }
    });
    for (auto _ : state) {
      ping.release();
      pong.acquire();
    }
    over = true;
    ping.release();
  });
}
BENCHMARK(semaphore_exchange)
    ->Arg(1)
    ->Arg(2)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
