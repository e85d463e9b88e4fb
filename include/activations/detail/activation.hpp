// SPDX-License-Identifier: BSL-1.0
//
// The runtime's view of what the kernel lends: processors and activations, and
// the strands (stacks with a continuation) that run on them.
//
// Who touches what: a member of `activation` belongs to the kernel thread that
// is this activation, unless its comment names others.  A member of `strand`
// belongs to whoever runs it, or to whoever took it out of a queue.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

#include <activations/abi.h>
#include <activations/config.hpp>
#include <activations/detail/context.hpp>
#include <activations/detail/exception_state.hpp>
#include <activations/detail/frame_cache.hpp>
#include <activations/detail/processor_word.hpp>
#include <activations/detail/run_queue.hpp>
#include <activations/detail/runnable.hpp>
#include <activations/detail/stack.hpp>
#include <activations/detail/totals.hpp>
#include <activations/detail/work_deque.hpp>

namespace activations::detail {

class core;
struct activation;

// A stack and what is to be continued on it: a user thread, a carrier (an
// internal user thread that runs tasks and stolen jobs), or the kernel
// thread's own stack, on which an activation looks for work and sleeps.
struct strand : runnable {
  strand() noexcept : runnable{nullptr, runnable_kind::strand} {}

  context machine;
  exception_state exceptions;
  core* home = nullptr;
  // Jobs forked by this strand and not yet joined; null until the first fork.
  work_deque<>* deque = nullptr;
  // Depth of pinned scopes, and the kernel thread they pin to.
  std::uint32_t pins = 0;
  activation* pinned_to = nullptr;
  stack memory;
  std::uint64_t id = 0;  // of a user thread; 0: a carrier or a base
  char name[16] = "";
};

// A virtual processor: the two halves of its page, side by side.
struct processor {
  activations_processor_info* info = nullptr;
  activations_processor_control* control = nullptr;
  std::uint32_t index = 0;
  // Activations that were stopped and can go on here alone, oldest first; of a
  // lender that has such.  W, R: who owns the processor.
  runnable* stopped = nullptr;
  runnable** stopped_end = &stopped;

  [[nodiscard]] processor_view view() const noexcept {
    return view_processor(info->word);
  }
  void push_stopped(runnable& item) noexcept {
    item.next = nullptr;
    *stopped_end = &item;
    stopped_end = &item.next;
  }
  [[nodiscard]] runnable* pop_stopped() noexcept {
    runnable* const first = stopped;
    if (first == nullptr) return nullptr;
    stopped = first->next;
    if (stopped == nullptr) stopped_end = &stopped;
    return first;
  }
};

// What an activation runs on the next strand's stack, once its own is free.
using after_switch = void (*)(void* argument, activation& self) noexcept;

// What a sleeping activation is told when its token is set.
enum class order : std::uint32_t {
  none,     // still asleep
  granted,  // the processor's word names you already
  take,     // take it if its word is still `expected`
  look,     // nothing happened: look at your deadline again
  exit      // the scheduler ends: leave the kernel thread
};

struct alignas(cache_line_bytes) activation : runnable {
  activation() noexcept : runnable{nullptr, runnable_kind::activation} {}

  activations_activation_control* control = nullptr;
  activations_activation_info* info = nullptr;
  core* home = nullptr;
  processor* lent = nullptr;  // last granted; ask owns_processor()
  strand* current = nullptr;  // running here
  after_switch after = nullptr;
  void* after_argument = nullptr;
  runnable* next_work = nullptr;  // for the carrier or base to run
  exception_globals* exceptions = nullptr;
  std::uint32_t index = 0;
  std::uint32_t tick = 0;
  std::uint32_t carrier_count = 0;
  // Whose ring to empty first: who had the processor before.
  std::uint32_t predecessor = ACTIVATIONS_INDEX_NONE;
  bool is_searcher = false;      // woken to look for work, and counted
  bool exits = false;            // told to leave its kernel thread
  bool is_new = false;           // has not parked yet
  runnable* carriers = nullptr;  // idle ones
  strand base;                   // the kernel thread's own stack
  stack_cache stacks;
  frame_cache frames;

