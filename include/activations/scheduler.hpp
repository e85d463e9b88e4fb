// SPDX-License-Identifier: BSL-1.0
//
// scheduler: runs user threads and tasks on a handful of processors.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <utility>
#include <vector>

#include <activations/detail/runtime.hpp>
#include <activations/detail/stack_overflow.hpp>
#include <activations/detail/thread_block.hpp>
#include <activations/error.hpp>
#include <activations/processor_backend.hpp>
#include <activations/statistics.hpp>
#include <activations/task.hpp>
#include <activations/user_thread.hpp>
#if ACTIVATIONS_HOSTED
#include <activations/kernel_backend.hpp>
#include <activations/portable_backend.hpp>
#else
#include <activations/bare_backend.hpp>
#endif

namespace activations {

// Who lends the processors.
enum class backend_choice {
  automatic,  // the best that there is
  portable,   // plain Linux
  kernel      // the kernel module, or an error
};

struct scheduler_options {
  // Virtual processors: how many user threads compute at once.  0: as many as
  // the affinity mask and the cgroup's CPU quota allow.
  unsigned processors = 0;
  // Most kernel threads that carry user code; a thread that blocks beyond that
  // keeps its processor.  0: default_max_activations.
  unsigned max_activations = 0;
  // Of each user thread, in bytes.  At least minimum_stack_bytes.
  std::size_t stack_bytes = default_stack_bytes;
  // How long a user thread computes before others get a turn; 0: until it
  // waits or yields.
  std::chrono::nanoseconds slice{0};
  threading model = threading::many_to_many;
  // A thread back from a block always asks before it takes a processor: fewer
  // runnable kernel threads, a little more CPU.
  bool strict = false;
  backend_choice backend = backend_choice::automatic;
};

inline constexpr unsigned default_max_activations = 4096;

// Requires   destroyed by a thread that is not one of its own (see below).
// Context    everything but the destructor: any thread.
// Errors     the constructor throws std::system_error when kernel threads or
//            memory are refused, an option is out of range (EINVAL),
//            the process runs under a user shadow stack (ENOTSUP), or the
//            kernel module is asked for and cannot be had (what opening it said).
//
// What happens when:
//   destroyed with threads alive   requests a stop of all and waits for all
//   destroyed by its own thread    (exit() inside one, with a static
//                                  scheduler) requests a stop and leaves all
//                                  running: the process is ending
//   fork()                         the child's only thread goes on as a plain
//                                  kernel thread; this scheduler is dead there
//   an exception leaves a thread   goes to who joins; detached: std::terminate
//   used inside another scheduler  run() parks the caller's user thread
class scheduler {
 public:
  explicit scheduler(scheduler_options const& options = {}) {
    start(options, checked_cpus(options));
    detail::stack_overflow_reporter::install(&who_overflowed);
  }

  ~scheduler() {
    if (runtime_->is_orphaned() || is_inside()) {
      if (!runtime_->is_orphaned()) stop();
      // The kernel threads that use these are gone, or outlive this call.
      backends([](auto& one) { (void)one.release(); });
      (void)runtime_.release();
      return;
    }
    stop();
    runtime_->wait_drained();
    backends([](auto& one) { one.reset(); });
    detail::stack_overflow_reporter::uninstall();
  }

  scheduler(scheduler const&) = delete;
  scheduler& operator=(scheduler const&) = delete;

  // Runs f as a user thread here and waits for it; returns its result or
  // rethrows its exception.  If f returns a task, runs that too.
  template <class F>
  decltype(auto) run(F&& f) {
    using result = std::invoke_result_t<F&>;
    if constexpr (detail::is_task<result>) {
      // Called in a user thread, so that f may use the scheduler at once.
      result work;
      spawn([&] { work = f(); }).join();
      return spawn(std::move(work)).join();
    } else if constexpr (std::is_void_v<result>) {
      spawn([&] { f(); }).join();
    } else {
      std::optional<std::remove_cvref_t<result>> value;
      std::remove_reference_t<result>* address = nullptr;
      spawn([&] {
        if constexpr (std::is_reference_v<result>)
          address = std::addressof(f());
        else
          value.emplace(f());
      }).join();
      if constexpr (std::is_reference_v<result>)
        return static_cast<result>(*address);
      else
        return result(std::move(*value));
    }
  }

