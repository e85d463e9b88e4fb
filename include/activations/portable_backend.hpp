// SPDX-License-Identifier: BSL-1.0
//
// Plain Linux as the lender of processors: no module, no privileges.  Kernel
// threads pinned to CPUs are the activations; what a kernel would do at a
// block is done by those who notice it:
//
//   returner   an activation that comes back from its block takes its
//              processor from an owner that is off the CPU (reclaim, here)
//   sentinel, monitor    detail/portable/lookout.hpp
//   maker      detail/portable/activation_pool.hpp
//
// All change the processor words of the info area through processor_word.hpp
// and nothing else, as the kernel of abi.h would.
//
// Context: the constructor and destructor run on any kernel thread that is no
// activation of this scheduler; everything else as detail/backend.hpp says.
#pragma once

#include <sched.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <activations/activation_statistics.hpp>
#include <activations/detail/core.hpp>
#include <activations/detail/histogram.hpp>
#include <activations/detail/portable/activation_pool.hpp>
#include <activations/detail/portable/areas.hpp>
#include <activations/detail/portable/inherited_affinity.hpp>
#include <activations/detail/portable/lookout.hpp>
#include <activations/detail/portable/losses.hpp>
#include <activations/detail/portable/order.hpp>
#include <activations/detail/portable/preempt_signal.hpp>
#include <activations/detail/portable/topology.hpp>
#include <activations/error.hpp>
#include <activations/processor_backend.hpp>

namespace activations {

struct portable_options {
  // How long a user thread computes before others get a turn; 0: no limit.
  std::chrono::nanoseconds slice{0};
  // Returners always ask before they take.
  bool strict = false;
  // False: a blocked thread keeps its processor, as in any fiber library.
  bool hand_over = true;
  // Why it is this backend, for describe().
  std::string reason = "no /dev/activations";
};

// Counters, each since the backend started unless it says "now".
struct portable_statistics : activation_statistics {
  std::uint64_t returns = 0;         // processors taken by returners
  std::uint64_t sentinel_takes = 0;  // spares sent by a sentinel
  std::uint64_t monitor_takes = 0;   // spares sent by the monitor
  std::uint64_t missed_takes = 0;    // of these, came too late
  std::uint64_t excess_parks = 0;    // returners that found no processor
  std::uint64_t slices_ended = 0;    // signals sent for it
  // How long a thread ran on after it had lost its processor, CPU time until
  // its next scheduling point; sampled, each sample weighs 16.
  duration_histogram excess{};
};

class portable_backend final : public detail::backend {
 public:
  // Starts one activation on each of `cpus` (-1: on any), and the helpers.
  // Throws std::system_error when not even these can be made.
  portable_backend(detail::core& core, std::vector<int> const& cpus,
                   portable_options const& options)
      : core_(core),
        options_(options),
        areas_(core.processor_count(), core.activation_slots()),
        can_hand_over_(options.hand_over &&
                       core.activation_slots() > core.processor_count()),
        preempt_signal_(make_preempt_signal()),
        pool_(core, areas_, cpus,
              preempt_signal_ ? &*preempt_signal_ : nullptr),
        losses_(core, pool_),
        lookout_(core, pool_, losses_,
                 preempt_signal_ ? &*preempt_signal_ : nullptr, slice_ns()) {
    core_.attach_backend(*this);
    if (!can_hand_over_) core_.has_no_watchers();
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) {
      auto& p = core_.processor_at(i);
      p.info = &areas_.processor_info(i);
      p.control = &areas_.processor_control(i);
      p.index = i;
      p.info->cpu.store(static_cast<std::uint32_t>(cpus[i]));
      p.info->word.store(
          detail::processor_view{0}.next(ACTIVATIONS_PROCESSOR_RUNNING, i));
      p.info->grants.store(1, std::memory_order::relaxed);
      p.control->slice_ns.store(slice_ns());
    }
    try {
      start();
    } catch (...) {
      end();
      throw;
    }
  }

