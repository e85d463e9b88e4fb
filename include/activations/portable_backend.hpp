// SPDX-License-Identifier: BSL-1.0
//
// Plain Linux as the lender of processors: no module, no privileges.  Kernel
// threads pinned to CPUs are the activations; what a kernel would do at a
// block is done by others who notice it:
//
//   returner   an activation that comes back from its block takes its
//              processor from an owner that is off the CPU (reclaim)
//   sentinel   one idle-class thread for each processor, on its CPU; that it
//              runs while work waits proves that the owner is blocked
//   monitor    a normal-class thread with a back-off tick, for the case that
//              another process keeps the CPU busy and starves the sentinel;
//              it also ends slices and keeps timers when nobody else does
//   maker      creates spare activations ahead of need and ends surplus ones;
//              alone in calling pthread_create, which may wait for a lock that
//              a stopped user thread holds
//
// All change the processor words of the info area through processor_word.hpp
// and nothing else, as the kernel of abi.h would.  The sentinel and the
// monitor never hold a processor: they send a spare to take it.
//
// Context: the constructor and destructor run on any kernel thread that is no
// activation of this scheduler; everything else as detail/backend.hpp says.
#pragma once

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <activations/detail/core.hpp>
#include <activations/error.hpp>
#include <activations/processor_backend.hpp>
#include <activations/detail/portable/areas.hpp>
#include <activations/detail/portable/block_causes.hpp>
#include <activations/detail/portable/inherited_affinity.hpp>
#include <activations/detail/portable/preempt_signal.hpp>
#include <activations/detail/portable/spare_list.hpp>
#include <activations/detail/portable/thread_state.hpp>
#include <activations/detail/portable/topology.hpp>
#include <activations/detail/portable/watcher.hpp>
#include <activations/detail/stack_overflow.hpp>

namespace activations {

struct portable_options {
  std::uint32_t most_activations = 0;
  std::chrono::nanoseconds slice{0};
  bool strict = false;
  bool hand_over = true;  // false: a blocked thread keeps its processor
};

// Counters, each since the backend started.
struct portable_statistics {
  std::uint64_t returns = 0;        // processors taken by returners
  std::uint64_t sentinel_takes = 0; // hand-overs that the sentinel caused
  std::uint64_t monitor_takes = 0;  // hand-overs that the monitor caused
  std::uint64_t missed_takes = 0;   // the owner was quicker than the spare
  std::uint64_t excess_parks = 0;   // returners that found no processor
  std::uint64_t preemptions = 0;    // slices ended
  std::uint64_t no_spare = 0;       // a hand-over found no spare
  std::uint64_t direct_resumes = 0; // a stopped thread resumed for lack of one
  std::uint64_t creation_failures = 0;  // pthread_create said no
  std::uint64_t created = 0;        // kernel threads made
  std::uint64_t ended = 0;          // surplus ones ended
  std::uint32_t activations = 0;    // alive now
  std::uint32_t spares = 0;         // of these, parked
};

class portable_backend final : public detail::backend {
 public:
  // Starts one activation for each of `cpus`, and the helpers.  Throws
  // std::system_error when not even these can be made.
  portable_backend(detail::core& core, std::vector<int> cpus,
                   portable_options const& options)
      : core_(core),
        options_(options),
        cpus_(std::move(cpus)),
        areas_(processor_count(), core.activation_slots()),
        lanes_(std::make_unique<lane[]>(processor_count())),
        slots_(std::make_unique<std::unique_ptr<slot>[]>(
            core.activation_slots())) {
    core_.attach_backend(*this);
    pthread_sigmask(SIG_SETMASK, nullptr, &user_signals_);
    can_hand_over_ =
        options_.hand_over && core_.activation_slots() > processor_count();
    for (std::uint32_t i = 0; i < processor_count(); ++i) {
      auto& p = core_.processor_at(i);
      p.info = &areas_.processor_info(i);
      p.control = &areas_.processor_control(i);
      p.index = i;
      p.info->cpu.store(static_cast<std::uint32_t>(cpus_[i]));
      p.info->word.store(detail::processor_view{0}.next(
          ACTIVATIONS_PROCESSOR_RUNNING, i));
      p.info->grants.store(1);
      p.control->slice_ns.store(
          static_cast<std::uint64_t>(options_.slice.count()));
    }
    if (options_.slice.count() > 0) preempt_signal_.emplace();
    for (std::uint32_t i = 0; i < processor_count(); ++i)
      if (int const error = create(i, i, false)) {
        stop_all();
        throw_system_error(error, "create the first activations");
      }
    if (can_hand_over_) start_helpers();
  }

  // Requires: nothing is left to run.
  ~portable_backend() override { stop_all(); }

  // ---- detail::backend ---------------------------------------------------

