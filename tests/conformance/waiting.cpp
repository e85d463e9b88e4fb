// SPDX-License-Identifier: BSL-1.0
// Conformance: what threads wait for each other with, alone and contended.
#include "conformance.hpp"

#include <chrono>
#include <mutex>
#include <numeric>
#include <queue>
#include <stop_token>
#include <utility>

using namespace conformance;
using namespace std::chrono_literals;
using activations::scheduler;
using activations::user_thread;
namespace this_thread = activations::this_thread;

namespace {

constexpr int members = 8;
constexpr int rounds = 500;

constexpr test_case cases[] = {
    {"a mutex excludes all others",
     [] {
       on_one_and_two([](scheduler&) {
         activations::mutex mutex;
         int inside = 0;
         int count = 0;
         run_all(members, [&](int me) {
           for (int i = 0; i < rounds; ++i) {
             std::lock_guard const hold(mutex);
             expect(++inside == 1);
             ++count;
             if ((i + me) % 7 == 0) this_thread::yield();
             --inside;
           }
         });
         expect(count == members * rounds);
       });
     }},

    {"try_lock fails exactly while a mutex is held",
     [] {
       on_one_and_two([](scheduler&) {
         activations::mutex mutex;
         expect(mutex.try_lock());
         bool other = true;
         user_thread([&] { other = mutex.try_lock(); }).join();
         expect(!other);
         mutex.unlock();
         expect(mutex.try_lock());
         mutex.unlock();
       });
     }},

    {"try_lock_for gives up and holds nothing",
     [] {
       on_one_and_two([](scheduler&) {
         activations::mutex mutex;
         mutex.lock();
         user_thread([&] {
           auto const begin = std::chrono::steady_clock::now();
           expect(!mutex.try_lock_for(2ms));
           expect(std::chrono::steady_clock::now() - begin >= 2ms);
         }).join();
         mutex.unlock();
         expect(mutex.try_lock());
         mutex.unlock();
       });
     }},

    {"those who wait for a mutex are served in their order",
     [] {
       scheduler there({.processors = 1});
       std::vector<int> wanted(20);
       std::iota(wanted.begin(), wanted.end(), 0);
       std::vector<int> order;
       // Nothing says that a thread waits: on a machine that stands still for
       // long, again with more time for each to come to it.
       for (auto pause = 1ms; order != wanted && pause < 1s; pause *= 4) {
         order.clear();
         there.run([&] {
           activations::mutex mutex;
           mutex.lock();
           std::vector<user_thread> threads;
           std::atomic<int> coming{0};
           for (int const i : wanted) {
             threads.emplace_back([&, i] {
               ++coming;
               std::lock_guard const hold(mutex);
               order.push_back(i);
             });
             wait_until([&] { return coming == i + 1; });
             this_thread::sleep_for(pause);
           }
           mutex.unlock();
         });
       }
       expect(order == wanted);
     }},

    {"main goes on beside a thread that computes",
     [] {
       for (unsigned processors : {1u, 2u}) {
         scheduler there({.processors = processors});
         for (int i = 0; i < 20; ++i) {
           activations::event asked;
           std::atomic<bool> answered{false};
           user_thread const computes = there.spawn([&] {
             asked.set();
             while (!answered) {
             }
           });
           asked.wait();
           answered = true;
         }
       }
     }},

    {"main waits for a mutex that a user thread holds",
     [] {
       scheduler there({.processors = 1});
       activations::mutex mutex;
       activations::event is_held;
       int value = 0;
       user_thread const holder = there.spawn([&] {
         std::lock_guard const hold(mutex);
         is_held.set();
         this_thread::sleep_for(2ms);
         value = 7;
       });
       is_held.wait();
       std::lock_guard const hold(mutex);
       expect(value == 7);
     }},

    {"notify_one wakes one who waits and notify_all the rest",
     [] {
       scheduler there({.processors = 1});
       there.run([] {
         activations::mutex mutex;
         activations::condition_variable changed;
         int waiting = 0;
         int woken = 0;
         std::vector<user_thread> threads;
         for (int i = 0; i < 5; ++i)
           threads.emplace_back([&] {
             std::unique_lock hold(mutex);
             ++waiting;
             changed.wait(hold);
             ++woken;
           });
         wait_until([&] { return waiting == 5; });
         changed.notify_one();
         wait_until([&] { return woken > 0; });
         for (int i = 0; i < 20; ++i) this_thread::yield();
         expect(woken == 1);
         changed.notify_all();
         threads.clear();
         expect(woken == 5);
       });
     }},

    {"a bounded queue loses and doubles nothing",
     [] {
       on_one_and_two([](scheduler&) {
         activations::mutex mutex;
         activations::condition_variable not_full;
         activations::condition_variable not_empty;
         std::queue<int> items;
         long sum = 0;
         run_all(members, [&](int me) {
           for (int i = 1; i <= rounds; ++i) {
             std::unique_lock hold(mutex);
             if (me % 2 == 0) {
               not_full.wait(hold, [&] { return items.size() < 4; });
               items.push(i);
               not_empty.notify_one();
             } else {
               not_empty.wait(hold, [&] { return !items.empty(); });
               sum += items.front();
               items.pop();
               not_full.notify_one();
             }
           }
         });
         expect(sum == long{members / 2} * rounds * (rounds + 1) / 2);
         expect(items.empty());
       });
     }},

    {"a wait for a condition times out and holds the mutex again",
     [] {
       on_one_and_two([](scheduler&) {
         activations::mutex mutex;
         activations::condition_variable changed;
         std::unique_lock hold(mutex);
         auto const begin = std::chrono::steady_clock::now();
         expect(!changed.wait_for(hold, 2ms, [] { return false; }));
         expect(std::chrono::steady_clock::now() - begin >= 2ms);
         expect(hold.owns_lock());
       });
     }},

    {"a request to stop ends a wait for a condition",
     [] {
       on_one_and_two([](scheduler&) {
         activations::mutex mutex;
         activations::condition_variable changed;
         activations::event waits;
         bool was_met = true;
         user_thread waiter([&](std::stop_token stop) {
           std::unique_lock hold(mutex);
           waits.set();
           was_met = changed.wait(hold, stop, [] { return false; });
         });
         waits.wait();
         waiter.request_stop();
         waiter.join();
         expect(!was_met);
       });
     }},

    {"a semaphore lets in no more than its permits",
     [] {
       on_one_and_two([](scheduler&) {
         activations::counting_semaphore<3> permits(3);
         std::atomic<int> inside{0};
         std::atomic<int> most{0};
         run_all(members, [&](int) {
           for (int i = 0; i < rounds; ++i) {
             permits.acquire();
             int const now = ++inside;
             for (int seen = most; seen < now;)
               if (most.compare_exchange_weak(seen, now)) break;
             if (i % 5 == 0) this_thread::yield();
             --inside;
             permits.release();
           }
         });
         expect(most <= 3);
         for (int i = 0; i < 3; ++i) expect(permits.try_acquire());
         expect(!permits.try_acquire());
       });
     }},

    {"as many as a semaphore has permits are inside at once",
     [] {
       on_one_and_two([](scheduler&) {
         activations::counting_semaphore<3> permits(3);
         activations::barrier all_inside(3);
         run_all(6, [&](int) {
           permits.acquire();
           all_inside.arrive_and_wait();
           permits.release();
         });
       });
     }},

    {"two threads play ping-pong with semaphores",
     [] {
       on_one_and_two([](scheduler&) {
         activations::binary_semaphore ping(0);
         activations::binary_semaphore pong(0);
         int ball = 0;
         user_thread const other([&] {
           for (int i = 0; i < 5'000; ++i) {
             ping.acquire();
             expect(ball == 2 * i + 1);
             ++ball;
             pong.release();
           }
         });
         for (int i = 0; i < 5'000; ++i) {
           ++ball;
           ping.release();
           pong.acquire();
           expect(ball == 2 * i + 2);
         }
       });
     }},

    {"try_acquire_for gives up and takes what comes in time",
     [] {
       on_one_and_two([](scheduler&) {
         activations::binary_semaphore permit(0);
         expect(!permit.try_acquire_for(1ms));
         user_thread const giver([&] { permit.release(); });
         expect(permit.try_acquire_for(60s));
       });
     }},

    {"a timeout that races with a release loses no permit",
     [] {
       on_one_and_two([](scheduler&) {
         activations::counting_semaphore<> permits(0);
         std::atomic<int> got{0};
         std::atomic<int> given{0};
         run_all(members, [&](int me) {
           for (int i = 0; i < 100; ++i) {
             if (me % 2 == 0) {
               if (permits.try_acquire_for(std::chrono::microseconds(i))) ++got;
             } else {
               this_thread::sleep_for(std::chrono::microseconds(i / 2));
               permits.release();
               ++given;
             }
           }
         });
         while (permits.try_acquire()) ++got;
         expect(got == given);
       });
     }},

    {"a latch lets all go at zero and not before",
     [] {
       on_one_and_two([](scheduler&) {
         activations::latch all_here(members);
         std::atomic<int> arrived{0};
         run_all(members, [&](int me) {
           for (int i = 0; i < me; ++i) this_thread::yield();
           ++arrived;
           all_here.arrive_and_wait();
           expect(arrived == members);
         });
         expect(all_here.try_wait());
       });
     }},

    {"main waits for a latch that user threads count down",
     [] {
       scheduler there({.processors = 2});
       activations::latch ended(10);
       int done[10] = {};
       std::vector<user_thread> threads;
       for (int i = 0; i < 10; ++i)
         threads.push_back(there.spawn([&, i] {
           done[i] = i + 1;
           ended.count_down();
         }));
       ended.wait();
       int sum = 0;
       for (int each : done) sum += each;
       expect(sum == 55);
     }},

    {"nobody passes a barrier before all have arrived",
     [] {
       on_one_and_two([](scheduler&) {
         activations::barrier meeting(members);
         std::atomic<int> arrived{0};
         run_all(members, [&](int) {
           for (int i = 1; i <= 200; ++i) {
             ++arrived;
             meeting.arrive_and_wait();
             expect(arrived >= i * members);
             meeting.arrive_and_wait();
           }
         });
       });
     }},

    {"a barrier's completion runs once a phase",
     [] {
       on_one_and_two([](scheduler&) {
         int phases = 0;
         auto count = [&]() noexcept { ++phases; };
         activations::barrier meeting(members, count);
         run_all(members, [&](int) {
           for (int i = 1; i <= 200; ++i) {
             meeting.arrive_and_wait();
             expect(phases >= i);
           }
         });
         expect(phases == 200);
       });
     }},

    {"who drops out of a barrier is not waited for",
     [] {
       on_one_and_two([](scheduler&) {
         activations::barrier meeting(members);
         run_all(members, [&](int me) {
           for (int i = 0; i < me; ++i) meeting.arrive_and_wait();
           meeting.arrive_and_drop();
         });
       });
     }},

    {"an event lets all go who wait and who come later",
     [] {
       on_one_and_two([](scheduler&) {
         activations::event open;
         std::atomic<int> passed{0};
         user_thread setter([&] {
           this_thread::sleep_for(1ms);
           expect(passed == 0);
           open.set();
         });
         run_all(members, [&](int) {
           open.wait();
           ++passed;
         });
         expect(passed == members && open.is_set());
         open.wait();
         open.reset();
         expect(!open.is_set() && !open.wait_for(1ms));
         setter.join();
       });
     }},

    {"main and user threads hand a value to and fro",
     [] {
       scheduler there({.processors = 2});
       activations::binary_semaphore to(0);
       activations::binary_semaphore fro(0);
       int value = 0;
       user_thread const other = there.spawn([&] {
         for (int i = 0; i < 300; ++i) {
           to.acquire();
           ++value;
           fro.release();
         }
       });
       for (int i = 0; i < 300; ++i) {
         ++value;
         to.release();
         fro.acquire();
         expect(value == 2 * (i + 1));
       }
     }},

    {"user threads of two schedulers wake each other",
     [] {
       scheduler here({.processors = 1});
       scheduler there({.processors = 1});
       activations::binary_semaphore to(0);
       activations::binary_semaphore fro(0);
       int value = 0;
       user_thread const other = there.spawn([&] {
         for (int i = 0; i < 300; ++i) {
           to.acquire();
           ++value;
           fro.release();
         }
       });
       here.run([&] {
         for (int i = 0; i < 300; ++i) {
           ++value;
           to.release();
           fro.acquire();
           expect(value == 2 * (i + 1));
         }
       });
     }},

    {"a scheduler inside a user thread runs beside its own",
     [] {
       on_one_and_two([](scheduler&) {
         expect([] {
           scheduler inner({.processors = 1});
           return inner.run([] { return 5; });
         }() == 5);
       });
     }},
};

}  // namespace

int main() {
  return run(cases);
}