  // Requires: nothing is left to run.
  ~portable_backend() override { end(); }

  // ---- detail::backend ---------------------------------------------------

  bool reclaim(detail::activation& self) noexcept override {
    if (core_.has_ended()) return false;
    detail::set_activation_state(self, ACTIVATIONS_ACTIVATION_UNBLOCKED);
    detail::processor& last = *self.lent;
    detail::processor_view const seen = last.view();
    bool found = seen.is_idle() ? claim_idle(self, last, seen)
                                : take_from_blocked(self, last, seen);
    if (!found && core_.idle().count() != 0)
      found = core_.idle().any([&](std::uint32_t index) {
        detail::processor& p = core_.processor_at(index);
        detail::processor_view const view = p.view();
        return view.is_idle() && claim_idle(self, p, view);
      });
    if (!found) return false;
    losses_.settle(self);
    detail::set_activation_state(self, ACTIVATIONS_ACTIVATION_RUNNING);
    count(self.lent->info->unblocks);
    // Those who came back meanwhile wait for this CPU: let them see that they
    // have no processor, and sleep.
    if (options_.strict) sched_yield();
    detail::core::note_dispatch(self);  // a run segment of its own begins
    return true;
  }

  bool park(detail::activation& self) noexcept override {
    if (losses_.settle(self)) count(excess_parks_);
    pool_.push_spare(self);
    while (!core_.has_ended()) {
      switch (detail::wait_order(self)) {
        case detail::order::exit:
          return false;
        case detail::order::granted:
          granted(self);
          return true;
        case detail::order::take:
          if (take_as_told(self)) return true;
          pool_.push_spare(self);
          break;
        default:  // a nudge from when it kept the timers: still a spare
          break;
      }
    }
    return false;
  }

  void idle(detail::activation& self,
            std::uint64_t deadline_ns) noexcept override {
    detail::processor& p = *self.lent;
    if (!detail::processor_to_idle(p.info->word, self.index)) return;
    core_.idle().add(p.index);
    core_.barrier_for_forks();
    if ((core_.has_work() || core_.has_ended()) && regain_idle(self, p))
      return leave_timers(false);
    bool keeper = deadline_ns != detail::no_deadline && become_timekeeper(self);
    if (!keeper) deadline_ns = detail::no_deadline;
    while (!idle_is_over(self, p, detail::wait_order(self, deadline_ns))) {
      // A claimer made it a spare, which waits for an order alone.
      deadline_ns = detail::no_deadline;
      leave_timers(std::exchange(keeper, false));
    }
    leave_timers(keeper);
  }

  bool switch_to(detail::activation& self,
                 detail::activation& target) noexcept override {
    detail::processor& p = *self.lent;
    detail::processor_view const seen = p.view();
    if (!owns(self, seen)) return false;
    pool_.pin(target, p.index);
    return hand_to(self, p, seen, target);
  }

  bool stop(detail::activation& self, detail::after_switch enqueue,
            void* argument) noexcept override {
    detail::processor& p = *self.lent;
    detail::processor_view const seen = p.view();
    bool const has_processor = owns(self, seen);
    detail::activation* spare = nullptr;
    detail::activation* other = nullptr;  // one that was stopped earlier
    if (has_processor && (spare = pool_.any_spare(p.index)) == nullptr) {
      if ((other = core_.extract_stopped(self.ring)) == nullptr) return false;
      pool_.pin(*other, p.index);
    }
    if (!has_processor && losses_.settle(self)) count(excess_parks_);
    detail::set_activation_state(self, ACTIVATIONS_ACTIVATION_PREEMPTED);
    count(p.info->preemptions);
    enqueue(argument, self);
    detail::activation* const next = spare != nullptr ? spare : other;
    bool const gone = has_processor && hand_to(self, p, seen, *next);
    if (gone && other != nullptr) count(direct_resumes_);
    if (!gone && spare != nullptr) pool_.push_spare(*spare);
    if (!gone && other != nullptr) core_.inject(*other);
    // A spare looks at the queues; otherwise others must be told.
    if (!gone || other != nullptr) core_.notify();
    await_grant(self);
    return true;
  }