  bool reclaim(detail::activation& self) noexcept override {
    if (core_.has_ended()) return false;
    set_state(self, ACTIVATIONS_ACTIVATION_UNBLOCKED);
    detail::processor& last = *self.lent;
    detail::processor_view const seen = last.view();
    if (seen.is_idle() ? claim_idle(self, last, seen)
                       : take_from_blocked(self, last, seen)) {
      found_processor(self);
      return true;
    }
    bool const claimed =
        core_.idle_count() != 0 &&
        core_.for_idle_processors([&](detail::processor& p) {
          detail::processor_view const view = p.view();
          return view.is_idle() && claim_idle(self, p, view);
        });
    if (claimed) found_processor(self);
    return claimed;
  }

  bool park(detail::activation& self) noexcept override {
    if (clear_lost(self)) count(excess_parks_);
    if (std::exchange(self.is_new, false))
      lanes_[self.pinned_processor].births.fetch_sub(1);
    for (;;) {
      if (core_.has_ended()) return false;
      push_spare(self);
      switch (wait_order(self)) {
        case detail::order::exit: return false;
        case detail::order::granted: return granted(self);
        case detail::order::take:
          if (take_as_told(self)) return true;
          break;
        default: break;
      }
    }
  }

  void idle(detail::activation& self,
            std::uint64_t deadline_ns) noexcept override {
    detail::processor& p = *self.lent;
    if (!detail::processor_to_idle(p.info->word, self.index)) return;
    core_.processor_went_idle(p);
    core_.barrier_for_forks();
    if (core_.has_work() || core_.has_ended()) {
      if (regain_idle(self, p)) return;
      deadline_ns = detail::no_deadline;
    }
    bool const keeper =
        deadline_ns != detail::no_deadline && become_timekeeper(self);
    for (;;) {
      auto const told =
          wait_order(self, keeper ? deadline_ns : detail::no_deadline);
      if (told == detail::order::granted) {
        granted(self);
        break;
      }
      if (told == detail::order::exit) {
        self.exits = true;
        break;
      }
      if (told == detail::order::take) {
        // A claimer made us a spare, and somebody needs one.
        if (take_as_told(self)) break;
        push_spare(self);
      } else if (regain_idle(self, p)) {  // deadline, or told to look
        break;
      }
      deadline_ns = detail::no_deadline;
    }
    if (keeper) resign_timekeeper();
  }

  bool switch_to(detail::activation& self,
                 detail::activation& target) noexcept override {
    detail::processor& p = *self.lent;
    detail::processor_view const seen = p.view();
    if (!seen.is_running() || seen.owner() != self.index) return false;
    pin(target, p.index);
    target.predecessor = self.index;
    if (!detail::transfer_processor(p.info->word, seen, target.index))
      return false;
    send(target, detail::order::granted, p);
    return true;
  }

  bool stop(detail::activation& self, detail::after_switch enqueue,
            void* argument) noexcept override {
    detail::processor& p = *self.lent;
    detail::processor_view const seen = p.view();
    bool const owns = seen.is_running() && seen.owner() == self.index;
    detail::activation* next = nullptr;
    if (owns && (next = any_spare(p.index)) == nullptr) {
      count(no_spare_);
      return false;
    }
    set_state(self, ACTIVATIONS_ACTIVATION_PREEMPTED);
    add(p.info->preemptions);
    enqueue(argument, self);
    if (owns) hand_to(self, p, seen, *next);
    await_grant(self);
    return true;
  }

  void wait_pinned(detail::activation& self, detail::after_switch after,
                   void* argument) noexcept override {
    detail::processor& p = *self.lent;
    detail::processor_view const seen = p.view();
    bool const owns = seen.is_running() && seen.owner() == self.index;
    detail::activation* const next = owns ? any_spare(p.index) : nullptr;
    set_state(self, ACTIVATIONS_ACTIVATION_PARKED);
    self.waits_pinned.store(true, std::memory_order::release);
    after(argument, self);
    if (next != nullptr) hand_to(self, p, seen, *next);
    await_grant(self);
    self.waits_pinned.store(false, std::memory_order::release);
  }

  void resume_pinned(detail::activation& waiting) noexcept override {
    detail::processor_view const seen = waiting.lent->view();
    // Nobody took its processor: it has only to wake up.  Should one take it
    // just now, the woken one is a returner like any other.
    if (seen.is_running() && seen.owner() == waiting.index)
      send(waiting, detail::order::granted, *waiting.lent);
    else
      core_.make_runnable(waiting);
  }

  bool wake_idle() noexcept override {
    return core_.for_idle_processors([&](detail::processor& p) {
      detail::processor_view const seen = p.view();
      // Not idle: whoever changed the word is about to clear the bit, and
      // looks at the queues after that.
      if (!seen.is_idle()) return false;
      detail::activation& owner = *core_.activation_at(seen.owner());
      if (!detail::transfer_processor(p.info->word, seen, owner.index))
        return false;
      core_.processor_left_idle(p);
      owner.is_searcher = true;
      send(owner, detail::order::granted, p);
      return true;
    });
  }

  void watch() noexcept override {
    for (std::uint32_t i = 0; i < processor_count(); ++i)
      if (lanes_[i].sentinel_enabled.load(std::memory_order::relaxed))
        lanes_[i].sentinel.wake();
    monitor_.wake();
  }

