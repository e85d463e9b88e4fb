// SPDX-License-Identifier: BSL-1.0
//
// The kernel threads that are activations: made ahead of need, parked as
// spares of the processor on whose CPU they sit, ended when there are too many.
//
// One thread of its own, the maker, creates and ends them.  It alone calls
// pthread_create and pthread_join, which may wait for a lock that a stopped
// user thread holds: then no new spares come, and everything else goes on (P6,
// P9).  It is woken when a processor's stock falls below half of what the last
// burst made it want, so that a burst of blocks finds the next ones ready.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>
#include <vector>

#include <activations/detail/core.hpp>
#include <activations/detail/portable/areas.hpp>
#include <activations/detail/portable/order.hpp>
#include <activations/detail/portable/preempt_signal.hpp>
#include <activations/detail/portable/spare_list.hpp>
#include <activations/detail/portable/thread_state.hpp>
#include <activations/detail/portable/watcher.hpp>
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

class activation_pool {
 public:
  struct counts {
    std::atomic<std::uint64_t> created{0};
    std::atomic<std::uint64_t> ended{0};
    std::atomic<std::uint64_t> creation_failures{0};
    std::atomic<std::uint64_t> no_spare{0};
    std::atomic<std::uint32_t> alive{0};
  };

  // `cpus`: where processor i sits; -1: anywhere.
  activation_pool(core& home, areas& shared, std::vector<int> cpus,
                  preempt_signal const* preempt)
      : core_(home),
        areas_(shared),
        cpus_(std::move(cpus)),
        preempt_(preempt),
        lanes_(std::make_unique<lane[]>(cpus_.size())),
        slots_(std::make_unique<std::unique_ptr<slot>[]>(
            home.activation_slots())) {
    pthread_sigmask(SIG_SETMASK, nullptr, &user_signals_);
    for (int const cpu : cpus_)
      if (cpu < 0) pinned_.store(false, std::memory_order::relaxed);
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    most_files_ =
        static_cast<std::uint32_t>(std::min<rlim_t>(files.rlim_cur / 8, 128));
  }

  ~activation_pool() {
    end_maker();
    end_all();
  }

  activation_pool(activation_pool const&) = delete;
  activation_pool& operator=(activation_pool const&) = delete;

  // The first activation of a processor, which owns it from the start.
  // Returns an errno value, 0 for success.
  [[nodiscard]] int create_owner(std::uint32_t processor) {
    return create(processor, processor, false);
  }

  // From here on there are spares.  Returns an errno value.
  [[nodiscard]] int start_maker() {
    signals_blocked const inherited;
    int const error = pthread_create(&maker_thread_, nullptr, &run_maker, this);
    has_maker_ = error == 0;
    return error;
  }

  void end_maker() {
    maker_ends_.store(true, std::memory_order::release);
    maker_.wake();
    if (std::exchange(has_maker_, false)) pthread_join(maker_thread_, nullptr);
  }

