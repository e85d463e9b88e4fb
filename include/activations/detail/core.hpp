// SPDX-License-Identifier: BSL-1.0
//
// The heart of a scheduler: what runs next, and how one strand gives way to
// another.  It knows queues, strands and activations; it asks the backend for
// processors and knows nothing of how they are lent.  One file, though a long
// one: choosing, switching and waking are one argument, told below.
//
// The path of a voluntary switch:
//
//   suspend(after)            on the leaving strand, disabled
//     next_strand             own ring, injected work, timers, other rings
//     context_switch
//   landed                    on the strand that goes on: runs `after`, which
//                             makes the strand that left findable again.  Not
//                             earlier: whoever finds it may run it at once.
//
// Idle and wake-up (the argument of Go's scheduler, with our names):
//   a pusher   stores to its queue (seq_cst), then reads idle_count and
//              searching (seq_cst); it wakes one idle processor if nobody
//              searches.
//   a searcher that gives up decrements searching (seq_cst), then looks at
//              all queues once more.
//   an owner   that goes idle raises idle_count (seq_cst), then looks at all
//              queues once more.
//   So of a push and a processor that stops looking, at least one sees the
//   other; and the last searcher that finds something looks for a successor.
//   a watcher  of the backend, for owners that block, sleeps while no work
//   waits. Work that no idle processor takes, or that it leaves, wakes it.
//
// Where a kernel watches for blocked owners (abi.h), it reads work_waiting:
//   a pusher   stores to its queue, then reads the word and sets it if it is
//              0, then reads idle_count (all seq_cst).
//   an owner   that found nothing sets the word to 0, then looks at all queues
//              once more, and sets it again if there is something; the kernel
//              raises idle_count, then reads the word.
//   So while the word is 0 nothing is queued, or somebody is about to set it;
//   and of a push and a processor that goes idle, or that its blocked
//   activation keeps, at least one sees the other.
//
// Involuntary stops (preemption) come through backend::stop and involve none
// of this: the kernel thread itself waits, and is queued as a runnable.
#pragma once

#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cassert>
#include <coroutine>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include <activations/detail/activation.hpp>
#include <activations/detail/backend.hpp>
#include <activations/detail/deque_registry.hpp>
#include <activations/detail/futex.hpp>
#include <activations/detail/idle_set.hpp>
#include <activations/detail/stack_overflow.hpp>
#include <activations/detail/timer_queue.hpp>

namespace activations::detail {

// A job: stackless work that is no coroutine (a forked callable).
struct job : runnable {
  explicit job(void (*f)(job&) noexcept) noexcept
      : runnable{nullptr, runnable_kind::job}, run(f) {}
  void (*run)(job& self) noexcept;
};

// A task's head as the scheduler sees it: how to resume it.
struct task_header : runnable {
  task_header() noexcept : runnable{nullptr, runnable_kind::task} {}
  void* frame = nullptr;  // std::coroutine_handle<>::address()
  bool in_chain = false;  // see fork_join.hpp
};

class core {
 public:
  // Takes the arrays from the backend's areas with attach_backend.
  core(std::uint32_t processor_count, std::uint32_t activation_slots,
       std::size_t stack_bytes)
      : stack_bytes_(stack_bytes),
        processor_count_(processor_count),
        processors_(std::make_unique<processor[]>(processor_count)),
        activation_slots_(activation_slots),
        activations_(
            std::make_unique<std::atomic<activation*>[]>(activation_slots)),
        stacks_(stack_pool_options{.default_bytes = stack_bytes}) {}

  core(core const&) = delete;
  core& operator=(core const&) = delete;

  // ---- who and what -----------------------------------------------------

  [[nodiscard]] std::uint32_t processor_count() const noexcept {
    return processor_count_;
  }
  [[nodiscard]] processor& processor_at(std::uint32_t i) const noexcept {
    return processors_[i];
  }
  [[nodiscard]] std::uint32_t activation_slots() const noexcept {
    return activation_slots_;
  }
  [[nodiscard]] activation* activation_at(std::uint32_t i) const noexcept {
    return i < activation_slots_
               ? activations_[i].load(std::memory_order::acquire)
               : nullptr;
  }
  void set_activation(std::uint32_t i, activation* a) noexcept {
    activations_[i].store(a, std::memory_order::release);
  }
  // Where a processor's word does not name the activation itself: slots below
  // `first` are for who is named, and each has one of its own behind them.
  // Context: before the start.
  void count_activations_from(std::uint32_t first) noexcept {
    first_counted_ = first;
  }
  void attach_backend(backend& b) noexcept { backend_ = &b; }
  [[nodiscard]] backend& lender() noexcept { return *backend_; }
  [[nodiscard]] stack_pool& stacks() noexcept { return stacks_; }
  [[nodiscard]] std::size_t stack_bytes() const noexcept {
    return stack_bytes_;
  }
  [[nodiscard]] timer_queue& timers() noexcept { return timers_; }

