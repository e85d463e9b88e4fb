// SPDX-License-Identifier: BSL-1.0
// Conformance: user threads, their ends, yields, sleeps, stacks, processors.
#include "conformance.hpp"

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <utility>

using namespace conformance;
using namespace std::chrono_literals;
using activations::scheduler;
using activations::thread_id;
using activations::user_thread;
namespace this_thread = activations::this_thread;

namespace {

// ---- thread-local data: of the processor, not of the thread -----------------

thread_local constinit int of_this_processor = 0;

// Not inlined: the address is another one after a move.
[[gnu::noinline]] int& fresh_address() {
  int* found = &of_this_processor;
  asm volatile("" : "+r"(found));
  return *found;
}

// ---- floating point across switches ------------------------------------------

double settle(double seed, int rounds) {
  double value = seed;
  for (int i = 0; i < rounds; ++i) {
    value = value * 0.5 + seed;
    this_thread::yield();
  }
  return value;
}

[[gnu::noinline]] int depth_reached(int left) {
  char volatile frame[256];
  frame[left % 256] = 1;
  return left == 0 ? 0 : depth_reached(left - 1) + frame[left % 256];
}

constexpr test_case cases[] = {
    {"run returns what its function returns",
     [] {
       on_one_and_two([](scheduler&) {});
       scheduler there({.processors = 2});
       expect(there.run([] { return 42; }) == 42);
       int value = 1;
       expect(&there.run([&]() -> int& { return value; }) == &value);
       auto const moved =
           there.run([] { return std::make_unique<std::string>("text"); });
       expect(*moved == "text");
     }},

    {"join waits for the end and publishes what was done",
     [] {
       on_one_and_two([](scheduler&) {
         for (int i = 0; i < 500; ++i) {
           int result = 0;
           user_thread worker([&] {
             this_thread::yield();
             result = i;
           });
           worker.join();
           expect(result == i && !worker.joinable());
         }
       });
     }},

    {"the destructor requests a stop and joins",
     [] {
       on_one_and_two([](scheduler&) {
         bool was_stopped = false;
         {
           user_thread const worker([&](std::stop_token stop) {
             wait_until([&] { return stop.stop_requested(); });
             was_stopped = true;
           });
         }
         expect(was_stopped);
       });
     }},

    {"arguments are moved into the thread",
     [] {
       on_one_and_two([](scheduler&) {
         std::string got;
         user_thread worker(
             [&](std::unique_ptr<std::string> text, int times) {
               for (int i = 0; i < times; ++i) got += *text;
             },
             std::make_unique<std::string>("ab"), 3);
         worker.join();
         expect(got == "ababab");
       });
     }},

    {"a thread has the name and the id of its handle",
     [] {
       on_one_and_two([](scheduler&) {
         thread_id seen;
         user_thread named(activations::thread_options{.name = "measurer"},
                           [&] { seen = this_thread::get_id(); });
         expect(named.name() == "measurer");
         auto const id = named.get_id();
         named.join();
         expect(seen == id && id != thread_id() && id != this_thread::get_id());
       });
       expect(this_thread::get_id() == thread_id());
     }},

    {"ids are not used twice",
     [] {
       on_one_and_two([](scheduler&) {
         thread_id last;
         for (int i = 0; i < 1'000; ++i) {
           user_thread worker([] {});
           expect(worker.get_id() > last);
           last = worker.get_id();
         }
       });
     }},

    {"a detached thread runs to its end before its scheduler is gone",
     [] {
       std::atomic<int> ended{0};
       {
         scheduler there({.processors = 2});
         for (int i = 0; i < 100; ++i)
           there
               .spawn([&] {
                 for (int n = 0; n < 10; ++n) this_thread::yield();
                 ++ended;
               })
               .detach();
       }
       expect(ended == 100);
     }},

    {"the end of a scheduler requests a stop of all its threads",
     [] {
       std::atomic<int> stopped{0};
       {
         scheduler there({.processors = 2});
         for (int i = 0; i < 20; ++i)
           there
               .spawn([&](std::stop_token stop) {
                 wait_until([&] { return stop.stop_requested(); });
                 ++stopped;
               })
               .detach();
       }
       expect(stopped == 20);
     }},

    {"schedulers begin and end again and again",
     [] {
       int sum = 0;
       for (int i = 0; i < 100; ++i) {
         scheduler there({.processors = 1 + static_cast<unsigned>(i % 2)});
         sum += there.run([&] { return i; });
       }
       expect(sum == 4'950);
     }},

    {"yields on one processor take turns in order",
     [] {
       scheduler there({.processors = 1});
       std::vector<int> order;
       order.reserve(300);  // an allocation may block, and let others pass
       there.run([&] {
         run_all(3, [&](int me) {
           for (int i = 0; i < 100; ++i) {
             order.push_back(me);
             this_thread::yield();
           }
         });
       });
       expect(order.size() == 300);
       for (std::size_t i = 0; i < order.size(); ++i)
         expect(order[i] == static_cast<int>(i % 3));
     }},

    {"a yield returns when nobody waits",
     [] {
       on_one_and_two([](scheduler&) {
         for (int i = 0; i < 10'000; ++i) this_thread::yield();
       });
     }},

    {"both processors compute at the same time",
     [] {
       scheduler there({.processors = 2});
       expect(there.processors() == 2);
       // Neither yields, so each needs a processor while the other has one.
       std::atomic<int> arrived{0};
       there.run([&] {
         run_all(2, [&](int) {
           ++arrived;
           while (arrived != 2) {
           }
         });
       });
       expect(arrived == 2);
     }},

    {"idle processors take work from busy ones",
     [] {
       scheduler there({.processors = 2});
       // All are queued where the first runs, which never gives way.
       std::atomic<int> ended{0};
       there.run([&] {
         std::vector<user_thread> threads;
         for (int i = 0; i < 50; ++i) threads.emplace_back([&] { ++ended; });
         while (ended != 50) {
         }
       });
       expect(ended == 50);
     }},

    {"a sleep is never early",
     [] {
       on_one_and_two([](scheduler&) {
         run_all(20, [](int me) {
           auto const wanted = std::chrono::microseconds(200 * me);
           auto const begin = std::chrono::steady_clock::now();
           this_thread::sleep_for(wanted);
           expect(std::chrono::steady_clock::now() - begin >= wanted);
         });
       });
     }},

    {"sleeps end in the order of their deadlines",
     [] {
       scheduler there({.processors = 1});
       std::vector<int> const wanted{9, 8, 7, 6, 5, 4, 3, 2, 1, 0};
       std::vector<int> order;
       order.reserve(wanted.size());
       // Who is late may meet the next one: on a machine that stands still for
       // long, again with more time between them.
       for (auto gap = 1ms; order != wanted && gap < 1s; gap *= 4) {
         order.clear();
         there.run([&] {
           auto const begin = std::chrono::steady_clock::now() + 20 * gap;
           run_all(10, [&](int me) {
             this_thread::sleep_until(begin + (10 - me) * gap);
             order.push_back(me);
           });
         });
       }
       expect(order == wanted);
     }},

    {"sleepers wake while others yield",
     [] {
       on_one_and_two([](scheduler&) {
         std::atomic<bool> over{false};
         user_thread const busy(
             [&] { wait_until([&] { return over.load(); }); });
         run_all(5, [](int) { this_thread::sleep_for(1ms); });
         over = true;
       });
     }},

    {"an idle scheduler wakes for a thread from outside",
     [] {
       scheduler there({.processors = 2});
       for (int i = 0; i < 200; ++i) {
         int result = 0;
         there.spawn([&] { result = i; }).join();
         expect(result == i);
       }
     }},

    {"two thousand threads wait at the same time",
     [] {
       on_one_and_two([](scheduler&) {
         std::atomic<int> arrived{0};
         run_all(2'000, [&](int) {
           ++arrived;
           wait_until([&] { return arrived == 2'000; });
         });
         expect(arrived == 2'000);
       });
     }},

    {"the memory of twenty thousand threads is used again",
     [] {
       on_one_and_two([](scheduler&) {
         int count = 0;
         for (int i = 0; i < 20'000; ++i) user_thread([&] { ++count; }).join();
         expect(count == 20'000);
       });
     }},

    {"a thread has the stack it asked for",
     [] {
       scheduler there({.processors = 2});
       int reached = 0;
       there
           .spawn(activations::thread_options{.stack_bytes = 2 * 1024 * 1024},
                  [&] { reached = depth_reached(4'000); })
           .join();
       expect(reached == 4'000);
     }},

    {"a thread runs on the caller's memory",
     [] {
       scheduler there({.processors = 2});
       auto const memory = std::make_unique<std::array<std::byte, 65'536>>();
       bool is_inside = false;
       there
           .spawn(activations::thread_options{.stack = std::span(*memory)},
                  [&] {
                    std::byte here{};
                    std::byte* at = &here;
                    asm volatile("" : "+r"(at));
                    is_inside = at >= memory->data() &&
                                at < memory->data() + memory->size();
                  })
           .join();
       expect(is_inside);
     }},

    {"each byte of the canary is looked at",
     [] {
       using namespace activations::detail;
       std::vector<std::byte> memory(activations::minimum_stack_bytes + 64);
       for (std::size_t i = 0; i < canary_bytes; ++i) {
         auto const s = adopt_stack(memory);
         expect(stack_is_intact(s, s.top() - 8));
         s.base[i] ^= std::byte{1};
         expect(!stack_is_intact(s, s.top() - 8));
         disown_stack(s);
       }
     }},

    {"thread-local data is the processor's",
     [] {
       scheduler there({.processors = 2});
       // What is between two waits has the processor to itself.
       std::atomic<int> wrong{0};
       there.run([&] {
         run_all(8, [&](int me) {
           for (int i = 0; i < 2'000; ++i) {
             fresh_address() = me;
             if (fresh_address() != me) ++wrong;
             this_thread::yield();
           }
         });
       });
       expect(wrong == 0);
       expect(fresh_address() == 0);  // main has its own
     }},

    {"floating-point values survive switches",
     [] {
       on_one_and_two([](scheduler&) {
         run_all(8, [](int me) {
           double const seed = 1.0 + me;
           double expected = seed;
           for (int i = 0; i < 300; ++i) expected = expected * 0.5 + seed;
           expect(settle(seed, 300) == expected);
         });
       });
     }},

    {"a pinned thread stays on its processor across waits",
     [] {
       scheduler there({.processors = 2});
       there.run([] {
         run_all(4, [](int) {
           this_thread::pinned_scope const pinned;
           int const* const before = &fresh_address();
           for (int i = 0; i < 50; ++i) {
             this_thread::sleep_for(20us);
             expect(&fresh_address() == before);
           }
         });
       });
     }},

    {"threads are counted at both ends",
     [] {
       scheduler there({.processors = 2});
       there.run([] { run_all(99, [](int) { this_thread::yield(); }); });
       // The last one counts its end after its joiner goes on.
       wait_until([&] { return there.statistics().finished == 100; });
       expect(there.statistics().spawned == 100);
     }},

#if ACTIVATIONS_HOSTED
    {"hosted: an exception goes to who joins",
     [] {
       on_one_and_two([](scheduler&) {
         user_thread thrower([] { throw 17; });
         int caught = 0;
         try {
           thrower.join();
         } catch (int value) {
           caught = value;
         }
         expect(caught == 17);
       });
     }},
#endif
};

}  // namespace

int main() {
  return run(cases);
}