  void wait_pinned(detail::activation& self, detail::after_switch after,
                   void* argument) noexcept override {
    detail::processor& p = *self.lent;
    detail::processor_view const seen = p.view();
    detail::activation* const next =
        can_hand_over_ && owns(self, seen) ? pool_.any_spare(p.index) : nullptr;
    detail::set_activation_state(self, ACTIVATIONS_ACTIVATION_PARKED);
    self.waits_pinned.store(true, std::memory_order::release);
    after(argument, self);
    if (next != nullptr && !hand_to(self, p, seen, *next))
      pool_.push_spare(*next);
    await_grant(self);
    self.waits_pinned.store(false, std::memory_order::release);
  }

  void resume_pinned(detail::activation& waiting) noexcept override {
    // Nobody took its processor: it has only to wake up.  Should one take it
    // just now, the woken one is a returner like any other.
    if (owns(waiting, waiting.lent->view()))
      detail::send_order(waiting, detail::order::granted, waiting.lent);
    else
      core_.make_runnable(waiting);
  }

  bool wake_idle() noexcept override {
    // The timekeeper last: another would have to take its place.
    auto const keeper = timekeeper_.load(std::memory_order::seq_cst);
    auto const wake = [&](std::uint32_t index, bool may_be_keeper) {
      detail::processor& p = core_.processor_at(index);
      detail::processor_view const seen = p.view();
      // Not idle: whoever changed the word is about to clear the bit, and
      // looks at the queues after that.
      if (!seen.is_idle() || (!may_be_keeper && seen.owner() + 1 == keeper))
        return false;
      detail::activation& owner = *core_.activation_at(seen.owner());
      if (!detail::transfer_processor(p.info->word, seen, owner.index))
        return false;
      core_.idle().remove(p.index);
      owner.is_searcher = true;
      detail::send_order(owner, detail::order::granted, &p);
      return true;
    };
    return core_.idle().any([&](std::uint32_t index) {
      return wake(index, false);
    }) || (keeper != 0 && core_.idle().any([&](std::uint32_t index) {
             return wake(index, true);
           }));
  }

  void watch() noexcept override { lookout_.wake(); }

  void timer_set(std::uint64_t) noexcept override {
    auto const keeper = timekeeper_.load(std::memory_order::seq_cst);
    if (keeper != 0)
      detail::nudge(*core_.activation_at(keeper - 1));
    else
      ask_for_timekeeper();
  }

  std::string describe() const override {
    auto const processors = core_.processor_count();
    std::string text = "portable backend (" + options_.reason +
                       "): " + std::to_string(processors) +
                       (processors == 1 ? " processor" : " processors");
    if (!can_hand_over_) return text + ", a blocked thread keeps its own";
    text += ", at most " + std::to_string(core_.activation_slots()) +
            " kernel threads";
    if (!pool_.is_pinned()) text += ", not pinned";
    if (slice_ns() != 0)
      text += ", slice " + std::to_string(slice_ns() / 1000) + " us";
    return text;
  }

  // ---- for people --------------------------------------------------------