  // ---- switching --------------------------------------------------------

  // Leaves the calling strand; `after(argument)` runs once its stack is free.
  // Returns when somebody made it runnable and it was run again, perhaps on
  // another activation.  Requires: the disabled depth is 1, by the caller;
  // on return it is 0.
  static void suspend(activation& self, after_switch after,
                      void* argument) noexcept {
    strand& leaving = *self.current;
    if (leaving.pins != 0) [[unlikely]]
      return suspend_pinned(self, after, argument);
    self.after = after;
    self.after_argument = argument;
    strand& to = self.home->next_strand(self);
    ACTIVATIONS_TEST_POINT(leaving);
    switch_strand(self, leaving, to);
    disabled_region::leave(landed());
  }

  // As suspend, for a strand that is over: `after` frees it.
  [[noreturn]] static void suspend_final(activation& self, after_switch after,
                                         void* argument) noexcept {
    strand& leaving = *self.current;
    self.after = after;
    self.after_argument = argument;
    strand& to = self.home->next_strand(self);
    to.exceptions.restore(*self.exceptions);
    self.current = &to;
    note_dispatch(self);
    if (!stack_is_intact(leaving.memory, __builtin_frame_address(0)))
        [[unlikely]]
      stack_overflowed(leaving);
    context_switch_final(leaving.machine, to.machine);
  }

  // Lets others run: the caller goes to the end of the queue.  Returns at once
  // if nothing else waits here.  Context: a strand.
  static void yield(activation& self) noexcept {
    disabled_region::enter(self);
    core& home = *self.home;
    strand& leaving = *self.current;
    if (leaving.pins != 0) [[unlikely]] {
      home.stop_here(self);  // the kernel thread itself queues up
      return disabled_region::leave(self);
    }
    if (!self.owns_processor() && !home.backend_->reclaim(self)) [[unlikely]] {
      // An excess thread of ours: its place is in the queue.
      self.after = &requeue;
      self.after_argument = &leaving;
      switch_strand(self, leaving, self.base);
      return disabled_region::leave(landed());
    }
    if (self.predecessor != ACTIVATIONS_INDEX_NONE) home.adopt(self);
    runnable* next = home.pick_here(self);
    // A queue elsewhere is somebody waiting, too.
    if (next == nullptr) next = home.steal(self, false);
    if (next == nullptr) return disabled_region::leave(self);
    self.after = &requeue;
    self.after_argument = &leaving;
    switch_strand(self, leaving, home.strand_for(self, *next));
    disabled_region::leave(landed());
  }

  // ---- making work findable ---------------------------------------------

  // Queues something that may run now.  Context: any thread, the preempt
  // handler through inject only.
  void make_runnable(runnable& item) noexcept {
    activation* const self = current_activation();
    if (self != nullptr && self->home == this && self->owns_processor()) {
      // Who stops us uses the ring, too (extract_stopped).
      disabled_region::enter(*self);
      push(*self, item);
      disabled_region::leave(*self);
    } else {
      // What we push may run, and be the last that this scheduler waited for,
      // before notify() returns: wait_drained waits for us, too.  Release:
      // with the last decrement we are gone.
      visitors_.fetch_add(1, std::memory_order::relaxed);  // injected_ orders
      injected_.push(&item);
      ACTIVATIONS_TEST_POINT(injected);
      notify();
      visitors_.fetch_sub(1, std::memory_order::release);
    }
  }

  // A suspended strand may go on.
  void resume(strand& waiting) noexcept {
    if (waiting.pins != 0) [[unlikely]]
      backend_->resume_pinned(*waiting.pinned_to);
    else
      make_runnable(waiting);
  }

  // Async-signal-safe, lock-free; call notify() afterwards where allowed.
  void inject(runnable& item) noexcept { injected_.push(&item); }

