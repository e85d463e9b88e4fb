// SPDX-License-Identifier: BSL-1.0
//
// Activations sit on one CPU each; what user code starts from one must not.
// A thread made with default attributes gets the process's mask back through
// glibc's default attribute, a forked child through a handler.  Threads made
// with attributes of their own, and children of posix_spawn, vfork, system
// and popen, inherit the one CPU: docs/differences.md.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <mutex>

#include <activations/detail/activation.hpp>

namespace activations::detail {

// One for each running backend; the process-wide state is counted.
class inherited_affinity {
 public:
  // `is_pinned`: activations could be put on one CPU each.  Where a sandbox
  // refuses that, a default that asks for CPUs would keep the program from
  // making threads at all.
  explicit inherited_affinity(bool is_pinned) {
    state& s = shared();
    std::lock_guard const guard(s.lock);
    if (s.users++ > 0) return;
    CPU_ZERO(&s.mask);
    sched_getaffinity(0, sizeof s.mask, &s.mask);
    if (!is_pinned) return;
    pthread_attr_t attributes;
    if (pthread_getattr_default_np(&attributes) != 0) return;
    if (pthread_attr_setaffinity_np(&attributes, sizeof s.mask, &s.mask) == 0)
      pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
  }

  ~inherited_affinity() {
    state& s = shared();
    std::lock_guard const guard(s.lock);
    if (--s.users > 0) return;
    pthread_attr_t attributes;
    if (pthread_getattr_default_np(&attributes) != 0) return;
    if (pthread_attr_setaffinity_np(&attributes, 0, &s.mask) == 0)
      pthread_setattr_default_np(&attributes);
    pthread_attr_destroy(&attributes);
  }

  inherited_affinity(inherited_affinity const&) = delete;
  inherited_affinity& operator=(inherited_affinity const&) = delete;

  // Where the caller would run if it were no activation.  Empty: unknown.
  static cpu_set_t mask_of_caller() noexcept {
    if (current_activation() != nullptr) {
      // A pinned one keeps its backend, and so the saved mask, alive; one that
      // the kernel module lends its processor is where all others are.
      state& s = shared();
      std::lock_guard const guard(s.lock);
      if (s.users > 0) return s.mask;
    }
    cpu_set_t mask;
    CPU_ZERO(&mask);
    sched_getaffinity(0, sizeof mask, &mask);
    return mask;
  }

  // Context: the child of a fork, before anything else.
  static void restore_in_child() noexcept {
    state const& s = shared();
    if (s.users > 0) sched_setaffinity(0, sizeof s.mask, &s.mask);
  }

 private:
  struct state {
    std::mutex lock;
    int users = 0;
    cpu_set_t mask;
  };
  static state& shared() noexcept {
    static state s;
    return s;
  }
};

}  // namespace activations::detail
