// SPDX-License-Identifier: BSL-1.0
// The benches that a program could write for either kind of thread, written
// once. A driver instantiates them with its peer:
//
//   struct peer {
//     static constexpr char const* name;
//     using thread = …;              // as std::thread: ctor takes a callable
//     using mutex = …;               // as std::mutex
//     using condition_variable = …;  // as std::condition_variable
//     static void yield();           // a call of the peer's runtime
//     static void sleep_for(std::chrono::nanoseconds);
//     // Runs f where threads of the peer can be made.
//     static void inside(runtime_wish, F f);
//   };
#pragma once

#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <optional>
#include <queue>
#include <string>
#include <vector>

#include "arguments.hpp"
#include "block_work.hpp"
#include "companion.hpp"
#include "measure.hpp"

namespace bench {

// What a bench asks of the runtime under test.
struct runtime_wish {
  unsigned workers = 2;
  unsigned kernel_threads = 0;  // that may be needed at once; 0: the default
  bool strict = false;
};

template <class Peer>
void mutex_bench(arguments const& args) {
  long const n = args.n ? args.n : 20'000'000;
  Peer::inside({args.workers}, [&] {
    typename Peer::mutex mutex;
    long volatile x = 0;
    auto count = [&](long times) {
      for (long i = 0; i < times; ++i) {
        std::lock_guard hold(mutex);
        x = x + 1;
      }
    };
    {
      stopwatch const watch;
      count(n);
      emit_each(Peer::name, "mutex-uncontended", watch.stop(), n,
                "ns/lock+unlock");
    }
    long const each = n / 20;
    std::vector<typename Peer::thread> threads;
    stopwatch const watch;
    for (int i = 0; i < 8; ++i) threads.emplace_back([&] { count(each); });
    for (auto& thread : threads) thread.join();
    emit_each(Peer::name, "mutex-contended8", watch.stop(), 8 * each,
              "ns/lock+unlock");
  });
}

// Two threads pass a token to and fro through a mutex and a condition variable.
template <class Peer>
class token {
 public:
  // Takes the token as `me` and passes it on; false when it was ended.
  bool pass(int me) {
    std::unique_lock hold(mutex_);
    changed_.wait(hold, [&] { return turn_ == me || ended_; });
    if (ended_) return false;
    turn_ = 1 - me;
    changed_.notify_one();
    return true;
  }

  // Waits until the token is back with `me`.
  void wait_for_turn(int me) {
    std::unique_lock hold(mutex_);
    changed_.wait(hold, [&] { return turn_ == me; });
  }

  void end() {
    std::unique_lock hold(mutex_);
    ended_ = true;
    changed_.notify_all();
  }

 private:
  typename Peer::mutex mutex_;
  typename Peer::condition_variable changed_;
  int turn_ = 0;
  bool ended_ = false;
};

template <class Peer>
void handoff_bench(arguments const& args, long default_n) {
  long const n = args.n ? args.n : default_n;
  Peer::inside({args.workers}, [&] {
    token<Peer> token;
    auto side = [&](int me) {
      for (long i = 0; i < n; ++i) token.pass(me);
    };
    stopwatch const watch;
    typename Peer::thread a([&] { side(0); });
    typename Peer::thread b([&] { side(1); });
    a.join();
    b.join();
    emit_each(Peer::name, "handoff", watch.stop(), 2 * n, "ns/hand-off");
  });
}

template <class Peer>
class bounded_queue {
 public:
  static constexpr std::size_t capacity = 1024;

  void push(long value) {
    std::unique_lock hold(mutex_);
    not_full_.wait(hold, [&] { return queue_.size() < capacity; });
    queue_.push(value);
    not_empty_.notify_one();
  }

  long pop() {
    std::unique_lock hold(mutex_);
    not_empty_.wait(hold, [&] { return !queue_.empty(); });
    long const value = queue_.front();
    queue_.pop();
    not_full_.notify_one();
    return value;
  }

