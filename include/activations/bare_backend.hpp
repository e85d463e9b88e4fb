// SPDX-License-Identifier: BSL-1.0
//
// The bare-metal image as the lender of processors.  A dispatcher of the image
// is both an activation and the processor that it is lent (abi_image.h), so
// there is one for each processor and none to spare: nothing blocks in this
// kernel.  What is left to do is to sleep when there is no work, and to be
// woken: RELEASE and KICK.
//
// A processor is any dispatcher that no other scheduler has; dispatcher 0 runs
// main and is a plain kernel thread to the runtime.
//
// Cores are asked for as long as the scheduler lives.  Where the kernel takes
// one for another space, the processor's word says so: at its next scheduling
// point the owner leaves its work to the others and sleeps until the core is
// back.  A user thread that is stopped by force goes on on another core.
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
#include <string>
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
  bare_backend(detail::core& core, std::vector<int> const& cores,
               std::chrono::nanoseconds slice)
      : core_(core) {
    // A user thread that is stopped in the middle of anything may go on only
    // where it was; that takes a second activation on its processor.
    if (slice.count() != 0)
      throw_system_error(ENOTSUP, "use slices on the image");
    core_.attach_backend(*this);
    core_.has_no_watchers();
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) {
      auto const dispatcher = take_dispatcher();
      slot& s = slots_[i];
      s.home = this;
      s.self.home = &core_;
      s.self.index = dispatcher;
      s.self.control = &at<activations_activation_control>(
          control(), activation_offset(), dispatcher);
      s.self.info = &at<activations_activation_info>(
          info(), info().activation_offset, dispatcher);
      s.self.lent = &core_.processor_at(i);
      s.self.lent->info = &at<activations_processor_info>(
          info(), info().processor_offset, dispatcher);
      s.self.lent->control = &at<activations_processor_control>(
          control(), control().processor_offset, dispatcher);
      s.self.lent->index = i;
      core_.set_activation(dispatcher, &s.self);
    }
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i) {
      running_.fetch_add(1, std::memory_order::relaxed);
      if (int const error = activations_image_start(
              slots_[i].self.index, static_cast<unsigned>(cores[i]),
              &run_dispatcher, &slots_[i]))
        throw_system_error(error, "start a dispatcher");
    }
    while (started_.load(std::memory_order::acquire) < core_.processor_count())
      detail::futex_wait(started_, started_.load(std::memory_order::acquire));
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
    for (std::uint32_t i = 0; i < core_.processor_count(); ++i)
      dispatchers_taken_.fetch_and(~(1u << slots_[i].self.index),
                                   std::memory_order::release);
  }

  // ---- detail::backend ---------------------------------------------------

  // Only the kernel gives a core back.
  bool reclaim(detail::activation& self) noexcept override {
    return self.owns_processor();
  }
  bool park(detail::activation& self) noexcept override {
    // What woke us to look for work has to wake somebody else.
    if (core_.has_work()) core_.notify();
    while (!core_.has_ended() && !self.owns_processor())
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

  bool switch_to(detail::activation&, detail::activation&) noexcept override {
    return false;  // none is ever queued
  }
  bool stop(detail::activation&, detail::after_switch,
            void*) noexcept override {
    return false;
  }

  // Nobody else can have the processor: it waits, and keeps the time.
  void wait_pinned(detail::activation& self, detail::after_switch after,
                   void* argument) noexcept override {
    after(argument, self);
    while (self.token.exchange(0, std::memory_order::acquire) == 0) {
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
           (processors == 1 ? " processor" : " processors");
  }

  [[nodiscard]] activation_statistics statistics() const noexcept {
    activation_statistics s;
    s.created = core_.processor_count();
    s.activations = core_.processor_count();
    return s;
  }

 private:
  struct slot {
    detail::activation self;
    bare_backend* home = nullptr;
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
    call(ACTIVATIONS_CALL_KICK, slots_[processor].self.index);
  }

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

  static void run_dispatcher(void* argument) {
    slot& s = *static_cast<slot*>(argument);
    bare_backend& backend = *s.home;
    detail::activation& self = s.self;
    // It begins disabled by the kernel; the runtime counts from 0.
    self.control->disabled.store(0, std::memory_order::relaxed);
    self.exceptions = detail::current_exception_globals();
    self.base.memory.guard = detail::guard_kind::pages;
    self.current = &self.base;
    detail::context_init_native(self.base.machine);
    detail::current_activation_pointer = &self;
    backend.started_.fetch_add(1, std::memory_order::acq_rel);
    detail::futex_wake(backend.started_);

    backend.core_.run_activation(self);

    detail::current_activation_pointer = nullptr;
    backend.core_.release_caches(self);
    backend.running_.fetch_sub(1, std::memory_order::acq_rel);
    detail::futex_wake(backend.running_);
  }

  detail::core& core_;
  std::array<slot, ACTIVATIONS_IMAGE_DISPATCHERS> slots_;
  // In the idle set; whoever changes it from true changes the set.
  std::array<std::atomic<bool>, ACTIVATIONS_IMAGE_DISPATCHERS> idle_{};
  std::atomic<std::uint32_t> started_{0};
  std::atomic<std::uint32_t> running_{0};
};

static_assert(processor_backend<bare_backend>);

}  // namespace activations
