// SPDX-License-Identifier: BSL-1.0
//
// The body of a user thread: control block, callable and stack are one piece
// of memory, the block at its top.
//
//   base                                                          top
//   | guard |  stack, growing down  <- | callable, arguments | block |
//
// Lifetime: two holders, the running thread and its handle; the last one gives
// the stack back.  The running side lets go after its last switch, on another
// stack.  A join returns before that, unless the memory is the user's.
#pragma once

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <new>
#include <span>
#include <stop_token>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <activations/detail/runtime.hpp>
#include <activations/detail/waiter.hpp>
#include <activations/error.hpp>

namespace activations::detail {

// An exception that nobody can be given any more: ends the program, with the
// exception current so that the terminate handler can tell what it was.
[[noreturn, gnu::cold]] inline void terminate_with(
    std::exception_ptr const& error) noexcept {
  std::rethrow_exception(error);
}

struct thread_block : strand {
  explicit thread_block(runtime& owner) noexcept {
    home = &owner;
    id = owner.new_id();
  }

  // Calls and destroys the callable.  Set by make_thread.
  void (*run)(thread_block& self) = nullptr;
  std::exception_ptr error;  // W: the thread, before it finishes
  bool on_kernel_thread = false;

  [[nodiscard]] runtime& owner() const noexcept {
    return static_cast<runtime&>(*home);
  }
  [[nodiscard]] bool is_current() const noexcept;

  // Any thread, one at a time: returns when the function has ended.
  void wait() noexcept {
    waiter self;
    waiter* none = nullptr;
    // Acquire: what the thread did.  Release: our waiter's fields.
    if (joiner_.compare_exchange_strong(none, &self, std::memory_order::acq_rel,
                                        std::memory_order::acquire))
      self.wait();
    // Memory of the user's is theirs again when join returns: the thread must
    // be off it, not only at its end.
    if (memory.slot != nullptr) return;
    while (holders_.load(std::memory_order::acquire) == 2)
      futex_wait(holders_, 2);
  }

  void detach() noexcept {
    // It may have failed before we said so.  seq_cst, here and in finish: of
    // the two stores at least one is seen by the other side's load.
    detached_.store(true, std::memory_order::seq_cst);
    if (joiner_.load(std::memory_order::seq_cst) == finished() &&
        error != nullptr)
      terminate_with(error);
    drop();
  }

  // The function has ended.
  void finish() noexcept {
    waiter* const joiner =
        joiner_.exchange(finished(), std::memory_order::seq_cst);
    if (joiner != nullptr) joiner->notify();
    // Nobody joins a detached one: the error is still its own.
    if (detached_.load(std::memory_order::seq_cst) && error != nullptr)
      terminate_with(error);
  }

  // One holder lets go.
  void drop() noexcept {
    bool const is_supplied = memory.slot == nullptr;
    if (holders_.fetch_sub(1, std::memory_order::acq_rel) == 1)
      destroy();
    else if (is_supplied)
      futex_wake(holders_);  // nothing but the address is used
  }

  // Made at the first use: most threads are never asked to stop.
  [[nodiscard]] std::stop_source stop_source() {
    stop_entry* entry = stop_.load(std::memory_order::acquire);
    if (entry == nullptr) {
      auto* const made = new stop_entry;
      if (stop_.compare_exchange_strong(entry, made,
                                        std::memory_order::seq_cst)) {
        owner().enlist(*made);
        if (stop_requested_.load(std::memory_order::seq_cst))
          made->source.request_stop();
        return made->source;
      }
      delete made;
    }
    return entry->source;
  }
  bool request_stop() {
    // seq_cst on both: a source made meanwhile sees the flag, or we see it.
    bool const first =
        !stop_requested_.exchange(true, std::memory_order::seq_cst);
    if (stop_entry* const entry = stop_.load(std::memory_order::seq_cst))
      return entry->source.request_stop();
    return first;
  }

