// SPDX-License-Identifier: BSL-1.0
//
// What a scheduler keeps besides its core: who can be asked to stop, thread
// ids, and what happens in the child of a fork.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <stop_token>

#include <activations/detail/core.hpp>
#include <activations/detail/portable/inherited_affinity.hpp>

namespace activations {

// How user threads meet kernel threads.
enum class threading {
  many_to_many,  // processors, with a hand-over when one blocks
  many_to_one,   // one kernel thread; a blocking call stalls all
  one_to_one     // a kernel thread for each user thread
};

}  // namespace activations

namespace activations::detail {

struct thread_block;

// The user thread that is this kernel thread (one_to_one), or null.
inline thread_local constinit thread_block* kernel_user_thread = nullptr;

// A stop source that scheduler::stop reaches.
struct stop_entry {
  stop_entry* next = nullptr;
  stop_entry* prev = nullptr;
  std::stop_source source;
};

class runtime : public core {
 public:
  runtime(std::uint32_t processors, std::uint32_t activations,
          std::size_t stack_bytes, threading model)
      : core(processors, activations, stack_bytes),
        model_(model),
        creator_(getpid()) {
    handle_forks();
  }

  [[nodiscard]] threading model() const noexcept { return model_; }

  // True in the child of a fork, where none of our kernel threads exists.
  [[nodiscard]] bool is_orphaned() const noexcept {
    return getpid() != creator_;
  }

  // Never reused while the scheduler lives.
  [[nodiscard]] std::uint64_t new_id() noexcept {
    return next_id_.fetch_add(1, std::memory_order::relaxed);
  }

  void enlist(stop_entry& entry) noexcept {
    bool stopping = false;
    {
      disabled_region const region;
      stop_lock_.lock();
      entry.next = stops_;
      if (stops_ != nullptr) stops_->prev = &entry;
      stops_ = &entry;
      stopping = stopping_;
      stop_lock_.unlock();
    }
    // Runs user code.
    if (stopping) entry.source.request_stop();
  }

  void delist(stop_entry& entry) noexcept {
    disabled_region const region;
    stop_lock_.lock();
    if (entry.prev != nullptr)
      entry.prev->next = entry.next;
    else
      stops_ = entry.next;
    if (entry.next != nullptr) entry.next->prev = entry.prev;
    stop_lock_.unlock();
  }

  // Requests a stop of all that is there and all that comes.  Callbacks run
  // user code, so each source is copied out of the lock first.
  void stop_everything() {
    for (;;) {
      std::stop_source next{std::nostopstate};
      {
        disabled_region const region;
        stop_lock_.lock();
        stopping_ = true;
        for (stop_entry* e = stops_; e != nullptr; e = e->next)
          if (!e->source.stop_requested()) {
            next = e->source;
            break;
          }
        stop_lock_.unlock();
      }
      if (!next.stop_possible()) return;
      next.request_stop();
    }
  }

 private:
  // In the child the forking thread goes on as an ordinary kernel thread.
  static void handle_forks() {
    static int const once = pthread_atfork(nullptr, nullptr, [] {
      current_activation_pointer = nullptr;
      kernel_user_thread = nullptr;
      inherited_affinity::restore_in_child();
    });
    (void)once;
  }

  threading model_;
  pid_t creator_;
  std::atomic<std::uint64_t> next_id_{1};
  futex_lock stop_lock_;
  stop_entry* stops_ = nullptr;  // stop_lock_
  bool stopping_ = false;        // stop_lock_
};

}  // namespace activations::detail
