// SPDX-License-Identifier: BSL-1.0
//
// The kernel threads that are activations: a slot for each, the same whoever
// lends the processors.
//
// pthread_create and pthread_join may wait for a lock that a stopped user
// thread holds.  So they are called by threads that are no activation, one at
// a time: whoever makes and ends the backend, and in between the spare_maker.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include <activations/activation_statistics.hpp>
#include <activations/detail/area_view.hpp>
#include <activations/detail/core.hpp>
#include <activations/detail/stack_overflow.hpp>

namespace activations::detail {

// Signals that a runtime thread leaves to others: all.
class signals_blocked {
 public:
  signals_blocked() noexcept {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~signals_blocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  signals_blocked(signals_blocked const&) = delete;
  signals_blocked& operator=(signals_blocked const&) = delete;

 private:
  sigset_t before_;
};

// What a lender does on such a thread before and after it runs user code.
// Context: the thread itself; it is no activation then.
class thread_host {
 public:
  // False: it cannot take part, and ends.
  [[nodiscard]] virtual bool begin(activation& self) noexcept = 0;
  virtual void end(activation& self) noexcept = 0;

 protected:
  ~thread_host() = default;
};

class activation_threads {
 public:
  activation_threads(core& home, area_view& shared, thread_host& host)
      : core_(home),
        shared_(shared),
        host_(host),
        slots_(std::make_unique<std::unique_ptr<slot>[]>(
            home.activation_slots())) {
    pthread_sigmask(SIG_SETMASK, nullptr, &user_signals_);
  }

  activation_threads(activation_threads const&) = delete;
  activation_threads& operator=(activation_threads const&) = delete;

  // The mask that user code sees.  May be changed before the first thread.
  [[nodiscard]] sigset_t& user_signals() noexcept { return user_signals_; }

  // The activation of slot `index`, which has no thread.  Null: no memory.
  [[nodiscard]] activation* enter(std::uint32_t index) noexcept {
    if (slots_[index] == nullptr && !fill(index)) {
      count_failure();
      return nullptr;
    }
    return &slots_[index]->self;
  }

  // Gives it a thread, on one CPU unless that is -1.  Returns an errno value;
  // whoever gives up after one counts the failure.
  [[nodiscard]] int start(std::uint32_t index, int cpu) noexcept {
    slot& s = *slots_[index];
    s.self.exits = false;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, base_stack_bytes);
    if (cpu >= 0) {
      cpu_set_t mask;
      CPU_ZERO(&mask);
      CPU_SET(cpu, &mask);
      pthread_attr_setaffinity_np(&attributes, sizeof mask, &mask);
    }
    // Whoever is seen to run has been counted.
    counts_.created.fetch_add(1, std::memory_order::relaxed);
    counts_.alive.fetch_add(1, std::memory_order::release);
    int const error = pthread_create(&s.thread, &attributes, &run_thread, &s);
    pthread_attr_destroy(&attributes);
    s.has_thread = error == 0;
    if (!s.has_thread) {
      counts_.alive.fetch_sub(1, std::memory_order::relaxed);
      counts_.created.fetch_sub(1, std::memory_order::relaxed);
    }
    return error;
  }
  void count_failure() noexcept {
    counts_.creation_failures.fetch_add(1, std::memory_order::relaxed);
  }

  [[nodiscard]] bool has_thread(std::uint32_t index) const noexcept {
    return slots_[index] != nullptr && slots_[index]->has_thread;
  }
  // Requires: it was told to end, or does so by itself.
  void join(std::uint32_t index) noexcept {
    pthread_join(slots_[index]->thread, nullptr);
    slots_[index]->has_thread = false;
  }
  // As join, for one that was not needed any more.
  void join_surplus(std::uint32_t index) noexcept {
    join(index);
    counts_.ended.fetch_add(1, std::memory_order::relaxed);
  }

  // INDEX_NONE: all have threads.
  [[nodiscard]] std::uint32_t unused_slot() const noexcept {
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i)
      if (!has_thread(i)) return i;
    return ACTIVATIONS_INDEX_NONE;
  }
  [[nodiscard]] bool is_full() const noexcept {
    return counts_.alive.load(std::memory_order::relaxed) >=
           core_.activation_slots();
  }

  void count_in(activation_statistics& s) const noexcept {
    // Acquire: `created` is not behind.
    s.activations = counts_.alive.load(std::memory_order::acquire);
    s.created = counts_.created.load(std::memory_order::relaxed);
    s.ended = counts_.ended.load(std::memory_order::relaxed);
    s.creation_failures =
        counts_.creation_failures.load(std::memory_order::relaxed);
  }

 private:
  static constexpr std::size_t base_stack_bytes = 64 * 1024;

  // One kernel thread's place.  Lives until all ends, whatever its thread
  // does: others may look at it at any time.
  struct slot {
    activation self;
    pthread_t thread{};
    bool has_thread = false;  // whoever makes threads
    activation_threads* home = nullptr;
  };

  // What of a slot stays the same whatever thread has it.
  bool fill(std::uint32_t index) noexcept {
    slots_[index].reset(new (std::nothrow) slot);
    if (slots_[index] == nullptr) return false;
    slots_[index]->home = this;
    activation& a = slots_[index]->self;
    a.home = &core_;
    a.index = index;
    a.control = &shared_.activation_control(index);
    a.info = &shared_.activation_info(index);
    a.control->cookie.store(reinterpret_cast<std::uintptr_t>(&a));
    core_.set_activation(index, &a);
    return true;
  }

  static void* run_thread(void* argument) {
    slot& s = *static_cast<slot*>(argument);
    activation_threads& threads = *s.home;
    activation& self = s.self;
    self.tid.store(gettid(), std::memory_order::relaxed);
    self.exceptions = current_exception_globals();
    self.base.memory.guard = guard_kind::pages;  // the kernel thread's own
    self.current = &self.base;
    context_init_native(self.base.machine);
    alternate_stack const alternate;
    if (threads.host_.begin(self)) {
      current_activation_pointer = &self;
      pthread_sigmask(SIG_SETMASK, &threads.user_signals_, nullptr);

      self.home->run_activation(self);

      // Still disabled: nobody would run it again if it were stopped here.
      current_activation_pointer = nullptr;
      self.home->release_caches(self);
      threads.host_.end(self);
      self.control->disabled.store(0, std::memory_order::relaxed);
    }
    threads.counts_.alive.fetch_sub(1, std::memory_order::relaxed);
    return nullptr;
  }

  core& core_;
  area_view& shared_;
  thread_host& host_;
  std::unique_ptr<std::unique_ptr<slot>[]> slots_;
  sigset_t user_signals_{};
  // Totals, and what is alive as a hint.
  struct {
    std::atomic<std::uint64_t> created{0};
    std::atomic<std::uint64_t> ended{0};
    std::atomic<std::uint64_t> creation_failures{0};
    std::atomic<std::uint32_t> alive{0};
  } counts_;
};

}  // namespace activations::detail
