// SPDX-License-Identifier: BSL-1.0
//
// Puts the whole runtime, its own headers unchanged, over the model: include
// this first, then <activations/portable_backend.hpp>. One translation unit
// of a test program does so, and nothing else links with it.
//
// Name lookup is the seam. Inside namespace activations `std` means a
// namespace that has everything of std but for its own `atomic`, and the
// system calls of the runtime that matter here are found as functions of the
// same names, which belong to `model::machine`. What calls the kernel through
// `::` is either harmless or replaced below (thread_inspector,
// alternate_stack).
#pragma once

#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cassert>
#include <cerrno>
#include <chrono>
#include <climits>
#include <concepts>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <span>
#include <sstream>
#include <stop_token>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "model/atomics.hpp"

namespace activations {

namespace model {

// The kernel's part: which kernel threads there are, and which are blocked.
class machine {
 public:
  static machine*& current() noexcept {
    static machine* one = nullptr;
    return one;
  }

  machine() { current() = this; }

  using entry = void* (*)(void*);
  // Called for each thread that the runtime creates; false: let it be as if
  // it never got a CPU.
  std::function<bool(entry)> wants_thread;

  struct thread {
    entry body;
    void* argument;
  };

  int create(entry body, void* argument) {
    if (wants_thread && !wants_thread(body)) return 0;
    created_.push_back({body, argument});
    return 0;
  }

  // At the end of the set-up: the threads created in it begin, those of the
  // lowest rank first.
  template <class Rank>
  void start(Rank rank) {
    std::stable_sort(
        created_.begin(), created_.end(),
        [&](thread const& a, thread const& b) { return rank(a) < rank(b); });
    for (thread const& one : created_)
      engine::current()->spawn([one] { one.body(one.argument); });
    created_.clear();
  }

  // By a thread: blocks in the kernel until release() or release_all().
  void block() {
    auto const me = static_cast<std::size_t>(engine::current()->running());
    blocked_[me].store(1, std::memory_order::seq_cst);
    while (blocked_[me].load(std::memory_order::seq_cst) == 1)
      futex_wait(blocked_[me], 1);
  }
  [[nodiscard]] bool is_blocked(int thread) const {
    return blocked_[static_cast<std::size_t>(thread)].load(
               std::memory_order::seq_cst) == 1;
  }
  bool release(int thread) {
    auto& word = blocked_[static_cast<std::size_t>(thread)];
    if (word.load(std::memory_order::seq_cst) != 1) return false;
    word.store(0, std::memory_order::seq_cst);
    futex_wake(word);
    return true;
  }
  // When quiet: the first that is blocked goes on. False: none was.
  bool release_one() {
    for (int t = 0; t < max_threads; ++t)
      if (release(t)) return true;
    return false;
  }

 private:
  std::vector<thread> created_;
  std::array<atomic<std::uint32_t>, max_threads> blocked_{};
};

}  // namespace model

namespace std {

using namespace ::std;

template <class T>
using atomic = model::atomic<T>;

// Of an object that is accessed in no other way.
template <class T>
class atomic_ref {
 public:
  static constexpr bool is_always_lock_free = true;
  static constexpr ::std::size_t required_alignment = sizeof(T);
  explicit atomic_ref(T& object) noexcept
      : object_(reinterpret_cast<model::atomic<T>*>(&object)) {}
  T load(::std::memory_order order, ACTIVATIONS_MODEL_SITE) const noexcept {
    return object_->load(order, file, line);
  }
  void store(T value, ::std::memory_order order,
             ACTIVATIONS_MODEL_SITE) const noexcept {
    object_->store(value, order, file, line);
  }

