// SPDX-License-Identifier: BSL-1.0
//
// Who holds a mutex: for the check that nobody else unlocks it, and to tell a
// thread that finds it locked whether spinning makes sense. Written by the
// owner while it holds the mutex, read by anybody as a hint.
#pragma once

#include <unistd.h>

#include <atomic>
#include <cstdint>

#include <activations/detail/activation.hpp>
#include <activations/detail/core.hpp>

namespace activations::detail {

// State
//   id_       which thread of control: its strand, or the address of a
//             thread_local for a kernel thread without one; 0 nobody; 1 a task
//             or a thread that has been given the mutex and does not run yet.
//   segment_  when it locked: the processor and how many dispatches that had
//             seen (low bits: processor index + 1, then a hash of the
//             scheduler, then the dispatches). 0: not known, a plain kernel
//             thread. While the number is the same, that processor has not
//             turned to anything else: the owner has neither parked nor lost
//             it to a block.
// All accesses are relaxed: only a hint leaves the owner's thread.
class lock_owner {
 public:
  void set_to_caller() noexcept {
    activation* const self = current_activation();
    store(id_of(self), self == nullptr ? unknown : segment_of(*self));
  }

  // Held by somebody who does not run, or by a task, which unlocks on whatever
  // kernel thread it has come to.
  void set_to_absent() noexcept { store(absent, unknown); }

  void clear() noexcept { id_.store(nobody, std::memory_order::relaxed); }

  // True for everybody if the owner is a task.
  bool is_caller() const noexcept {
    auto const id = id_.load(std::memory_order::relaxed);
    return id == absent || id == id_of(current_activation());
  }

  // False: it has parked, blocked, or not been dispatched yet, or the kernel
  // says that another program has its CPU. True: it runs, or one of the two
  // threads is none of this scheduler's.
  bool may_be_running() const noexcept {
    if (id_.load(std::memory_order::relaxed) == absent) return false;
    auto const segment = segment_.load(std::memory_order::relaxed);
    activation* const self = current_activation();
    if (self == nullptr || segment == unknown ||
        (segment & home_mask) != home_bits(*self->home))
      return has_several_cpus();
    auto const index = static_cast<std::uint32_t>(segment & index_mask) - 1;
    // The hash may deceive: another scheduler may have more processors.
    if (index >= self->home->processor_count()) return false;
    processor const& lent = self->home->processor_at(index);
    return segment == segment_on(lent, *self->home) &&
           runs(*self->home, lent.view());
  }

 private:
  static constexpr std::uintptr_t nobody = 0, absent = 1;
  static constexpr std::uint64_t unknown = 0;
  static constexpr std::uint64_t index_mask = 0xFFF, home_mask = 0xFFF'000;

  // Relaxed: a hint, as all here.
  static bool runs(core const& home, processor_view seen) noexcept {
    activation const* const owner = home.activation_at(seen.owner());
    return seen.is_running() && owner != nullptr &&
           owner->info->state.load(std::memory_order::relaxed) ==
               ACTIVATIONS_ACTIVATION_RUNNING;
  }

  static std::uint64_t home_bits(core const& home) noexcept {
    // The low bits of an address differ least.
    return reinterpret_cast<std::uintptr_t>(&home) >> 6 << 12 & home_mask;
  }

  static std::uint64_t segment_on(processor const& lent,
                                  core const& home) noexcept {
    auto const dispatches =
        lent.control->dispatches.load(std::memory_order::relaxed);
    return dispatches << 24 | home_bits(home) | (lent.index + 1);
  }
  static std::uint64_t segment_of(activation const& self) noexcept {
    return segment_on(*self.lent, *self.home);
  }

  static std::uintptr_t id_of(activation const* self) noexcept {
    return self != nullptr ? reinterpret_cast<std::uintptr_t>(self->current)
                           : id_of_kernel_thread();
  }
  [[gnu::noinline]] static std::uintptr_t id_of_kernel_thread() noexcept {
    return reinterpret_cast<std::uintptr_t>(&current_activation_pointer);
  }

  [[gnu::cold, gnu::noinline]] static long count_cpus() noexcept {
    long const count = sysconf(_SC_NPROCESSORS_ONLN);
    cpu_count.store(count, std::memory_order::relaxed);
    return count;
  }
  static bool has_several_cpus() noexcept {
    auto const count = cpu_count.load(std::memory_order::relaxed);
    return (count != 0 ? count : count_cpus()) > 1;
  }
  static inline constinit std::atomic<long> cpu_count{0};

  void store(std::uintptr_t id, std::uint64_t segment) noexcept {
    id_.store(id, std::memory_order::relaxed);
    segment_.store(segment, std::memory_order::relaxed);
  }

  std::atomic<std::uintptr_t> id_{nobody};
  std::atomic<std::uint64_t> segment_{unknown};
};

}  // namespace activations::detail
