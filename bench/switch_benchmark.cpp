// SPDX-License-Identifier: BSL-1.0
// What it costs to let another run: the bare stack switch, a yield of user
// threads, a yield of tasks. Times are for one switch.
#include <activations/activations.hpp>
#include <activations/detail/context.hpp>
#include <cstddef>
#include <vector>

#include <benchmark/benchmark.h>

namespace {

namespace act = activations;

struct switch_pair {
  act::detail::context main, other;
};

void bounce(void* argument) {
  auto& pair = *static_cast<switch_pair*>(argument);
  act::detail::context_enter(pair.other);
  for (;;) act::detail::context_switch(pair.other, pair.main);
}

// Two switches an iteration: there and back.
void bare_switch_pair(benchmark::State& state) {
  std::vector<std::byte> stack(64 * 1024);
  switch_pair pair;
  act::detail::context_init_native(pair.main);
  act::detail::context_make(pair.other, stack.data(), stack.size(), bounce,
                            &pair);
  for (auto _ : state) act::detail::context_switch(pair.main, pair.other);
  act::detail::context_finish(pair.other);
}
BENCHMARK(bare_switch_pair);

// Two user threads on one processor: an iteration is one yield of each.
void yield_pair(benchmark::State& state) {
  act::scheduler scheduler({.processors = 1});
  scheduler.run([&] {
    bool over = false;  // one processor: no two of them run at once
    act::user_thread other([&] {
      while (!over) act::this_thread::yield();
    });
    for (auto _ : state) act::this_thread::yield();
    over = true;
  });
}
BENCHMARK(yield_pair)->MeasureProcessCPUTime();

act::task<> yield_until(bool& over) {
  while (!over) co_await act::async_yield();
}

act::task<> yield_often(benchmark::State& state, bool& over) {
  for (auto _ : state) co_await act::async_yield();
  over = true;
}

// Two tasks on one processor.
void async_yield_pair(benchmark::State& state) {
  act::scheduler scheduler({.processors = 1});
  bool over = false;
  auto other = scheduler.spawn(yield_until(over));
  scheduler.spawn(yield_often(state, over)).join();
  other.join();
}
BENCHMARK(async_yield_pair)->MeasureProcessCPUTime();

}  // namespace

BENCHMARK_MAIN();
