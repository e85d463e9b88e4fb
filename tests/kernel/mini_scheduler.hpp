// SPDX-License-Identifier: BSL-1.0
//
// The least that runs jobs on the raw device: one kernel thread for each
// activation, each of which, whenever it owns a processor and has no job of
// its own, takes a stopped one or starts a new one, else releases. A job stays
// on the kernel thread it began on, as the module promises.
//
// The bits of stopped activations are taken one by one, in turn, so there is
// no queue and no lock that a stop could leave taken.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "space.hpp"

namespace kernel_tests {

struct mini_options {
  unsigned processors = 1;
  unsigned activations = 4;
  park_stub stub = park_stub::plain();
  std::uint64_t slice_ns = 0;
  // Work is said to wait at all times, so no block keeps its processor.
  bool always_work = false;
  // Processor v's first thread, and so most of its life, on CPU v.
  bool pinned = false;
};

class mini_scheduler {
 public:
  explicit mini_scheduler(mini_options options);
  ~mini_scheduler();

  space& kernel() noexcept { return space_; }
  mini_options const& options() const noexcept { return options_; }

  // Before start, or from any thread while it runs.
  void add(std::function<void()> job);
  void start();
  // Until all jobs are done; then ends the threads.
  void finish();
  // For a job: the kernel thread of activation i.
  std::thread& thread(unsigned i) noexcept { return threads_[i]; }
  void run() {
    start();
    finish();
  }

  // For jobs. The calling thread's activation.
  static unsigned self() noexcept;
  // Lets a spare choose what runs next.
  void yield() noexcept;
  // Counts the job as done; for one that ends its kernel thread.
  void job_done() noexcept;
  // What the spares were dispatched with, and by how many calls.
  std::uint64_t dispatches() const noexcept { return dispatches_.load(); }
  std::uint64_t stale() const noexcept { return stale_.load(); }
  std::uint64_t events(unsigned bit) const noexcept {
    return events_[bit].load();
  }

 private:
  void thread_main(unsigned i, unsigned v);
  bool take_events(unsigned i) noexcept;
  unsigned take_stopped(unsigned i) noexcept;
  bool any_stopped() const noexcept;
  std::function<void()>* take_job() noexcept;
  bool has_job() const noexcept;
  void wake_idle() noexcept;

  mini_options options_;
  space space_;
  std::mutex adding_;
  static constexpr unsigned max_jobs = 4096;
  std::vector<std::function<void()>> jobs_;
  std::atomic<unsigned> job_count_ = 0;
  std::atomic<unsigned> next_job_ = 0;
  std::atomic<unsigned> done_jobs_ = 0;
  std::atomic<std::uint64_t> dispatches_ = 0;
  std::atomic<std::uint64_t> stale_ = 0;
  std::atomic<std::uint64_t> events_[8] = {};
  std::vector<std::atomic<bool>> attached_;
  std::vector<std::thread> threads_;
};

}  // namespace kernel_tests
