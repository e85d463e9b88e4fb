// SPDX-License-Identifier: BSL-1.0
//
// The portable backend's activations: parked as spares of the processor on
// whose CPU they sit, moved between CPUs, and looked at by /proc.
// activation_threads.hpp and spare_maker.hpp make and end them.
#pragma once

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <activations/detail/activation_threads.hpp>
#include <activations/detail/core.hpp>
#include <activations/detail/portable/areas.hpp>
#include <activations/detail/portable/order.hpp>
#include <activations/detail/portable/preempt_signal.hpp>
#include <activations/detail/portable/spare_list.hpp>
#include <activations/detail/portable/thread_state.hpp>
#include <activations/detail/spare_maker.hpp>

namespace activations::detail {

class activation_pool final : thread_host, spare_stock {
 public:
  // `cpus`: where processor i sits; -1: anywhere.
  activation_pool(core& home, areas& shared, std::vector<int> cpus,
                  preempt_signal const* preempt)
      : core_(home),
        cpus_(std::move(cpus)),
        lanes_(std::make_unique<lane[]>(cpus_.size())),
        threads_(home, shared, *this),
        maker_(threads_, *this, static_cast<std::uint32_t>(cpus_.size()),
               least_wanted, most_wanted) {
    if (preempt != nullptr)
      sigdelset(&threads_.user_signals(), preempt_signal::number);
    for (int const cpu : cpus_)
      if (cpu < 0) pinned_.store(false, std::memory_order::relaxed);
    rlimit files{};
    getrlimit(RLIMIT_NOFILE, &files);
    most_files_ =
        static_cast<std::uint32_t>(std::min<rlim_t>(files.rlim_cur / 8, 128));
  }

  ~activation_pool() {
    end_maker();
    end_all();
  }

  activation_pool(activation_pool const&) = delete;
  activation_pool& operator=(activation_pool const&) = delete;

  // The first activation of a processor, which owns it from the start.
  // Returns an errno value, 0 for success.
  [[nodiscard]] int create_owner(std::uint32_t processor) {
    return create(processor, processor, false);
  }

  // From here on there are spares.  Returns an errno value.
  [[nodiscard]] int start_maker() { return maker_.start(); }
  void end_maker() { maker_.end(); }

  // Requires: core::end() was called, and the maker has ended.
  void end_all() {
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i) {
      if (!threads_.has_thread(i)) continue;
      send_exit(*core_.activation_at(i));
      threads_.join(i);
    }
  }

  // ---- spares ------------------------------------------------------------

  // `a` sleeps, or is about to, and owns nothing.
  void push_spare(activation& a) noexcept {
    set_activation_state(a, ACTIVATIONS_ACTIVATION_SPARE);
    auto const where = a.pinned_processor.load(std::memory_order::relaxed);
    if (std::exchange(a.is_new, false)) maker_.born(where);
    lanes_[where].push(a);
  }

  // A spare on this processor's CPU, or null: then some are being made,
  // unless the cap is reached.
  [[nodiscard]] activation* pop_spare(std::uint32_t processor) noexcept {
    spare_list& here = lanes_[processor];
    activation* const found = here.pop(core_);
    if (found == nullptr) no_spare_.fetch_add(1, std::memory_order::relaxed);
    maker_.taken(processor, here.size());
    return found;
  }

  // As pop_spare, or one of another processor, moved here.
  [[nodiscard]] activation* any_spare(std::uint32_t processor) noexcept {
    for (std::uint32_t i = 0; i < cpus_.size(); ++i) {
      auto const from =
          static_cast<std::uint32_t>((processor + i) % cpus_.size());
      if (activation* const found = pop_spare(from)) {
        pin(*found, processor);
        return found;
      }
    }
    return nullptr;
  }

  [[nodiscard]] std::uint32_t spares(
      std::uint32_t processor) const noexcept override {
    return lanes_[processor].size();
  }

  // ---- kernel threads ----------------------------------------------------

  // Moves an activation to the CPU of a processor.
  void pin(activation& a, std::uint32_t processor) noexcept {
    if (a.pinned_processor.exchange(processor, std::memory_order::relaxed) ==
        processor)
      return;
    if (!is_pinned()) return;
    int const saved = errno;
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET(cpus_[processor], &mask);
    // A cpuset was changed under us: from now on nobody trusts the CPU.
    if (sched_setaffinity(a.tid.load(std::memory_order::relaxed), sizeof mask,
                          &mask) != 0)
      pinned_.store(false, std::memory_order::relaxed);
    errno = saved;
  }
  // Every activation sits on its processor's CPU, as far as we know.
  [[nodiscard]] bool is_pinned() const noexcept {
    return pinned_.load(std::memory_order::relaxed);
  }
  [[nodiscard]] int cpu_of(std::uint32_t processor) const noexcept {
    return cpus_[processor];
  }