  void timer_set(std::uint64_t) noexcept override {
    auto const keeper = timekeeper_.load(std::memory_order::seq_cst);
    if (keeper != 0) {
      if (detail::activation* const a = core_.activation_at(keeper - 1))
        nudge(*a);
    } else if (core_.idle_count() != 0) {
      core_.notify();
    } else {
      monitor_.wake();
    }
  }

  std::string describe() const override {
    std::string text = "portable backend (no /dev/activations): ";
    text += std::to_string(cpus_.size());
    text += cpus_.size() == 1 ? " processor" : " processors";
    if (!can_hand_over_) return text + ", blocked threads keep theirs";
    text += ", at most " + std::to_string(core_.activation_slots()) +
            " kernel threads";
    if (!pinned_) text += ", unpinned";
    if (!proc_works_) text += ", no /proc/self/task/TID/syscall";
    return text;
  }

  // ---- for statistics ----------------------------------------------------

  [[nodiscard]] portable_statistics statistics() noexcept {
    portable_statistics s;
    auto const get = [](std::atomic<std::uint64_t> const& c) {
      return c.load(std::memory_order::relaxed);
    };
    s.returns = get(returns_);
    s.sentinel_takes = get(sentinel_takes_);
    s.monitor_takes = get(monitor_takes_);
    s.missed_takes = get(missed_takes_);
    s.excess_parks = get(excess_parks_);
    s.no_spare = get(no_spare_);
    s.direct_resumes = get(direct_resumes_);
    s.creation_failures = get(creation_failures_);
    s.created = get(created_);
    s.ended = get(reaped_);
    s.activations = alive_.load(std::memory_order::relaxed);
    for (std::uint32_t i = 0; i < processor_count(); ++i) {
      s.preemptions += get(areas_.processor_info(i).preemptions);
      s.spares += lanes_[i].spares.size();
    }
    return s;
  }
  [[nodiscard]] detail::block_causes& causes() noexcept { return causes_; }
  [[nodiscard]] detail::areas& shared_areas() noexcept { return areas_; }

 private:
  // How old a run segment may be for a returner to believe, without asking,
  // that its owner is off the CPU for good.
  static constexpr std::uint64_t trusted_segment_ns = 300'000;
  static constexpr std::uint64_t shortest_tick_ns = 100'000;
  static constexpr std::uint64_t longest_tick_ns = 10'000'000;
  static constexpr std::uint32_t cause_period = 16;
  static constexpr std::uint32_t spare_floor = 2;    // of each processor
  static constexpr std::uint32_t spare_ceiling = 32;
  static constexpr std::size_t base_stack_bytes = 64 * 1024;

  // One kernel thread's place.  Lives until the backend ends, whatever its
  // thread does: others may look at it at any time.
  struct slot {
    detail::activation self;
    pthread_t thread{};
    bool has_thread = false;
    portable_backend* home = nullptr;
  };

  // What belongs to one processor besides its words.
  struct alignas(detail::cache_line_bytes) lane {
    detail::spare_list spares;
    std::atomic<std::uint32_t> wanted_spares{spare_floor};
    std::atomic<std::uint32_t> births{0};  // made, and not parked yet
    detail::watcher sentinel;
    std::atomic<bool> sentinel_enabled{false};
    std::atomic<std::uint64_t> beats{0};  // turns of the sentinel's loop
    pthread_t sentinel_thread{};
    bool has_sentinel = false;
    // The monitor's memory of the last tick.
    std::uint64_t seen_dispatches = 0;
    std::uint64_t seen_beats = 0;
    std::uint64_t seen_since_ns = 0;
    std::uint32_t misses = 0;
    std::uint64_t probe_at_ns = 0;
    std::uint64_t probe_after_ns = 0;
  };

  struct sentinel_argument {
    portable_backend* home;
    std::uint32_t processor;
  };

  [[nodiscard]] std::uint32_t processor_count() const noexcept {
    return static_cast<std::uint32_t>(cpus_.size());
  }

  static void add(std::atomic<std::uint64_t>& counter) noexcept {
    counter.fetch_add(1, std::memory_order::relaxed);
  }
  static void count(std::atomic<std::uint64_t>& counter) noexcept {
    add(counter);
  }

  static void set_state(detail::activation& a, std::uint32_t state) noexcept {
    a.info->state.store(state, std::memory_order::release);
  }

  // ---- orders ------------------------------------------------------------

  static void send(detail::activation& to, detail::order what,
                   detail::processor& p,
                   std::uint64_t expected = 0) noexcept {
    to.order_processor = &p;
    to.order_expected = expected;
    to.token.store(static_cast<std::uint32_t>(what),
                   std::memory_order::release);
    detail::futex_wake(to.token);
  }