  // A queue may have got something: makes sure that somebody will look.
  void notify() noexcept {
    if (shared_ != nullptr) [[unlikely]]
      return notify_with_kernel();
    // seq_cst: pairs with the idle side; see the top of this file.
    if (idle_.count() != 0) {
      if (searching_.load(std::memory_order::seq_cst) == 0) [[unlikely]]
        wake_one();
    } else {
      alert_watchers();
    }
  }

  // As notify, for a lone runnable in the caller's ring: most often the caller
  // runs it next.  Where waking another processor for such came to nothing
  // the last few times, the watchers look at it instead, a tick later, and
  // call notify_again if it still waits.
  void notify_of_one() noexcept {
    if (futile_searches_.load(std::memory_order::relaxed) < most_futile_ ||
        idle_.count() == 0)
      notify();
    else if (monitoring_.load(std::memory_order::seq_cst) != 0) [[unlikely]]
      call_watch();
  }
  void notify_again() noexcept {
    futile_searches_.store(0, std::memory_order::relaxed);  // a hint
    notify();
  }
  // No watcher looks: every push has to wake somebody itself.
  void has_no_watchers() noexcept { most_futile_ = UINT32_MAX; }

  // How a fork publishes its offer.  With membarrier the idle side pays for
  // the store-load order (barrier_for_forks), and a fork is a plain store.
  [[nodiscard]] std::memory_order fork_order() const noexcept {
    return has_membarrier_ ? std::memory_order::release
                           : std::memory_order::seq_cst;
  }
  // Between announcing a processor idle and the last look at the queues.
  void barrier_for_forks() const noexcept {
    if (has_membarrier_)
      syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
  }

  // To the kernel that hands on the processors of those that block.
  // Requires: there is one, see listen_to.
  void say_work_waits() noexcept {
    auto& waits = shared_->work_waiting;
    // seq_cst, both: see the top of this file.
    if (waits.load(std::memory_order::seq_cst) == 0) [[unlikely]] {
      ACTIVATIONS_TEST_POINT(saying_so);
      waits.store(1, std::memory_order::seq_cst);
    }
  }

  // True if anything is queued anywhere that a processor could run.
  [[nodiscard]] bool has_work() noexcept {
    if (!injected_.is_empty() || somebody_stopped()) return true;
    for (std::uint32_t i = 0; i < processor_count_; ++i) {
      activation* const owner = activation_at(processors_[i].view().owner());
      if (owner != nullptr && !owner->ring.is_empty()) return true;
    }
    return deques_.has_work() || timers_.earliest_ns() <= monotonic_or_never();
  }

  // ---- idle accounting, called by the backend ---------------------------

  // Follows the processor words; see idle_set.hpp.
  [[nodiscard]] idle_set& idle() noexcept { return idle_; }
  // A kernel says through this when it stopped somebody, and is told through
  // it when work waits.  Context: before the start.
  void listen_to(activations_control_header& shared) noexcept {
    shared_ = &shared;
    // Most of the injected are activations then.  Who switches to one gives its
    // ring back, to the end of the queue: one at a time keeps them in order.
    injected_batch_ = 1;
  }

  // How many of the backend's watchers sleep and want watch() called: those
  // who look at busy processors only, and those who look at all.
  [[nodiscard]] std::atomic<std::uint32_t>& watching() noexcept {
    return watching_;
  }
  [[nodiscard]] std::atomic<std::uint32_t>& monitoring() noexcept {
    return monitoring_;
  }
  // A woken processor counts as a searcher from the moment of its wake-up.
  void begin_search() noexcept {
    searching_.fetch_add(1, std::memory_order::seq_cst);
  }
  void end_search() noexcept {
    searching_.fetch_sub(1, std::memory_order::seq_cst);
  }

  // ---- the life of an activation ----------------------------------------

