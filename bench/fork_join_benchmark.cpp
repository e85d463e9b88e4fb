// SPDX-License-Identifier: BSL-1.0
// What a fork and its join cost: doubly recursive Fibonacci with one fork for
// each call and no cut-off. The counter "per_fork" is the time of one.
#include <activations/activations.hpp>

#include <benchmark/benchmark.h>

#include "driver/fib.hpp"

namespace {

namespace act = activations;

constexpr long depth = 24;

void count_forks(benchmark::State& state) {
  using benchmark::Counter;
  state.counters["per_fork"] =
      Counter(bench::fib_forks(depth),
              Counter::kIsIterationInvariantRate | Counter::kInvert);
}

act::task<long> fib_task(long n) {
  if (n < 2) co_return n;
  auto [a, b] = co_await act::fork_join(fib_task(n - 1), fib_task(n - 2));
  co_return a + b;
}

void tasks(benchmark::State& state) {
  act::scheduler scheduler(
      {.processors = static_cast<unsigned>(state.range(0))});
  for (auto _ : state)
    benchmark::DoNotOptimize(scheduler.run([] { return fib_task(depth); }));
  count_forks(state);
}
BENCHMARK(tasks)->Arg(1)->Arg(2)->MeasureProcessCPUTime()->UseRealTime();

long fib_call(long n) {
  if (n < 2) return n;
  auto [a, b] = act::fork_join([=] { return fib_call(n - 1); },
                               [=] { return fib_call(n - 2); });
  return a + b;
}

void plain_callables(benchmark::State& state) {
  act::scheduler scheduler(
      {.processors = static_cast<unsigned>(state.range(0))});
  for (auto _ : state)
    benchmark::DoNotOptimize(scheduler.run([] { return fib_call(depth); }));
  count_forks(state);
}
BENCHMARK(plain_callables)
    ->Arg(1)
    ->Arg(2)
    ->MeasureProcessCPUTime()
    ->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
