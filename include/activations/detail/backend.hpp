// SPDX-License-Identifier: BSL-1.0
//
// What the scheduler asks of whoever lends it processors.  The concept
// `processor_backend` (processor_backend.hpp) is the public form of this
// class; backend_model adapts any model of it.
#pragma once

#include <cstdint>
#include <string>

#include <activations/detail/activation.hpp>

namespace activations::detail {

class backend {
 public:
  virtual ~backend() = default;

  // `self` runs in the runtime without a processor: it lost its own while it
  // was blocked.  True: it has one again (perhaps another).
  [[nodiscard]] virtual bool reclaim(activation& self) noexcept = 0;

  // `self` has no processor and nothing on its hands: sleeps as a spare until
  // it is given one (true) or the scheduler ends (false).
  [[nodiscard]] virtual bool park(activation& self) noexcept = 0;

  // `self` owns a processor and found no work.  Sleeps until there may be
  // some or the deadline (monotonic ns) comes.  Returns with or without the
  // processor: ask owns_processor().  `has_work` is asked once more after the
  // processor is announced idle.
  virtual void idle(activation& self, std::uint64_t deadline_ns) noexcept = 0;

  // Gives self's processor to `target`, a runnable activation that the caller
  // took from a queue.  False: self did not own one; target is still the
  // caller's.  True: self owns nothing now and goes on to park.
  [[nodiscard]] virtual bool switch_to(activation& self,
                                       activation& target) noexcept = 0;

  // Stops `self` here, in whatever it runs, and lets the rest of the program
  // run; returns when another activation switches back.  `enqueue` makes it
  // findable, once the successor is sure.  False: nothing could take over, and
  // self goes on.  Context: a disabled region, or the preempt handler.
  [[nodiscard]] virtual bool stop(activation& self, after_switch enqueue,
                                  void* argument) noexcept = 0;

  // The strand that runs on `self` waits and is bound to this kernel thread:
  // lets another activation have the processor if one is free to take it,
  // calls after(argument), and sleeps until resume_pinned(self).
  virtual void wait_pinned(activation& self, after_switch after,
                           void* argument) noexcept = 0;
  virtual void resume_pinned(activation& waiting) noexcept = 0;

  // Work was queued and a processor is idle: wakes one.  False: none was.
  virtual bool wake_idle() noexcept = 0;

  // Work was queued and no processor is idle: watch for blocked owners.
  virtual void watch() noexcept = 0;

  // A timer earlier than all others was set.
  virtual void timer_set(std::uint64_t deadline_ns) noexcept = 0;

  // Activations were stopped in user mode since the last call, or one took a
  // processor without looking at the ring of who had it before: queues them,
  // and takes over such rings.  Only of a backend whose kernel says so in a
  // word of its own: core::listen_to.  Context: `self` picks its next work.
  virtual void collect(activation& /*self*/) noexcept {}

  // One line: which backend, and why this one.
  [[nodiscard]] virtual std::string describe() const = 0;
};

}  // namespace activations::detail
