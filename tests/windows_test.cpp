// SPDX-License-Identifier: BSL-1.0
// At each point of the runtime where the order of two steps matters, something
// comes in between: the thread blocks there, or computes there until its slice
// is over.  Whatever it is, everything finishes, nothing is lost, somebody else
// runs while one is blocked outside of the runtime's critical sections (P1 of
// docs/design.md), and the runtime allocates nothing inside of them (P9).
#include <cstddef>
#include <string_view>

namespace test_points {

// What ACTIVATIONS_TEST_POINT may be called with.
constexpr std::string_view names[] = {
    "counting_stacks", "enabling", "going_idle", "injected", "landed",
    "leaving", "notified", "pushed", "search_over", "taken", "waking",
    // Where there is a kernel that listens.
    "collected", "releasing", "saying_so", "switching_to", "ticket_given",
    "timer_told", "word_cleared"};
constexpr std::size_t count = sizeof(names) / sizeof(*names);
constexpr std::size_t portable_count = 11;

consteval std::size_t number_of(std::string_view name) {
  std::size_t n = 0;
  while (names[n] != name) ++n;  // past the end: the name is not above
  return n;
}

void pass(std::size_t number) noexcept;

}  // namespace test_points

#define ACTIVATIONS_TEST_POINT(name) \
  ::test_points::pass(::test_points::number_of(#name))

#include <activations/activations.hpp>

#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <climits>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using activations::scheduler;
using activations::scheduler_options;
using activations::task;
using activations::user_thread;
using activations::detail::current_activation;

constexpr auto slice = 200us;
// Nothing takes so long, however busy the machine is.
constexpr std::uint64_t limit_ns = 20'000'000'000;

enum class event { none, block, slice_end };

// What is to happen, and where; and what came of it.
std::atomic<std::size_t> chosen{test_points::count};
std::atomic<event> wanted{event::none};
std::atomic<bool> over{true};
std::atomic<std::uint64_t> passes[test_points::count];
std::atomic<std::uint64_t> deliveries{0};
std::atomic<std::uint64_t> stops{0};
std::atomic<std::uint64_t> stuck{0};
// How often any of the threads that are always there has had its turn.
std::atomic<std::uint32_t> turns{0};
// Somebody waits for the next turn: one at a time, or all would.
std::atomic<bool> is_blocked{false};
// How slices end, unless a kernel ends them: the lookout waits for a thread to
// leave the critical sections where it is to be told.
std::atomic<activations::detail::preempt_signal const*> slice_signal{nullptr};
// Calls of malloc by an activation that must not be stopped.
std::atomic<std::uint64_t> forbidden_calls{0};

std::uint64_t now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
         static_cast<std::uint64_t>(now.tv_nsec);
}

void sleep_in_the_kernel(long ns) {
  timespec const time = {0, ns};
  syscall(SYS_nanosleep, &time, nullptr);
}

// Blocks until another thread has run, where the runtime has nothing in hand.
// Inside its critical sections a moment: it may be about to wake all others.
void block() {
  auto const* const self = current_activation();
  if (self == nullptr ||
      self->control->disabled.load(std::memory_order::relaxed) != 0) {
    sleep_in_the_kernel(500'000);
    ++deliveries;
    return;
  }
  if (is_blocked.exchange(true)) return;
  auto const seen = turns.load();
  auto const limit = now_ns() + limit_ns;
  while (turns == seen && !over)
    if (!activations::detail::futex_wait(turns, seen, limit)) {
      ++stuck;
      break;
    }
  if (turns != seen) ++deliveries;
  is_blocked = false;
}

void take_turn() {
  ++turns;
  if (is_blocked) activations::detail::futex_wake(turns, INT_MAX);
}

// The slice ends here: where a signal says so, it comes now; where a kernel
// does, compute until then.  At most until the stop is pending, or the caller
// was stopped and others ran.
void compute() {
  ++deliveries;
  auto const* const self = current_activation();
  if (self == nullptr) return;  // only activations have slices
  auto const seen = turns.load();
  auto const begin = now_ns();
  if (auto const* const signal = slice_signal.load())
    signal->send(static_cast<pid_t>(syscall(SYS_gettid)));
  while (!over && now_ns() - begin < 3'000'000) {
    if (self->control->pending.load(std::memory_order::relaxed) != 0 ||
        turns.load() != seen) {
      ++stops;
      return;
    }
#if ACTIVATIONS_TSAN
    (void)::sched_yield();  // lets signals in
#endif
  }
}

}  // namespace

void test_points::pass(std::size_t number) noexcept {
  auto const n = passes[number].fetch_add(1, std::memory_order::relaxed);
  if (chosen.load(std::memory_order::acquire) != number || n % 3 != 0) return;
  int const saved = errno;
  switch (wanted.load(std::memory_order::relaxed)) {
    case event::none:
      break;
    case event::block:
      block();
      break;
    case event::slice_end:
      compute();
      break;
  }
  errno = saved;
}

#if !ACTIVATIONS_ASAN && !ACTIVATIONS_TSAN && defined(__GLIBC__)
#define TEST_COUNTS_MALLOC 1
extern "C" void* __libc_malloc(std::size_t) noexcept;
extern "C" void* malloc(std::size_t bytes) noexcept {
  auto const* const self = current_activation();
  if (self != nullptr && self->control != nullptr &&
      self->control->disabled.load(std::memory_order::relaxed) != 0)
    forbidden_calls.fetch_add(1, std::memory_order::relaxed);
  return __libc_malloc(bytes);
}
#endif

namespace {

// Threads that use what there is to wait for, and count.
class workload {
 public:
  explicit workload(unsigned processors)
      : home_({.processors = processors, .slice = slice}) {
    over = false;
    slice_signal = is_on_kernel() ? nullptr : &signal_;
    for (int i = 0; i < 4; ++i)
      tickers_.push_back(home_.spawn([] {
        while (!over) {
          for (int n = 0; n < 8; ++n) {
            take_turn();
            activations::this_thread::yield();
          }
          activations::this_thread::sleep_for(50us);
        }
      }));
  }
  ~workload() {
    over = true;
    take_turn();
    for (auto& one : tickers_) one.join();
    slice_signal = nullptr;
  }

  void round() {
    std::vector<user_thread> threads;
    for (int i = 0; i < 2; ++i)
      threads.push_back(home_.spawn([this, i] {
        for (int n = 0; n < 8; ++n) {
          mutex_.lock();
          ++locked_;
          if (n % 4 == 0) activations::this_thread::yield();
          mutex_.unlock();
          sleep_in_the_kernel(20'000);
          (i == 0 ? there_ : back_).release();
          (i == 0 ? back_ : there_).acquire();
          if (n % 4 == 3) compute_for(500'000);
        }
        ++finished_;
      }));
    std::vector<activations::join_handle<void>> tasks;
    for (int i = 0; i < 4; ++i) {
      // By a kernel thread that is none of the scheduler's.
      threads.push_back(home_.spawn([this] { ++finished_; }));
      tasks.push_back(home_.spawn(yield_and_finish()));
    }
    // Both need the pool of stacks: no cache has this size.
    threads.push_back(home_.spawn([this] {
      for (int n = 0; n < 8; ++n) (void)home_.statistics();
    }));
    threads.push_back(home_.spawn([] {
      for (int n = 0; n < 8; ++n)
        user_thread({.stack_bytes = 96 * 1024}, [] {}).join();
    }));
    for (auto& one : threads) one.join();
    for (auto& one : tasks) one.join();
    ++rounds_;
    EXPECT_EQ(locked_, rounds_ * 16);
    EXPECT_EQ(finished_, rounds_ * 10);
  }
  [[nodiscard]] bool is_on_kernel() const {
    return home_.describe().starts_with("kernel");
  }

 private:
  task<> yield_and_finish() {
    co_await activations::async_yield();
    ++finished_;
  }
  static void compute_for(std::uint64_t ns) {
    for (auto const begin = now_ns(); now_ns() - begin < ns;) {
#if ACTIVATIONS_TSAN
      (void)::sched_yield();
#endif
    }
  }

  activations::detail::preempt_signal signal_;
  scheduler home_;
  activations::mutex mutex_;
  activations::counting_semaphore<> there_{0}, back_{0};
  int locked_ = 0;  // under mutex_
  std::atomic<int> finished_{0};
  int rounds_ = 0;
  std::vector<user_thread> tickers_;
};

// Elsewhere there may be nobody who could run instead, so that a slice that
// ends stops nobody.
bool somebody_waits_at(std::size_t point) {
  auto const name = test_points::names[point];
  return name == "enabling" || name == "landed" || name == "leaving" ||
         name == "pushed";
}

// At each point in turn, until it came to it there.
void let_it_happen(event what, unsigned processors) {
  workload load(processors);
  forbidden_calls = 0;
  stuck = 0;
  std::string seen;
  auto const points =
      load.is_on_kernel() ? test_points::count : test_points::portable_count;
  for (std::size_t point = 0; point < points; ++point) {
    deliveries = 0;
    stops = 0;
    wanted = what;
    chosen.store(point, std::memory_order::release);
    auto const before = passes[point].load();
    auto const is_there = [&] {
      if (what == event::none) return passes[point] != before;
      if (what == event::slice_end && somebody_waits_at(point) && stops == 0)
        return false;
      return deliveries != 0;
    };
    auto const begin = now_ns();
    do {
      load.round();
    } while (!is_there() && now_ns() - begin < 2 * limit_ns);
    chosen = test_points::count;
    EXPECT_TRUE(is_there()) << test_points::names[point];
    EXPECT_EQ(stuck.exchange(0), 0u)
        << "nobody ran while a thread was blocked at "
        << test_points::names[point];
    seen += std::string(test_points::names[point]) + ' ' +
            std::to_string(passes[point] - before) +
            (stops == 0 ? ", " : " (" + std::to_string(stops) + " stops), ");
  }
  std::printf("passed: %s%llu calls of malloc\n", seen.c_str(),
              static_cast<unsigned long long>(forbidden_calls.load()));
#ifdef TEST_COUNTS_MALLOC
  EXPECT_EQ(forbidden_calls.load(), 0u);
#endif
}

TEST(TestPoints, AllArePassed) {
  let_it_happen(event::none, 1);
  let_it_happen(event::none, 2);
}
TEST(TestPoints, ABlockAtAnyOfThemHurtsNobody) {
  let_it_happen(event::block, 1);
}
TEST(TestPoints, ABlockAtAnyOfThemHurtsNobodyOnTwoProcessors) {
  let_it_happen(event::block, 2);
}
TEST(TestPoints, ASliceMayEndAtAnyOfThem) {
  let_it_happen(event::slice_end, 1);
}
TEST(TestPoints, ASliceMayEndAtAnyOfThemOnTwoProcessors) {
  let_it_happen(event::slice_end, 2);
}

}  // namespace