  // Only if nothing else was sent.
  static void nudge(detail::activation& to) noexcept {
    std::uint32_t none = 0;
    if (to.token.compare_exchange_strong(
            none, static_cast<std::uint32_t>(detail::order::look),
            std::memory_order::release, std::memory_order::relaxed))
      detail::futex_wake(to.token);
  }

  // none: the deadline came.
  detail::order wait_order(
      detail::activation& self,
      std::uint64_t deadline_ns = detail::no_deadline) noexcept {
    for (;;) {
      // Acquire: the order's fields.
      auto const told = self.token.exchange(0, std::memory_order::acq_rel);
      if (told != 0) {
        // The end overrides what was sent before it.
        return core_.has_ended() ? detail::order::exit
                                 : static_cast<detail::order>(told);
      }
      if (!detail::futex_wait(self.token, 0, deadline_ns)) {
        auto const late = self.token.exchange(0, std::memory_order::acq_rel);
        return static_cast<detail::order>(late);
      }
    }
  }

  bool granted(detail::activation& self) noexcept {
    self.lent = self.order_processor;
    set_state(self, ACTIVATIONS_ACTIVATION_RUNNING);
    add(self.lent->info->grants);
    return true;
  }

  // For one that left user code in the middle: only a grant continues it.
  void await_grant(detail::activation& self) noexcept {
    while (wait_order(self) != detail::order::granted) {
    }
    granted(self);
  }

  bool take_as_told(detail::activation& self) noexcept {
    detail::processor& p = *self.order_processor;
    detail::processor_view const seen{self.order_expected};
    if (!detail::transfer_processor(p.info->word, seen, self.index)) {
      count(missed_takes_);
      return false;
    }
    lost_processor(*core_.activation_at(seen.owner()), p);
    self.predecessor = seen.owner();
    self.lent = &p;
    set_state(self, ACTIVATIONS_ACTIVATION_RUNNING);
    return true;
  }

  // self, which owned p, gives it to `next`, a spare.
  void hand_to(detail::activation& self, detail::processor& p,
               detail::processor_view seen,
               detail::activation& next) noexcept {
    next.predecessor = self.index;
    if (detail::transfer_processor(p.info->word, seen, next.index)) {
      send(next, detail::order::granted, p);
    } else {
      next.predecessor = ACTIVATIONS_INDEX_NONE;
      push_spare(next);
    }
  }

  // ---- returners ---------------------------------------------------------

  // An owner lost its processor while it was away.
  void lost_processor(detail::activation& owner,
                      detail::processor& p) noexcept {
    if (!owner.is_lost.exchange(true, std::memory_order::acq_rel))
      core_.lost().fetch_add(1, std::memory_order::relaxed);
    set_state(owner, ACTIVATIONS_ACTIVATION_BLOCKED);
    auto const blocks =
        p.info->blocks.fetch_add(1, std::memory_order::relaxed);
    if (blocks % cause_period == 0) sample_cause(owner);
  }
  bool clear_lost(detail::activation& self) noexcept {
    if (!self.is_lost.exchange(false, std::memory_order::acq_rel))
      return false;
    core_.lost().fetch_sub(1, std::memory_order::relaxed);
    return true;
  }
  void found_processor(detail::activation& self) noexcept {
    clear_lost(self);
    set_state(self, ACTIVATIONS_ACTIVATION_RUNNING);
    add(self.lent->info->unblocks);
  }

  bool claim_idle(detail::activation& self, detail::processor& p,
                  detail::processor_view seen) noexcept {
    if (!detail::transfer_processor(p.info->word, seen, self.index))
      return false;
    core_.processor_left_idle(p);
    // Who slept on it is a spare from now on.
    push_spare(*core_.activation_at(seen.owner()));
    self.lent = &p;
    pin(self, p.index);
    return true;
  }

  bool take_from_blocked(detail::activation& self, detail::processor& p,
                         detail::processor_view seen) noexcept {
    if (!can_hand_over_ || !seen.is_running()) return false;
    if (seen.owner() == self.index) return true;
    detail::activation& owner = *core_.activation_at(seen.owner());
    if (!may_be_taken(owner) || !is_off_cpu(self, owner, p)) return false;
    self.predecessor = owner.index;
    if (!detail::transfer_processor(p.info->word, seen, self.index)) {
      self.predecessor = ACTIVATIONS_INDEX_NONE;
      return false;
    }
    lost_processor(owner, p);
    count(returns_);
    return true;
  }

  // Not while it is in the runtime; relaxed and stale is good enough, see
  // processor_word.hpp.
  static bool may_be_taken(detail::activation& owner) noexcept {
    return owner.control->disabled.load(std::memory_order::relaxed) == 0 ||
           owner.waits_pinned.load(std::memory_order::acquire);
  }

  bool is_off_cpu(detail::activation& self, detail::activation& owner,
                  detail::processor& p) noexcept {
    // Both sit on this one CPU, and it runs self.
    bool const same_cpu = pinned_ && self.pinned_processor == p.index &&
                          owner.pinned_processor == p.index;
    if (same_cpu && !options_.strict &&
        detail::monotonic_ns() -
                p.control->segment_start_ns.load(std::memory_order::relaxed) <
            trusted_segment_ns)
      return true;
    return activity_of(owner) == detail::thread_activity::blocked;
  }