  // The loop on a kernel thread's own stack.  Returns when the backend says
  // that the scheduler has ended.  `self` may or may not own a processor.
  void run_activation(activation& self) noexcept {
    disabled_region::enter(self);
    bool gave_away = !self.owns_processor();  // a new spare, too
    for (;;) {
      landed();
      runnable* work = std::exchange(self.next_work, nullptr);
      if (gave_away || (!self.owns_processor() && !backend_->reclaim(self))) {
        gave_away = false;
        if (std::exchange(self.is_searcher, false)) end_search();
        if (work != nullptr) {
          injected_.push(work);
          notify();
        }
        flush_ring(self);
        if (!backend_->park(self)) return;
        continue;
      }
      adopt(self);
      if (work == nullptr) work = search(self);
      if (work == nullptr) {
        ACTIVATIONS_TEST_POINT(going_idle);
        backend_->idle(self, timers_.earliest_ns());
        if (self.exits || ended_.load(std::memory_order::acquire)) return;
        continue;
      }
      if (work->kind == runnable_kind::activation) {
        gave_away = backend_->switch_to(self, static_cast<activation&>(*work));
        if (!gave_away) {
          injected_.push(work);
          notify();
        }
        continue;
      }
      switch_strand(self, self.base, strand_for(self, *work));
    }
  }

  // No strand or task is left: run_activation returns everywhere.
  void end() noexcept { ended_.store(true, std::memory_order::release); }
  [[nodiscard]] bool has_ended() const noexcept {
    return ended_.load(std::memory_order::acquire);
  }

  // Frees what a finished activation kept.  Context: its kernel thread.
  void release_caches(activation& self) noexcept {
    while (self.carriers != nullptr) {
      strand& idle = static_cast<strand&>(*self.carriers);
      self.carriers = idle.next;
      free_carrier(idle, self);
    }
    self.stacks.clear(stacks_);
  }

  // The calling strand's deque of forked jobs, made at its first fork.  Null:
  // no memory, or too many at once; the caller runs its jobs in line.
  // Context: a strand.
  [[nodiscard]] work_deque<>* deque_of(strand& user) noexcept {
    if (user.deque == nullptr) [[unlikely]]
      user.deque = new_deque();
    return user.deque;
  }

  // A strand ends: its deque, empty now, serves another.
  void return_deque(strand& user) noexcept {
    if (user.deque == nullptr) return;
    disabled_region const region;
    deques_.give_back(*std::exchange(user.deque, nullptr));
  }

  // ---- totals -----------------------------------------------------------

  // Every user thread and spawned task is counted once at each end.  The
  // second may be the last that its thread does with this scheduler.
  void count_spawned() noexcept { count(&counters::spawned); }
  void count_finished() noexcept { count(&counters::finished); }

  // Sum of one counter over all activations and the rest of the world.
  [[nodiscard]] std::uint64_t total(counters::member which) const noexcept {
    std::uint64_t sum = elsewhere_.get(which);
    for (std::uint32_t i = first_counted_; i < activation_slots_; ++i)
      if (activation const* const a = activation_at(i))
        sum += a->totals.get(which);
    return sum;
  }

  // Waits until everything spawned has finished, and foreign threads that made
  // something runnable have left.  Context: a kernel thread that is none of
  // ours, at the scheduler's end.  It asks again and again, so that a thread
  // that ends owes nobody a wake-up.
  void wait_drained() const noexcept {
    std::atomic<std::uint32_t> nobody{0};
    for (std::uint64_t pause_ns = 50'000;; pause_ns *= 2) {
      // `finished` first: both only grow, and nothing finishes before it was
      // spawned, so equal sums were equal at one moment.
      auto const finished = total(&counters::finished);
      if (finished == total(&counters::spawned) &&
          visitors_.load(std::memory_order::acquire) == 0)
        return;
      pause_ns = std::min<std::uint64_t>(pause_ns, 5'000'000);
      futex_wait(nobody, 0, monotonic_ns() + pause_ns);
    }
  }

  // The oldest runnable activation in any queue, or null: it goes on in the
  // place of one that stops or is blocked when there is no spare to do so.
  // All else that was found moves to the end of the injected work.  Looks no
  // further than `mine` has room, so ask again later.  Context: the owner of
  // the ring `mine`; the preempt handler, too.
  activation* extract_stopped(run_ring<>& mine) noexcept {
    activation* found = nullptr;
    auto const look = [&](runnable* item) {
      if (found == nullptr && item->kind == runnable_kind::activation)
        found = static_cast<activation*>(item);
      else
        injected_.push(item);
    };
    auto const look_at_mine = [&] {
      while (runnable* const item = mine.pop()) look(item);
    };
    runnable* first = nullptr;
    // One batch: what goes back would come again.
    bool const any = injected_.take_into(mine, first, run_ring_capacity) != 0;
    if (any) look(first);
    look_at_mine();
    for (std::uint32_t i = 0; i < processor_count_; ++i) {
      activation* const owner = activation_at(processors_[i].view().owner());
      if (owner == nullptr || &owner->ring == &mine) continue;
      while (owner->ring.steal_into(mine, first) != 0) {
        look(first);
        look_at_mine();
      }
    }
    notify();
    return found;
  }

