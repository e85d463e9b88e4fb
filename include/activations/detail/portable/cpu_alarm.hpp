// SPDX-License-Identifier: BSL-1.0
//
// Ends a thread's sleeps in the kernel each time the process has computed for
// a while: a timer of CPU time, which costs nothing while nobody computes.
#pragma once

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>

namespace activations::detail {

class cpu_alarm {
 public:
  cpu_alarm() = default;
  ~cpu_alarm() {
    if (has_timer_) timer_delete(timer_);
  }
  cpu_alarm(cpu_alarm const&) = delete;
  cpu_alarm& operator=(cpu_alarm const&) = delete;

  // For the calling thread.  `signal` must have a handler, to which it comes
  // with SI_TIMER and `token`, and may not be blocked.  Where no timer can be
  // had (RLIMIT_SIGPENDING) none comes.
  void open(int signal, void* token) noexcept {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = signal;
    event.sigev_value.sival_ptr = token;
    event._sigev_un._tid = gettid();
    has_timer_ = timer_create(CLOCK_PROCESS_CPUTIME_ID, &event, &timer_) == 0;
  }

  // From now on each time after so much CPU time of the process; 0: never.
  // Only a sleep with a deadline ends: one without goes on after the handler.
  void ring_each(std::uint64_t ns) noexcept {
    if (!has_timer_ || ns == period_ns_) return;
    period_ns_ = ns;
    itimerspec when{};
    when.it_value.tv_sec = static_cast<time_t>(ns / 1'000'000'000u);
    when.it_value.tv_nsec = static_cast<long>(ns % 1'000'000'000u);
    when.it_interval = when.it_value;
    timer_settime(timer_, 0, &when, nullptr);
  }

  // CPU time of the process.
  static std::uint64_t now_ns() noexcept {
    timespec used{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return static_cast<std::uint64_t>(used.tv_sec) * 1'000'000'000u +
           static_cast<std::uint64_t>(used.tv_nsec);
  }

 private:
  timer_t timer_{};
  bool has_timer_ = false;
  std::uint64_t period_ns_ = 0;
};

}  // namespace activations::detail