  detail::thread_activity activity_of(detail::activation& a,
                                      activations_cause* cause =
                                          nullptr) noexcept {
    return inspector_.look(a.syscall_file, a.tid, cause);
  }

  void sample_cause(detail::activation& blocked) noexcept {
    activations_cause cause{};
    if (activity_of(blocked, &cause) == detail::thread_activity::blocked) {
      blocked.info->cause = cause;
      causes_.add(cause, cause_period);
    }
  }

  // ---- spares ------------------------------------------------------------

  void push_spare(detail::activation& a) noexcept {
    set_state(a, ACTIVATIONS_ACTIVATION_SPARE);
    lanes_[a.pinned_processor].spares.push(a);
  }

  // A parked activation of this processor.
  detail::activation* pop_spare(std::uint32_t processor) noexcept {
    lane& here = lanes_[processor];
    detail::activation* const found = here.spares.pop(core_);
    if (here.spares.size() < spare_floor) {
      if (found == nullptr) {
        auto const wanted = here.wanted_spares.load();
        here.wanted_spares.store(std::min(wanted * 2, spare_ceiling));
      }
      maker_.wake();
    }
    return found;
  }

  // One of this processor, or one of another moved here.
  detail::activation* any_spare(std::uint32_t processor) noexcept {
    if (!can_hand_over_) return nullptr;
    for (std::uint32_t i = 0; i < processor_count(); ++i)
      if (detail::activation* const found =
              pop_spare((processor + i) % processor_count())) {
        pin(*found, processor);
        return found;
      }
    return nullptr;
  }

  void pin(detail::activation& a, std::uint32_t processor) noexcept {
    if (a.pinned_processor == processor) return;
    a.pinned_processor = processor;
    if (!pinned_) return;
    int const saved = errno;
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(cpus_[processor], &mask);
    sched_setaffinity(a.tid, sizeof mask, &mask);
    errno = saved;
  }

  // ---- idle processors ---------------------------------------------------

  bool regain_idle(detail::activation& self, detail::processor& p) noexcept {
    detail::processor_view const seen = p.view();
    if (!seen.is_idle() || seen.owner() != self.index ||
        !detail::transfer_processor(p.info->word, seen, self.index))
      return false;
    core_.processor_left_idle(p);
    return true;
  }

  // One idle processor sleeps with a deadline for all.
  bool become_timekeeper(detail::activation& self) noexcept {
    std::uint32_t none = 0;
    return timekeeper_.compare_exchange_strong(none, self.index + 1,
                                               std::memory_order::seq_cst);
  }
  void resign_timekeeper() noexcept {
    timekeeper_.store(0, std::memory_order::seq_cst);
    if (core_.timers().earliest_ns() == detail::no_deadline) return;
    if (core_.idle_count() != 0)
      core_.notify();
    else
      monitor_.wake();
  }

  // ---- the life of a kernel thread ---------------------------------------

  // `as_spare`: it parks first, and counts as a birth until it has.
  int create(std::uint32_t index, std::uint32_t processor, bool as_spare) {
    if (slots_[index] == nullptr) slots_[index] = std::make_unique<slot>();
    slot& s = *slots_[index];
    detail::activation& a = s.self;
    s.home = this;
    a.home = &core_;
    a.index = index;
    a.control = &areas_.activation_control(index);
    a.info = &areas_.activation_info(index);
    a.lent = &core_.processor_at(processor);
    a.pinned_processor = processor;
    a.info->generation.fetch_add(1);
    a.info->processor.store(processor);
    a.control->cookie.store(reinterpret_cast<std::uintptr_t>(&a));

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, base_stack_bytes);
    pthread_attr_setguardsize(&attributes, 4096);
    if (cpus_[processor] >= 0) {
      cpu_set_t mask;
      CPU_ZERO(&mask);
      CPU_SET(cpus_[processor], &mask);
      pthread_attr_setaffinity_np(&attributes, sizeof mask, &mask);
    } else {
      pinned_ = false;
    }
    a.exits = false;
    a.is_new = as_spare;
    if (as_spare) lanes_[processor].births.fetch_add(1);
    core_.set_activation(index, &a);
    int const error =
        pthread_create(&s.thread, &attributes, &run_thread, &s);
    pthread_attr_destroy(&attributes);
    if (error != 0) {
      if (as_spare) lanes_[processor].births.fetch_sub(1);
      count(creation_failures_);
      return error;
    }
    s.has_thread = true;
    alive_.fetch_add(1);
    count(created_);
    return 0;
  }

