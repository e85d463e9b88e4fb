// SPDX-License-Identifier: BSL-1.0
// What it costs to start something and wait for its end.
#include <activations/activations.hpp>
#include <thread>

#include <benchmark/benchmark.h>

namespace {

namespace act = activations;

#if ACTIVATIONS_HOSTED  // the bare-metal image has no others
void kernel_thread(benchmark::State& state) {
  for (auto _ : state) std::thread([] {}).join();
}
BENCHMARK(kernel_thread)->MeasureProcessCPUTime()->UseRealTime();
#endif

void user_thread(benchmark::State& state) {
  act::scheduler scheduler({.processors = 2});
  scheduler.run([&] {
    for (auto _ : state) act::user_thread([] {}).join();
  });
}
BENCHMARK(user_thread)->MeasureProcessCPUTime()->UseRealTime();

act::task<> nothing() {
  co_return;
}

act::task<> spawn_often(act::scheduler& scheduler, benchmark::State& state) {
  for (auto _ : state) co_await scheduler.spawn(nothing());
}

void spawned_task(benchmark::State& state) {
  act::scheduler scheduler({.processors = 2});
  scheduler.spawn(spawn_often(scheduler, state)).join();
}
BENCHMARK(spawned_task)->MeasureProcessCPUTime()->UseRealTime();

act::task<> await_often(benchmark::State& state) {
  for (auto _ : state) co_await nothing();
}

// No scheduling: the price of the coroutine itself.
void awaited_task(benchmark::State& state) {
  act::scheduler scheduler({.processors = 2});
  scheduler.spawn(await_often(state)).join();
}
BENCHMARK(awaited_task)->MeasureProcessCPUTime()->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
