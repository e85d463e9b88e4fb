// SPDX-License-Identifier: BSL-1.0
//
// Those who notice that an owner is blocked while work waits, and send a spare
// to take its processor.
//
//   sentinel   one for each processor, of the idle class, on that CPU.  It runs
//              when nothing of the normal class can: that it runs while work
//              waits is the proof.  About 6 us after the block, no polling.
//   monitor    one thread of the normal class.  While work waits it looks at
//              every owner once a tick, 100 us to 10 ms apart.  It serves
//              where the sentinel cannot: beside another process that keeps
//              the CPU busy the idle class starves.  It ends slices, also of
//              threads that run on without a processor (it looks for them as
//              often as the process has computed for a while), expires timers
//              that no processor looks at, and puts a stopped activation in a
//              blocked one's place when there is no spare.
//
// Neither holds a processor: an idle-class thread may be put off for long in
// the middle of anything.  While nothing is to be noticed all of them sleep
// without a deadline; who queues work and finds no idle processor wakes them
// (core::notify, watch).
#pragma once

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>

#include <activations/detail/core.hpp>
#include <activations/detail/portable/activation_pool.hpp>
#include <activations/detail/portable/cpu_alarm.hpp>
#include <activations/detail/portable/losses.hpp>
#include <activations/detail/portable/preempt_signal.hpp>
#include <activations/detail/watcher.hpp>

namespace activations::detail {

class lookout {
 public:
  struct counts {
    std::atomic<std::uint64_t> sentinel_takes{0};
    std::atomic<std::uint64_t> monitor_takes{0};
    std::atomic<std::uint64_t> direct_resumes{0};
    std::atomic<std::uint64_t> slices_ended{0};
  };

  // slice_ns: 0 for no preemption, and then `preempt` may be null.
  lookout(core& home, activation_pool& pool, losses& lost,
          preempt_signal const* preempt, std::uint64_t slice_ns)
      : core_(home),
        pool_(pool),
        losses_(lost),
        preempt_(preempt),
        slice_ns_(slice_ns),
        posts_(std::make_unique<post[]>(home.processor_count())) {}

  ~lookout() { end(); }
  lookout(lookout const&) = delete;
  lookout& operator=(lookout const&) = delete;

  // Returns an errno value.  A sentinel that cannot be had is no error: the
  // monitor serves alone.
  [[nodiscard]] int start() {
    signals_blocked const inherited;
    int const error =
        pthread_create(&monitor_thread_, nullptr, &run_monitor, this);
    if (error != 0) return error;
    has_monitor_ = true;
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) {
      if (!pool_.is_pinned()) break;
      post& here = posts_[i];
      here.home = this;
      here.index = i;
      here.enabled.store(true, std::memory_order::relaxed);
      here.has_thread =
          pthread_create(&here.thread, nullptr, &run_sentinel, &here) == 0;
      if (!here.has_thread)
        here.enabled.store(false, std::memory_order::relaxed);
    }
    return 0;
  }

