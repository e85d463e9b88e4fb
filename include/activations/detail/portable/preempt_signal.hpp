// SPDX-License-Identifier: BSL-1.0
//
// The end of a slice, told to an activation by a signal.  The handler runs on
// the activation's alternate stack, hands the processor on and waits there:
// the interrupted context continues on the same kernel thread, so nothing
// that is per kernel thread is ever mixed (P3).
//
// SIGURG, as in Go: ignored by default, and used by almost nobody.  A SIGURG
// that is not ours goes to the handler that was there before.
#pragma once

#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <mutex>

#include <activations/detail/core.hpp>

namespace activations::detail {

class preempt_signal {
 public:
  static constexpr int number = SIGURG;

  preempt_signal() {
    state& s = shared();
    std::lock_guard const guard(s.lock);
    if (s.users++ > 0) return;
    struct sigaction action {};
    action.sa_sigaction = &handle;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(number, &action, &s.before);
  }

  ~preempt_signal() {
    state& s = shared();
    std::lock_guard const guard(s.lock);
    if (--s.users == 0) sigaction(number, &s.before, nullptr);
  }

  preempt_signal(preempt_signal const&) = delete;
  preempt_signal& operator=(preempt_signal const&) = delete;

  // A value that nobody else sends.
  static void* token() noexcept { return &shared(); }

  // The calling thread, which has signals blocked, gets this one.
  static void let_in() noexcept {
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  }

  // Asks one kernel thread of this process to stop at its next instruction.
  void send(pid_t tid) const noexcept {
    siginfo_t info{};
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = token();
    syscall(SYS_rt_tgsigqueueinfo, getpid(), tid, number, &info);
  }

 private:
  struct state {
    std::mutex lock;
    int users = 0;
    struct sigaction before {};
  };
  static state& shared() noexcept {
    static state s;
    return s;
  }
  static void handle(int signal, siginfo_t* info, void* context) {
    bool const is_ours =
        (info->si_code == SI_QUEUE || info->si_code == SI_TIMER) &&
        info->si_value.sival_ptr == token();
    if (!is_ours) {
      struct sigaction const& before = shared().before;
      if ((before.sa_flags & SA_SIGINFO) != 0)
        before.sa_sigaction(signal, info, context);
      else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(signal);
      return;
    }
    activation* const self = current_activation();
    if (self == nullptr) return;  // the monitor's alarm, for one
    if (self->control->disabled.load(std::memory_order::relaxed) != 0) {
      self->control->pending.store(ACTIVATIONS_EVENT_TIMER,
                                   std::memory_order::relaxed);
      return;
    }
    int const saved = errno;
    disabled_region::enter(*self);
    self->home->stop_here(*self);
    // Another slice may have ended since; leave() would deliver it here, one
    // handler frame deeper, which the next tick does better.
    self->control->pending.store(0, std::memory_order::relaxed);
    disabled_region::leave(*self);
    errno = saved;
  }
};

}  // namespace activations::detail
