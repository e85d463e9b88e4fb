// SPDX-License-Identifier: BSL-1.0
//
// A model checker for small lock-free programs: runs a scenario of a few
// threads under every interleaving of its atomic operations, and with every
// value that the weak memory of memory.hpp lets a load return.
//
//   auto const found = model::explore({}, [](model::run& r) {
//     auto& flag = r.make<model::atomic<int>>(0);      // set-up, one thread
//     r.spawn([&] { flag.store(1, std::memory_order::release); });
//     r.spawn([&] { model::check(...); });
//     r.finally([&] { model::check(...); });           // all threads ended
//   });
//   EXPECT_TRUE(found.ok()) << found.report;
//
// A scenario is deterministic but for what the explorer chooses. Its threads
// share model::atomic and model::plain objects; other variables only if each
// has one writer and is read in `finally`, or if the writes commute.
//
// A violation ends the search: a failed check, a data race on a model::plain,
// a load of a slot never stored, a deadlock, too many steps. Its report names
// the branch ("replay"), to be tried alone with options.replay, and lists the
// steps.
//
// How: depth-first search, by running the scenario again from the start for
// each branch (search.hpp, engine.hpp). A load that reads a given store is
// independent of other stores, so that what is counted is close to the number
// of execution graphs.
#pragma once

#include <algorithm>
#include <functional>
#include <utility>

#include "model/engine.hpp"

namespace activations::model {

// What a scenario gets to set itself up.
class run {
 public:
  explicit run(engine& e) : engine_(e) {}

  // An object that lives as long as the execution.
  template <class T, class... Arguments>
  T& make(Arguments&&... arguments) {
    return engine_.make<T>(std::forward<Arguments>(arguments)...);
  }
  // Threads are numbered from 0 in this order.
  void spawn(std::function<void()> body) { engine_.spawn(std::move(body)); }
  // What is left to do and to check when all threads have ended.
  void finally(std::function<void()> body) { engine_.finally(std::move(body)); }
  // Called when no thread can go on and not all have ended. Returns true if it
  // woke one; false: so it shall be, which ends the execution.
  void when_quiet(std::function<bool()> body) {
    engine_.when_quiet(std::move(body));
  }

 private:
  engine& engine_;
};

// A property that must hold; anywhere in a scenario.
inline void check(bool holds, char const* text) {
  if (!holds) engine::current()->violate(text);
}

inline void engine::execute(std::function<void(run&)> const& scenario) {
  memory_.reset(options_.sequential);
  places_.begin_execution();
  search_.begin_execution();
  root_ = view{};
  thread_count_ = 0;
  running_ = -1;
  last_ = nullptr;
  quiet_ = nullptr;
  variables_used_ = 0;
  depth_ = 0;
  now_ns_ = 0;
  timeouts_ = 0;
  was_chosen_ = false;
  log_.clear();
  outcome_ = outcome::running;
  violation_.clear();
  spurious_used_ = 0;
  early_timeouts_used_ = 0;
  guesses_used_ = 0;
  open_guess_ = {};
  run r(*this);
  scenario(r);
  int const spawned = thread_count_;
  for (int t = 0; t < spawned; ++t) start(t, root_);
  // Each thread runs to its first step.
  for (int t = 0; t < spawned && outcome_ == outcome::running; ++t)
    switch_to(t);
  int const first = decide();
  if (first >= 0) switch_to(first);
  for (int t = 0; t < thread_count_; ++t) {
    detail::context_finish(threads_[t].context);
    if (options_.future_reads > 0)
      std::fill_n(recent_[t].begin(), memory_.size(), last_access{});
  }
  if (open_guess_.thread >= 0) {
    outcome_ = outcome::unjustified;
    violation_.clear();
  }
  if (outcome_ == outcome::finished && last_) {
    last_();
    if (!violation_.empty()) outcome_ = outcome::violated;
  }
  for (; !objects_.empty(); objects_.pop_back())
    objects_.back().destroy(objects_.back().pointer);
  arena_used_ = 0;
}

inline result engine::explore(std::function<void(run&)> const& scenario) {
  engine* const outer = std::exchange(current(), this);
  detail::context_init_native(main_);
  if (!options_.replay.empty()) {
    replaying_ = true;
    read_script(options_.replay);
  }
  for (;;) {
    execute(scenario);
    if (outcome_ == outcome::violated) break;
    ++(outcome_ == outcome::finished ? result_.executions : result_.cut);
    auto const count = result_.executions + result_.cut;
    if (uses_changed_ && options_.seed == 0) {
      uses_changed_ = false;  // what was decided before rests on too little
      search_.restart();
    } else if (replaying_ || !search_.next_branch() ||
               (options_.seed != 0 && count >= options_.random_executions)) {
      result_.complete = true;
      break;
    }
    if (count >= options_.max_executions) break;
  }
  result_.steps = steps_;
  if (outcome_ == outcome::violated) {
    result_.violation = violation_;
    result_.replay = replay_string();
    if (!replaying_) {  // once more, to list the steps
      replaying_ = true;
      script_ = log_;
      execute(scenario);
    }
    result_.report =
        result_.violation + "\nreplay: " + result_.replay + "\n" + trace_.str();
  }
  current() = outer;
  return std::move(result_);
}

inline result explore(options const& o,
                      std::function<void(run&)> const& scenario) {
  return engine(o).explore(scenario);
}

}  // namespace activations::model