  [[nodiscard]] portable_statistics statistics() const noexcept {
    auto const get = [](auto const& c) {
      return c.load(std::memory_order::relaxed);
    };
    portable_statistics s;
    s.returns = get(returns_);
    s.sentinel_takes = get(lookout_.totals().sentinel_takes);
    s.monitor_takes = get(lookout_.totals().monitor_takes);
    s.missed_takes = get(missed_takes_);
    s.excess_parks = get(excess_parks_);
    s.excess = losses_.excess().snapshot();
    s.slices_ended = get(lookout_.totals().slices_ended);
    s.no_spare = pool_.no_spare();
    s.direct_resumes =
        get(direct_resumes_) + get(lookout_.totals().direct_resumes);
    pool_.count_in(s);
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) {
      s.preemptions += get(core_.processor_at(i).info->preemptions);
      s.spares += pool_.spares(i);
    }
    return s;
  }
  [[nodiscard]] detail::block_causes const& causes() const noexcept {
    return losses_.causes();
  }
  [[nodiscard]] detail::areas& shared_areas() noexcept { return areas_; }

 private:
  // How old a run segment may be for a returner to believe, without asking,
  // that its owner is off the CPU for good.  Below a kernel's time slice.
  static constexpr std::uint64_t trusted_segment_ns = 300'000;

  void start() {
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i)
      if (int const error = pool_.create_owner(i))
        throw_system_error(error, "create the first kernel threads");
    affinity_.emplace(pool_.is_pinned());
    if (!can_hand_over_) return;
    int error = pool_.start_maker();
    if (error == 0) error = lookout_.start();
    if (error != 0) throw_system_error(error, "create the helper threads");
  }

  void end() {
    lookout_.end();
    pool_.end_maker();
    core_.end();
    pool_.end_all();
  }

  [[nodiscard]] std::uint64_t slice_ns() const noexcept {
    return can_hand_over_ ? static_cast<std::uint64_t>(options_.slice.count())
                          : 0;
  }
  [[nodiscard]] std::optional<detail::preempt_signal> make_preempt_signal()
      const {
    if (slice_ns() == 0) return std::nullopt;
    return std::optional<detail::preempt_signal>(std::in_place);
  }

  static void count(std::atomic<std::uint64_t>& counter) noexcept {
    counter.fetch_add(1, std::memory_order::relaxed);
  }

  static bool owns(detail::activation const& a,
                   detail::processor_view seen) noexcept {
    return seen.is_running() && seen.owner() == a.index;
  }

  // ---- being dispatched --------------------------------------------------

  void granted(detail::activation& self) noexcept {
    self.lent = self.order_processor;
    detail::set_activation_state(self, ACTIVATIONS_ACTIVATION_RUNNING);
    count(self.lent->info->grants);
  }

  // For one that left user code in the middle: only a grant continues it.
  // Without helpers it keeps the time meanwhile: the processor that it holds
  // serves nobody, and may be the only one.
  void await_grant(detail::activation& self) noexcept {
    for (;;) {
      auto const told = detail::wait_order(
          self,
          can_hand_over_ ? detail::no_deadline : core_.timers().earliest_ns());
      if (told == detail::order::granted) break;
      if (told == detail::order::none)
        core_.timers().expire_due(detail::monotonic_ns());
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
    losses_.note(*core_.activation_at(seen.owner()), p);
    self.predecessor = seen.owner();
    self.lent = &p;
    detail::set_activation_state(self, ACTIVATIONS_ACTIVATION_RUNNING);
    return true;
  }

  // self, which owned p when it was seen, gives it to `next`, which sleeps.
  bool hand_to(detail::activation& self, detail::processor& p,
               detail::processor_view seen, detail::activation& next) noexcept {
    next.predecessor = self.index;
    if (!detail::transfer_processor(p.info->word, seen, next.index)) {
      next.predecessor = ACTIVATIONS_INDEX_NONE;
      return false;
    }
    detail::send_order(next, detail::order::granted, &p);
    return true;
  }

  // ---- coming back -------------------------------------------------------

  bool claim_idle(detail::activation& self, detail::processor& p,
                  detail::processor_view seen) noexcept {
    if (!detail::transfer_processor(p.info->word, seen, self.index))
      return false;
    core_.idle().remove(p.index);
    // Who slept on it is a spare from now on.
    if (seen.owner() != self.index)
      pool_.push_spare(*core_.activation_at(seen.owner()));
    self.lent = &p;
    pool_.pin(self, p.index);
    // Others may have counted on the idle one to look at the queues.
    core_.notify();
    return true;
  }

  bool take_from_blocked(detail::activation& self, detail::processor& p,
                         detail::processor_view seen) noexcept {
    if (!can_hand_over_ || !seen.is_running()) return false;
    if (seen.owner() == self.index) return true;
    detail::activation& owner = *core_.activation_at(seen.owner());
    if (!detail::losses::may_lose(owner) || !is_off_cpu(self, owner, p) ||
        !detail::transfer_processor(p.info->word, seen, self.index))
      return false;
    self.predecessor = owner.index;
    losses_.note(owner, p);
    count(returns_);
    return true;
  }

  [[nodiscard]] bool is_off_cpu(detail::activation& self,
                                detail::activation& owner,
                                detail::processor& p) noexcept {
    // Both sit on this one CPU, and it runs self.  That the owner is off it
    // for good is likely while its segment is young.
    auto const segment_start =
        p.control->segment_start_ns.load(std::memory_order::relaxed);
    if (!options_.strict && pool_.is_pinned() &&
        self.pinned_processor.load(std::memory_order::relaxed) == p.index &&
        owner.pinned_processor.load(std::memory_order::relaxed) == p.index &&
        detail::monotonic_ns() - segment_start < trusted_segment_ns)
      return true;
    return pool_.activity_of(owner) == detail::thread_activity::blocked;
  }

  // ---- being idle --------------------------------------------------------

  // What an idle owner was told; true: it has something to do again.
  bool idle_is_over(detail::activation& self, detail::processor& p,
                    detail::order told) noexcept {
    switch (told) {
      case detail::order::granted:
        granted(self);
        return true;
      case detail::order::exit:
        self.exits = true;
        return true;
      case detail::order::take:
        // A claimer had made it a spare, and somebody needed one.
        if (take_as_told(self)) return true;
        pool_.push_spare(self);
        return false;
      default:  // the deadline, or told to look at it again
        return regain_idle(self, p);
    }
  }

  bool regain_idle(detail::activation& self, detail::processor& p) noexcept {
    detail::processor_view const seen = p.view();
    if (!seen.is_idle() || seen.owner() != self.index ||
        !detail::transfer_processor(p.info->word, seen, self.index))
      return false;
    core_.idle().remove(p.index);
    return true;
  }

  // One idle processor sleeps with the deadline of all timers; while none is
  // idle the monitor does.  Who leaves the idle state sees to it that there is
  // somebody, because somebody else may have counted on it.
  bool become_timekeeper(detail::activation& self) noexcept {
    std::uint32_t none = 0;
    return timekeeper_.compare_exchange_strong(none, self.index + 1,
                                               std::memory_order::seq_cst);
  }
  void leave_timers(bool keeper) noexcept {
    if (keeper) timekeeper_.store(0, std::memory_order::seq_cst);
    if (core_.timers().earliest_ns() != detail::no_deadline &&
        timekeeper_.load(std::memory_order::seq_cst) == 0)
      ask_for_timekeeper();
  }
  void ask_for_timekeeper() noexcept {
    bool const asked = core_.idle().any([&](std::uint32_t index) {
      detail::processor_view const seen = core_.processor_at(index).view();
      if (!seen.is_idle()) return false;
      detail::nudge(*core_.activation_at(seen.owner()));
      return true;
    });
    if (!asked) lookout_.wake_monitor();
  }

  detail::core& core_;
  portable_options options_;
  detail::areas areas_;
  bool const can_hand_over_;
  std::optional<detail::preempt_signal> preempt_signal_;
  std::optional<detail::inherited_affinity> affinity_;
  detail::activation_pool pool_;
  detail::losses losses_;
  detail::lookout lookout_;

  std::atomic<std::uint32_t> timekeeper_{0};  // activation index + 1
  std::atomic<std::uint64_t> returns_{0};
  std::atomic<std::uint64_t> missed_takes_{0};
  std::atomic<std::uint64_t> excess_parks_{0};
  std::atomic<std::uint64_t> direct_resumes_{0};
};

static_assert(processor_backend<portable_backend>);

}  // namespace activations