  void end() {
    ends_.store(true, std::memory_order::release);
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) {
      post& here = posts_[i];
      here.sleep.wake();
      if (std::exchange(here.has_thread, false))
        pthread_join(here.thread, nullptr);
    }
    monitor_.wake();
    if (std::exchange(has_monitor_, false))
      pthread_join(monitor_thread_, nullptr);
  }

  // Work was queued, or a timer set, and no processor is idle.
  void wake() noexcept {
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i)
      if (posts_[i].enabled.load(std::memory_order::relaxed) &&
          !core_.processor_at(i).view().is_idle())
        posts_[i].sleep.wake();
    wake_monitor();
  }
  void wake_monitor() noexcept { monitor_.wake(); }

  [[nodiscard]] counts const& totals() const noexcept { return counts_; }

 private:
  static constexpr std::uint64_t shortest_tick_ns = 100'000;
  static constexpr std::uint64_t longest_tick_ns = 10'000'000;
  // The longest while some processor is idle and a lone runnable may wait.
  static constexpr std::uint64_t idle_tick_ns = 1'000'000;
  static constexpr std::uint64_t sentinel_nap_ns = 100'000;
  static constexpr std::uint64_t first_probe_ns = 50'000'000;
  static constexpr std::uint64_t last_probe_ns = 1'000'000'000;
  static constexpr std::uint32_t misses_to_disable = 3;
  // Of lost activations, in one sweep; and how much rarer sweeps in vain get.
  static constexpr std::uint32_t most_looked_at = 64;
  static constexpr std::uint32_t rarest_sweeps = 16;
  // A sleep that a signal is to end has a deadline.
  static constexpr std::uint64_t a_day_ns = 86'400'000'000'000;

  // What concerns one processor.
  struct alignas(cache_line_bytes) post {
    lookout* home = nullptr;
    std::uint32_t index = 0;
    watcher sleep;                     // the sentinel's
    std::atomic<bool> enabled{false};  // W: monitor, failing sentinel; a hint
    std::atomic<std::uint64_t> beats{0};  // turns of the sentinel's loop
    pthread_t thread{};
    bool has_thread = false;
    // The monitor's memory of its last tick.
    std::uint64_t seen_beats = 0;
    std::uint64_t seen_dispatches = 0;
    std::uint64_t segment_seen_ns = 0;  // when that count was first seen
    bool saw_blocked = false;
    std::uint32_t misses = 0;
    std::uint64_t probe_at_ns = 0;
    std::uint64_t probe_after_ns = 0;
  };

  [[nodiscard]] bool has_news() noexcept {
    return core_.has_work() || ends_.load(std::memory_order::acquire);
  }

  // ---- sentinel ----------------------------------------------------------

  static void* run_sentinel(void* argument) {
    post& here = *static_cast<post*>(argument);
    here.home->sentinel(here);
    return nullptr;
  }

  void sentinel(post& here) {
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(pool_.cpu_of(here.index), &mask);
    sched_param const none{};
    if (sched_setaffinity(0, sizeof mask, &mask) != 0 ||
        sched_setscheduler(0, SCHED_IDLE, &none) != 0) {
      here.enabled.store(false, std::memory_order::relaxed);
      return;
    }
    processor& p = core_.processor_at(here.index);
    std::uint64_t sent_for = 0;
    while (!ends_.load(std::memory_order::acquire)) {
      here.beats.fetch_add(1, std::memory_order::relaxed);
      if (!here.enabled.load(std::memory_order::relaxed)) {
        here.sleep.sleep_unlisted(
            [&] { return ends_.load(std::memory_order::acquire); });
        continue;
      }
      if (!core_.has_work()) {
        here.sleep.sleep(core_.watching(), [&] { return has_news(); });
        continue;
      }
      processor_view const seen = p.view();
      activation* const owner = core_.activation_at(seen.owner());
      // Idle: whoever queued the work woke it.  In the runtime: a short block.
      // Sent for already: that spare is on its way, or came too late.
      // Running: the idle class has its few parts in a thousand, too.
      activation* const spare =
          seen.is_running() && owner != nullptr && losses::may_lose(*owner) &&
                  seen.word != std::exchange(sent_for, 0) &&
                  pool_.activity_of(*owner) != thread_activity::running
              ? pool_.pop_spare(here.index)
              : nullptr;
      if (spare == nullptr) {
        here.sleep.nap(sentinel_nap_ns);
        continue;
      }
      sent_for = seen.word;
      counts_.sentinel_takes.fetch_add(1, std::memory_order::relaxed);
      send_order(*spare, order::take, &p, seen.word);
    }
  }

  // ---- monitor -----------------------------------------------------------

  static void* run_monitor(void* argument) {
    static_cast<lookout*>(argument)->monitor();
    return nullptr;
  }

  void monitor() {
    cpu_alarm alarm;
    if (slice_ns_ != 0) {
      preempt_signal::let_in();
      alarm.open(preempt_signal::number, preempt_signal::token());
    }
    std::uint64_t tick_ns = shortest_tick_ns;
    while (!ends_.load(std::memory_order::acquire)) {
      if (!core_.has_work() && !sweep_is_due()) {
        alarm.ring_each(watches_excess() ? sweep_after_ns_ : 0);
        auto const deadline = timer_deadline();
        monitor_.sleep(
            core_.monitoring(),
            [&] {
              return has_news() || timer_deadline() < deadline ||
                     sweep_is_due();
            },
            watches_excess() ? std::min(deadline, monotonic_ns() + a_day_ns)
                             : deadline);
      }
      // However often it is woken, it looks once a tick.
      monitor_.nap(tick_ns);
      auto const now = monotonic_ns();
      if (core_.timers().earliest_ns() <= now) core_.timers().expire_due(now);
      bool found = false;
      if (core_.has_work()) {
        // A lone runnable that nobody was woken for: it has waited a tick.
        if (core_.idle().count() != 0) core_.notify_again();
        suspects_ = false;
        found = look_at_all(now);
        if (!found && suspects_) {
          monitor_.nap(shortest_tick_ns);
          found = look_at_all(monotonic_ns());
        }
      }
      if (sweep_is_due()) end_excess();
      tick_ns =
          found ? shortest_tick_ns : std::min(tick_ns * 2, longest_tick());
    }
  }

  // A processor that is idle keeps the timers itself.
  [[nodiscard]] std::uint64_t timer_deadline() const noexcept {
    return core_.idle().count() != 0 ? no_deadline
                                     : core_.timers().earliest_ns();
  }

  [[nodiscard]] std::uint64_t longest_tick() const noexcept {
    if (core_.idle().count() != 0) return idle_tick_ns;
    return slice_ns_ == 0
               ? longest_tick_ns
               : std::clamp(slice_ns_ / 2, shortest_tick_ns, longest_tick_ns);
  }

  // True if the sentinel's work had to be done for it.
  bool look_at_all(std::uint64_t now) {
    bool found = false;
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i)
      found |= look_at(posts_[i], core_.processor_at(i), now);
    return found;
  }

  bool look_at(post& here, processor& p, std::uint64_t now) {
    if (here.probe_at_ns != 0 && now >= here.probe_at_ns) enable(here);
    auto const beats = here.beats.load(std::memory_order::relaxed);
    bool const sentinel_ran = std::exchange(here.seen_beats, beats) != beats;
    processor_view const seen = p.view();
    auto const dispatches =
        p.control->dispatches.load(std::memory_order::relaxed) + seen.tag();
    bool const is_same =
        std::exchange(here.seen_dispatches, dispatches) == dispatches;
    if (!is_same) here.segment_seen_ns = now;
    bool const was_blocked = std::exchange(here.saw_blocked, false) && is_same;
    if (!seen.is_running()) return false;
    activation* const owner = core_.activation_at(seen.owner());
    if (owner == nullptr || !losses::may_lose(*owner)) return false;
    activations_cause cause{};
    if (pool_.activity_of(*owner, &cause) == thread_activity::blocked) {
      bool const is_alone = !here.enabled.load(std::memory_order::relaxed);
      if (!is_alone && !was_blocked) {
        // Just blocked, most likely: a returner or the sentinel is at it.
        here.saw_blocked = suspects_ = true;
        return false;
      }
      if (sentinel_ran || is_alone) {
        here.misses = 0;
      } else if (++here.misses >= misses_to_disable) {
        disable(here);
      }
      relieve(here.index, p, seen, *owner, cause);
      return !sentinel_ran;
    }
    if (slice_ns_ != 0 && now - here.segment_seen_ns >= slice_ns_) {
      counts_.slices_ended.fetch_add(1, std::memory_order::relaxed);
      preempt_->send(owner->tid.load(std::memory_order::relaxed));
    }
    return false;
  }

  // With slices, threads that came back from a block without a processor and
  // compute on are stopped, too, work or none (P2): otherwise they would share
  // the CPUs beside the processors for as long as they like.  Nothing tells of
  // them but that the process computes.
  [[nodiscard]] bool watches_excess() noexcept {
    return slice_ns_ != 0 && core_.lost().load(std::memory_order::relaxed) != 0;
  }
  [[nodiscard]] bool sweep_is_due() noexcept {
    return watches_excess() && cpu_alarm::now_ns() >= next_sweep_cpu_ns_;
  }
  void end_excess() {
    bool any = false;
    for (std::uint32_t looked = 0, left = core_.activation_slots();
         looked < most_looked_at && left > 0; --left) {
      sweep_at_ = sweep_at_ + 1 < core_.activation_slots() ? sweep_at_ + 1 : 0;
      activation* const a = core_.activation_at(sweep_at_);
      if (a == nullptr) continue;
      bool const is_excess = a->is_lost.load(std::memory_order::relaxed) &&
                             ++looked != 0 && losses::may_lose(*a) &&
                             pool_.activity_of(*a) == thread_activity::running;
      any |= is_excess;
      // Seen twice: most come to a scheduling point before that.
      if (std::exchange(a->was_excess, is_excess) && is_excess) {
        counts_.slices_ended.fetch_add(1, std::memory_order::relaxed);
        preempt_->send(a->tid.load(std::memory_order::relaxed));
      }
    }
    auto const shortest = longest_tick();
    sweep_after_ns_ = any ? shortest
                          : std::min(std::max(sweep_after_ns_, shortest) * 2,
                                     shortest * rarest_sweeps);
    next_sweep_cpu_ns_ = cpu_alarm::now_ns() + sweep_after_ns_;
  }

  // p's owner is blocked and work waits.
  void relieve(std::uint32_t index, processor& p, processor_view seen,
               activation& owner, activations_cause const& cause) {
    // One of another CPU, too: the sentinel cannot move it here.
    if (activation* const spare = pool_.any_spare(index)) {
      losses_.note_cause(owner, cause, 1);
      counts_.monitor_takes.fetch_add(1, std::memory_order::relaxed);
      send_order(*spare, order::take, &p, seen.word);
      return;
    }
    // A stopped activation, which may hold what the others wait for (P6).
    activation* const stopped = core_.extract_stopped(hands_);
    if (stopped == nullptr) return;
    pool_.pin(*stopped, p.index);
    stopped->predecessor = owner.index;
    if (transfer_processor(p.info->word, seen, stopped->index)) {
      losses_.note(owner, p);
      counts_.direct_resumes.fetch_add(1, std::memory_order::relaxed);
      send_order(*stopped, order::granted, &p);
    } else {
      stopped->predecessor = ACTIVATIONS_INDEX_NONE;
      core_.inject(*stopped);
      core_.notify();
    }
  }

  // While a competitor starves the idle class, a runnable sentinel only gets
  // in the way of wake-ups; the monitor serves alone and tries again later,
  // each time after twice as long.
  void disable(post& here) {
    here.enabled.store(false, std::memory_order::relaxed);
    here.probe_after_ns =
        std::clamp(here.probe_after_ns * 2, first_probe_ns, last_probe_ns);
    here.probe_at_ns = monotonic_ns() + here.probe_after_ns;
    here.misses = 0;
  }
  void enable(post& here) {
    here.probe_at_ns = 0;
    here.misses = 0;
    if (!here.has_thread) return;
    here.enabled.store(true, std::memory_order::relaxed);
    here.sleep.wake();
  }

  core& core_;
  activation_pool& pool_;
  losses& losses_;
  preempt_signal const* preempt_;
  std::uint64_t slice_ns_;
  std::unique_ptr<post[]> posts_;
  std::atomic<bool> ends_{false};
  watcher monitor_;
  pthread_t monitor_thread_{};
  bool has_monitor_ = false;
  run_ring<> hands_;       // the monitor's, as are these
  bool suspects_ = false;  // saw an owner blocked that it may have just been
  std::uint64_t next_sweep_cpu_ns_ = 0;  // of the process's CPU time
  std::uint64_t sweep_after_ns_ = shortest_tick_ns;
  std::uint32_t sweep_at_ = 0;
  counts counts_;
};

}  // namespace activations::detail