  // Stops the calling activation where it is.  Context: its own thread, in a
  // disabled region of depth 1 or in the preempt handler.
  void stop_here(activation& self) noexcept {
    self.control->pending.store(0, std::memory_order::relaxed);
    (void)backend_->stop(self, &inject_activation, &self);
  }

  // Runs on the strand that was switched to.
  static activation& landed() noexcept {
    activation& self = *current_activation();
    if (after_switch const after = std::exchange(self.after, nullptr)) {
      ACTIVATIONS_TEST_POINT(landed);
      after(self.after_argument, self);
    }
    return self;
  }

  static void switch_strand(activation& self, strand& from,
                            strand& to) noexcept {
    from.exceptions.save(*self.exceptions);
    to.exceptions.restore(*self.exceptions);
    self.current = &to;
    note_dispatch(self);
    if (!stack_is_intact(from.memory, __builtin_frame_address(0))) [[unlikely]]
      stack_overflowed(from);
    context_switch(from.machine, to.machine);
  }

  [[noreturn, gnu::cold, gnu::noinline]] static void stack_overflowed(
      strand const& victim) noexcept {
    stack_overrun({victim.id, victim.name, victim.memory});
  }

  // A new run segment begins on self's processor.  Relaxed: hints for those
  // who judge from outside whether the owner is stuck.
  static void note_dispatch(activation& self) noexcept {
    auto& control = *self.lent->control;
    control.dispatches.store(
        control.dispatches.load(std::memory_order::relaxed) + 1,
        std::memory_order::relaxed);
    self.totals.add(&counters::switches);
    if (self.home->lost_.load(std::memory_order::relaxed) != 0) [[unlikely]]
      control.segment_start_ns.store(monotonic_ns(),
                                     std::memory_order::relaxed);
  }

  // Activations that are blocked in the kernel without a processor: while
  // there are any, run segments are timed for their return.
  [[nodiscard]] std::atomic<std::uint32_t>& lost() noexcept { return lost_; }

  // Whatever waits in the ring of self's predecessor on its processor.
  void adopt(activation& self) noexcept {
    auto const index = std::exchange(self.predecessor, ACTIVATIONS_INDEX_NONE);
    activation* const before = activation_at(index);
    if (before == nullptr || before == &self) return;
    // In order, so that nobody is overtaken by adoptions.  What does not fit
    // stays with `before`, who looks for a processor when it comes back.
    auto const moved =
        before->ring.move_into(self.ring, std::memory_order::seq_cst);
    if (moved > 0) check_ring(self);
    if (moved > 1) notify();
  }

  // After each push to self's ring (seq_cst): nobody looks there if the
  // processor was taken meanwhile.
  void check_ring(activation& self) noexcept {
    if (!self.owns_processor()) [[unlikely]]
      flush_ring(self);
  }

  // Moves what is in self's ring to where others look.
  void flush_ring(activation& self) noexcept {
    bool any = false;
    while (runnable* const item = self.ring.pop()) {
      injected_.push(item);
      any = true;
    }
    if (any) notify();
  }

 private:
  static constexpr std::uint32_t injected_period = 61;
  static constexpr std::size_t run_ring_capacity = 256;
  static constexpr std::uint32_t most_idle_carriers = 4;

  // ---- choosing ---------------------------------------------------------

  // What to run after the current strand; null: the base decides, because
  // there is nothing, or no processor.  Requires: disabled.
  runnable* next_work(activation& self) noexcept {
    if (!self.owns_processor() && !backend_->reclaim(self)) [[unlikely]]
      return nullptr;
    if (self.predecessor != ACTIVATIONS_INDEX_NONE) [[unlikely]]
      adopt(self);
    runnable* const work = pick_here(self);
    return work != nullptr ? work : steal(self, false);
  }

  strand& next_strand(activation& self) noexcept {
    runnable* const work = next_work(self);
    return work == nullptr ? self.base : strand_for(self, *work);
  }

