// SPDX-License-Identifier: BSL-1.0
// Conformance: threads that compute are stopped for others, anywhere, and do
// not notice.
#include "conformance.hpp"

#include <cerrno>
#include <chrono>
#include <cstdint>
#include <mutex>

using namespace conformance;
using namespace std::chrono_literals;
using activations::scheduler;
using activations::task;
using activations::user_thread;
namespace this_thread = activations::this_thread;

namespace {

template <class F>
void on_one_and_two_with_slices(F f) {
  for (unsigned processors : {1u, 2u}) {
    scheduler there({.processors = processors, .slice = 1ms});
    there.run([&] { f(there); });
  }
}

std::uint64_t stops(scheduler const& there) {
  return there.statistics().kernel_threads.preemptions;
}

// Without a call of the runtime: only a stop lets others run meanwhile.
template <class Predicate>
void spin_until(Predicate holds) {
  while (!holds()) asm volatile("" ::: "memory");
}

// Keeps general and floating-point registers busy; always the same result.
struct sums {
  std::uint64_t integer;
  double real;
  bool operator==(sums const&) const = default;
};
[[gnu::noinline]] sums compute(int rounds) {
  std::uint64_t a = 1, b = 2, c = 3, d = 4;
  double x = 0.1, y = 0.2, z = 0.3;
  for (int i = 0; i < rounds; ++i) {
    a = a * 6364136223846793005u + 1442695040888963407u;
    b ^= a >> 17;
    c += b * 3;
    d = (d << 7 | d >> 57) ^ c;
    x = 3.7 * x * (1 - x);
    y = 3.8 * y * (1 - y);
    z = 0.5 * (x + y) + 0.25 * z;
  }
  return {a ^ b ^ c ^ d, x + y + z};
}

thread_local std::uint64_t own_value = 0;
[[gnu::noinline]] std::uint64_t& own() {
  std::uint64_t* found = &own_value;
  asm volatile("" : "+r"(found));
  return *found;
}

task<> compute_until(std::atomic<int>& turn, int wanted) {
  spin_until([&] { return turn == wanted; });
  turn = wanted + 1;
  co_return;
}

constexpr test_case cases[] = {
    {"threads that compute take turns",
     [] {
       on_one_and_two_with_slices([](scheduler&) {
         std::atomic<int> turn{0};
         run_all(4, [&](int me) {
           for (int round = 0; round < 5; ++round) {
             spin_until([&] { return turn == round * 4 + me; });
             ++turn;
           }
         });
         expect(turn == 20);
       });
     }},

    {"a sleeper wakes beside threads that compute",
     [] {
       on_one_and_two_with_slices([](scheduler&) {
         std::atomic<bool> woke{false};
         user_thread sleeper([&] {
           this_thread::sleep_for(3ms);
           woke = true;
         });
         run_all(3, [&](int) { spin_until([&] { return woke.load(); }); });
         sleeper.join();
       });
     }},

    {"one that holds a mutex is stopped, and goes on",
     [] {
       on_one_and_two_with_slices([](scheduler&) {
         activations::mutex mutex;
         std::atomic<bool> other_came{false};
         std::atomic<bool> is_held{false};
         user_thread holder([&] {
           std::lock_guard const hold(mutex);
           is_held = true;
           spin_until([&] { return other_came.load(); });
         });
         user_thread other([&] {
           spin_until([&] { return is_held.load(); });
           other_came = true;
           std::lock_guard const hold(mutex);
         });
         other.join();
         holder.join();
       });
     }},

    {"tasks and threads that compute take turns",
     [] {
       on_one_and_two_with_slices([](scheduler& there) {
         std::atomic<int> turn{0};
         user_thread last([&] { spin_until([&] { return turn == 3; }); });
         auto third = there.spawn(compute_until(turn, 2));
         auto second = there.spawn(compute_until(turn, 1));
         auto first = there.spawn(compute_until(turn, 0));
         last.join();
         first.join();
         second.join();
         third.join();
         expect(turn == 3);
       });
     }},

    {"a stopped thread finds its registers as they were",
     [] {
       on_one_and_two_with_slices([](scheduler& there) {
         constexpr int rounds = 20'000;
         sums const wanted = compute(rounds);
         std::atomic<int> wrong{0};
         auto const before = stops(there);
         run_all(5, [&](int) {
           while (stops(there) - before < 100)
             wrong += compute(rounds) != wanted;
         });
         expect(wrong == 0);
       });
     }},

    {"a thread_local and errno stay a thread's own between two calls",
     [] {
       on_one_and_two_with_slices([](scheduler& there) {
         std::atomic<int> wrong{0};
         auto const before = stops(there);
         run_all(5, [&](int me) {
           auto const mine = static_cast<std::uint64_t>(me) + 1;
           while (stops(there) - before < 100) {
             own() = mine;
             errno = me + 1;
             for (int i = 0; i < 20'000; ++i) {
               own() += mine;
               if (errno != me + 1) ++wrong;
             }
             wrong += own() != mine * 20'001;
           }
         });
         expect(wrong == 0);
       });
     }},

    {"nothing is lost where threads are stopped at anything",
     [] {
       on_one_and_two_with_slices([](scheduler& there) {
         activations::mutex mutex;
         activations::counting_semaphore<> tokens{2};
         int count = 0;
         std::atomic<int> finished{0};
         for (int round = 1; round <= 10; ++round) {
           std::vector<activations::join_handle<void>> tasks;
           run_all(6, [&](int me) {
             for (int i = 0; i < 20; ++i) {
               tokens.acquire();
               mutex.lock();
               ++count;
               mutex.unlock();
               tokens.release();
               (void)compute(500 * me);
               if (i % 5 == 0) this_thread::yield();
               user_thread([&] { ++finished; }).join();
             }
           });
           for (int i = 0; i < 8; ++i)
             tasks.push_back(there.spawn([](std::atomic<int>& done) -> task<> {
               co_await activations::async_yield();
               (void)compute(2000);
               ++done;
             }(finished)));
           for (auto& each : tasks) each.join();
           expect(count == round * 6 * 20);
           expect(finished == round * (6 * 20 + 8));
         }
       });
     }},

    {"a pinned thread that waits leaves the processor to others",
     [] {
       on_one_and_two_with_slices([](scheduler&) {
         activations::event go;
         std::atomic<bool> waits{false};
         user_thread pinned([&] {
           this_thread::pinned_scope const here;
           waits = true;
           go.wait();
         });
         user_thread other([&] {
           spin_until([&] { return waits.load(); });
           this_thread::sleep_for(1ms);
           go.set();
         });
         pinned.join();
         other.join();
       });
     }},
};

}  // namespace

int main() {
  return run(cases);
}
