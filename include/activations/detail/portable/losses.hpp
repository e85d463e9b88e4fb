// SPDX-License-Identifier: BSL-1.0
//
// Who lost a processor while blocked, and why: the account that returners,
// spares and the monitor keep when one takes the other's processor.
#pragma once

#include <atomic>
#include <cstdint>

#include <activations/detail/core.hpp>
#include <activations/detail/portable/activation_pool.hpp>
#include <activations/detail/portable/block_causes.hpp>
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
    if (!owner.is_lost.exchange(true, std::memory_order::acq_rel))
      core_.lost().fetch_add(1, std::memory_order::relaxed);
    set_activation_state(owner, ACTIVATIONS_ACTIVATION_BLOCKED);
    auto const blocks = p.info->blocks.fetch_add(1, std::memory_order::relaxed);
    activations_cause cause{};
    if (blocks % cause_period == 0 &&
        pool_.activity_of(owner, &cause) == thread_activity::blocked)
      note_cause(owner, cause, cause_period);
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
    return true;
  }

  [[nodiscard]] block_causes const& causes() const noexcept { return causes_; }

 private:
  static constexpr std::uint32_t cause_period = 16;

  core& core_;
  activation_pool& pool_;
  block_causes causes_;
  std::atomic<bool> is_writing_{false};  // some activation's info->cause
};

}  // namespace activations::detail