  template <class F, class... Args>
    requires(!detail::is_task<std::remove_cvref_t<F>> &&
             !std::is_same_v<std::remove_cvref_t<F>, thread_options>)
  [[nodiscard]] user_thread spawn(F&& f, Args&&... args) {
    return spawn(thread_options{}, std::forward<F>(f),
                 std::forward<Args>(args)...);
  }
  template <class F, class... Args>
  [[nodiscard]] user_thread spawn(thread_options const& options, F&& f,
                                  Args&&... args) {
    return user_thread(user_thread::start(
        *runtime_, options, std::forward<F>(f), std::forward<Args>(args)...));
  }

  // Starts a task on its own.  Requires: one that was not started.
  template <class T>
  join_handle<T> spawn(task<T> work) {
    return join_handle<T>(detail::start_task(*runtime_, std::move(work)));
  }

  // Requests a stop of every user thread that listens to a stop token.
  void stop() { runtime_->stop_everything(); }

  // One line: the backend, why this one, processors, model.
  [[nodiscard]] std::string describe() const {
    std::string text = runtime_->lender().describe();
    if (runtime_->model() == threading::many_to_one)
      text += "; many-to-one";
    else if (runtime_->model() == threading::one_to_one)
      text += "; one-to-one";
    return text;
  }

  [[nodiscard]] scheduler_statistics statistics() const {
    scheduler_statistics s;
    s.finished = runtime_->total(&detail::counters::finished);
    s.spawned = runtime_->total(&detail::counters::spawned);
    s.switches = runtime_->total(&detail::counters::switches);
    s.steals = runtime_->total(&detail::counters::steals);
#if ACTIVATIONS_HOSTED
    if (portable_ != nullptr) {
      s.portable = portable_->statistics();
      s.kernel_threads = s.portable;
    } else {
      s.kernel = kernel_->statistics();
      s.kernel_threads = s.kernel;
    }
#else
    s.kernel_threads = bare_->statistics();
#endif
    // Whoever is stopped here would hold the lock that threads' stacks need.
    detail::disabled_region const region;
    s.stacks = runtime_->stacks().statistics();
    return s;
  }

#if ACTIVATIONS_HOSTED
  // What threads blocked in, most frequent first; sampled.
  [[nodiscard]] std::vector<block_cause> block_causes() const {
    auto all = (portable_ != nullptr ? portable_->causes() : kernel_->causes())
                   .snapshot();
    std::sort(all.begin(), all.end(),
              [](auto const& a, auto const& b) { return a.count > b.count; });
    return all;
  }
#endif

  // How many virtual processors it has.
  [[nodiscard]] unsigned processors() const noexcept {
    return runtime_->processor_count();
  }

 private:
  static std::vector<int> checked_cpus(scheduler_options const& options) {
    if (options.processors > detail::most_processors)
      throw_system_error(EINVAL, "use that many processors");
    if (options.max_activations >= ACTIVATIONS_INDEX_NONE)
      throw_system_error(EINVAL, "use that many activations");
    if (detail::arch::shadow_stack_is_active())
      throw_system_error(ENOTSUP, "switch stacks under a shadow stack");
    if (options.stack_bytes < minimum_stack_bytes)
      throw_system_error(EINVAL, "use stacks this small");
    if (options.backend == backend_choice::kernel &&
        options.model != threading::many_to_many)
      throw_system_error(EINVAL, "use the kernel module in this model");
    if (options.slice.count() < 0)
      throw_system_error(EINVAL, "use a negative slice");
    auto const wanted =
        options.model == threading::many_to_one ? 1 : options.processors;
    return detail::choose_cpus(wanted);
  }

#if ACTIVATIONS_HOSTED
  // What the options and the environment ask for; `reason`: why not the rest.
  static backend_choice chosen(scheduler_options const& options,
                               std::string& reason) {
    reason = "as asked for";
    if (options.backend != backend_choice::automatic) return options.backend;
    if (options.model != threading::many_to_many) {
      reason = "the one for this model";
      return backend_choice::portable;
    }
    char const* const named = std::getenv("ACTIVATIONS_BACKEND");
    std::string_view const name = named == nullptr ? "" : named;
    if (name == "kernel") return backend_choice::kernel;
    if (name != "portable") return backend_choice::automatic;
    reason = "ACTIVATIONS_BACKEND says so";
    return backend_choice::portable;
  }

