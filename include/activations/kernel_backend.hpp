// SPDX-License-Identifier: BSL-1.0
//
// The kernel module as the lender of processors: what the portable backend
// guesses, the kernel knows.  It hands on the processor of whoever blocks,
// stops those that come back without one (and those whose slice ends) at their
// next instruction in user mode, and changes the processor words.  What is
// left to do here:
//
//   park, idle, switch_to, stop   one call each (abi.h), then a look at what
//                                 the kernel says of us: take_over
//   collect                       who was stopped becomes runnable
//   wake_idle, timer_set          for those that sleep in the kernel
//   maker                         spare_maker.hpp
//
// An activation that the kernel resumes goes on where it was, in user code,
// with another processor perhaps.  The runtime learns of it at its next
// scheduling point, where it does not own the one that it had: reclaim.
//
// Context: the constructor and destructor run on any kernel thread that is no
// activation of this scheduler; everything else as detail/backend.hpp says.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include <activations/activation_statistics.hpp>
#include <activations/detail/activation_threads.hpp>
#include <activations/detail/block_causes.hpp>
#include <activations/detail/core.hpp>
#include <activations/detail/futex.hpp>
#include <activations/detail/kernel/device.hpp>
#include <activations/detail/spare_maker.hpp>
#include <activations/error.hpp>
#include <activations/processor_backend.hpp>