  [[nodiscard]] thread_activity activity_of(
      activation& a, activations_cause* cause = nullptr) noexcept {
    // seq_cst, both: we see that the file is gone, or close_file sees us.
    a.lookers.fetch_add(1, std::memory_order::seq_cst);
    auto const found =
        inspector_.look(a.syscall_file.load(std::memory_order::seq_cst),
                        a.tid.load(std::memory_order::relaxed), cause);
    // Release: our use of the file, before it is closed.
    a.lookers.fetch_sub(1, std::memory_order::release);
    return found;
  }

  void count_in(activation_statistics& s) const noexcept {
    threads_.count_in(s);
  }
  // Hand-overs that found no spare.
  [[nodiscard]] std::uint64_t no_spare() const noexcept {
    return no_spare_.load(std::memory_order::relaxed);
  }

 private:
  static constexpr std::uint32_t least_wanted = 4;  // spares of a processor
  static constexpr std::uint32_t most_wanted = 8;

  struct alignas(cache_line_bytes) lane : spare_list {};

  // `as_spare`: it parks first, and counts as a birth until it has.
  int create(std::uint32_t index, std::uint32_t processor, bool as_spare) {
    activation* const made = threads_.enter(index);
    if (made == nullptr) return ENOMEM;
    activation& a = *made;
    a.lent = &core_.processor_at(processor);
    a.pinned_processor.store(processor, std::memory_order::relaxed);
    a.is_new = as_spare;
    a.info->generation.fetch_add(1, std::memory_order::relaxed);
    a.info->processor.store(processor, std::memory_order::relaxed);
    if (as_spare)
      maker_.expect_birth(processor);
    else
      set_activation_state(a, ACTIVATIONS_ACTIVATION_RUNNING);
    int error = threads_.start(index, is_pinned() ? cpus_[processor] : -1);
    if ((error == EPERM || error == EINVAL) && is_pinned()) {
      // A sandbox, or a cpuset that was changed under us.
      pinned_.store(false, std::memory_order::relaxed);
      error = threads_.start(index, -1);
    }
    if (error == 0) return 0;
    if (as_spare) maker_.born(processor);
    threads_.count_failure();
    return error;
  }

  // ---- spare_stock -------------------------------------------------------

  int make_spare(std::uint32_t index, std::uint32_t where) noexcept override {
    return create(index, where, true);
  }

  bool end_spare(std::uint32_t where) noexcept override {
    activation* const gone = lanes_[where].pop(core_);
    if (gone == nullptr) return false;
    send_exit(*gone);
    threads_.join_surplus(gone->index);
    return true;
  }

  // ---- thread_host -------------------------------------------------------

  bool begin(activation& self) noexcept override {
    auto const tid = self.tid.load(std::memory_order::relaxed);
    self.info->tid.store(static_cast<std::uint32_t>(tid));
    // Open descriptors are few: the first activations get one each.
    bool const has_file =
        files_.fetch_add(1, std::memory_order::relaxed) < most_files_;
    if (has_file)
      self.syscall_file.store(inspector_.open(tid), std::memory_order::relaxed);
    return true;
  }

  void end(activation& self) noexcept override {
    close_file(self);
    files_.fetch_sub(1, std::memory_order::relaxed);
    set_activation_state(self, ACTIVATIONS_ACTIVATION_UNUSED);
    self.info->tid.store(0, std::memory_order::relaxed);
  }

  static void close_file(activation& self) noexcept {
    int const file = self.syscall_file.exchange(-1, std::memory_order::seq_cst);
    if (file < 0) return;
    // Those who are at it need a few microseconds.
    while (self.lookers.load(std::memory_order::seq_cst) != 0) sched_yield();
    ::close(file);
  }

  core& core_;
  std::vector<int> cpus_;
  std::unique_ptr<lane[]> lanes_;
  thread_inspector inspector_;
  std::atomic<bool> pinned_{true};
  std::atomic<std::uint32_t> files_{0};
  std::uint32_t most_files_ = 0;
  alignas(cache_line_bytes) std::atomic<std::uint64_t> no_spare_{0};
  activation_threads threads_;
  spare_maker maker_;
};

}  // namespace activations::detail