  // Ring: pushed by this activation, taken from by any.
  run_ring<> ring;
  counters totals;

  // Sleep and wake.  W: whoever takes this activation out of a list or names
  // it in a processor word; order fields are published by `token`.
  alignas(cache_line_bytes) std::atomic<std::uint32_t> token{0};
  processor* order_processor = nullptr;
  std::uint64_t order_expected = 0;
  std::atomic<std::uint32_t> next_spare{ACTIVATIONS_INDEX_NONE};
  std::atomic<bool> is_lost{false};       // its processor was taken
  std::atomic<bool> waits_pinned{false};  // in wait_pinned
  // Of the kernel backend: in a run queue, because it was stopped; its thread
  // was not taken as an activation.
  std::atomic<bool> is_queued{false};
  std::atomic<bool> is_refused{false};
  // CPU time that its thread had used when it lost its processor, ns; 0: not
  // sampled.  W: who took the processor, published by is_lost.
  std::atomic<std::uint64_t> cpu_at_loss_ns{0};
  bool was_excess = false;  // the monitor's, from its last sweep

  // Read by anybody who judges whether this activation is off the CPU, and
  // whom an old value may lead to a wrong guess only.  The file is closed when
  // nobody looks at it: activation_pool::activity_of.
  std::atomic<std::uint32_t> pinned_processor{ACTIVATIONS_INDEX_NONE};
  std::atomic<pid_t> tid{0};
  std::atomic<int> syscall_file{-1};
  std::atomic<std::uint32_t> lookers{0};

  [[nodiscard]] bool owns_processor() const noexcept {
    processor_view const seen = lent->view();
    return seen.is_running() && seen.owner() == index;
  }
};

inline thread_local constinit activation* current_activation_pointer = nullptr;

// The calling kernel thread's activation, or null.  Not inlined, so that no
// compiler keeps the address of the thread_local across a switch to another
// kernel thread.
[[gnu::noinline]] inline activation* current_activation() noexcept {
  activation* found = current_activation_pointer;
  asm volatile("" : "+r"(found));
  return found;
}

// While one exists the runtime does not stop this activation: a slice that
// ends is remembered and acted on at the end.  Nests.  Does nothing on a
// kernel thread that is no activation.  Context: any thread.  Inside: no
// malloc, no stdio, no user code, no waiting (P9).
class disabled_region {
 public:
  disabled_region() noexcept : self_(current_activation()) {
    if (self_ != nullptr) enter(*self_);
  }
  explicit disabled_region(activation& self) noexcept : self_(&self) {
    enter(self);
  }
  ~disabled_region() {
    if (self_ != nullptr) leave(*self_);
  }
  disabled_region(disabled_region const&) = delete;
  disabled_region& operator=(disabled_region const&) = delete;

  // Relaxed, with compiler barriers: the reader that counts is a signal
  // handler (or the kernel) on this very thread.
  static void enter(activation& self) noexcept {
    auto& disabled = self.control->disabled;
    disabled.store(disabled.load(std::memory_order::relaxed) + 1,
                   std::memory_order::relaxed);
    std::atomic_signal_fence(std::memory_order::seq_cst);
  }
  static void leave(activation& self) noexcept {
    std::atomic_signal_fence(std::memory_order::seq_cst);
    auto& disabled = self.control->disabled;
    auto const depth = disabled.load(std::memory_order::relaxed) - 1;
    disabled.store(depth, std::memory_order::relaxed);
    std::atomic_signal_fence(std::memory_order::seq_cst);
    ACTIVATIONS_TEST_POINT(enabling);
    if (depth == 0 && self.control->pending.load(std::memory_order::relaxed) !=
                          0) [[unlikely]]
      deliver_pending(self);
  }

 private:
  // Defined with the scheduler's core: yields in place of the missed stop.
  static void deliver_pending(activation& self) noexcept;

  activation* self_;
};

}  // namespace activations::detail
