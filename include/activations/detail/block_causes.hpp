// SPDX-License-Identifier: BSL-1.0
//
// Why activations blocked: a count for each system call and for faults, and
// the last few causes whole.  Written by whoever took the processor, read by
// anybody; samples are weighted, so counts estimate the number of blocks.
#pragma once

#include <sys/syscall.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <activations/abi.h>

namespace activations {

// Blocks by one cause.
struct block_cause {
  enum class kind { system_call, fault } what = kind::system_call;
  long system_call = -1;     // number, when it is one
  std::uint64_t count = 0;   // estimated
  activations_cause last{};  // a recent one: arguments, or pc; 0: missed
};

}  // namespace activations

namespace activations::detail {

class block_causes {
 public:
  void add(activations_cause const& cause, std::uint64_t weight) noexcept {
    std::size_t const at = index_of(cause);
    entry& e = entries_[at];
    e.count.fetch_add(weight, std::memory_order::relaxed);
    // The last cause is a sample for people: a seqlock, and a writer that
    // finds another at work leaves it to that one.
    auto const version = e.version.load(std::memory_order::relaxed);
    auto expected = version;
    if (version % 2 != 0 ||
        !e.version.compare_exchange_strong(expected, version + 1,
                                           std::memory_order::acq_rel,
                                           std::memory_order::relaxed))
      return;
    e.address.store(cause.address, std::memory_order::release);
    for (std::size_t i = 0; i < e.arguments.size(); ++i)
      e.arguments[i].store(cause.arguments[i], std::memory_order::release);
    e.version.store(version + 2, std::memory_order::release);
  }

  [[nodiscard]] std::vector<block_cause> snapshot() const {
    std::vector<block_cause> all;
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      entry const& e = entries_[i];
      auto const count = e.count.load(std::memory_order::relaxed);
      if (count == 0) continue;
      block_cause c;
      c.count = count;
      if (i == fault_entry) {
        c.what = block_cause::kind::fault;
        c.last.kind = ACTIVATIONS_CAUSE_FAULT;
      } else {
        c.system_call = static_cast<long>(i);
        c.last.kind = c.system_call == SYS_futex ? ACTIVATIONS_CAUSE_FUTEX
                                                 : ACTIVATIONS_CAUSE_SYSCALL;
        c.last.number = static_cast<std::uint32_t>(i);
      }
      read_last(e, c.last);
      all.push_back(c);
    }
    return all;
  }

 private:
  static constexpr std::size_t fault_entry = 512;  // past every call number

  struct entry {
    std::atomic<std::uint64_t> count{0};
    std::atomic<std::uint32_t> version{0};
    std::atomic<std::uint64_t> address{0};
    std::array<std::atomic<std::uint64_t>, 6> arguments{};
  };

  static std::size_t index_of(activations_cause const& cause) noexcept {
    if (cause.kind == ACTIVATIONS_CAUSE_FAULT) return fault_entry;
    return cause.number < fault_entry ? cause.number : fault_entry - 1;
  }

  static void read_last(entry const& e, activations_cause& into) noexcept {
    for (int attempt = 0; attempt < 16; ++attempt) {
      auto const before = e.version.load(std::memory_order::acquire);
      into.address = e.address.load(std::memory_order::acquire);
      for (std::size_t i = 0; i < e.arguments.size(); ++i)
        into.arguments[i] = e.arguments[i].load(std::memory_order::acquire);
      if (before % 2 == 0 &&
          e.version.load(std::memory_order::relaxed) == before)
        return;
    }
    // A writer was stopped in the middle: no sample rather than half of two.
    into.address = 0;
    for (auto& argument : into.arguments) argument = 0;
  }

  std::array<entry, fault_entry + 1> entries_{};
};

}  // namespace activations::detail