  static void* run_thread(void* argument) {
    slot& s = *static_cast<slot*>(argument);
    portable_backend& home = *s.home;
    detail::activation& self = s.self;
    self.tid = gettid();
    self.info->tid.store(static_cast<std::uint32_t>(self.tid));
    self.exceptions = detail::current_exception_globals();
    self.base.memory.guard = detail::guard_kind::pages;
    self.current = &self.base;
    detail::context_init_native(self.base.machine);
    detail::alternate_stack const alternate;
    home.open_inspection(self);
    detail::current_activation_pointer = &self;
    pthread_sigmask(SIG_SETMASK, &home.user_signals_, nullptr);
    if (home.preempt_signal_) home.preempt_signal_->unblock();

    self.home->run_activation(self);

    self.control->disabled.store(0);
    detail::current_activation_pointer = nullptr;
    self.home->release_caches(self);
    home.close_inspection(self);
    set_state(self, ACTIVATIONS_ACTIVATION_UNUSED);
    self.info->tid.store(0);
    home.alive_.fetch_sub(1);
    return nullptr;
  }

  // Open descriptors are few: the first activations get one each.
  void open_inspection(detail::activation& self) noexcept {
    if (!can_hand_over_ ||
        inspection_files_.fetch_add(1) >= most_inspection_files_)
      return;
    self.syscall_file = inspector_.open(self.tid);
    if (self.syscall_file < 0) proc_works_ = false;
  }
  void close_inspection(detail::activation& self) noexcept {
    if (self.syscall_file >= 0) ::close(self.syscall_file);
    self.syscall_file = -1;
  }

  // ---- helpers -----------------------------------------------------------

  void start_helpers() {
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    most_inspection_files_ = static_cast<std::uint32_t>(
        std::min<rlim_t>(files.rlim_cur / 8, 128));
    affinity_.emplace();
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool failed = !start(maker_thread_, has_maker_, &run_maker, this);
    failed |= !start(monitor_thread_, has_monitor_, &run_monitor, this);
    sentinel_arguments_ =
        std::make_unique<sentinel_argument[]>(processor_count());
    for (std::uint32_t i = 0; i < processor_count() && pinned_; ++i) {
      sentinel_arguments_[i] = {this, i};
      lane& here = lanes_[i];
      here.sentinel_enabled.store(true);
      if (!start(here.sentinel_thread, here.has_sentinel, &run_sentinel,
                 &sentinel_arguments_[i]))
        here.sentinel_enabled.store(false);  // the monitor serves alone
    }
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (failed) {
      stop_all();
      throw_system_error(EAGAIN, "create the helper threads");
    }
  }