 private:
  // An address that is no waiter.
  waiter* finished() noexcept { return reinterpret_cast<waiter*>(this); }

  void destroy() noexcept;

  std::atomic<waiter*> joiner_{nullptr};
  std::atomic<stop_entry*> stop_{nullptr};
  std::atomic<std::uint32_t> holders_{2};
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> detached_{false};
};

[[gnu::noinline]] inline thread_block* current_kernel_user_thread() noexcept {
  thread_block* found = kernel_user_thread;
  asm volatile("" : "+r"(found));
  return found;
}

inline bool thread_block::is_current() const noexcept {
  if (activation* const self = current_activation())
    return self->current == this;
  return current_kernel_user_thread() == this;
}

// The scheduler that runs the caller, or null.
inline runtime* current_runtime() noexcept {
  if (activation* const self = current_activation())
    return static_cast<runtime*>(self->home);
  thread_block* const block = current_kernel_user_thread();
  return block == nullptr ? nullptr : &block->owner();
}

inline void thread_block::destroy() noexcept {
  runtime& home_runtime = owner();
  // Not before: a handle may ask for the source when the function has ended.
  if (stop_entry* const entry = stop_.load(std::memory_order::acquire)) {
    home_runtime.delist(*entry);
    delete entry;
  }
  stack const whole = memory;
  if (!on_kernel_thread) context_finish(machine);
  this->~thread_block();
  if (whole.slot == nullptr) {  // user-supplied
    disown_stack(whole);
    return;
  }
  disabled_region const region;
  activation* const self = current_activation();
  if (self != nullptr && self->home == &home_runtime)
    self->stacks.release(home_runtime.stacks(), whole);
  else
    home_runtime.stacks().release(whole);
}

// Runs the function and tells the joiner.  Context: the thread itself.
inline void run_thread_body(thread_block& self) noexcept {
  ACTIVATIONS_TRY {
    self.run(self);
  }
  ACTIVATIONS_CATCH_ALL {
    self.error = std::current_exception();
  }
}

inline void thread_entry(void* argument) {
  thread_block& self = *static_cast<thread_block*>(argument);
  context_enter(self.machine);
  disabled_region::leave(core::landed());
  run_thread_body(self);
  activation* here = current_activation();
  // The child of a fork came back from the function: the process has no other
  // thread, and ends as if its last thread had.
  if (here == nullptr) _exit(0);
  core& home = *self.home;
  home.return_deque(self);
  self.finish();
  here = current_activation();
  disabled_region::enter(*here);
  core::suspend_final(
      *here,
      [](void* block, activation& after) noexcept {
        core& scheduler = *after.home;
        static_cast<thread_block*>(block)->drop();
        scheduler.count_finished();
      },
      &self);
}

inline void* kernel_thread_entry(void* argument) {
  thread_block& self = *static_cast<thread_block*>(argument);
  kernel_user_thread = &self;
  run_thread_body(self);
  // As in thread_entry.
  if (current_kernel_user_thread() == nullptr) _exit(0);
  core& home = *self.home;
  self.finish();
  kernel_user_thread = nullptr;
  self.drop();
  home.count_finished();
  return nullptr;
}

template <class Function, class Tuple>
struct thread_callable {
  Function function;
  Tuple arguments;

