// SPDX-License-Identifier: BSL-1.0
//
// The bare-metal image as the lender of processors.  A dispatcher of the image
// (abi_image.h) is a processor, and to the kernel the one activation that runs
// on it: nothing blocks in this kernel.  What is left to do is to sleep when
// there is no work, and to be woken: RELEASE and KICK.
//
// A processor is any dispatcher that no other scheduler has; dispatcher 0 runs
// main and is a plain kernel thread to the runtime.
//
// Lanes.  Activations are ours: a dispatcher has one from the start, and with
// slices more, each with a stack and thread-local storage of its own, as Linux
// has kernel threads.  One of them runs; the processor's word names the
// dispatcher, whichever it is.  When TIMER stops one that computes, its
// registers are laid on the stack that it ran on, it is queued at its
// processor, and a spare lane goes on with other work, until it is told to
// switch to one that was stopped.  A lane never leaves its dispatcher: its code
// may hold addresses of that, and of its thread-local storage (P3).
//   With no spare left, the lane that was stopped first goes on; with none of
// either, the one that computes.
//
// Cores are asked for as long as the scheduler lives.  Where the kernel takes
// one for another space, the processor's word says so: at its next scheduling
// point the owner leaves its work to the others and sleeps until the core is
// back.  A user thread that is stopped by force goes on on another core, and so
// does a dispatcher with stopped lanes, which nobody else could continue.
//
// Wake-ups.  An owner that goes idle adds itself to the idle set, looks at the
// queues once more, and sleeps.  A waker takes it out of the set and kicks it;
// a kick that comes before the sleep ends that sleep at once (pending, abi.h).
//
// Context: the constructor and destructor run on a dispatcher that is no
// activation of this scheduler; everything else as detail/backend.hpp says.
#pragma once

#include <sys/types.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include <activations/abi_image.h>
#include <activations/activation_statistics.hpp>
#include <activations/detail/bare/image.hpp>
#include <activations/detail/core.hpp>
#include <activations/error.hpp>
#include <activations/processor_backend.hpp>

namespace activations {

namespace detail {

// The cores to put `wanted` processors on; 0: one on each core.
inline std::vector<int> choose_cpus(unsigned wanted) {
  unsigned const cores = activations_image_cores();
  if (wanted == 0) wanted = cores;
  if (wanted >= ACTIVATIONS_IMAGE_DISPATCHERS)
    throw_system_error(EINVAL, "use that many processors on the image");
  std::vector<int> chosen;
  for (unsigned i = 0; i < wanted; ++i)
    chosen.push_back(static_cast<int>(i % cores));
  return chosen;
}

}  // namespace detail

class bare_backend final : public detail::backend {
 public:
  // Activations of a scheduler, unless its options say how many.
  static constexpr unsigned default_activations = 256;