  // The strand on which `work` runs: its own, a carrier, or the base.
  strand& strand_for(activation& self, runnable& work) noexcept {
    if (work.kind == runnable_kind::strand) return static_cast<strand&>(work);
    if (work.kind == runnable_kind::activation) {
      self.next_work = &work;
      return self.base;
    }
    if (self.carriers == nullptr && !add_carrier(self)) [[unlikely]] {
      // No stack for it now: it waits until somebody has one.
      injected_.push(&work);
      return self.base;
    }
    strand& carrier = static_cast<strand&>(*self.carriers);
    self.carriers = carrier.next;
    --self.carrier_count;
    self.next_work = &work;
    return carrier;
  }

  // No watcher to tell: the kernel's word is set in any case.
  [[gnu::noinline]] void notify_with_kernel() noexcept {
    say_work_waits();
    // seq_cst: pairs with the idle side; see the top of this file.
    if (idle_.count() != 0 && searching_.load(std::memory_order::seq_cst) == 0)
      wake_one();
  }

  [[gnu::noinline]] void collect_stopped(activation& self) noexcept {
    if (somebody_stopped()) backend_->collect(self);
  }
  // Relaxed: who sees it late sees it at the next look; collect() takes it.
  [[nodiscard]] bool somebody_stopped() const noexcept {
    return shared_ != nullptr &&
           shared_->stopped.load(std::memory_order::relaxed) != 0;
  }

  // Own ring and what foreign threads sent, and timers that are due.
  runnable* pick_here(activation& self) noexcept {
    ++self.tick;
    if (shared_ != nullptr) [[unlikely]]
      collect_stopped(self);
    // Counted by processor: an activation may serve one dispatch and block.
    auto const served =
        self.lent->control->dispatches.load(std::memory_order::relaxed);
    if (served % injected_period == 0) [[unlikely]] {
      runnable* item = served / injected_period % 2 != 0
                           ? self.lent->pop_stopped()
                           : nullptr;
      if (item == nullptr) item = take_injected(self);
      if (item != nullptr) return item;
    }
    if (timers_.earliest_ns() != no_deadline) expire_timers(self);
    if (runnable* const item = self.ring.pop()) return item;
    if (runnable* const item = take_injected(self)) return item;
    return self.lent->pop_stopped();
  }

  void expire_timers(activation& self) noexcept {
    // A full ring need not ask the clock each time.
    if (self.tick % 8 != 0 && self.ring.size() > 8) return;
    auto const now = monotonic_ns();
    if (timers_.earliest_ns() <= now) timers_.expire_due(now);
  }

  runnable* take_injected(activation& self) noexcept {
    if (injected_.is_empty()) return nullptr;
    runnable* first = nullptr;
    auto const taken = injected_.take_into(self.ring, first, injected_batch_,
                                           std::memory_order::seq_cst);
    ACTIVATIONS_TEST_POINT(taken);
    if (taken > 1) {
      check_ring(self);
      notify();
    }
    return first;
  }

  // From other processors' rings, then from the deques of forked jobs.  A lone
  // runnable is left to its owner, who is about to run it, unless `greedy`.
  runnable* steal(activation& self, bool greedy) noexcept {
    auto const start = self.lent->index + 1;
    for (std::uint32_t i = 0; i + 1 < processor_count_; ++i) {
      processor& p = processors_[(start + i) % processor_count_];
      processor_view const seen = p.view();
      if (!seen.is_running()) continue;
      activation* const victim = activation_at(seen.owner());
      if (victim == nullptr || victim == &self) continue;
      auto const size = victim->ring.size();
      if (size == 0 || (size == 1 && !greedy)) continue;
      runnable* first = nullptr;
      auto const taken =
          victim->ring.steal_into(self.ring, first, std::memory_order::seq_cst);
      if (taken == 0) continue;
      self.totals.add(&counters::steals);
      if (taken > 1) {
        check_ring(self);
        notify();
      }
      return first;
    }
    runnable* const forked = deques_.steal(self.tick);
    if (forked != nullptr) self.totals.add(&counters::steals);
    return forked;
  }

