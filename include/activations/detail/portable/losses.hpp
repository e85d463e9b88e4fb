// SPDX-License-Identifier: BSL-1.0
//
// Who lost a processor while blocked, and why: the account that returners,
// spares and the monitor keep when one takes the other's processor.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

#include <activations/detail/block_causes.hpp>
#include <activations/detail/core.hpp>
#include <activations/detail/histogram.hpp>
#include <activations/detail/portable/activation_pool.hpp>
#include <activations/detail/portable/order.hpp>

namespace activations::detail {

class losses {
 public:
  losses(core& home, activation_pool& pool) noexcept
      : core_(home), pool_(pool) {}

  // Not while the owner is in the runtime: a block there is short, and counts
  // as an ordinary one.  A stale answer is good enough: processor_word.hpp.
  static bool may_lose(activation& owner) noexcept {
    return owner.control->disabled.load(std::memory_order::relaxed) == 0 ||
           owner.waits_pinned.load(std::memory_order::acquire);
  }

  // `owner` had p and has it no more.  Some of the causes are sampled.
  void note(activation& owner, processor& p) noexcept {
    auto const blocks = p.info->blocks.fetch_add(1, std::memory_order::relaxed);
    bool const is_sample = blocks % sample_period == 0;
    if (is_sample)
      owner.cpu_at_loss_ns.store(
          cpu_time_ns(owner.tid.load(std::memory_order::relaxed)),
          std::memory_order::relaxed);
    if (!owner.is_lost.exchange(true, std::memory_order::acq_rel))
      core_.lost().fetch_add(1, std::memory_order::relaxed);
    set_activation_state(owner, ACTIVATIONS_ACTIVATION_BLOCKED);
    activations_cause cause{};
    if (is_sample &&
        pool_.activity_of(owner, &cause) == thread_activity::blocked)
      note_cause(owner, cause, sample_period);
  }

  // `weight`: how many blocks the cause stands for.
  void note_cause(activation& owner, activations_cause const& cause,
                  std::uint64_t weight) noexcept {
    // One at a time; whoever finds another at it leaves the sample out.
    if (!is_writing_.exchange(true, std::memory_order::acquire)) {
      owner.info->cause = cause;
      is_writing_.store(false, std::memory_order::release);
    }
    causes_.add(cause, weight);
  }

  // `self` has a processor again, or gives up waiting for one.  True: it had
  // lost its own.
  bool settle(activation& self) noexcept {
    if (!self.is_lost.exchange(false, std::memory_order::acq_rel)) return false;
    core_.lost().fetch_sub(1, std::memory_order::relaxed);
    if (auto const before =
            self.cpu_at_loss_ns.load(std::memory_order::relaxed)) {
      self.cpu_at_loss_ns.store(0, std::memory_order::relaxed);
      auto const now = cpu_time_ns(0);
      if (now >= before) excess_.add(now - before, sample_period);
    }
    return true;
  }

  [[nodiscard]] block_causes const& causes() const noexcept { return causes_; }
  // How long threads ran, on a CPU, between the loss of a processor and the
  // next: the kernel's way back from the block, and user code up to the next
  // scheduling point (P2).
  [[nodiscard]] shared_histogram const& excess() const noexcept {
    return excess_;
  }

 private:
  static constexpr std::uint32_t sample_period = 16;

  // Of a thread of this process, 0 meaning the caller; 0 when it is gone.
  static std::uint64_t cpu_time_ns(pid_t tid) noexcept {
    // The kernel's name for "the CPU time of thread tid".
    auto const clock =
        tid == 0
            ? CLOCK_THREAD_CPUTIME_ID
            : static_cast<clockid_t>((~static_cast<unsigned>(tid) << 3) | 6u);
    timespec used{};
    int const saved = errno;  // a user thread's
    if (clock_gettime(clock, &used) != 0) {
      errno = saved;
      return 0;
    }
    return static_cast<std::uint64_t>(used.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(used.tv_nsec);
  }

  core& core_;
  activation_pool& pool_;
  block_causes causes_;
  shared_histogram excess_;
  std::atomic<bool> is_writing_{false};  // some activation's info->cause
};

}  // namespace activations::detail
