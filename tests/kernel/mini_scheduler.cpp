// SPDX-License-Identifier: BSL-1.0
#include "mini_scheduler.hpp"

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>

#include <cstdio>
#include <cstdlib>

namespace kernel_tests {
namespace {

thread_local constinit unsigned this_activation = none;

void check(char const* what, long result) {
  if (result >= 0) return;
  std::printf("%s returned %ld\n", what, result);
  std::fflush(stdout);
  std::_Exit(1);
}

}  // namespace

mini_scheduler::mini_scheduler(mini_options options)
    : options_(options),
      space_(options.processors, options.activations, options.stub),
      jobs_(max_jobs),
      attached_(options.activations) {}

mini_scheduler::~mini_scheduler() {
  if (!threads_.empty()) finish();
}

unsigned mini_scheduler::self() noexcept {
  return this_activation;
}

void mini_scheduler::add(std::function<void()> job) {
  {
    std::lock_guard lock(adding_);
    unsigned const n = job_count_.load(std::memory_order::relaxed);
    jobs_.at(n) = std::move(job);
    job_count_.store(n + 1, std::memory_order::seq_cst);
  }
  space_.control().work_waiting.store(1, std::memory_order::seq_cst);
  wake_idle();
}

void mini_scheduler::wake_idle() noexcept {
  if (space_.info().idle_count.load(std::memory_order::seq_cst) == 0) return;
  for (unsigned v = 0; v < space_.processors(); ++v) {
    if (space_.is_idle(v) && space_.wake(v) == 1) return;
  }
}

void mini_scheduler::start() {
  for (unsigned v = 0; v < space_.processors(); ++v) {
    if (options_.slice_ns) check("SLICE", space_.slice(v, options_.slice_ns));
  }
  space_.control().wanted.store(space_.processors(),
                                std::memory_order::relaxed);
  space_.control().work_waiting.store(1, std::memory_order::seq_cst);
  // The spares first: a processor whose owner leaves while there are none goes
  // offline.
  unsigned const owners = options_.processors;
  threads_.resize(options_.activations);
  for (unsigned i = owners; i < options_.activations; ++i) {
    threads_[i] = std::thread([this, i] { thread_main(i, none); });
  }
  while (space_.info().spare_count.load(std::memory_order::relaxed) <
         options_.activations - owners) {
    sched_yield();
  }
  for (unsigned i = 0; i < owners; ++i) {
    threads_[i] = std::thread([this, i] { thread_main(i, i); });
  }
}

void mini_scheduler::finish() {
  unsigned done;
  while ((done = done_jobs_.load()) < job_count_.load()) {
    raw_call(SYS_futex, &done_jobs_, FUTEX_WAIT_PRIVATE, done, nullptr);
  }
  for (unsigned i = 0; i < options_.activations; ++i) {
    while (!attached_[i].load()) sched_yield();
    // Refused for a thread that a job has ended.
    space_.end(i);
  }
  for (auto& thread : threads_) thread.join();
  threads_.clear();
}

// True: leave this kernel thread.
bool mini_scheduler::take_events(unsigned i) noexcept {
  dispatches_.fetch_add(1, std::memory_order::relaxed);
  auto const events =
      space_.activation(i).events.load(std::memory_order::acquire);
  for (unsigned bit = 0; bit < 8; ++bit) {
    if (events >> bit & 1) {
      events_[bit].fetch_add(1, std::memory_order::relaxed);
    }
  }
  return (events & ACTIVATIONS_EVENT_EXIT) != 0;
}

bool mini_scheduler::has_job() const noexcept {
  return next_job_.load(std::memory_order::seq_cst) <
         job_count_.load(std::memory_order::seq_cst);
}

std::function<void()>* mini_scheduler::take_job() noexcept {
  unsigned n = next_job_.load(std::memory_order::relaxed);
  while (n < job_count_.load(std::memory_order::acquire)) {
    if (next_job_.compare_exchange_weak(n, n + 1, std::memory_order::acq_rel)) {
      return &jobs_[n];
    }
  }
  return nullptr;
}

bool mini_scheduler::any_stopped() const noexcept {
  auto* words = space_.stopped_words();
  for (unsigned w = 0; w < space_.stopped_word_count(); ++w) {
    if (words[w].load(std::memory_order::seq_cst)) return true;
  }
  return false;
}

// The next one after i, so that all get their turn.
unsigned mini_scheduler::take_stopped(unsigned i) noexcept {
  auto* words = space_.stopped_words();
  unsigned const count = space_.activations();
  for (unsigned k = 1; k <= count; ++k) {
    unsigned const candidate = (i + k) % count;
    std::uint64_t const bit = std::uint64_t{1} << (candidate % 64);
    auto& word = words[candidate / 64];
    if ((word.load(std::memory_order::seq_cst) & bit) &&
        (word.fetch_and(~bit, std::memory_order::acq_rel) & bit)) {
      return candidate;
    }
  }
  return none;
}

void mini_scheduler::thread_main(unsigned i, unsigned v) {
  this_activation = i;
  if (options_.pinned) {
    cpu_set_t cpus;
    CPU_ZERO(&cpus);
    CPU_SET(i % options_.processors, &cpus);
    sched_setaffinity(0, sizeof(cpus), &cpus);
  }
  auto& own = space_.own(i);
  own.disabled.store(1, std::memory_order::relaxed);
  check("ATTACH", space_.attach(i, v));
  attached_[i].store(true);
  if (v == none) {
    check("PARK", space_.park());
    if (take_events(i)) return static_cast<void>(space_.detach());
  }
  unsigned last = i;
  for (bool new_first = true;; new_first = !new_first) {
    std::function<void()>* job = new_first ? take_job() : nullptr;
    if (!job) {
      if (unsigned const k = take_stopped(last); k != none) {
        last = k;
        long const result = space_.switch_to(k);
        if (result == -EAGAIN) {
          stale_.fetch_add(1, std::memory_order::relaxed);
          continue;
        }
        // A signal woke the spare: to bed again.
        if (result == -EINTR) {
          check("PARK", space_.park());
        } else {
          check("SWITCH_TO", result);
        }
        if (take_events(i)) break;
        continue;
      }
      job = take_job();
    }
    if (job) {
      own.pending.store(0, std::memory_order::relaxed);
      space_.enable(i);
      (*job)();
      space_.disable(i);
      job_done();
      continue;
    }
    auto& waiting = space_.control().work_waiting;
    if (!options_.always_work) {
      waiting.store(0, std::memory_order::seq_cst);
      if (has_job() || any_stopped()) {
        waiting.store(1, std::memory_order::seq_cst);
        continue;
      }
    }
    long const result = space_.release();
    if (result == -EAGAIN || result == -EINTR) continue;
    check("RELEASE", result);
    if (take_events(i)) break;
  }
  space_.detach();
}

void mini_scheduler::job_done() noexcept {
  if (done_jobs_.fetch_add(1) + 1 == job_count_.load()) {
    raw_call(SYS_futex, &done_jobs_, FUTEX_WAKE_PRIVATE, 1 << 30);
  }
}

void mini_scheduler::yield() noexcept {
  space_.disable(self());
  space_.stop();
  space_.enable(self());
}

}  // namespace kernel_tests