  // Looks everywhere for a while, at most half of the processors at once.
  runnable* search(activation& self) noexcept {
    bool const woken = std::exchange(self.is_searcher, false);
    if (!woken) {
      if (runnable* const found = pick_here(self)) return found;
      if (2 * searching_.load(std::memory_order::relaxed) >=
          processor_count_ + 1)
        return steal(self, true);
      begin_search();
    }
    // Softly, so as not to pull the queues' words from those who use them; a
    // lone runnable is taken only by the last look, below.
    auto const until = monotonic_ns() + search_ns;
    runnable* found = nullptr;
    for (;;) {
      found = pick_here(self);
      if (found == nullptr) found = steal(self, false);
      if (found != nullptr || monotonic_ns() >= until ||
          ended_.load(std::memory_order::relaxed))
        break;
      for (int i = 0; i < search_pauses; ++i) arch::cpu_relax();
    }
    bool const was_last =
        searching_.fetch_sub(1, std::memory_order::seq_cst) == 1;
    ACTIVATIONS_TEST_POINT(search_over);
    bool const gave_up = found == nullptr;
    if (gave_up && (found = pick_here(self)) == nullptr)
      found = steal(self, true);
    // Hints, both; one added too many or too few is no harm.
    if (!gave_up)
      futile_searches_.store(0, std::memory_order::relaxed);
    else if (found == nullptr)
      futile_searches_.fetch_add(1, std::memory_order::relaxed);
    // There may be more than we took, pushed while we kept others from waking:
    // for an idle processor or, since the last of them was claimed, for ours
    // when it blocks.
    if (found != nullptr && (was_last || gave_up) && has_work()) notify();
    return found;
  }

  [[gnu::noinline]] void wake_one() noexcept {
    disabled_region const region;
    do {
      // One waker at a time; the woken one is the searcher.
      std::uint32_t none = 0;
      if (!searching_.compare_exchange_strong(none, 1,
                                              std::memory_order::seq_cst))
        return;
      ACTIVATIONS_TEST_POINT(waking);
      if (backend_->wake_idle()) return;
      searching_.fetch_sub(1, std::memory_order::seq_cst);
      // Meanwhile one may have gone idle before, and another pushed after it
      // looked at the queues and left it to us to wake somebody.
    } while (has_idle_processor() && has_work());
    // They are gone, and others may have relied on us as a searcher.
    alert_watchers();
  }

  // By the words, which are changed before the set.
  [[nodiscard]] bool has_idle_processor() noexcept {
    return idle_.any(
        [&](std::uint32_t i) { return processors_[i].view().is_idle(); });
  }

  // Work waits for a processor, should the owner of one block.
  void alert_watchers() noexcept {
    if (watching_.load(std::memory_order::seq_cst) != 0 ||
        monitoring_.load(std::memory_order::seq_cst) != 0) [[unlikely]]
      call_watch();
  }
  [[gnu::noinline]] void call_watch() noexcept {
    disabled_region const region;
    backend_->watch();
  }

  std::uint64_t monotonic_or_never() noexcept {
    return timers_.earliest_ns() == no_deadline ? 0 : monotonic_ns();
  }

  // As make_runnable.  Requires: disabled.
  void push(activation& self, runnable& item) noexcept {
    assert(self.control->disabled.load(std::memory_order::relaxed) != 0);
    if (!self.ring.push(&item, std::memory_order::seq_cst)) [[unlikely]]
      injected_.push(&item);
    ACTIVATIONS_TEST_POINT(pushed);
    check_ring(self);
    if (self.ring.size() == 1)
      notify_of_one();
    else
      notify();
  }

  // ---- after a switch ---------------------------------------------------

  // Somebody may have taken the processor: push finds that out.
  static void requeue(void* argument, activation& self) noexcept {
    self.home->push(self, *static_cast<strand*>(argument));
  }
  static void inject_activation(void* argument, activation& self) noexcept {
    self.home->injected_.push(static_cast<activation*>(argument));
  }

  // A pinned strand waits on its kernel thread; the processor goes on.
  [[gnu::noinline]] static void suspend_pinned(activation& self,
                                               after_switch after,
                                               void* argument) noexcept {
    self.home->backend_->wait_pinned(self, after, argument);
    disabled_region::leave(self);
  }

  // ---- carriers ---------------------------------------------------------

  [[nodiscard]] bool add_carrier(activation& self) noexcept {
    stack const memory = self.stacks.allocate(stacks_);
    if (!memory) return false;
    // The strand lives at the top of its own stack.
    auto* const place = static_cast<std::byte*>(memory.top()) -
                        ((sizeof(strand) + 63) & ~std::size_t{63});
    auto* const made = new (place) strand;
    made->memory = memory;
    made->home = this;
    context_make(made->machine, memory.base,
                 static_cast<std::size_t>(place - memory.base), &carrier_entry,
                 made);
    made->next = self.carriers;
    self.carriers = made;
    ++self.carrier_count;
    return true;
  }