 private:
  model::atomic<T>* object_;
};

}  // namespace std

namespace detail {

// Objects, not functions: those the arguments' types would bring in as well.

inline constexpr auto clock_gettime = [](clockid_t, timespec* now) noexcept {
  auto const ns = model::engine::current()->now_ns();
  now->tv_sec = static_cast<time_t>(ns / 1'000'000'000u);
  now->tv_nsec = static_cast<long>(ns % 1'000'000'000u);
  return 0;
};

struct model_syscall {
  // No membarrier: forks publish with seq_cst.
  long operator()(long, long, long, long) const noexcept {
    errno = ENOSYS;
    return -1;
  }
  // FUTEX_WAIT_BITSET and FUTEX_WAKE.
  template <class Value>
  long operator()(long, model::atomic<std::uint32_t>* word, int operation,
                  Value value, timespec const* until, std::nullptr_t,
                  std::uint32_t) const noexcept {
    if ((operation & FUTEX_CMD_MASK) == FUTEX_WAKE)
      return model::futex_wake(*word, static_cast<int>(value));
    auto const deadline =
        until == nullptr
            ? UINT64_MAX
            : static_cast<std::uint64_t>(until->tv_sec) * 1'000'000'000u +
                  static_cast<std::uint64_t>(until->tv_nsec);
    if (model::futex_wait(*word, static_cast<std::uint32_t>(value), deadline))
      return 0;
    errno = ETIMEDOUT;
    return -1;
  }
  // rt_tgsigqueueinfo: the model has no signals.
  long operator()(long, pid_t, pid_t, int, siginfo_t*) const noexcept {
    return 0;
  }
};
inline constexpr model_syscall syscall;

inline constexpr auto gettid = []() noexcept {
  return static_cast<pid_t>(model::engine::current()->running() + 1);
};

inline constexpr auto pthread_create = [](pthread_t*, pthread_attr_t const*,
                                          void* (*body)(void*),
                                          void* argument) noexcept {
  return model::machine::current()->create(body, argument);
};
inline constexpr auto pthread_join = [](pthread_t, void**) noexcept {
  return 0;
};
inline constexpr auto pthread_sigmask = [](int, sigset_t const*,
                                           sigset_t*) noexcept { return 0; };
inline constexpr auto sched_setaffinity =
    [](pid_t, std::size_t, cpu_set_t const*) noexcept { return 0; };
inline constexpr auto sched_setscheduler =
    [](pid_t, int, sched_param const*) noexcept { return 0; };

// The shared areas.
inline constexpr auto mmap = [](void*, std::size_t bytes, int, int, int,
                                off_t) noexcept -> void* {
  void* const memory = std::aligned_alloc(64, (bytes + 63) & ~std::size_t{63});
  std::memset(memory, 0, bytes);
  return memory;
};
inline constexpr auto munmap = [](void* memory, std::size_t) noexcept {
  std::free(memory);
  return 0;
};

}  // namespace detail

}  // namespace activations

// abi.h is C: its atomics are named outside of namespace activations.
#define std activations::std
#include <activations/abi.h>
#undef std

#include <activations/detail/portable/thread_state.hpp>
#include <activations/detail/stack_overflow.hpp>

namespace activations::detail {

// Knows who is blocked.
class model_inspector {
 public:
  int open(pid_t) const noexcept { return -1; }
  thread_activity look(int, pid_t tid,
                       activations_cause* cause) const noexcept {
    if (!model::machine::current()->is_blocked(tid - 1))
      return thread_activity::running;
    if (cause != nullptr) *cause = activations_cause{};
    return thread_activity::blocked;
  }
};

// A kernel thread's own stack is that of the model's thread.
inline void model_context_init_native(context& self) noexcept {
  self = context{};
#if ACTIVATIONS_ASAN
  self.stack_base = model::engine::current()->stack();
  self.stack_bytes = model::engine::stack_bytes;
#endif
#if ACTIVATIONS_TSAN
  self.fiber = __tsan_get_current_fiber();
#endif
}

struct no_alternate_stack {
  no_alternate_stack() noexcept {}
  ~no_alternate_stack() {}
};

}  // namespace activations::detail

#define thread_inspector model_inspector
#define alternate_stack no_alternate_stack
#define context_init_native model_context_init_native