  void operator()(thread_block& self) {
    std::apply(
        [&](auto&&... each) {
          if constexpr (std::is_invocable_v<Function, std::stop_token,
                                            decltype(each)...>)
            std::invoke(std::move(function), self.stop_source().get_token(),
                        std::forward<decltype(each)>(each)...);
          else
            std::invoke(std::move(function),
                        std::forward<decltype(each)>(each)...);
        },
        std::move(arguments));
  }
};

// A thread that is not started yet, held twice.  Throws std::system_error, or
// what copying the callable throws; nothing is left behind then.
template <class F, class... Args>
thread_block* make_thread(runtime& home, std::string_view name,
                          std::size_t stack_bytes,
                          std::span<std::byte> supplied, F&& f,
                          Args&&... args) {
  using callable =
      thread_callable<std::decay_t<F>, std::tuple<std::decay_t<Args>...>>;
  stack memory;
  activation* const self = current_activation();
  bool const at_home = self != nullptr && self->home == &home;
  if (!supplied.empty()) {
    memory = adopt_stack(supplied);
    if (!memory) throw_system_error(EINVAL, "use a stack this small");
  } else if (stack_bytes < minimum_stack_bytes) {
    throw_system_error(EINVAL, "use a stack this small");
  } else {
    disabled_region const region;
    memory = at_home && stack_bytes == home.stack_bytes()
                 ? self->stacks.allocate(home.stacks())
                 : home.stacks().allocate(stack_bytes);
  }
  if (!memory) throw_system_error(ENOMEM, "allocate a stack");
  auto const give_back = [&] {
    if (!supplied.empty()) return disown_stack(memory);
    disabled_region const region;
    home.stacks().release(memory);
  };

  auto top = reinterpret_cast<std::uintptr_t>(memory.top());
  top = (top - sizeof(thread_block)) & ~std::uintptr_t{63};
  auto* const block_place = reinterpret_cast<void*>(top);
  top = (top - sizeof(callable)) &
        ~std::uintptr_t{std::max<std::size_t>(alignof(callable), 16) - 1};
  auto* const callable_place = reinterpret_cast<void*>(top);
  auto const base = reinterpret_cast<std::uintptr_t>(memory.base);
  if (top < base + minimum_stack_bytes / 2) {
    give_back();
    throw_system_error(EINVAL, "fit the arguments on the thread's stack");
  }
  ACTIVATIONS_TRY {
    new (callable_place) callable{
        std::forward<F>(f),
        std::tuple<std::decay_t<Args>...>(std::forward<Args>(args)...)};
  }
  ACTIVATIONS_CATCH_ALL {
    give_back();
    ACTIVATIONS_RETHROW;
  }
  auto* const block = new (block_place) thread_block(home);
  block->memory = memory;
  block->run = [](thread_block& self) {
    constexpr auto below =
        (sizeof(callable) + std::max<std::size_t>(alignof(callable), 16) - 1);
    auto const at =
        (reinterpret_cast<std::uintptr_t>(&self) - sizeof(callable)) &
        ~std::uintptr_t{std::max<std::size_t>(alignof(callable), 16) - 1};
    static_assert(below >= sizeof(callable));
    auto* const what = reinterpret_cast<callable*>(at);
    struct guard {
      callable* what;
      ~guard() { what->~callable(); }
    } const destroy{what};
    (*what)(self);
  };
  block->name[name.copy(block->name, sizeof block->name - 1)] = '\0';
  if (home.model() == threading::one_to_one) {
    block->on_kernel_thread = true;
  } else {
    context_make(block->machine, memory.base, top - base, &thread_entry, block);
  }
  return block;
}

// Puts it in the queue.  Throws only for one_to_one, when the system has no
// kernel thread to give.
inline void start_thread(thread_block& block) {
  runtime& home = block.owner();
  home.count_spawned();
  if (!block.on_kernel_thread) return home.make_runnable(block);
  // The defaults have the process's CPUs: a task may call this, on one CPU.
  pthread_attr_t attributes;
  if (pthread_getattr_default_np(&attributes) != 0)
    pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes,
                            std::max(block.memory.size, minimum_stack_bytes));
  pthread_t thread;
  int const error =
      pthread_create(&thread, &attributes, &kernel_thread_entry, &block);
  pthread_attr_destroy(&attributes);
  if (error == 0) return;
  home.count_finished();
  block.drop();
  block.drop();
  throw_system_error(error, "create a kernel thread");
}

}  // namespace activations::detail