  void start(scheduler_options const& options, std::vector<int> const& cpus) {
    auto const processors = static_cast<std::uint32_t>(cpus.size());
    auto most = options.max_activations == 0 ? default_max_activations
                                             : options.max_activations;
    most = std::max(most, processors);
    std::string reason;
    auto const choice = chosen(options, reason);
    if (choice != backend_choice::portable) {
      detail::kernel_device::refusal why;
      if (start_on_kernel(options, processors, most, why)) return;
      if (choice == backend_choice::kernel)
        throw std::system_error(why.error, std::generic_category(),
                                "activations: " + why.reason);
      reason = why.reason;
    }
    bool const hand_over = options.model == threading::many_to_many;
    if (!hand_over) most = processors;
    runtime_ = std::make_unique<detail::runtime>(
        processors, most, options.stack_bytes, options.model);
    portable_options backend;
    backend.slice = hand_over ? options.slice : std::chrono::nanoseconds{0};
    backend.strict = options.strict;
    backend.hand_over = hand_over;
    backend.reason = reason;
    portable_ = std::make_unique<portable_backend>(*runtime_, cpus, backend);
  }

  bool start_on_kernel(scheduler_options const& options,
                       std::uint32_t processors, std::uint32_t most,
                       detail::kernel_device::refusal& why) {
    auto device = detail::kernel_device::open(processors, most, why);
    if (device == nullptr) return false;
    runtime_ = std::make_unique<detail::runtime>(
        processors, std::min(most, device->activations()), options.stack_bytes,
        options.model);
    try {
      kernel_ = std::make_unique<kernel_backend>(*runtime_, std::move(device),
                                                 options.slice);
    } catch (std::system_error const& failed) {
      why = {failed.what(), failed.code().value()};
      return false;
    }
    return true;
  }

#else
  void start(scheduler_options const& options, std::vector<int> const& cpus) {
    auto const processors = static_cast<std::uint32_t>(cpus.size());
    auto const most = options.max_activations == 0
                          ? bare_backend::default_activations
                          : options.max_activations;
    runtime_ = std::make_unique<detail::runtime>(
        processors, ACTIVATIONS_IMAGE_DISPATCHERS + std::max(most, processors),
        options.stack_bytes, options.model);
    bare_ = std::make_unique<bare_backend>(*runtime_, cpus, options.slice);
  }
#endif

  // Called in a signal handler.
  static bool who_overflowed(detail::stack_owner& owner) noexcept {
    detail::activation const* const self = detail::current_activation();
    if (self == nullptr || self->current == nullptr) return false;
    owner.id = self->current->id;
    owner.name = self->current->name;
    owner.where = self->current->memory;
    return true;
  }

  [[nodiscard]] bool is_inside() const noexcept {
    return detail::current_runtime() == runtime_.get();
  }

  std::unique_ptr<detail::runtime> runtime_;
#if ACTIVATIONS_HOSTED
  std::unique_ptr<portable_backend> portable_;  // one of the two
  std::unique_ptr<kernel_backend> kernel_;
  void backends(auto f) {
    f(portable_), f(kernel_);
  }
#else
  std::unique_ptr<bare_backend> bare_;
  void backends(auto f) {
    f(bare_);
  }
#endif
};

}  // namespace activations