  void free_carrier(strand& idle, activation& self) noexcept {
    return_deque(idle);
    context_finish(idle.machine);
    stack const memory = idle.memory;
    idle.~strand();
    self.stacks.release(stacks_, memory);
  }

  static void shelve_carrier(void* argument, activation& self) noexcept {
    strand& idle = *static_cast<strand*>(argument);
    if (self.carrier_count >= most_idle_carriers) {
      self.home->free_carrier(idle, self);
      return;
    }
    idle.next = self.carriers;
    self.carriers = &idle;
    ++self.carrier_count;
  }

  static void carrier_entry(void* argument) {
    strand& carrier = *static_cast<strand*>(argument);
    context_enter(carrier.machine);
    for (;;) {
      activation* self = &landed();
      runnable* work = std::exchange(self->next_work, nullptr);
      do {
        disabled_region::leave(*self);
        run_stackless(*work);
        self = current_activation();
        disabled_region::enter(*self);
        // What it forked comes first: see fork_join.hpp.
        work = carrier.deque != nullptr ? carrier.deque->pop() : nullptr;
        if (work == nullptr) work = carrier.home->next_work(*self);
      } while (work != nullptr && is_stackless(*work));
      self->after = &shelve_carrier;
      self->after_argument = &carrier;
      switch_strand(*self, carrier,
                    work == nullptr ? self->base
                                    : carrier.home->strand_for(*self, *work));
    }
  }

  static bool is_stackless(runnable const& work) noexcept {
    return work.kind == runnable_kind::task || work.kind == runnable_kind::job;
  }

  static void run_stackless(runnable& work) noexcept {
    if (work.kind == runnable_kind::job) {
      job& forked = static_cast<job&>(work);
      forked.run(forked);
    } else {
      std::coroutine_handle<>::from_address(
          static_cast<task_header&>(work).frame)
          .resume();
    }
  }

  // ---- deques -----------------------------------------------------------

  [[gnu::noinline]] work_deque<>* new_deque() noexcept {
    {
      disabled_region const region;
      if (work_deque<>* const found = deques_.borrow()) return found;
    }
    auto* const made = new (std::nothrow) work_deque<>;
    if (made == nullptr) return nullptr;
    {
      disabled_region const region;
      if (deques_.enter(*made)) return made;
    }
    delete made;
    return nullptr;
  }

  void count(counters::member which) noexcept {
    activation* const self = current_activation();
    if (self != nullptr && self->home == this)
      self->totals.add(which);
    else
      elsewhere_.add_shared(which);
  }

  // How long a search lasts before its processor goes idle, and how long it
  // waits between two looks.
  static constexpr std::uint64_t search_ns = 20'000;
  static constexpr int search_pauses = 64;

  // seccomp or an old kernel may refuse it.
  bool const has_membarrier_ =
      syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0,
              0) == 0;
  backend* backend_ = nullptr;
  activations_control_header* shared_ = nullptr;  // see listen_to
  std::size_t injected_batch_ = 32;
  std::size_t stack_bytes_;
  std::uint32_t processor_count_;
  std::unique_ptr<processor[]> processors_;
  std::uint32_t activation_slots_;
  std::uint32_t first_counted_ = 0;  // see count_activations_from
  std::unique_ptr<std::atomic<activation*>[]> activations_;
  std::atomic<bool> ended_{false};

  idle_set idle_;
  alignas(cache_line_bytes) std::atomic<std::uint32_t> searching_{0};
  std::atomic<std::uint32_t> watching_{0};
  std::atomic<std::uint32_t> monitoring_{0};
  std::atomic<std::uint32_t> futile_searches_{0};  // in a row
  std::uint32_t most_futile_ = 4;                  // fixed before the start
  std::atomic<std::uint32_t> lost_{0};

  alignas(cache_line_bytes) injection_queue<> injected_;
  std::atomic<std::uint32_t> visitors_{0};  // in make_runnable, foreign
  deque_registry deques_;
  timer_queue timers_;
  stack_pool stacks_;
  alignas(cache_line_bytes) counters elsewhere_;
};

inline void disabled_region::deliver_pending(activation& self) noexcept {
  enter(self);
  self.home->stop_here(self);
  leave(self);
}

}  // namespace activations::detail