 private:
  typename Peer::mutex mutex_;
  typename Peer::condition_variable not_empty_, not_full_;
  std::queue<long> queue_;
};

template <class Peer>
void channel_bench(arguments const& args) {
  long const n = args.n ? args.n : 4'000'000;
  Peer::inside({args.workers}, [&] {
    bounded_queue<Peer> queue;
    std::vector<typename Peer::thread> threads;
    stopwatch const watch;
    for (int i = 0; i < 2; ++i)
      threads.emplace_back([&] {
        for (long k = 0; k < n / 2; ++k) queue.push(k);
      });
    for (int i = 0; i < 2; ++i)
      threads.emplace_back([&] {
        long sum = 0;
        for (long k = 0; k < n / 2; ++k) sum += queue.pop();
        sink += static_cast<std::uint64_t>(sum);
      });
    for (auto& thread : threads) thread.join();
    auto const time = watch.stop();
    double const rate = static_cast<double>(n) / time.wall / 1e6;
    emit(Peer::name, "channel-2p2c", rate, "M elem/s", time.cpu);
    emit(Peer::name, "channel-2p2c-cpu", rate / time.cpu, "M elem/CPU s",
         time.cpu);
  });
}

// ------------------------------------------------------------------ blocking

// What a block bench's name asks for besides the work itself.
struct block_setting {
  std::string peer;
  std::string bench;
  bool yields = true;        // one call of the runtime after each round
  bool cooperative = false;  // the peer's own sleep instead of the kernel's
};

template <class Peer>
void one_round(block_work& work, block_setting const& how, int task,
               int round) {
  double const start = now();
  work.compute();
  if (how.cooperative)
    Peer::sleep_for(std::chrono::nanoseconds(block_work::wait_ns));
  else
    work.block(task, round);
  // Within the latency: whoever waits for a processor waits here.
  if (how.yields) Peer::yield();
  work.note_latency(task, round, now() - start);
}

template <class Peer>
void all_rounds(block_work& work, block_setting const& how) {
  std::vector<typename Peer::thread> threads;
  threads.reserve(static_cast<std::size_t>(work.tasks()));
  for (int task = 0; task < work.tasks(); ++task)
    threads.emplace_back([&work, &how, task] {
      for (int round = 0; round < work.rounds(); ++round)
        one_round<Peer>(work, how, task, round);
    });
  for (auto& thread : threads) thread.join();
}

// One busy process for each CPU that we may use, at most `count`.
class cpu_hogs {
 public:
  explicit cpu_hogs(unsigned count) {
    cpu_set_t ours;
    sched_getaffinity(0, sizeof ours, &ours);
    for (int cpu = 0; cpu < CPU_SETSIZE && hogs_.size() < count; ++cpu)
      if (CPU_ISSET(cpu, &ours))
        hogs_.emplace_back(
            std::vector<std::string>{"hog", std::to_string(cpu)});
  }

  // CPU seconds that they have had.
  double end() {
    double sum = 0;
    for (auto& hog : hogs_) sum += hog.end();
    hogs_.clear();
    return sum;
  }