  // Requires: core::end() was called, and the maker has ended.
  void end_all() {
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i) {
      if (slots_[i] == nullptr || !slots_[i]->has_thread) continue;
      send_exit(slots_[i]->self);
      pthread_join(slots_[i]->thread, nullptr);
      slots_[i]->has_thread = false;
    }
  }

  // ---- spares ------------------------------------------------------------

  // `a` sleeps, or is about to, and owns nothing.
  void push_spare(activation& a) noexcept {
    set_activation_state(a, ACTIVATIONS_ACTIVATION_SPARE);
    lane& here = lanes_[a.pinned_processor.load(std::memory_order::relaxed)];
    if (std::exchange(a.is_new, false))
      here.births.fetch_sub(1, std::memory_order::relaxed);
    here.spares.push(a);
  }

  // A spare on this processor's CPU, or null: then some are being made,
  // unless the cap is reached.
  [[nodiscard]] activation* pop_spare(std::uint32_t processor) noexcept {
    lane& here = lanes_[processor];
    activation* const found = here.spares.pop(core_);
    if (found == nullptr)
      counts_.no_spare.fetch_add(1, std::memory_order::relaxed);
    auto const wanted = here.wanted.load(std::memory_order::relaxed);
    if (here.spares.size() < wanted / 2) {
      here.wanted.store(std::min(wanted * 2, most_wanted),
                        std::memory_order::relaxed);
      maker_.wake();
    }
    return found;
  }

  // As pop_spare, or one of another processor, moved here.
  [[nodiscard]] activation* any_spare(std::uint32_t processor) noexcept {
    for (std::uint32_t i = 0; i < cpus_.size(); ++i) {
      auto const from =
          static_cast<std::uint32_t>((processor + i) % cpus_.size());
      if (activation* const found = pop_spare(from)) {
        pin(*found, processor);
        return found;
      }
    }
    return nullptr;
  }

  [[nodiscard]] std::uint32_t spares(std::uint32_t processor) const noexcept {
    return lanes_[processor].spares.size();
  }

  // ---- kernel threads ----------------------------------------------------

  // Moves an activation to the CPU of a processor.
  void pin(activation& a, std::uint32_t processor) noexcept {
    if (a.pinned_processor.exchange(processor, std::memory_order::relaxed) ==
        processor)
      return;
    if (!is_pinned()) return;
    int const saved = errno;
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(cpus_[processor], &mask);
    // A cpuset was changed under us: from now on nobody trusts the CPU.
    if (sched_setaffinity(a.tid.load(std::memory_order::relaxed), sizeof mask,
                          &mask) != 0)
      pinned_.store(false, std::memory_order::relaxed);
    errno = saved;
  }
  // Every activation sits on its processor's CPU, as far as we know.
  [[nodiscard]] bool is_pinned() const noexcept {
    return pinned_.load(std::memory_order::relaxed);
  }
  [[nodiscard]] int cpu_of(std::uint32_t processor) const noexcept {
    return cpus_[processor];
  }

  [[nodiscard]] thread_activity activity_of(
      activation& a, activations_cause* cause = nullptr) noexcept {
    // seq_cst, both: we see that the file is gone, or close_file sees us.
    a.lookers.fetch_add(1, std::memory_order::seq_cst);
    auto const found =
        inspector_.look(a.syscall_file.load(std::memory_order::seq_cst),
                        a.tid.load(std::memory_order::relaxed), cause);
    // Release: our use of the file, before it is closed.
    a.lookers.fetch_sub(1, std::memory_order::release);
    return found;
  }

  [[nodiscard]] counts const& totals() const noexcept { return counts_; }

 private:
  static constexpr std::uint32_t least_wanted = 4;  // spares of a processor
  static constexpr std::uint32_t most_wanted = 8;
  static constexpr std::size_t base_stack_bytes = 64 * 1024;
  static constexpr std::uint64_t trim_period_ns = 500'000'000;
  static constexpr std::uint64_t retry_period_ns = 100'000'000;

  // One kernel thread's place.  Lives until the pool ends, whatever its
  // thread does: others may look at it at any time.
  struct slot {
    activation self;
    pthread_t thread{};
    bool has_thread = false;  // the maker's
    activation_pool* home = nullptr;
  };

  // The counts are hints for the maker, hence relaxed; so are the totals.
  struct alignas(cache_line_bytes) lane {
    spare_list spares;
    std::atomic<std::uint32_t> wanted{least_wanted};
    std::atomic<std::uint32_t> births{0};  // made, and not parked yet
  };

  // Makes a slot, and what of it stays the same whatever thread has it.
  bool enter(std::uint32_t index) {
    slots_[index].reset(new (std::nothrow) slot);
    if (slots_[index] == nullptr) return false;
    slots_[index]->home = this;
    activation& a = slots_[index]->self;
    a.home = &core_;
    a.index = index;
    a.control = &areas_.activation_control(index);
    a.info = &areas_.activation_info(index);
    a.control->cookie.store(reinterpret_cast<std::uintptr_t>(&a));
    core_.set_activation(index, &a);
    return true;
  }

  // `as_spare`: it parks first, and counts as a birth until it has.
  int create(std::uint32_t index, std::uint32_t processor, bool as_spare) {
    if (slots_[index] == nullptr && !enter(index)) {
      counts_.creation_failures.fetch_add(1, std::memory_order::relaxed);
      return ENOMEM;
    }
    slot& s = *slots_[index];
    activation& a = s.self;
    a.lent = &core_.processor_at(processor);
    a.pinned_processor.store(processor, std::memory_order::relaxed);
    a.exits = false;
    a.is_new = as_spare;
    a.info->generation.fetch_add(1, std::memory_order::relaxed);
    a.info->processor.store(processor, std::memory_order::relaxed);

    if (as_spare)
      lanes_[processor].births.fetch_add(1, std::memory_order::relaxed);
    int error = start_thread(s, processor);
    if ((error == EPERM || error == EINVAL) && is_pinned()) {
      // A sandbox, or a cpuset that was changed under us.
      pinned_.store(false, std::memory_order::relaxed);
      error = start_thread(s, processor);
    }
    if (error != 0) {
      if (as_spare)
        lanes_[processor].births.fetch_sub(1, std::memory_order::relaxed);
      counts_.creation_failures.fetch_add(1, std::memory_order::relaxed);
      return error;
    }
    s.has_thread = true;
    counts_.alive.fetch_add(1, std::memory_order::relaxed);
    counts_.created.fetch_add(1, std::memory_order::relaxed);
    return 0;
  }

  static void close_file(activation& self) noexcept {
    int const file = self.syscall_file.exchange(-1, std::memory_order::seq_cst);
    if (file < 0) return;
    // Those who are at it need a few microseconds.
    while (self.lookers.load(std::memory_order::seq_cst) != 0) sched_yield();
    ::close(file);
  }

  // Returns an errno value.
  int start_thread(slot& s, std::uint32_t processor) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, base_stack_bytes);
    if (is_pinned()) {
      cpu_set_t mask;
      CPU_ZERO(&mask);
      CPU_SET(cpus_[processor], &mask);
      pthread_attr_setaffinity_np(&attributes, sizeof mask, &mask);
    }
    int const error = pthread_create(&s.thread, &attributes, &run_thread, &s);
    pthread_attr_destroy(&attributes);
    return error;
  }

  static void* run_thread(void* argument) {
    slot& s = *static_cast<slot*>(argument);
    activation_pool& pool = *s.home;
    activation& self = s.self;
    pid_t const tid = gettid();
    self.tid.store(tid, std::memory_order::relaxed);
    self.info->tid.store(static_cast<std::uint32_t>(tid));
    self.exceptions = current_exception_globals();
    self.base.memory.guard = guard_kind::pages;  // the kernel thread's own
    self.current = &self.base;
    context_init_native(self.base.machine);
    alternate_stack const alternate;
    // Open descriptors are few: the first activations get one each.
    bool const has_file =
        pool.files_.fetch_add(1, std::memory_order::relaxed) < pool.most_files_;
    if (has_file)
      self.syscall_file.store(pool.inspector_.open(tid),
                              std::memory_order::relaxed);
    current_activation_pointer = &self;
    pthread_sigmask(SIG_SETMASK, &pool.user_signals_, nullptr);
    if (pool.preempt_ != nullptr) pool.preempt_->unblock();

    self.home->run_activation(self);

    self.control->disabled.store(0, std::memory_order::relaxed);
    current_activation_pointer = nullptr;
    self.home->release_caches(self);
    close_file(self);
    pool.files_.fetch_sub(1, std::memory_order::relaxed);
    set_activation_state(self, ACTIVATIONS_ACTIVATION_UNUSED);
    self.info->tid.store(0, std::memory_order::relaxed);
    pool.counts_.alive.fetch_sub(1, std::memory_order::relaxed);
    return nullptr;
  }

  static void* run_maker(void* argument) {
    static_cast<activation_pool*>(argument)->maker();
    return nullptr;
  }

  void maker() {
    while (!maker_ends_.load(std::memory_order::acquire)) {
      bool failed = false;
      bool surplus = false;
      for (std::uint32_t i = 0; i < cpus_.size(); ++i) {
        lane& here = lanes_[i];
        while (!failed &&
               stock(here) < here.wanted.load(std::memory_order::relaxed) &&
               !maker_ends_.load(std::memory_order::acquire)) {
          auto const index = unused_slot();
          if (index == ACTIVATIONS_INDEX_NONE) break;  // the cap
          failed = create(index, i, true) != 0;
        }
        surplus |= here.spares.size() > least_wanted ||
                   here.wanted.load(std::memory_order::relaxed) > least_wanted;
      }
      if (failed) {
        // Asked for again after a while, however many want one meanwhile.
        auto const until = monotonic_ns() + retry_period_ns;
        while (!maker_ends_.load(std::memory_order::acquire) &&
               monotonic_ns() < until)
          maker_.nap(retry_period_ns / 10);
        continue;
      }
      bool const woken = maker_.sleep(
          maker_sleeps_,
          [&] {
            return lacks_spares() ||
                   maker_ends_.load(std::memory_order::acquire);
          },
          surplus ? monotonic_ns() + trim_period_ns : no_deadline);
      if (surplus && !woken) end_surplus();
    }
  }

  static std::uint32_t stock(lane const& here) noexcept {
    return here.spares.size() + here.births.load(std::memory_order::relaxed);
  }

  [[nodiscard]] bool lacks_spares() noexcept {
    if (counts_.alive.load(std::memory_order::relaxed) >=
        core_.activation_slots())
      return false;
    for (std::uint32_t i = 0; i < cpus_.size(); ++i)
      if (stock(lanes_[i]) <
          lanes_[i].wanted.load(std::memory_order::relaxed) / 2)
        return true;
    return false;
  }

  // Nobody asked for a while: half of what is beyond the least goes.
  void end_surplus() {
    for (std::uint32_t i = 0; i < cpus_.size(); ++i) {
      lane& here = lanes_[i];
      here.wanted.store(
          std::max(here.wanted.load(std::memory_order::relaxed) / 2,
                   least_wanted),
          std::memory_order::relaxed);
      auto const size = here.spares.size();
      if (size <= least_wanted) continue;
      for (auto n = (size - least_wanted + 1) / 2; n > 0; --n) {
        activation* const gone = here.spares.pop(core_);
        if (gone == nullptr) break;
        slot& s = *slots_[gone->index];
        send_exit(*gone);
        pthread_join(s.thread, nullptr);
        s.has_thread = false;
        counts_.ended.fetch_add(1, std::memory_order::relaxed);
      }
    }
  }

  [[nodiscard]] std::uint32_t unused_slot() const noexcept {
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i)
      if (slots_[i] == nullptr || !slots_[i]->has_thread) return i;
    return ACTIVATIONS_INDEX_NONE;
  }

  core& core_;
  areas& areas_;
  std::vector<int> cpus_;
  preempt_signal const* preempt_;
  std::unique_ptr<lane[]> lanes_;
  std::unique_ptr<std::unique_ptr<slot>[]> slots_;
  thread_inspector inspector_;
  sigset_t user_signals_{};
  std::atomic<bool> pinned_{true};
  std::atomic<std::uint32_t> files_{0};
  std::uint32_t most_files_ = 0;
  counts counts_;

  watcher maker_;
  std::atomic<std::uint32_t> maker_sleeps_{0};
  std::atomic<bool> maker_ends_{false};
  pthread_t maker_thread_{};
  bool has_maker_ = false;
};

}  // namespace activations::detail
