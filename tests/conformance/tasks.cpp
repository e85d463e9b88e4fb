// SPDX-License-Identifier: BSL-1.0
// Conformance: tasks, and fork-join of tasks and of plain functions.
#include "conformance.hpp"

#include <chrono>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <utility>

using namespace conformance;
using namespace std::chrono_literals;
using activations::fork_join;
using activations::join_handle;
using activations::scheduler;
using activations::task;
using activations::user_thread;
namespace this_thread = activations::this_thread;

namespace {

task<int> value_of(int value) {
  co_return value;
}

task<int> sum_to(int n) {
  int sum = 0;
  for (int i = 1; i <= n; ++i) sum += co_await value_of(i);
  co_return sum;
}

task<std::unique_ptr<std::string>> make_text() {
  co_return std::make_unique<std::string>("made");
}

task<int> nested(int depth) {
  if (depth == 0) co_return 0;
  co_return 1 + co_await nested(depth - 1);
}

task<> count_turns(std::vector<int>& order, int me, int turns) {
  for (int i = 0; i < turns; ++i) {
    order.push_back(me);
    co_await activations::async_yield();
  }
}

task<> sleep_and_note(std::chrono::microseconds time, std::atomic<int>& early) {
  auto const begin = std::chrono::steady_clock::now();
  co_await activations::async_sleep_for(time);
  if (std::chrono::steady_clock::now() - begin < time) ++early;
}

task<> add_under(activations::mutex& mutex, int& count, int times) {
  for (int i = 0; i < times; ++i) {
    co_await mutex.async_lock();
    int const seen = count;
    if (i % 3 == 0) co_await activations::async_yield();
    count = seen + 1;
    mutex.unlock();
  }
}

task<> take_and_give(activations::counting_semaphore<>& from,
                     activations::counting_semaphore<>& to, int times) {
  for (int i = 0; i < times; ++i) {
    co_await from.async_acquire();
    to.release();
  }
}

task<> wait_for(activations::event& open, activations::latch& passed) {
  co_await open.async_wait();
  passed.count_down();
}

task<> meet(activations::barrier<>& meeting, std::atomic<int>& arrived,
            std::atomic<int>& wrong, int members) {
  for (int i = 1; i <= 50; ++i) {
    ++arrived;
    co_await meeting.async_arrive_and_wait();
    if (arrived < i * members) ++wrong;
    co_await meeting.async_arrive_and_wait();
  }
}

task<> block_on(activations::event& open, std::atomic<int>& passed) {
  open.wait();  // parks the stack that carries the task
  ++passed;
  co_return;
}

task<long> fib_task(int n) {
  if (n < 2) co_return n;
  auto const [a, b] = co_await fork_join(fib_task(n - 1), fib_task(n - 2));
  co_return a + b;
}

long fib_call(int n) {
  if (n < 2) return n;
  auto const [a, b] = fork_join([=] { return fib_call(n - 1); },
                                [=] { return fib_call(n - 2); });
  return a + b;
}

// Each piece may wait: the joiner must too.
long fib_waiting(int n) {
  if (n < 2) {
    this_thread::yield();
    return n;
  }
  auto const [a, b] = fork_join([=] { return fib_waiting(n - 1); },
                                [=] { return fib_waiting(n - 2); });
  return a + b;
}

task<> await_handle(join_handle<int> handle, int& result) {
  result = co_await std::move(handle);
}

// Without optimisation compilers make no jumps of the calls between tasks.
#ifdef __OPTIMIZE__
constexpr int deep = 100'000;
#else
constexpr int deep = 100;
#endif

constexpr test_case cases[] = {
    {"a task returns its value to who awaits it",
     [] {
       scheduler there({.processors = 2});
       expect(there.run([] { return sum_to(100); }) == 5'050);
       expect(*there.spawn(make_text()).join() == "made");
     }},

    {"a task does not run before it is awaited",
     [] {
       bool has_run = false;
       auto set = [](bool& flag) -> task<> {
         flag = true;
         co_return;
       };
       {
         auto const left = set(has_run);
         expect(static_cast<bool>(left));
       }
       expect(!has_run);
       scheduler there({.processors = 1});
       there.spawn(set(has_run)).join();
       expect(has_run);
     }},

    {"awaits inside awaits take no stack",
     [] {
       scheduler there({.processors = 1, .stack_bytes = 32 * 1024});
       expect(there.spawn(nested(deep)).join() == deep);
     }},

    {"tasks on one processor take turns in order",
     [] {
       scheduler there({.processors = 1});
       std::vector<int> order;
       order.reserve(150);  // an allocation may block, and let others pass
       there.run([&] {
         std::vector<join_handle<>> handles;
         for (int i = 0; i < 3; ++i)
           handles.push_back(there.spawn(count_turns(order, i, 50)));
         for (auto& each : handles) each.join();
       });
       expect(order.size() == 150);
       for (std::size_t i = 0; i < order.size(); ++i)
         expect(order[i] == static_cast<int>(i % 3));
     }},

    {"a handle is awaited by another task",
     [] {
       scheduler there({.processors = 2});
       int result = 0;
       there.run([&] {
         there.spawn(await_handle(there.spawn(sum_to(10)), result)).join();
       });
       expect(result == 55);
     }},

    {"tasks nobody joins end before their scheduler",
     [] {
       std::atomic<int> ended{0};
       {
         scheduler there({.processors = 2});
         auto count = [](std::atomic<int>& ended) -> task<> {
           for (int i = 0; i < 5; ++i) co_await activations::async_yield();
           ++ended;
         };
         for (int i = 0; i < 200; ++i) there.spawn(count(ended)).detach();
       }
       expect(ended == 200);
     }},

    {"tasks sleep, and none wakes early",
     [] {
       on_one_and_two([](scheduler& there) {
         std::atomic<int> early{0};
         std::vector<join_handle<>> handles;
         for (int i = 0; i < 200; ++i)
           handles.push_back(there.spawn(sleep_and_note(
               std::chrono::microseconds(50 * (i % 40)), early)));
         for (auto& each : handles) each.join();
         expect(early == 0);
       });
     }},

    {"a mutex stays with a task across its suspensions",
     [] {
       on_one_and_two([](scheduler& there) {
         activations::mutex mutex;
         int count = 0;
         std::vector<join_handle<>> handles;
         for (int i = 0; i < 8; ++i)
           handles.push_back(there.spawn(add_under(mutex, count, 200)));
         for (auto& each : handles) each.join();
         expect(count == 1'600);
       });
     }},

    {"permits go round between tasks and threads",
     [] {
       on_one_and_two([](scheduler& there) {
         activations::counting_semaphore<> first(0);
         activations::counting_semaphore<> second(0);
         auto relay = there.spawn(take_and_give(first, second, 1'000));
         user_thread const giver([&] {
           for (int i = 0; i < 1'000; ++i) first.release();
         });
         for (int i = 0; i < 1'000; ++i) second.acquire();
         relay.join();
         expect(!first.try_acquire() && !second.try_acquire());
       });
     }},

    {"ten thousand tasks wait for an event without a stack",
     [] {
       on_one_and_two([](scheduler& there) {
         activations::event open;
         activations::latch passed(10'000);
         std::vector<join_handle<>> handles;
         for (int i = 0; i < 10'000; ++i)
           handles.push_back(there.spawn(wait_for(open, passed)));
         expect(!passed.try_wait());
         open.set();
         passed.wait();
         for (auto& each : handles) each.join();
       });
     }},

    {"tasks meet at a barrier",
     [] {
       on_one_and_two([](scheduler& there) {
         activations::barrier<> meeting(6);
         std::atomic<int> arrived{0};
         std::atomic<int> wrong{0};
         std::vector<join_handle<>> handles;
         for (int i = 0; i < 6; ++i)
           handles.push_back(there.spawn(meet(meeting, arrived, wrong, 6)));
         for (auto& each : handles) each.join();
         expect(wrong == 0 && arrived == 300);
       });
     }},

    {"a task that blocks parks its stack and others run",
     [] {
       on_one_and_two([](scheduler& there) {
         activations::event open;
         std::atomic<int> passed{0};
         std::vector<join_handle<>> handles;
         for (int i = 0; i < 20; ++i)
           handles.push_back(there.spawn(block_on(open, passed)));
         expect(there.spawn(sum_to(10)).join() == 55);
         expect(passed == 0);
         open.set();
         for (auto& each : handles) each.join();
         expect(passed == 20);
       });
     }},

    {"fork-join of tasks computes",
     [] {
       for (unsigned processors : {1u, 2u}) {
         scheduler there({.processors = processors});
         expect(there.run([] { return fib_task(18); }) == 2'584);
       }
     }},

    {"fork-join of functions computes",
     [] { on_one_and_two([](scheduler&) { expect(fib_call(18) == 2'584); }); }},

    {"pieces of a fork-join may wait",
     [] {
       on_one_and_two([](scheduler&) { expect(fib_waiting(14) == 377); });
     }},

    {"an idle processor takes a forked piece",
     [] {
       scheduler there({.processors = 2});
       // Each half waits for the other without giving way.
       there.run([] {
         std::atomic<int> arrived{0};
         auto half = [&] {
           ++arrived;
           while (arrived != 2) {
           }
           return 1;
         };
         auto const [a, b] = fork_join(half, half);
         expect(a + b == 2);
       });
     }},

    {"fork-join outside a scheduler runs both",
     [] {
       auto const [a, b] = fork_join([] { return 1; }, [] { return 2; });
       expect(a == 1 && b == 2);
     }},

    {"a sum over a million values is the formula's",
     [] {
       on_one_and_two([](scheduler&) {
         struct pieces {
           static std::uint64_t sum(std::uint64_t from, std::uint64_t to) {
             if (to - from <= 1'000) {
               std::uint64_t total = 0;
               for (auto i = from; i < to; ++i) total += i;
               return total;
             }
             auto const half = from + (to - from) / 2;
             auto const [a, b] = fork_join([=] { return sum(from, half); },
                                           [=] { return sum(half, to); });
             return a + b;
           }
         };
         expect(pieces::sum(0, 1'000'001) == 500'000'500'000u);
       });
     }},
};

}  // namespace

int main() {
  return run(cases);
}