  // `slice`: how long a user thread computes before others get a turn; 0: no
  // limit; the kernel's least is 20 us.
  // Requires: the core has activation_slots() for the dispatchers and as many
  // more as there may be lanes.
  bare_backend(detail::core& core, std::vector<int> const& cores,
               std::chrono::nanoseconds slice)
      : core_(core), slice_ns_(static_cast<std::uint64_t>(slice.count())) {
    core_.attach_backend(*this);
    core_.has_no_watchers();
    core_.count_activations_from(ACTIVATIONS_IMAGE_DISPATCHERS);
    if (slice_ns_ != 0) activations_image_on_slice = &slice_over;
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) {
      auto const dispatcher = take_dispatcher();
      detail::processor& p = core_.processor_at(i);
      p.info = &at<activations_processor_info>(info(), info().processor_offset,
                                               dispatcher);
      p.control = &at<activations_processor_control>(
          control(), control().processor_offset, dispatcher);
      p.index = i;
      slots_[i].home = this;
      slots_[i].dispatcher = dispatcher;
      fill(slots_[i].first, p, dispatcher);
      core_.set_activation(dispatcher, &slots_[i].first);
      enter(slots_[i].first);
    }
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) {
      running_.fetch_add(1, std::memory_order::relaxed);
      if (int const error = activations_image_start(
              slots_[i].dispatcher, static_cast<unsigned>(cores[i]),
              &run_dispatcher, &slots_[i]))
        throw_system_error(error, "start a dispatcher");
    }
    for (;;) {
      auto const seen = started_.load(std::memory_order::acquire);
      if (seen == core_.processor_count()) break;
      detail::futex_wait(started_, seen);
    }
    // Several schedulers share what the space is granted.
    request(static_cast<int>(core_.processor_count()));
  }

  // Requires: nothing is left to run.
  ~bare_backend() override {
    core_.end();
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) kick(i);
    for (;;) {
      auto const left = running_.load(std::memory_order::acquire);
      if (left == 0) break;
      detail::futex_wait(running_, left);
    }
    request(-static_cast<int>(core_.processor_count()));
    for (slot& each : slots_) destroy_lanes(each);
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i)
      dispatchers_taken_.fetch_and(~(1u << slots_[i].dispatcher),
                                   std::memory_order::release);
  }

  // ---- detail::backend ---------------------------------------------------

  // Only the kernel gives a core back.
  bool reclaim(detail::activation& self) noexcept override {
    return self.owns_processor() || self.lent->stopped != nullptr;
  }
  bool park(detail::activation& self) noexcept override {
    slot& here = slot_of(self);
    if (lane* const target = std::exchange(here.target, nullptr)) {
      lane& own = static_cast<lane&>(self);
      own.next_spare = std::exchange(here.spares, &own);
      pass(own, *target);
      keep_spare(here);
      return !core_.has_ended();
    }
    // What woke us to look for work has to wake somebody else.
    if (core_.has_work()) core_.notify();
    while (!core_.has_ended() && !reclaim(self))
      call(ACTIVATIONS_CALL_PARK, ~std::uint64_t{0});
    return !core_.has_ended();
  }

  void idle(detail::activation& self, std::uint64_t) noexcept override {
    auto const index = self.lent->index;
    idle_[index].store(true, std::memory_order::seq_cst);
    core_.idle().add(index);
    core_.barrier_for_forks();
    // The deadline after the announcement: see timer_set.
    if (!core_.has_work() && !core_.has_ended()) {
      // seq_cst: a timer that is set meanwhile is seen, or its setter sees us.
      auto const deadline = core_.timers().earliest_ns();
      call(ACTIVATIONS_CALL_RELEASE, deadline);
    }
    // Whoever takes it out of the set ends its idleness: we, or a waker.
    if (idle_[index].exchange(false, std::memory_order::seq_cst))
      core_.idle().remove(index);
    else
      self.is_searcher = true;
  }

  // The switch itself is park's.
  bool switch_to(detail::activation& self,
                 detail::activation& target) noexcept override {
    slot_of(self).target = &static_cast<lane&>(target);
    return true;
  }
  // Only lanes of its own dispatcher can follow, and it is queued there.
  bool stop(detail::activation& self, detail::after_switch,
            void*) noexcept override {
    if (self.current == &self.base || !somebody_waits(self)) return false;
    lane& own = static_cast<lane&>(self);
    lane* const next = leave_processor(own);
    if (next == nullptr) return false;
    pass(own, *next);
    return true;
  }

  // Others have turns meanwhile if slices have made lanes; else nobody can
  // have the processor: it waits, and keeps the time.
  void wait_pinned(detail::activation& self, detail::after_switch after,
                   void* argument) noexcept override {
    after(argument, self);
    while (self.token.exchange(0, std::memory_order::acquire) == 0) {
      if (stop(self, nullptr, nullptr)) continue;
      call(ACTIVATIONS_CALL_PARK, core_.timers().earliest_ns());
      core_.timers().expire_due(detail::monotonic_ns());
    }
  }
  void resume_pinned(detail::activation& waiting) noexcept override {
    waiting.token.store(1, std::memory_order::release);
    kick(waiting.lent->index);
  }

  bool wake_idle() noexcept override {
    return core_.idle().any([&](std::uint32_t index) {
      if (!idle_[index].exchange(false, std::memory_order::seq_cst))
        return false;
      core_.idle().remove(index);
      kick(index);
      return true;
    });
  }

  void watch() noexcept override {}

  // An idle processor sleeps with an older deadline: it looks again.
  void timer_set(std::uint64_t) noexcept override {
    core_.idle().any([&](std::uint32_t index) {
      if (!idle_[index].load(std::memory_order::seq_cst)) return false;
      kick(index);
      return true;
    });
  }

  std::string describe() const override {
    auto const processors = core_.processor_count();
    return "bare backend: " + std::to_string(processors) +
           (processors == 1 ? " processor" : " processors") +
           (slice_ns_ == 0
                ? ""
                : ", slice " + std::to_string(slice_ns_ / 1000) + " us");
  }

  [[nodiscard]] activation_statistics statistics() const noexcept {
    activation_statistics s;
    s.preemptions = preemptions_.load(std::memory_order::relaxed);
    s.no_spare = no_spare_.load(std::memory_order::relaxed);
    s.creation_failures = creation_failures_.load(std::memory_order::relaxed);
    s.created = s.activations = lanes_.load(std::memory_order::relaxed);
    return s;
  }

 private:
  static constexpr std::size_t lane_stack_bytes = 32 * 1024;
  // Of a stack, for the code that goes on with what was stopped there.
  static constexpr std::uintptr_t least_room_bytes = 2048;

  struct lane : detail::activation {
    detail::context parked;  // goes on with it
    std::uint64_t tls = 0;
    lane* next_spare = nullptr;
    lane* next_made = nullptr;
    void* tls_room = nullptr;
  };
  // Of a processor.  W, R: its dispatcher, but for the constructor.
  struct slot {
    bare_backend* home = nullptr;
    std::uint32_t dispatcher = 0;
    lane first;              // of the dispatcher's own stack
    lane* target = nullptr;  // to be switched to
    lane* spares = nullptr;
    lane* made = nullptr;  // all but the first
  };

  static activations_info_header& info() noexcept {
    return *reinterpret_cast<activations_info_header*>(ACTIVATIONS_IMAGE_INFO);
  }
  static activations_control_header& control() noexcept {
    return *reinterpret_cast<activations_control_header*>(
        ACTIVATIONS_IMAGE_CONTROL);
  }
  static std::uint32_t activation_offset() noexcept {
    return control().activation_offset;
  }
  template <class T, class Area>
  static T& at(Area& area, std::size_t offset, std::uint32_t i) noexcept {
    return reinterpret_cast<T*>(reinterpret_cast<std::byte*>(&area) +
                                offset)[i];
  }

  static long call(std::uint64_t number, std::uint64_t argument) noexcept {
    return activations_image_call(number, argument, 0, 0);
  }
  void kick(std::uint32_t processor) noexcept {
    call(ACTIVATIONS_CALL_KICK, slots_[processor].dispatcher);
  }
  static void count(std::atomic<std::uint64_t>& counter) noexcept {
    counter.fetch_add(1, std::memory_order::relaxed);
  }

  // ---- lanes -------------------------------------------------------------

  slot& slot_of(detail::activation const& self) noexcept {
    return slots_[self.lent->index];
  }

  void fill(lane& made, detail::processor& p, std::uint32_t dispatcher) {
    made.home = &core_;
    made.index = dispatcher;
    made.control = &at<activations_activation_control>(
        control(), activation_offset(), dispatcher);
    made.info = &at<activations_activation_info>(
        info(), info().activation_offset, dispatcher);
    made.lent = &p;
  }
  // Among those whose totals count.  False: there are as many as there may be.
  bool enter(lane& made) noexcept {
    auto seen = lanes_.load(std::memory_order::relaxed);
    do {
      if (ACTIVATIONS_IMAGE_DISPATCHERS + seen >= core_.activation_slots())
        return false;
    } while (!lanes_.compare_exchange_weak(seen, seen + 1,
                                           std::memory_order::relaxed));
    core_.set_activation(ACTIVATIONS_IMAGE_DISPATCHERS + seen, &made);
    return true;
  }

  // Another may be stopped while the present one runs: a spare waits for that.
  // Context: the base of a lane, disabled; see P9: the image's heap lets
  // nobody be stopped who holds its lock.
  void keep_spare(slot& here) noexcept {
    if (here.spares != nullptr || core_.has_ended()) return;
    auto* const made = new (std::nothrow) lane;
    void* const tls =
        ::operator new(activations_image_tls_bytes(), std::nothrow);
    detail::stack const memory = core_.stacks().allocate(lane_stack_bytes);
    if (made == nullptr || tls == nullptr || !memory || !enter(*made)) {
      count(creation_failures_);
      core_.stacks().release(memory);
      ::operator delete(tls);
      delete made;
      return;
    }
    fill(*made, *here.first.lent, here.dispatcher);
    made->tls = activations_image_make_tls(tls);
    made->tls_room = tls;
    made->base.memory = memory;
    detail::context_make(made->parked, memory.base, memory.size, &run_lane,
                         made);
    made->next_made = std::exchange(here.made, made);
    made->next_spare = std::exchange(here.spares, made);
  }

  // Context: when the dispatcher is no more: others may have looked at rings.
  void destroy_lanes(slot& here) noexcept {
    while (lane* const dead = here.made) {
      here.made = dead->next_made;
      core_.release_caches(*dead);
      detail::context_finish(dead->parked);
      core_.stacks().release(dead->base.memory);
      ::operator delete(dead->tls_room);
      delete dead;
    }
  }

  [[nodiscard]] bool somebody_waits(detail::activation const& self) noexcept {
    return self.lent->stopped != nullptr || core_.has_work();
  }

  // `own` is stopped: queued, and its ring where others look.  Returns who is
  // to go on in its place; null: nobody can, and nothing happened.
  lane* leave_processor(lane& own) noexcept {
    slot& here = slot_of(own);
    lane* next = here.spares;
    if (next != nullptr) {
      here.spares = next->next_spare;
    } else {
      if (slice_ns_ != 0) count(no_spare_);
      next = static_cast<lane*>(
          static_cast<detail::activation*>(own.lent->pop_stopped()));
      if (next == nullptr) return nullptr;
    }
    own.lent->push_stopped(own);
    core_.flush_ring(own);
    count(preemptions_);
    return next;
  }

  void make_present(lane& own, lane& next) noexcept {
    // A dispatch like any other: whoever chooses by their number would choose
    // the same lane for ever.  Not note_dispatch: the lane's totals are its own.
    auto& dispatches = next.lent->control->dispatches;
    dispatches.store(dispatches.load(std::memory_order::relaxed) + 1,
                     std::memory_order::relaxed);
    core_.set_activation(next.index, &next);
    own.tls = activations_image_use_tls(next.tls);
  }
  // Returns when somebody passes the dispatcher to `own` again.
  void pass(lane& own, lane& next) noexcept {
    make_present(own, next);
    detail::context_switch(own.parked, next.parked);
  }
  // Goes on, if ever, as own.parked says.
  [[noreturn]] void pass_for_good(lane& own, lane& next) noexcept {
    make_present(own, next);
    detail::context gone;
    detail::context_switch_final(gone, next.parked);
  }

  static void run_lane(void* argument) {
    lane& self = *static_cast<lane*>(argument);
    detail::context_enter(self.parked);
    auto& backend = static_cast<bare_backend&>(self.home->lender());
    begin(self);
    backend.keep_spare(backend.slot_of(self));
    detail::disabled_region::leave(self);  // whoever passed had entered it
    backend.core_.run_activation(self);
    backend.pass_for_good(self, backend.slot_of(self).first);
  }

  // ---- slices ------------------------------------------------------------

  // Context: an upcall.
  static void slice_over(activations_image_stopped const& stopped) noexcept {
    detail::activation* const self = detail::current_activation();
    if (self == nullptr || self->current == &self->base) return;
    static_cast<bare_backend&>(self->home->lender())
        .end_slice(static_cast<lane&>(*self), stopped);
  }

  // Returns if what was stopped is to go on now.
  void end_slice(lane& own, activations_image_stopped const& stopped) noexcept {
    auto const& memory = own.current->memory;
    auto const low = reinterpret_cast<std::uintptr_t>(memory.base);
    std::uintptr_t const sp = stopped.stack_pointer;
    // 256: see activations_image_keep.
    std::uintptr_t const at = (sp - 256 - stopped.bytes) & ~std::uintptr_t{63};
    // Near the end of its stack, or not on it: the next slice may be better.
    if (sp > reinterpret_cast<std::uintptr_t>(memory.top()) || at > sp ||
        at < low + least_room_bytes || !somebody_waits(own))
      return;
    lane* const next = leave_processor(own);
    if (next == nullptr) return;
    auto* const room = reinterpret_cast<void*>(at);
    activations_image_keep(stopped, room);
    detail::context_make(own.parked, memory.base, at - low, &go_on, room);
    pass_for_good(own, *next);
  }
  static void go_on(void* room) { activations_image_go_on(room); }

  // Of this space.  W: any scheduler.  0 runs main.
  static inline std::atomic<std::uint32_t> dispatchers_taken_{1};
  static inline std::atomic<int> requested_{0};

  static std::uint32_t take_dispatcher() {
    auto seen = dispatchers_taken_.load(std::memory_order::relaxed);
    for (;;) {
      auto const index = static_cast<std::uint32_t>(std::countr_one(seen));
      if (index >= ACTIVATIONS_IMAGE_DISPATCHERS)
        throw_system_error(EAGAIN, "use more processors on the image");
      // Acquire: whoever had it has left it.
      if (dispatchers_taken_.compare_exchange_weak(seen, seen | 1u << index,
                                                   std::memory_order::acquire))
        return index;
    }
  }
  // Again if another scheduler changed the sum meanwhile: its call may have
  // come before ours.
  static void request(int more) noexcept {
    auto all = requested_.fetch_add(more, std::memory_order::seq_cst) + more;
    for (int asked = all - 1; asked != all;
         all = requested_.load(std::memory_order::seq_cst)) {
      asked = all;
      call(ACTIVATIONS_CALL_REQUEST, static_cast<std::uint64_t>(asked));
    }
  }

  // On the activation's own stack.
  static void begin(detail::activation& self) {
    detail::current_activation_pointer = &self;
    self.exceptions = detail::current_exception_globals();
    self.current = &self.base;
    detail::context_init_native(self.base.machine);
  }

  static void run_dispatcher(void* argument) {
    slot& here = *static_cast<slot*>(argument);
    bare_backend& backend = *here.home;
    lane& self = here.first;
    self.base.memory.guard = detail::guard_kind::pages;
    begin(self);
    if (backend.slice_ns_ != 0) {
      backend.keep_spare(here);
      activations_image_call(ACTIVATIONS_CALL_SLICE, here.dispatcher,
                             backend.slice_ns_, 0);
    }
    // It begins disabled by the kernel; the runtime counts from 0.
    self.control->disabled.store(0, std::memory_order::relaxed);
    backend.started_.fetch_add(1, std::memory_order::acq_rel);
    detail::futex_wake(backend.started_);

    backend.core_.run_activation(self);

    detail::current_activation_pointer = nullptr;
    backend.core_.release_caches(self);
    backend.running_.fetch_sub(1, std::memory_order::acq_rel);
    detail::futex_wake(backend.running_);
  }

  detail::core& core_;
  std::uint64_t const slice_ns_;
  std::atomic<std::uint32_t> lanes_{0};
  std::atomic<std::uint64_t> preemptions_{0};
  std::atomic<std::uint64_t> no_spare_{0};
  std::atomic<std::uint64_t> creation_failures_{0};
  std::array<slot, ACTIVATIONS_IMAGE_DISPATCHERS> slots_;
  // In the idle set; whoever changes it from true changes the set.
  std::array<std::atomic<bool>, ACTIVATIONS_IMAGE_DISPATCHERS> idle_{};
  std::atomic<std::uint32_t> started_{0};
  std::atomic<std::uint32_t> running_{0};
};

static_assert(processor_backend<bare_backend>);

}  // namespace activations