 private:
  std::vector<companion> hogs_;
};

// Runs `rounds_of(work, setting)` with what the variants in the bench's name
// ask for: hogs beside it, a sampler of its runnable threads.
template <class Inside, class Rounds>
int block_bench(arguments const& args, block_setting how, Inside inside,
                Rounds rounds_of) {
  auto const kind = block_kind_of(args.kind);
  if (!kind || (how.cooperative && *kind != block_kind::sleep))
    return no_such_bench;
  how.bench = "block-" + args.kind;
  block_work work(*kind, args.tasks, args.rounds);
  std::optional<cpu_hogs> hogs;
  std::optional<companion> sampler;
  double hog_cpu = 0;
  if (args.has("hogs")) {
    how.bench += "-hogs";
    hogs.emplace(args.workers);
  }
  if (args.has("runnable")) {
    how.bench += "-runnable";
    sampler.emplace(
        std::vector<std::string>{"sample", std::to_string(getpid()), "25000"},
        true);
  }
  std::string more;
  inside([&] {
    if (sampler) sampler->tell("begin\n");
    work.start();
    rounds_of(work, how);
    work.stop();
    if (sampler) more = "," + sampler->ask("end\n");
  });
  if (hogs) {
    // Their start and end are a little outside the section: a rough share.
    hog_cpu = hogs->end();
    more += ",\"hog_cpu\":" + std::to_string(hog_cpu / work.duration());
  }
  work.report(how.peer, how.bench, more);
  return 0;
}

// A pair of threads that exchange a token while `tasks` others do blocking
// rounds. One exchange is there and back. Back to back, and (paced) one every
// millisecond, where the pair cannot hide a stall among a million quick ones.
template <class Peer>
int ping_pong_bench(arguments const& args, block_setting how) {
  using namespace std::chrono_literals;
  auto const kind = block_kind_of(args.kind);
  if (!kind) return no_such_bench;
  bool const paced = args.has("paced");
  block_work work(*kind, args.tasks, args.rounds);
  histogram exchanges;
  Peer::inside({.workers = args.workers, .strict = args.has("strict")}, [&] {
    std::atomic<bool> over{false};
    token<Peer> token;
    typename Peer::thread pong([&] {
      while (token.pass(1)) {
      }
    });
    typename Peer::thread ping([&] {
      while (!over.load(std::memory_order::relaxed)) {  // relaxed: a hint
        if (paced) Peer::sleep_for(1ms);
        double const start = now();
        token.pass(0);
        token.wait_for_turn(0);
        exchanges.add(static_cast<std::uint64_t>(1e9 * (now() - start)));
      }
      token.end();
    });
    work.start();
    all_rounds<Peer>(work, how);
    work.stop();
    over.store(true, std::memory_order::relaxed);
    ping.join();
    pong.join();
  });
  std::printf(
      "{\"peer\":\"%s\",\"bench\":\"pingpong%s-%s\",\"tasks\":%d,"
      "\"rounds\":%d,\"value\":%.2f,\"unit\":\"us p99\","
      "\"p50_us\":%.2f,\"p99_us\":%.2f,\"p999_us\":%.2f,"
      "\"max_us\":%.1f,\"exchanges\":%lu,\"rounds_per_s\":%.0f}\n",
      how.peer.c_str(), paced ? "-paced" : "", args.kind.c_str(), args.tasks,
      args.rounds, exchanges.quantile_us(.99), exchanges.quantile_us(.5),
      exchanges.quantile_us(.99), exchanges.quantile_us(.999),
      exchanges.max_us(), static_cast<unsigned long>(exchanges.count()),
      args.tasks * static_cast<double>(args.rounds) / work.duration());
  return 0;
}

// Memory of one thread that waits: `parked` per cent of them on a condition
// variable of the peer, the others in read() of a descriptor.
template <class Peer>
int memory_bench(arguments const& args) {
  using namespace std::chrono_literals;
  long const n = args.n ? args.n : 2000;
  long const parked = n * args.second / 100;
  int const never = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
  auto const kernel_threads =
      static_cast<unsigned>(n - parked) + args.workers + 64;
  Peer::inside({args.workers, kernel_threads}, [&] {
    std::vector<typename Peer::thread> threads;
    threads.reserve(static_cast<std::size_t>(n));
    std::atomic<long> arrived{0};
    typename Peer::mutex mutex;
    typename Peer::condition_variable changed;
    bool go = false;
    memory_now const before;
    stopwatch const watch;
    for (long i = 0; i < n; ++i)
      if (i < parked)
        threads.emplace_back([&] {
          ++arrived;
          std::unique_lock hold(mutex);
          changed.wait(hold, [&] { return go; });
        });
      else
        threads.emplace_back([&] {
          ++arrived;
          std::uint64_t one;
          while (read(never, &one, sizeof one) < 0 && errno == EINTR) {
          }
        });
    while (arrived.load() < n) Peer::sleep_for(1ms);
    Peer::sleep_for(300ms);  // the last ones enter their wait
    std::string const bench =
        "memory-" + std::to_string(n) + "-parked" + std::to_string(args.second);
    emit_memory(Peer::name, bench.c_str(), before, n, watch.stop().cpu);
    {
      std::unique_lock hold(mutex);
      go = true;
    }
    changed.notify_all();
    auto const permits = static_cast<std::uint64_t>(n);
    if (write(never, &permits, sizeof permits) < 0) std::exit(1);
    for (auto& thread : threads) thread.join();
  });
  close(never);
  return 0;
}

}  // namespace bench