  bool start(pthread_t& thread, bool& has, void* (*run)(void*),
             void* argument) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, base_stack_bytes);
    has = pthread_create(&thread, &attributes, run, argument) == 0;
    pthread_attr_destroy(&attributes);
    if (!has) count(creation_failures_);
    return has;
  }

  static void* run_sentinel(void* argument) {
    auto const& mine = *static_cast<sentinel_argument*>(argument);
    mine.home->sentinel(mine.processor);
    return nullptr;
  }
  static void* run_monitor(void* argument) {
    static_cast<portable_backend*>(argument)->monitor();
    return nullptr;
  }
  static void* run_maker(void* argument) {
    static_cast<portable_backend*>(argument)->maker();
    return nullptr;
  }

  // Runs only when nothing of the normal class wants this CPU.
  void sentinel(std::uint32_t index) {
    lane& here = lanes_[index];
    detail::processor& p = core_.processor_at(index);
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(cpus_[index], &mask);
    sched_param const none{};
    if (sched_setaffinity(0, sizeof mask, &mask) != 0 ||
        sched_setscheduler(0, SCHED_IDLE, &none) != 0) {
      here.sentinel_enabled.store(false);
      return;
    }
    std::uint64_t sent_for = 0;
    while (!helpers_end_.load(std::memory_order::acquire)) {
      here.beats.fetch_add(1, std::memory_order::relaxed);
      if (!here.sentinel_enabled.load(std::memory_order::relaxed)) {
        here.sentinel.sleep_unlisted();
        continue;
      }
      if (!core_.has_work()) {
        here.sentinel.sleep(core_.watching(), [&] {
          return core_.has_work() || helpers_end_.load();
        });
        continue;
      }
      detail::processor_view const seen = p.view();
      detail::activation* const owner = core_.activation_at(seen.owner());
      if (!seen.is_running() || !may_be_taken(*owner) ||
          seen.word == sent_for) {
        // Idle: it was woken by whoever queued the work.  In the runtime: an
        // ordinary, short block.  Sent already: the spare is on its way.
        sent_for = 0;
        here.sentinel.nap(100'000);
        continue;
      }
      detail::activation* const spare = pop_spare(index);
      if (spare == nullptr) {
        count(no_spare_);
        monitor_.wake();
        here.sentinel.nap(100'000);
        continue;
      }
      sent_for = seen.word;
      count(sentinel_takes_);
      send(*spare, detail::order::take, p, seen.word);
    }
  }

  void monitor() {
    std::uint64_t tick_ns = shortest_tick_ns;
    while (!helpers_end_.load(std::memory_order::acquire)) {
      if (!core_.has_work()) {
        // A processor that is idle keeps the timers itself.
        auto const deadline = core_.idle_count() != 0
                                  ? detail::no_deadline
                                  : core_.timers().earliest_ns();
        monitor_.sleep(
            core_.watching(),
            [&] { return core_.has_work() || helpers_end_.load(); },
            deadline);
      }
      // However often it is woken, it looks once a tick.
      monitor_.nap(tick_ns);
      if (core_.timers().earliest_ns() <= detail::monotonic_ns())
        core_.timers().expire_due(detail::monotonic_ns());
      bool const found = core_.has_work() && inspect_processors();
      tick_ns = found ? shortest_tick_ns
                      : std::min(tick_ns * 2, longest_tick());
    }
  }

  std::uint64_t longest_tick() const noexcept {
    auto const slice = static_cast<std::uint64_t>(options_.slice.count());
    return slice == 0 ? longest_tick_ns
                      : std::clamp(slice / 2, shortest_tick_ns,
                                   longest_tick_ns);
  }

  // True if some owner was found blocked with work waiting.
  bool inspect_processors() {
    bool found = false;
    auto const now = detail::monotonic_ns();
    auto const slice = static_cast<std::uint64_t>(options_.slice.count());
    for (std::uint32_t i = 0; i < processor_count(); ++i) {
      lane& here = lanes_[i];
      detail::processor& p = core_.processor_at(i);
      if (here.probe_at_ns != 0 && now >= here.probe_at_ns)
        enable_sentinel(here);
      auto const beats = here.beats.load(std::memory_order::relaxed);
      bool const sentinel_ran = beats != here.seen_beats;
      here.seen_beats = beats;
      detail::processor_view const seen = p.view();
      auto const dispatches =
          p.control->dispatches.load(std::memory_order::relaxed) + seen.tag();
      if (dispatches != here.seen_dispatches) {
        here.seen_dispatches = dispatches;
        here.seen_since_ns = now;
      }
      if (!seen.is_running()) continue;
      detail::activation& owner = *core_.activation_at(seen.owner());
      if (!may_be_taken(owner)) continue;
      activations_cause cause{};
      auto const activity = activity_of(owner, &cause);
      if (activity == detail::thread_activity::blocked) {
        if (!sentinel_ran && here.sentinel_enabled.load()) {
          if (++here.misses >= 3) disable_sentinel(here);
        } else {
          here.misses = 0;
        }
        relieve(i, p, seen, owner, cause);
        found = true;
      } else if (slice > 0 && now - here.seen_since_ns >= slice) {
        preempt_signal_->send(owner.tid);
      }
    }
    return found;
  }

  // The owner of p is blocked and work waits.
  void relieve(std::uint32_t index, detail::processor& p,
               detail::processor_view seen, detail::activation& owner,
               activations_cause const& cause) {
    if (detail::activation* const spare = pop_spare(index)) {
      owner.info->cause = cause;
      causes_.add(cause, 1);
      count(monitor_takes_);
      send(*spare, detail::order::take, p, seen.word);
      return;
    }
    count(no_spare_);
    // No spare: a stopped activation, which may hold what the others wait
    // for, goes on in its place (P6).
    detail::activation* const stopped = extract_stopped();
    if (stopped == nullptr) return;
    pin(*stopped, p.index);
    stopped->predecessor = owner.index;
    if (detail::transfer_processor(p.info->word, seen, stopped->index)) {
      lost_processor(owner, p);
      count(direct_resumes_);
      send(*stopped, detail::order::granted, p);
    } else {
      core_.inject(*stopped);
      core_.notify();
    }
  }

  // The oldest runnable activation in any queue, or null.
  detail::activation* extract_stopped() {
    detail::activation* found = nullptr;
    core_.sift(monitor_ring_, [&](detail::runnable& item) {
      if (found != nullptr ||
          item.kind != detail::runnable_kind::activation)
        return false;
      found = static_cast<detail::activation*>(&item);
      return true;
    });
    return found;
  }

  // While a competitor starves the idle class, a runnable sentinel only gets
  // in the way of wake-ups; the monitor serves alone and looks again later.
  void disable_sentinel(lane& here) {
    here.sentinel_enabled.store(false);
    here.probe_after_ns =
        std::clamp<std::uint64_t>(here.probe_after_ns * 2, 50'000'000,
                                  1'000'000'000);
    here.probe_at_ns = detail::monotonic_ns() + here.probe_after_ns;
    here.misses = 0;
  }
  void enable_sentinel(lane& here) {
    here.probe_at_ns = 0;
    here.misses = 0;
    here.sentinel_enabled.store(true);
    here.sentinel.wake();
  }

  void maker() {
    std::uint64_t retry_ns = 0;
    while (!helpers_end_.load(std::memory_order::acquire)) {
      bool wants_more = false;
      bool surplus = false;
      for (std::uint32_t i = 0; i < processor_count(); ++i) {
        lane& here = lanes_[i];
        auto const wanted = here.wanted_spares.load();
        while (here.spares.size() + here.births.load() < wanted &&
               !helpers_end_.load()) {
          auto const index = unused_slot();
          if (index == ACTIVATIONS_INDEX_NONE) break;
          if (create(index, i, true) != 0) {
            retry_ns = 100'000'000;
            wants_more = true;
            break;
          }
        }
        surplus |= here.spares.size() > wanted || wanted > spare_floor;
      }
      auto const now = detail::monotonic_ns();
      maker_.sleep(
          maker_sleeps_,
          [&] { return (!wants_more && lacks_spares()) || helpers_end_.load(); },
          wants_more ? now + retry_ns
          : surplus  ? now + 500'000'000
                     : detail::no_deadline);
      if (surplus && !lacks_spares()) end_surplus();
    }
  }

  bool lacks_spares() noexcept {
    if (alive_.load() >= core_.activation_slots()) return false;
    for (std::uint32_t i = 0; i < processor_count(); ++i)
      if (lanes_[i].spares.size() + lanes_[i].births.load() < spare_floor)
        return true;
    return false;
  }

  // Half of what is beyond the floor, each half second.
  void end_surplus() {
    for (std::uint32_t i = 0; i < processor_count(); ++i) {
      lane& here = lanes_[i];
      here.wanted_spares.store(
          std::max(here.wanted_spares.load() / 2, spare_floor));
      auto const size = here.spares.size();
      if (size <= spare_floor) continue;
      for (auto n = (size - spare_floor + 1) / 2; n > 0; --n) {
        detail::activation* const a = here.spares.pop(core_);
        if (a == nullptr) break;
        slot& s = *slots_[a->index];
        a->token.store(static_cast<std::uint32_t>(detail::order::exit),
                       std::memory_order::release);
        detail::futex_wake(a->token);
        pthread_join(s.thread, nullptr);
        s.has_thread = false;
        count(reaped_);
      }
    }
  }

  std::uint32_t unused_slot() const noexcept {
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i)
      if (slots_[i] == nullptr || !slots_[i]->has_thread) return i;
    return ACTIVATIONS_INDEX_NONE;
  }

  void stop_all() {
    helpers_end_.store(true, std::memory_order::release);
    for (std::uint32_t i = 0; i < processor_count(); ++i)
      if (lanes_[i].has_sentinel) {
        lanes_[i].sentinel.wake();
        pthread_join(lanes_[i].sentinel_thread, nullptr);
      }
    if (has_monitor_) {
      monitor_.wake();
      pthread_join(monitor_thread_, nullptr);
    }
    if (has_maker_) {
      maker_.wake();
      pthread_join(maker_thread_, nullptr);
    }
    core_.end();
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i) {
      if (slots_[i] == nullptr || !slots_[i]->has_thread) continue;
      slot& s = *slots_[i];
      s.self.token.store(static_cast<std::uint32_t>(detail::order::exit),
                         std::memory_order::release);
      detail::futex_wake(s.self.token);
      pthread_join(s.thread, nullptr);
      s.has_thread = false;
    }
  }

  detail::core& core_;
  portable_options options_;
  std::vector<int> cpus_;
  detail::areas areas_;
  std::unique_ptr<lane[]> lanes_;
  std::unique_ptr<std::unique_ptr<slot>[]> slots_;
  detail::thread_inspector inspector_;
  detail::block_causes causes_;
  std::optional<detail::preempt_signal> preempt_signal_;
  std::optional<detail::inherited_affinity> affinity_;
  sigset_t user_signals_{};
  bool can_hand_over_ = false;
  bool pinned_ = true;
  std::atomic<bool> proc_works_{true};
  std::atomic<std::uint32_t> inspection_files_{0};
  std::uint32_t most_inspection_files_ = 0;

  std::atomic<std::uint32_t> timekeeper_{0};  // activation index + 1
  std::atomic<std::uint32_t> alive_{0};
  std::atomic<bool> helpers_end_{false};
  std::atomic<std::uint32_t> maker_sleeps_{0};
  detail::watcher monitor_;
  detail::watcher maker_;
  detail::run_ring<> monitor_ring_;  // the monitor's hands
  pthread_t monitor_thread_{};
  pthread_t maker_thread_{};
  bool has_monitor_ = false;
  bool has_maker_ = false;
  std::unique_ptr<sentinel_argument[]> sentinel_arguments_;

  std::atomic<std::uint64_t> returns_{0};
  std::atomic<std::uint64_t> sentinel_takes_{0};
  std::atomic<std::uint64_t> monitor_takes_{0};
  std::atomic<std::uint64_t> missed_takes_{0};
  std::atomic<std::uint64_t> excess_parks_{0};
  std::atomic<std::uint64_t> no_spare_{0};
  std::atomic<std::uint64_t> direct_resumes_{0};
  std::atomic<std::uint64_t> creation_failures_{0};
  std::atomic<std::uint64_t> created_{0};
  std::atomic<std::uint64_t> reaped_{0};
};

static_assert(processor_backend<portable_backend>);

}  // namespace activations
