// SPDX-License-Identifier: BSL-1.0
//
// Keeps spares ready: a thread of its own that makes activations ahead of need
// and ends those that nobody needed for a while.
//
// Spares lie in lanes, by what they are spares of (a processor, or all).  The
// maker is woken when a lane's stock falls below half of what the last burst
// made it want, so that a burst of blocks finds the next ones ready.
#pragma once

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include <activations/detail/activation_threads.hpp>
#include <activations/detail/watcher.hpp>

namespace activations::detail {

// Where the spares are.  Context: the maker.
class spare_stock {
 public:
  [[nodiscard]] virtual std::uint32_t spares(
      std::uint32_t lane) const noexcept = 0;
  // Makes one more, which parks first and then calls spare_maker::born;
  // births() counts it from now on.  Returns an errno value.
  [[nodiscard]] virtual int make_spare(std::uint32_t index,
                                       std::uint32_t lane) noexcept = 0;
  // Ends one.  False: there is none.
  virtual bool end_spare(std::uint32_t lane) noexcept = 0;

 protected:
  ~spare_stock() = default;
};

class spare_maker {
 public:
  spare_maker(activation_threads& threads, spare_stock& stock,
              std::uint32_t lanes, std::uint32_t least, std::uint32_t most)
      : threads_(threads),
        stock_(stock),
        lane_count_(lanes),
        least_wanted_(least),
        most_wanted_(most),
        lanes_(std::make_unique<lane[]>(lanes)) {
    for (std::uint32_t i = 0; i < lanes; ++i)
      lanes_[i].wanted.store(least, std::memory_order::relaxed);
  }
  ~spare_maker() { end(); }
  spare_maker(spare_maker const&) = delete;
  spare_maker& operator=(spare_maker const&) = delete;

  // From here on there are spares.  Returns an errno value.
  [[nodiscard]] int start() {
    signals_blocked const inherited;
    int const error = pthread_create(&thread_, nullptr, &run_maker, this);
    has_thread_ = error == 0;
    return error;
  }

  void end() {
    ends_.store(true, std::memory_order::release);
    sleep_.wake();
    if (std::exchange(has_thread_, false)) pthread_join(thread_, nullptr);
  }

  // One was taken, and `left` are left.  Context: any thread.
  void taken(std::uint32_t from, std::uint32_t left) noexcept {
    lane& here = lanes_[from];
    auto const wanted = here.wanted.load(std::memory_order::relaxed);
    if (left >= wanted / 2) return;
    here.wanted.store(std::min(wanted * 2, most_wanted_),
                      std::memory_order::relaxed);
    sleep_.wake();
  }

  // A new one is about to park, or is not to be.
  void born(std::uint32_t in) noexcept {
    lanes_[in].births.fetch_sub(1, std::memory_order::relaxed);
  }
  void expect_birth(std::uint32_t in) noexcept {
    lanes_[in].births.fetch_add(1, std::memory_order::relaxed);
  }

 private:
  static constexpr std::uint64_t trim_period_ns = 500'000'000;
  static constexpr std::uint64_t retry_period_ns = 100'000'000;

  // Hints for the maker, hence relaxed.
  struct alignas(cache_line_bytes) lane {
    std::atomic<std::uint32_t> wanted{0};
    std::atomic<std::uint32_t> births{0};  // made, and not parked yet
  };

  static void* run_maker(void* argument) {
    static_cast<spare_maker*>(argument)->run();
    return nullptr;
  }

  void run() {
    while (!is_over()) {
      bool failed = false;
      bool surplus = false;
      for (std::uint32_t i = 0; i < lane_count_; ++i) {
        lane& here = lanes_[i];
        while (!failed &&
               stock(i) < here.wanted.load(std::memory_order::relaxed) &&
               !is_over()) {
          auto const index = threads_.unused_slot();
          if (index == ACTIVATIONS_INDEX_NONE) break;  // the cap
          failed = stock_.make_spare(index, i) != 0;
        }
        surplus |= stock_.spares(i) > least_wanted_ ||
                   here.wanted.load(std::memory_order::relaxed) > least_wanted_;
      }
      if (failed) {
        // Asked for again after a while, however many want one meanwhile.
        auto const until = monotonic_ns() + retry_period_ns;
        while (!is_over() && monotonic_ns() < until)
          sleep_.nap(retry_period_ns / 10);
        continue;
      }
      bool const woken = sleep_.sleep(
          sleeps_, [&] { return lacks_spares() || is_over(); },
          surplus ? monotonic_ns() + trim_period_ns : no_deadline);
      if (surplus && !woken) end_surplus();
    }
  }

  [[nodiscard]] bool is_over() const noexcept {
    return ends_.load(std::memory_order::acquire);
  }

  [[nodiscard]] std::uint32_t stock(std::uint32_t i) const noexcept {
    return stock_.spares(i) + lanes_[i].births.load(std::memory_order::relaxed);
  }

  [[nodiscard]] bool lacks_spares() noexcept {
    if (threads_.is_full()) return false;
    for (std::uint32_t i = 0; i < lane_count_; ++i)
      if (stock(i) < lanes_[i].wanted.load(std::memory_order::relaxed) / 2)
        return true;
    return false;
  }

  // Nobody asked for a while: half of what is beyond the least goes.
  void end_surplus() {
    for (std::uint32_t i = 0; i < lane_count_; ++i) {
      lane& here = lanes_[i];
      here.wanted.store(
          std::max(here.wanted.load(std::memory_order::relaxed) / 2,
                   least_wanted_),
          std::memory_order::relaxed);
      auto const size = stock_.spares(i);
      if (size <= least_wanted_) continue;
      for (auto n = (size - least_wanted_ + 1) / 2; n > 0; --n)
        if (!stock_.end_spare(i)) break;
    }
  }

  activation_threads& threads_;
  spare_stock& stock_;
  std::uint32_t const lane_count_;
  std::uint32_t const least_wanted_;  // spares of a lane
  std::uint32_t const most_wanted_;
  std::unique_ptr<lane[]> lanes_;
  watcher sleep_;
  std::atomic<std::uint32_t> sleeps_{0};
  std::atomic<bool> ends_{false};
  pthread_t thread_{};
  bool has_thread_ = false;
};

}  // namespace activations::detail