namespace activations {

// Counters, each since the backend started.  The first six are the kernel's.
struct kernel_statistics : activation_statistics {
  std::uint64_t blocks = 0;           // hand-overs because a thread blocked
  std::uint64_t unblocks = 0;         // returns without a processor
  std::uint64_t keeps = 0;            // blocks with nothing waiting
  std::uint64_t disabled_blocks = 0;  // blocks inside the runtime
  std::uint64_t fallbacks = 0;        // every other degraded path
  std::uint64_t refusals = 0;         // threads that the kernel did not take
  std::uint64_t stale_switches = 0;   // to a thread that ran already
};

class kernel_backend final : public detail::backend,
                             detail::thread_host,
                             detail::spare_stock {
 public:
  // Starts one activation on each processor, and the maker.  Throws
  // std::system_error when not even these can be made.  `slice`: how long a
  // user thread computes before others get a turn; 0: no limit.
  kernel_backend(detail::core& core,
                 std::unique_ptr<detail::kernel_device> device,
                 std::chrono::nanoseconds slice)
      : core_(core),
        device_(std::move(device)),
        slice_ns_(slice.count() == 0
                      ? 0
                      : std::max(static_cast<std::uint64_t>(slice.count()),
                                 least_slice_ns)),
        threads_(core, *device_, *this),
        maker_(threads_, *this, 1, least_wanted * core.processor_count(),
               most_wanted * core.processor_count()) {
    core_.attach_backend(*this);
    core_.has_no_watchers();
    core_.listen_to(device_->control());
    core_.idle().follow(device_->info().idle_count, device_->idle_bits(),
                        (core_.processor_count() + 63) / 64);
    try {
      start();
    } catch (...) {
      end_all();
      throw;
    }
  }

  // Requires: nothing is left to run.
  ~kernel_backend() override { end_all(); }

  // ---- detail::backend ---------------------------------------------------

  // Only what the kernel says: it gives a returner what it can by itself.
  bool reclaim(detail::activation& self) noexcept override {
    if (!take_over(self)) return false;
    detail::core::note_dispatch(self);  // a run segment of its own begins
    return true;
  }

  bool park(detail::activation& self) noexcept override {
    if (std::exchange(self.is_new, false)) maker_.born(0);
    if (take_over(self)) return true;  // it slept in switch_to
    while (!self.exits && !core_.has_ended()) {
      int const error = device_->call(ACTIVATIONS_IOCTL_PARK);
      if (is_told_to_exit(self, error)) return false;
      if (take_over(self)) {
        dispatched(self);
        return true;
      }
      if (error != 0 && error != EINTR && error != EAGAIN) {
        // The kernel knows this thread no more; it is of no use to anybody.
        refusals_.fetch_add(1, std::memory_order::relaxed);
        return false;
      }
    }
    return false;
  }

  void idle(detail::activation& self, std::uint64_t) noexcept override {
    // Exchange: see timer_set.
    core_shared().work_waiting.exchange(0, std::memory_order::seq_cst);
    ACTIVATIONS_TEST_POINT(word_cleared);
    core_.barrier_for_forks();
    if (core_.has_work() || core_.has_ended() || rescue(self)) {
      core_.say_work_waits();
      // One that goes idle now may have read an older deadline, and the word
      // while it was 0.
      arm_timer();
      return;
    }
    ACTIVATIONS_TEST_POINT(releasing);
    int const error =
        device_->call(ACTIVATIONS_IOCTL_RELEASE, core_.timers().earliest_ns());
    if (error == EAGAIN) return;  // somebody was stopped, or work came
    if (is_told_to_exit(self, error)) {
      self.exits = true;
      return;
    }
    if (take_over(self)) dispatched(self);
  }

  bool switch_to(detail::activation& self,
                 detail::activation& target) noexcept override {
    // Nobody would look there while self sleeps.
    core_.flush_ring(self);
    // Before the call: once it runs it may be stopped, and queued, again.
    target.is_queued.store(false, std::memory_order::seq_cst);
    ACTIVATIONS_TEST_POINT(switching_to);
    detail::core::note_dispatch(self);
    int const error = device_->call(ACTIVATIONS_IOCTL_SWITCH_TO, target.index);
    if (is_told_to_exit(self, error)) {
      self.exits = true;
      return true;
    }
    if (error == 0) {
      // It slept as a spare, and is dispatched.
      if (take_over(self)) dispatched(self);
      return true;
    }
    if (error == EAGAIN) {
      // It went on without us; when it stops again it will be queued again.
      stale_switches_.fetch_add(1, std::memory_order::relaxed);
      return true;
    }
    // Not ours to give.  The target stays queued, once.
    return target.is_queued.exchange(true, std::memory_order::seq_cst);
  }

  bool stop(detail::activation& self, detail::after_switch,
            void*) noexcept override {
    core_.flush_ring(self);
    if (device_->call(ACTIVATIONS_IOCTL_STOP) != 0) return false;
    take_over(self);
    return true;
  }

  // Blocks like any other code: the kernel hands the processor on.  Keeps the
  // time meanwhile: at the cap there may be nobody to dispatch who would.
  void wait_pinned(detail::activation& self, detail::after_switch after,
                   void* argument) noexcept override {
    after(argument, self);
    auto& disabled = self.control->disabled;
    std::atomic_signal_fence(std::memory_order::seq_cst);
    disabled.store(0, std::memory_order::relaxed);
    // Acquire: what was done before the resume.
    while (self.token.exchange(0, std::memory_order::acquire) == 0)
      if (!detail::futex_wait(self.token, 0, core_.timers().earliest_ns())) {
        detail::disabled_region const region(self);
        core_.timers().expire_due(detail::monotonic_ns());
      }
    disabled.store(1, std::memory_order::relaxed);
    std::atomic_signal_fence(std::memory_order::seq_cst);
  }

  void resume_pinned(detail::activation& waiting) noexcept override {
    waiting.token.store(1, std::memory_order::release);
    detail::futex_wake(waiting.token);
  }

  bool wake_idle() noexcept override {
    // A ticket for whoever is dispatched, to count as the searcher.
    tickets_.fetch_add(1, std::memory_order::acq_rel);
    ACTIVATIONS_TEST_POINT(ticket_given);
    bool refused = false;
    bool const woken = core_.idle().any([&](std::uint32_t index) {
      if (index >= core_.processor_count()) return false;
      detail::processor& p = core_.processor_at(index);
      auto const seen = p.view();
      if (device_->value_of(ACTIVATIONS_IOCTL_WAKE, index) == 1) return true;
      refused |= seen.is_idle() && p.view().word == seen.word;
      return false;
    });
    if (woken || !take_ticket()) return true;
    if (!refused) return false;
    // No spare for a kept one: it is dispatched when there is one again.
    core_.end_search();
    return true;
  }

  // No helper watches: the kernel does.
  void watch() noexcept override {}

  void timer_set(std::uint64_t deadline_ns) noexcept override {
    // A processor that goes idle right now passes the deadline that it reads
    // after its exchange, or finds the word set and looks again.
    core_shared().work_waiting.exchange(1, std::memory_order::seq_cst);
    ACTIVATIONS_TEST_POINT(timer_told);
    if (core_.idle().count() != 0)
      (void)device_->call(ACTIVATIONS_IOCTL_TIMER, deadline_ns);
  }

  void collect(detail::activation& self) noexcept override {
    // Acquire: the bits that were set before.
    core_shared().stopped.exchange(0, std::memory_order::acq_rel);
    auto const words = (used_slots_.load(std::memory_order::acquire) + 63) / 64;
    auto* const bits = device_->stopped_bits();
    for (std::uint32_t word = 0; word < words; ++word) {
      // Relaxed: the exchange above acquired what we must see.
      if (bits[word].load(std::memory_order::relaxed) == 0) continue;
      auto taken = bits[word].exchange(0, std::memory_order::acq_rel);
      for (; taken != 0; taken &= taken - 1) {
        detail::activation* const stopped =
            core_.activation_at(word * 64 + lowest_bit(taken));
        // Once: a bit may be an old one, whose activation is queued already.
        if (stopped != nullptr &&
            !stopped->is_queued.exchange(true, std::memory_order::seq_cst)) {
          ACTIVATIONS_TEST_POINT(collected);
          queue(self, *stopped);
        }
      }
    }
    auto const now = detail::monotonic_ns();
    if (now < next_rescue_ns_.load(std::memory_order::relaxed)) return;
    next_rescue_ns_.store(now + rescue_period_ns, std::memory_order::relaxed);
    rescue(self);
  }

  std::string describe() const override {
    auto const processors = core_.processor_count();
    std::string text = "kernel backend (" ACTIVATIONS_DEVICE_PATH "): " +
                       std::to_string(processors) +
                       (processors == 1 ? " processor" : " processors") +
                       ", at most " + std::to_string(core_.activation_slots()) +
                       " kernel threads";
    if (slice_ns_ != 0)
      text += ", slice " + std::to_string(slice_ns_ / 1000) + " us";
    return text;
  }

  // ---- for people --------------------------------------------------------

  [[nodiscard]] kernel_statistics statistics() const noexcept {
    activations_stats counted{};
    (void)device_->call(ACTIVATIONS_IOCTL_STATS, &counted);
    kernel_statistics s;
    s.blocks = counted.blocks;
    s.unblocks = counted.unblocks;
    s.preemptions = counted.preemptions;
    s.keeps = counted.keeps;
    s.disabled_blocks = counted.disabled_blocks;
    s.no_spare = counted.no_spare;
    s.direct_resumes = counted.direct_resumes;
    s.fallbacks = counted.fallbacks;
    auto const get = [](auto const& c) {
      return c.load(std::memory_order::relaxed);
    };
    s.refusals = get(refusals_);
    s.stale_switches = get(stale_switches_);
    threads_.count_in(s);
    s.spares = get(device_->info().spare_count);
    return s;
  }
  [[nodiscard]] detail::block_causes const& causes() const noexcept {
    return causes_;
  }

 private:
  static constexpr std::uint64_t least_slice_ns = 100'000;
  // Spares for each processor; see spare_maker.hpp.
  static constexpr std::uint32_t least_wanted = 4;
  static constexpr std::uint32_t most_wanted = 8;
  // How often at most busy processors look for forgotten rings; idle ones do
  // so before they sleep.
  static constexpr std::uint64_t rescue_period_ns = 1'000'000;

  activations_control_header& core_shared() noexcept {
    return device_->control();
  }
  static std::uint32_t lowest_bit(std::uint64_t bits) noexcept {
    return static_cast<std::uint32_t>(__builtin_ctzll(bits));
  }

  // ---- start and end -----------------------------------------------------

  void start() {
    device_->control().wanted.store(core_.processor_count(),
                                    std::memory_order::relaxed);
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) {
      auto& p = core_.processor_at(i);
      p.info = &device_->processor_info(i);
      p.control = &device_->processor_control(i);
      p.index = i;
      p.control->slice_ns.store(slice_ns_, std::memory_order::relaxed);
      activations_slice slice{i, 0, slice_ns_};
      if (int const error = device_->call(ACTIVATIONS_IOCTL_SLICE, &slice))
        throw_system_error(error, "set the slice of a processor");
    }
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i)
      if (int const error = create(i, false))
        throw_system_error(error, "create the first kernel threads");
    // The processors are there when the kernel has taken their first owners.
    for (;;) {
      auto const seen = attached_.load(std::memory_order::acquire);
      if (refused_.load(std::memory_order::acquire) != 0)
        throw_system_error(refusal_error_.load(std::memory_order::relaxed),
                           "attach the first kernel threads");
      if (seen >= core_.processor_count()) break;
      detail::futex_wait(attached_, seen);
    }
    if (int const error = maker_.start())
      throw_system_error(error, "create the helper threads");
  }

  void end_all() noexcept {
    maker_.end();
    core_.end();
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i)
      if (threads_.has_thread(i)) (void)device_->call(ACTIVATIONS_IOCTL_END, i);
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i)
      if (threads_.has_thread(i)) threads_.join(i);
  }

  // `as_spare`: it parks first, and counts as a birth until it does.
  int create(std::uint32_t index, bool as_spare) noexcept {
    detail::activation* const made = threads_.enter(index);
    if (made == nullptr) return ENOMEM;
    // Any will do until it is dispatched: it owns none.
    made->lent = &core_.processor_at(index % core_.processor_count());
    made->is_new = as_spare;
    made->is_refused.store(false, std::memory_order::relaxed);
    if (index >= used_slots_.load(std::memory_order::relaxed))
      used_slots_.store(index + 1, std::memory_order::release);
    if (as_spare) maker_.expect_birth(0);
    int const error = threads_.start(index, -1);
    if (error == 0) return 0;
    if (as_spare) maker_.born(0);
    threads_.count_failure();
    return error;
  }

  // ---- spare_stock -------------------------------------------------------

  std::uint32_t spares(std::uint32_t) const noexcept override {
    return device_->info().spare_count.load(std::memory_order::relaxed);
  }

  int make_spare(std::uint32_t index, std::uint32_t) noexcept override {
    if (refused_.load(std::memory_order::acquire) != 0) {
      reap_refused();
      return refusal_error_.load(std::memory_order::relaxed);
    }
    return create(index, true);
  }

  bool end_spare(std::uint32_t) noexcept override {
    auto const index = device_->value_of(ACTIVATIONS_IOCTL_END, ~0ull);
    if (index < 0) return false;
    threads_.join_surplus(static_cast<std::uint32_t>(index));
    return true;
  }

  void reap_refused() noexcept {
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i)
      if (threads_.has_thread(i) &&
          core_.activation_at(i)->is_refused.load(std::memory_order::acquire)) {
        threads_.join(i);
        refused_.fetch_sub(1, std::memory_order::relaxed);
      }
  }

  // ---- thread_host -------------------------------------------------------

  bool begin(detail::activation& self) noexcept override {
    bool const is_owner = !self.is_new;
    int const error = device_->attach(
        self.index, is_owner ? self.lent->index : ACTIVATIONS_INDEX_NONE);
    if (error == 0) {
      attached_.fetch_add(1, std::memory_order::acq_rel);
    } else {
      if (!is_owner) maker_.born(0);
      threads_.count_failure();
      refusals_.fetch_add(1, std::memory_order::relaxed);
      refusal_error_.store(error, std::memory_order::relaxed);
      self.is_refused.store(true, std::memory_order::release);
      refused_.fetch_add(1, std::memory_order::release);
    }
    detail::futex_wake(attached_);
    return error == 0;
  }

  void end(detail::activation&) noexcept override {
    (void)device_->call(ACTIVATIONS_IOCTL_DETACH);
  }

  // ---- what the kernel says ----------------------------------------------

  // Which processor self owns now; false: none.
  bool take_over(detail::activation& self) noexcept {
    auto const index = self.info->processor.load(std::memory_order::acquire);
    if (index >= core_.processor_count()) return false;
    detail::processor& p = core_.processor_at(index);
    detail::processor_view const seen = p.view();
    if (!seen.is_running() || seen.owner() != self.index) return false;
    self.lent = &p;
    // Relaxed: written before the word.
    self.predecessor = self.info->predecessor.load(std::memory_order::relaxed);
    return true;
  }

  [[nodiscard]] bool is_told_to_exit(detail::activation& self,
                                     int error) const noexcept {
    return error == 0 && (self.info->events.load(std::memory_order::acquire) &
                          ACTIVATIONS_EVENT_EXIT) != 0;
  }

  // self owns a processor anew.
  void dispatched(detail::activation& self) noexcept {
    maker_.taken(0, spares(0));
    if (take_ticket()) self.is_searcher = true;
    auto const events = self.info->events.load(std::memory_order::acquire);
    if ((events & ACTIVATIONS_EVENT_BLOCKED) != 0) note_cause(self.predecessor);
    if ((events & ACTIVATIONS_EVENT_TIMER) != 0) {
      core_.timers().expire_due(detail::monotonic_ns());
      arm_timer();  // it is unset now
    }
  }

  // For those that are asleep in the kernel.
  void arm_timer() noexcept {
    auto const next = core_.timers().earliest_ns();
    if (next != detail::no_deadline && core_.idle().count() != 0)
      (void)device_->call(ACTIVATIONS_IOCTL_TIMER, next);
  }

  bool take_ticket() noexcept {
    auto left = tickets_.load(std::memory_order::relaxed);
    while (left != 0)
      if (tickets_.compare_exchange_weak(left, left - 1,
                                         std::memory_order::acq_rel,
                                         std::memory_order::relaxed))
        return true;
    return false;
  }

  // A sample for people: the kernel may be writing the next one.
  void note_cause(std::uint32_t blocked) noexcept {
    if (core_.activation_at(blocked) == nullptr) return;
    activations_cause const cause = device_->activation_info(blocked).cause;
    if (cause.kind != ACTIVATIONS_CAUSE_UNKNOWN) causes_.add(cause, 1);
  }

  // Behind all others: first in, first out, as long as each waits there.  A
  // returner that finds a ring in use takes its turn in it.
  void queue(detail::activation& self, detail::activation& stopped) noexcept {
    if (!self.ring.is_empty() &&
        stopped.info->state.load(std::memory_order::relaxed) !=
            ACTIVATIONS_ACTIVATION_PREEMPTED)
      return core_.make_runnable(stopped);
    core_.inject(stopped);
    core_.notify();
  }

  // Takes over what lies in the rings of those that own no processor.  A spare
  // adopts the ring of its predecessor; but nobody does so when a stopped
  // activation was resumed directly, or a returner claimed the processor of
  // one that kept it, and then lost it before its next scheduling point.
  bool rescue(detail::activation& self) noexcept {
    bool any = false;
    auto const used = used_slots_.load(std::memory_order::acquire);
    for (std::uint32_t i = 0; i < used; ++i) {
      detail::activation* const other = core_.activation_at(i);
      if (other == nullptr || other == &self || other->ring.is_empty() ||
          is_owner(*other))
        continue;
      any |= other->ring.move_into(self.ring, std::memory_order::seq_cst) != 0;
    }
    if (!any) return false;
    core_.check_ring(self);
    core_.notify();
    return true;
  }

  [[nodiscard]] bool is_owner(detail::activation const& a) const noexcept {
    auto const index = a.info->processor.load(std::memory_order::relaxed);
    if (index >= core_.processor_count()) return false;
    auto const seen = core_.processor_at(index).view();
    return seen.is_running() && seen.owner() == a.index;
  }

  detail::core& core_;
  std::unique_ptr<detail::kernel_device> device_;
  std::uint64_t const slice_ns_;

  // Wake-ups whose searcher is not known yet: whoever is dispatched takes one.
  alignas(detail::cache_line_bytes) std::atomic<std::uint32_t> tickets_{0};
  std::atomic<std::uint64_t> next_rescue_ns_{0};  // a hint
  std::atomic<std::uint32_t> used_slots_{0};      // W: whoever makes threads
  std::atomic<std::uint32_t> attached_{0};
  std::atomic<std::uint32_t> refused_{0};  // threads to be joined
  std::atomic<int> refusal_error_{0};
  std::atomic<std::uint64_t> refusals_{0};
  std::atomic<std::uint64_t> stale_switches_{0};

  detail::block_causes causes_;
  detail::activation_threads threads_;
  detail::spare_maker maker_;
};

static_assert(processor_backend<kernel_backend>);

}  // namespace activations
