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
// How: depth-first search, by running the scenario again from the start for
// each branch. A step is one atomic operation and all that its thread does up
// to its next one. Sleep sets (Godefroid) skip branches that only swap
// independent steps; a load that reads a given store is independent of other
// stores, so that what is counted is close to the number of execution graphs.
// Steps on locations that turn out to be one thread's own are no branches.
//
// A violation ends the search: a failed check, a data race on a model::plain,
// a load of a slot never stored, a deadlock, too many steps. Its report names
// the branch ("replay"), to be tried alone with options.replay, and lists the
// steps.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <activations/detail/context.hpp>

#include "model/memory.hpp"

namespace activations::model {

// Where in the source an operation is: how mutations and reports name it.
struct site {
  char const* file;
  int line;
};

enum class operation : unsigned char {
  load,
  store,
  exchange,  // and fetch_add and the like
  compare_exchange,
  futex_wait,
  futex_wake,
  resume,  // of a thread that was woken
};

constexpr char const* name_of(operation kind) noexcept {
  constexpr char const* names[] = {
      "load", "store", "exchange", "compare_exchange",
      "wait", "wake",  "resume"};
  return names[static_cast<int>(kind)];
}

constexpr char const* name_of(std::memory_order order) noexcept {
  constexpr char const* names[] = {"relaxed", "consume", "acquire",
                                   "release", "acq_rel", "seq_cst"};
  return names[static_cast<int>(order)];
}

// What is done to the operations of one site, to see whether a test notices.
struct mutation {
  enum class kind : unsigned char {
    none,
    order,          // use `order` in place of the one written there
    failure_order,  // the same for a compare-exchange that fails
    skip,           // leave a store or wake out
    blind,          // a compare-exchange that stores whatever it finds
  };
  kind what = kind::none;
  site where{"", 0};
  operation on = operation::load;
  std::memory_order from = std::memory_order::relaxed;  // if it was this one
  std::memory_order order = std::memory_order::relaxed;
};

struct options {
  // Values that relaxed loads may take from stores yet to come: 0 or 1 an
  // execution. See memory.hpp.
  int future_reads = 0;
  // compare_exchange_weak may fail for no reason so often in an execution,
  // and futex_wait may return for no reason.
  int spurious = 0;
  int max_steps = 2000;  // of one execution; more is a violation
  std::uint64_t max_executions = 50'000'000;
  bool reduce = true;  // false: every interleaving, to test the explorer
  mutation mutate{};
  std::string replay;  // run just this branch
};

// An operation as it was seen at some site, for making mutations.
struct sighting {
  site where;
  operation on;
  std::memory_order order;
  std::memory_order failure;
};

struct result {
  bool complete = false;  // everything was explored
  std::string violation;  // empty: none
  std::string report;     // the violation, the replay string and the steps
  std::string replay;
  std::uint64_t executions = 0;  // to the end
  std::uint64_t cut = 0;         // abandoned as equal to others
  std::uint64_t steps = 0;
  std::vector<sighting> sightings;

  [[nodiscard]] bool ok() const noexcept {
    return complete && violation.empty();
  }
};

class run;

class engine {
 public:
  // The engine whose scenario runs now; model tests use one kernel thread.
  static engine*& current() noexcept {
    static engine* one = nullptr;
    return one;
  }

  explicit engine(options const& o) : options_(o) {}

  result explore(std::function<void(run&)> const& scenario);

  // --- called by model::atomic and its like -------------------------------

  int add_location(word initial, bool written) {
    if (memory_.size() == max_locations) die("too many locations");
    int const at = memory_.add(initial, written);
    if (at == static_cast<int>(uses_.size())) uses_.emplace_back();
    return at;
  }

  word load(int at, std::memory_order order, site where) {
    sight(where, operation::load, order, order);
    order = mutated(where, operation::load, order);
    if (running_ < 0) return memory_.value(at, memory_.newest(at));
    thread& self = threads_[running_];
    self.next = {operation::load, at, order, order, 0, 0, false};
    int const choice = schedule();
    if (choice >= future_choice) return load_future(at, choice, where);
    if (!memory_.is_written(at, choice)) {
      violate("load of a slot that was never stored");
      leave(outcome::unjustified);
    }
    word const value = memory_.load(at, choice, self.own, order);
    note_load(at, order);
    trace(where, operation::load, at, order, value);
    tick();
    return value;
  }

  void store(int at, word value, std::memory_order order, site where) {
    sight(where, operation::store, order, order);
    order = mutated(where, operation::store, order);
    bool const skipped =
        is_mutated(where, operation::store, mutation::kind::skip);
    if (running_ < 0) {
      if (!skipped) memory_.exchange(at, value, root_, order);
      return;
    }
    thread& self = threads_[running_];
    self.next = {operation::store, at, order, order, 0, value, false};
    schedule();
    if (!skipped) {
      memory_.store(at, value, self.own, order);
      note_store(at, value);
    }
    trace(where, operation::store, at, order, value);
    tick();
  }

  // `change` gets the old value and gives the new one.
  template <class Change>
  word exchange(int at, Change change, std::memory_order order, site where) {
    sight(where, operation::exchange, order, order);
    order = mutated(where, operation::exchange, order);
    if (running_ < 0) {
      word const old = memory_.value(at, memory_.newest(at));
      memory_.exchange(at, change(old), root_, order);
      return old;
    }
    thread& self = threads_[running_];
    self.next = {operation::exchange, at, order, order, 0, 0, false};
    schedule();
    word const old = memory_.value(at, memory_.newest(at));
    word const value = change(old);
    memory_.exchange(at, value, self.own, order);
    note_store(at, value);
    trace(where, operation::exchange, at, order, value);
    tick();
    return old;
  }

  bool compare_exchange(int at, word& expected, word desired, bool weak,
                        std::memory_order success, std::memory_order failure,
                        site where) {
    sight(where, operation::compare_exchange, success, failure);
    success = mutated(where, operation::compare_exchange, success);
    if (is_mutated(where, operation::compare_exchange,
                   mutation::kind::failure_order) &&
        options_.mutate.from == failure)
      failure = options_.mutate.order;
    bool const blind =
        is_mutated(where, operation::compare_exchange, mutation::kind::blind);
    if (running_ < 0) {
      word const old = memory_.value(at, memory_.newest(at));
      if (old != expected && !blind) {
        expected = old;
        return false;
      }
      memory_.exchange(at, desired, root_, success);
      return true;
    }
    thread& self = threads_[running_];
    self.next = {operation::compare_exchange,
                 at,
                 success,
                 failure,
                 expected,
                 desired,
                 weak};
    self.next.blind = blind;
    int choice = schedule();
    if (choice == success_choice) {
      memory_.exchange(at, desired, self.own, success);
      note_store(at, desired);
      trace(where, operation::compare_exchange, at, success, desired);
      tick();
      return true;
    }
    if (choice >= future_choice) {
      expected = load_future(at, choice, where);
      return false;
    }
    if (choice == spurious_choice) {
      ++spurious_used_;
      choice = memory_.newest(at);
    }
    expected = memory_.load(at, choice, self.own, failure);
    note_load(at, failure);
    trace(where, operation::load, at, failure, expected);
    tick();
    return false;
  }

  // Sleeps if the newest value is `expected`, as the kernel's futex does.
  void futex_wait(int at, word expected, site where) {
    sight(where, operation::futex_wait, relaxed, relaxed);
    if (running_ < 0) die("futex_wait outside a thread");
    thread& self = threads_[running_];
    self.next = {
        operation::futex_wait, at, relaxed, relaxed, expected, 0, false};
    int const choice = schedule();
    touch(at);
    trace(where, operation::futex_wait, at, relaxed, expected);
    tick();
    if (choice == spurious_choice) {
      ++spurious_used_;
      return;
    }
    // The kernel's load is this thread's: later ones read nothing older.
    memory_.load(at, memory_.newest(at), self.own, relaxed);
    if (memory_.value(at, memory_.newest(at)) != expected) return;
    self.asleep_on = at;
    self.asleep_since = log_.size();
    self.next = {operation::resume, nowhere, relaxed, relaxed, 0, 0, false};
    block();
  }

  // Wakes those that have slept longest. Returns how many.
  int futex_wake(int at, int count, site where) {
    sight(where, operation::futex_wake, relaxed, relaxed);
    bool const skipped =
        is_mutated(where, operation::futex_wake, mutation::kind::skip);
    if (running_ < 0) return 0;
    threads_[running_].next = {
        operation::futex_wake, at, relaxed, relaxed, 0, 0, false};
    schedule();
    touch(at);
    trace(where, operation::futex_wake, at, relaxed, static_cast<word>(count));
    tick();
    if (skipped) return 0;
    int woken = 0;
    for (; woken < count; ++woken) {
      thread* first = nullptr;
      for (thread& t : threads_)
        if (t.asleep_on == at &&
            (first == nullptr || t.asleep_since < first->asleep_since))
          first = &t;
      if (first == nullptr) break;
      first->asleep_on = -1;
    }
    return woken;
  }

  // --- data races: FastTrack (Flanagan and Freund, PLDI 2009) --------------

  struct history {
    int writer = -1;
    std::int16_t written = 0;
    std::array<std::int16_t, max_threads> read{};
  };

  void read_plain(history& h) {
    if (running_ < 0) return;
    view const& own = threads_[running_].own;
    if (h.writer >= 0 && h.writer != running_ &&
        own.clock[h.writer] < h.written)
      violate("data race: read of a value whose write it is not ordered after");
    h.read[running_] = own.clock[running_];
  }

  void write_plain(history& h) {
    if (running_ < 0) return;
    view const& own = threads_[running_].own;
    if (h.writer >= 0 && h.writer != running_ &&
        own.clock[h.writer] < h.written)
      violate("data race: two writes");
    for (int i = 0; i < thread_count_; ++i)
      if (i != running_ && own.clock[i] < h.read[i])
        violate("data race: write of a value while another may read it");
    h.writer = running_;
    h.written = own.clock[running_];
  }

  // --- called by the scenario ---------------------------------------------

  // The text is a literal: an abandoned stack frees nothing.
  void violate(char const* text) {
    if (violation_.empty()) violation_ = text;
    // A guess that is still open may have led here: go on until it is settled.
    if (open_guess_.thread >= 0) return;
    if (running_ >= 0) leave(outcome::violated);
  }

  void spawn(std::function<void()> body) {
    if (thread_count_ == max_threads) die("too many threads");
    threads_[thread_count_++].body = std::move(body);
  }
  void finally(std::function<void()> body) { last_ = std::move(body); }

  // At the same address in each execution: guesses are of pointers too.
  template <class T, class... Arguments>
  T& make(Arguments&&... arguments) {
    void* at = arena_.get() + arena_used_;
    std::size_t left = arena_bytes - arena_used_;
    if (std::align(alignof(T), sizeof(T), at, left) == nullptr)
      die("the objects of the scenario do not fit");
    arena_used_ = arena_bytes - left + sizeof(T);
    T* const made = new (at) T(std::forward<Arguments>(arguments)...);
    if constexpr (!std::is_trivially_destructible_v<T>)
      objects_.push_back(
          {made, [](void* object) { static_cast<T*>(object)->~T(); }});
    return *made;
  }

  [[nodiscard]] int running() const noexcept { return running_; }

 private:
  static constexpr auto relaxed = std::memory_order::relaxed;
  static constexpr std::size_t stack_bytes = 128 * 1024;

  // Choices beside "reads store number n".
  static constexpr int nowhere = -1;  // the location of resume
  static constexpr int success_choice = -1;
  static constexpr int spurious_choice = -2;
  static constexpr int future_choice = 1 << 20;  // plus index of the guess

  struct pending {
    operation kind;
    int at;
    std::memory_order order;
    std::memory_order failure;
    word expected;
    word desired;
    bool weak;
    bool blind = false;
  };

  struct thread {
    std::function<void()> body;
    detail::context context;
    std::unique_ptr<std::byte[]> stack;
    view own;
    pending next;
    int granted = 0;
    int asleep_on = -1;
    std::size_t asleep_since = 0;
    bool finished = false;
    bool started = false;
  };

  // One step that a thread can do next.
  struct transition {
    int thread;
    int choice;
    int at;
    bool writes;
    bool orders;   // seq_cst: changes the floor of its location
    bool alone;    // futex or guess: depends on every step of its location
    bool counted;  // spends a budget: never put to sleep
    bool operator==(transition const& other) const noexcept {
      return thread == other.thread && choice == other.choice;
    }
  };

  static bool independent(transition const& a, transition const& b) noexcept {
    if (a.thread == b.thread) return false;
    if (a.at != b.at) return true;
    if (a.alone || b.alone) return false;
    if (a.writes && b.writes) return false;
    // A load of one given store commutes with later stores and other loads,
    // but a seq_cst load does not with what moves the floor elsewhere.
    if (!a.orders || !b.orders) return true;
    return !a.writes && !b.writes && a.choice == b.choice;
  }

  // A value that a load may take from a store to come.
  struct guess {
    word value;
    int writer;
    bool operator==(guess const& other) const noexcept {
      return value == other.value && writer == other.writer;
    }
  };

  struct node {
    std::vector<transition> sleeping;
    std::vector<transition> todo;  // explored, current, still to explore
    std::vector<guess> guesses;
    std::size_t at = 0;  // index of the current one
  };

  enum class outcome { running, finished, violated, equal, unjustified };

  // What the threads did so far with a location, over all executions.
  struct use {
    unsigned readers = 0;
    unsigned writers = 0;
  };

  struct last_access {
    int depth = -1;  // of the node that chose a relaxed load; -1: other
    std::int16_t clock = 0;
    bool expects = false;  // a compare-exchange that failed
    word expected = 0;
  };

  struct open_guess {
    int thread = -1;
    int at = 0;
    word value = 0;
    int writer = 0;
    std::int16_t clock = 0;
  };

  [[noreturn]] static void die(char const* text) {
    std::fprintf(stderr, "model: %s\n", text);
    std::abort();
  }

  // --- running one execution ----------------------------------------------

  void execute(std::function<void(run&)> const& scenario);

  static void thread_entry(void* argument) {
    engine& e = *static_cast<engine*>(argument);
    thread& self = e.threads_[e.running_];
    detail::context_enter(self.context);
    self.body();
    self.finished = true;
    if (!self.started) {
      self.started = true;
      detail::context_switch_final(self.context, e.main_);
    }
    e.block();
    die("a finished thread was resumed");
  }

  // The calling thread's next step is in `next`: returns its choice when it
  // is its turn.
  int schedule() {
    thread& self = threads_[running_];
    bool const local = is_local(running_, self.next);
    if (!self.started) {
      self.started = true;
      detail::context_switch(self.context, main_);
      return self.granted;
    }
    if (!local || ++depth_ > options_.max_steps) {
      block();
      return self.granted;
    }
    ++steps_;
    int const choice = only_choice(self.next);
    log_.push_back({running_, choice, {}});
    return choice;
  }

  int only_choice(pending const& p) const noexcept {
    int const newest = memory_.newest(p.at);
    switch (p.kind) {
      case operation::load:
        return newest;
      case operation::compare_exchange:
        return p.blind || memory_.value(p.at, newest) == p.expected
                   ? success_choice
                   : newest;
      default:
        return 0;
    }
  }

  // Lets whoever is chosen go on; returns when this thread is chosen.
  void block() {
    int const self = running_;
    int const chosen = decide();
    if (chosen == self) return;
    running_ = chosen;
    detail::context_switch(threads_[self].context,
                           chosen < 0 ? main_ : threads_[chosen].context);
  }

  // Abandons the execution. Does not return.
  void leave(outcome why) {
    outcome_ = why;
    int const self = running_;
    running_ = -1;
    detail::context_switch(threads_[self].context, main_);
  }

  // Chooses the next step; returns its thread, or -1 to end the execution.
  int decide() {
    if (outcome_ != outcome::running) return -1;
    if (++depth_ > options_.max_steps) {
      violation_ = "no end: more steps than options.max_steps";
      outcome_ = outcome::violated;
      return -1;
    }
    std::size_t const level = level_++;
    if (level == nodes_used_ && !open_node()) return -1;
    node& n = nodes_[level];
    transition const t = n.todo[n.at];
    threads_[t.thread].granted = t.choice;
    log_.push_back({t.thread, t.choice, {}});
    if (t.choice >= future_choice)
      log_.back().guessed =
          n.guesses[static_cast<std::size_t>(t.choice - future_choice)];
    chosen_level_ = static_cast<int>(level);
    ++steps_;
    return t.thread;
  }

  // Lists what can be done at a node not seen before.
  bool open_node() {
    if (nodes_used_ == nodes_.size()) nodes_.emplace_back();
    node& n = nodes_[nodes_used_];
    n.sleeping.clear();
    n.todo.clear();
    n.guesses.clear();
    n.at = 0;
    if (nodes_used_ > 0 && !replaying_ && options_.reduce) {
      node const& before = nodes_[nodes_used_ - 1];
      transition const& taken = before.todo[before.at];
      for (transition const& t : before.sleeping)
        if (independent(t, taken)) n.sleeping.push_back(t);
      // After a guess, those branches only in which the load was still awake
      // and thus had its own chance to guess.
      std::size_t explored = before.at;
      if (taken.choice >= future_choice)
        for (explored = 0; before.todo[explored].thread != taken.thread;)
          ++explored;
      for (std::size_t i = 0; i < explored; ++i)
        if (!before.todo[i].counted && independent(before.todo[i], taken))
          n.sleeping.push_back(before.todo[i]);
    }
    bool enabled = false;
    bool finished = true;
    // The thread that ran last goes first: fewer stack switches.
    int const first = running_ < 0 ? 0 : running_;
    for (int i = 0; i < thread_count_; ++i) {
      int const t = (first + i) % thread_count_;
      if (threads_[t].finished) continue;
      finished = false;
      if (threads_[t].asleep_on >= 0) continue;
      enabled = true;
      add_choices(n, t);
    }
    if (!n.todo.empty()) {
      if (replaying_ && !follow_replay(n)) die("the replay does not fit");
      ++nodes_used_;
      return true;
    }
    --level_;
    if (finished) {
      outcome_ = outcome::finished;
    } else if (enabled) {
      outcome_ = outcome::equal;
    } else {
      if (violation_.empty()) violation_ = "deadlock: every thread sleeps";
      outcome_ = outcome::violated;
    }
    return false;
  }

  void add_choices(node& n, int t) {
    pending const& p = threads_[t].next;
    view const& own = threads_[t].own;
    int const newest = p.at == nowhere ? 0 : memory_.newest(p.at);
    auto const add = [&](int choice, bool writes, std::memory_order order) {
      bool const futex =
          p.kind == operation::futex_wait || p.kind == operation::futex_wake;
      transition const made{t,
                            choice,
                            p.at,
                            writes,
                            is_seq_cst(order),
                            futex,
                            choice == spurious_choice};
      for (transition const& s : n.sleeping)
        if (s == made) return;
      n.todo.push_back(made);
    };
    switch (p.kind) {
      case operation::load:
        for (int i = newest; i >= memory_.oldest(p.at, own, p.order); --i)
          add(i, false, p.order);
        break;
      case operation::store:
      case operation::exchange:
      case operation::futex_wake:
        add(0, true, p.order);
        break;
      case operation::resume:
        add(0, false, p.order);
        break;
      case operation::futex_wait:
        add(0, true, p.order);
        if (spurious_used_ < options_.spurious &&
            memory_.value(p.at, newest) == p.expected)
          add(spurious_choice, true, p.order);
        break;
      case operation::compare_exchange:
        if (p.blind || memory_.value(p.at, newest) == p.expected) {
          add(success_choice, true, p.order);
          if (p.weak && spurious_used_ < options_.spurious)
            add(spurious_choice, true, p.failure);
        }
        if (p.blind) break;
        for (int i = newest; i >= memory_.oldest(p.at, own, p.failure); --i)
          if (memory_.value(p.at, i) != p.expected) add(i, false, p.failure);
        break;
    }
  }

  // True if no other thread's step can have to do with this one.
  bool is_local(int t, pending const& p) {
    if (replaying_ || !options_.reduce) return false;
    use& u = uses_[p.at];
    unsigned const self = 1u << t;
    bool const writes = p.kind != operation::load;
    if (!(u.readers & self) || (writes && !(u.writers & self))) {
      u.readers |= self;
      if (writes) u.writers |= self;
      uses_changed_ = true;
    }
    if (p.kind == operation::futex_wait || p.kind == operation::futex_wake)
      return false;
    if (p.weak && options_.spurious > 0) return false;
    return (writes ? u.readers | u.writers : u.writers) == (u.writers & self) ||
           (!writes && u.writers == 0);
  }

  void tick() { ++threads_[running_].own.clock[running_]; }

  // --- values from stores to come -----------------------------------------

  void touch(int at) {
    if (options_.future_reads == 0) return;
    if (open_guess_.thread == running_ && open_guess_.at == at)
      leave(outcome::unjustified);  // coherence: it would have to wait
    recent_[running_][at].depth = -1;
  }

  void note_load(int at, std::memory_order order) {
    if (options_.future_reads == 0) return;
    touch(at);
    if (order != std::memory_order::relaxed || chosen_level_ < 0) return;
    node const& n = nodes_[static_cast<std::size_t>(chosen_level_)];
    transition const& t = n.todo[n.at];
    if (t.thread != running_ || t.at != at) return;  // a local step
    pending const& p = threads_[running_].next;
    recent_[running_][at] = {chosen_level_,
                             threads_[running_].own.clock[running_],
                             p.kind == operation::compare_exchange, p.expected};
  }

  void note_store(int at, word value) {
    if (options_.future_reads == 0) return;
    touch(at);
    view const& own = threads_[running_].own;
    if (open_guess_.thread >= 0) {
      open_guess& g = open_guess_;
      if (g.at != at || g.value != value || g.writer != running_ ||
          own.clock[g.thread] >= g.clock)
        return;
      threads_[g.thread].own.seen[at] =
          static_cast<std::int16_t>(memory_.newest(at));
      g.thread = -1;
      if (!violation_.empty()) leave(outcome::violated);
      return;
    }
    if (guesses_used_ >= options_.future_reads) return;
    for (int t = 0; t < thread_count_; ++t) {
      last_access const& l = recent_[t][at];
      if (t == running_ || l.depth < 0 || own.clock[t] >= l.clock) continue;
      node& n = nodes_[static_cast<std::size_t>(l.depth)];
      guess const g{value, running_};
      // It would not have made a compare-exchange fail.
      if (l.expects && l.expected == value) continue;
      if (std::find(n.guesses.begin(), n.guesses.end(), g) != n.guesses.end())
        continue;
      n.todo.push_back({t, future_choice + static_cast<int>(n.guesses.size()),
                        at, false, false, true, true});
      n.guesses.push_back(g);
    }
  }

  word load_future(int at, int choice, site where) {
    node const& n = nodes_[static_cast<std::size_t>(chosen_level_)];
    guess const& g =
        n.guesses[static_cast<std::size_t>(choice - future_choice)];
    ++guesses_used_;
    open_guess_ = {running_, at, g.value, g.writer,
                   threads_[running_].own.clock[running_]};
    recent_[running_][at].depth = -1;
    trace(where, operation::load, at, relaxed, g.value, " (of a later store)");
    tick();
    return g.value;
  }

  // --- mutations and reports ----------------------------------------------

  static bool same_site(site const& a, site const& b) noexcept {
    return a.line == b.line &&
           (a.file == b.file || std::strcmp(a.file, b.file) == 0);
  }

  bool is_mutated(site const& where, operation on, mutation::kind what) {
    return options_.mutate.what == what && options_.mutate.on == on &&
           same_site(options_.mutate.where, where);
  }

  std::memory_order mutated(site const& where, operation on,
                            std::memory_order order) {
    return is_mutated(where, on, mutation::kind::order) &&
                   options_.mutate.from == order
               ? options_.mutate.order
               : order;
  }

  void sight(site const& where, operation on, std::memory_order order,
             std::memory_order failure) {
    if (options_.mutate.what != mutation::kind::none) return;
    sighting const now{where, on, order, failure};
    auto const same = [&](sighting const& s) {
      return s.on == on && s.order == order && s.failure == failure &&
             s.where.line == where.line && s.where.file == where.file;
    };
    sighting& cached =
        cache_[static_cast<std::size_t>(where.line * 8 + static_cast<int>(on)) %
               cache_.size()];
    if (same(cached)) return;
    cached = now;
    for (sighting const& s : result_.sightings)
      if (same(s)) return;
    result_.sightings.push_back(now);
  }

  void trace(site where, operation kind, int at, std::memory_order order,
             word value, char const* remark = "") {
    if (!replaying_) return;
    char const* const slash = std::strrchr(where.file, '/');
    trace_ << "  thread " << running_ << "  " << name_of(kind) << " #" << at
           << ' ' << name_of(order) << "  value " << shown(value) << remark
           << "  " << (slash ? slash + 1 : where.file) << ':' << where.line
           << '\n';
  }

  // Addresses in the arena are told from its start, and so are the same in
  // each process.
  std::string shown(word value) const {
    word const offset = value - reinterpret_cast<word>(arena_.get());
    return offset < arena_bytes ? "@" + std::to_string(offset)
                                : std::to_string(value);
  }
  word read_value(char const* text) const {
    return *text == '@' ? reinterpret_cast<word>(arena_.get()) +
                              std::strtoull(text + 1, nullptr, 10)
                        : std::strtoull(text, nullptr, 10);
  }

  // Each step as thread[:choice] or thread?writer=value.
  std::string replay_string() const {
    std::ostringstream text;
    for (step const& one : log_) {
      text << (&one == &log_.front() ? "" : " ") << one.thread;
      if (one.choice >= future_choice)
        text << '?' << one.guessed.writer << '=' << shown(one.guessed.value);
      else if (one.choice != 0)
        text << ':' << one.choice;
    }
    return text.str();
  }

  void read_replay(std::string const& text) {
    std::istringstream in(text);
    for (std::string one; in >> one;) {
      step read{std::atoi(one.c_str()), 0, {}};
      auto const mark = one.find_first_of(":?");
      if (mark != std::string::npos && one[mark] == ':') {
        read.choice = std::atoi(one.c_str() + mark + 1);
      } else if (mark != std::string::npos) {
        read.choice = future_choice;
        read.guessed.writer = std::atoi(one.c_str() + mark + 1);
        read.guessed.value = read_value(one.c_str() + one.find('=') + 1);
      }
      script_.push_back(read);
    }
  }

  // Makes the step of the script the current one of a new node.
  bool follow_replay(node& n) {
    if (nodes_used_ >= script_.size()) return false;
    step const& wanted = script_[nodes_used_];
    if (wanted.choice >= future_choice) {
      n.guesses.push_back(wanted.guessed);
      n.todo.push_back({wanted.thread, future_choice,
                        threads_[wanted.thread].next.at, false, false, true,
                        true});
    }
    for (; n.at < n.todo.size(); ++n.at)
      if (n.todo[n.at].thread == wanted.thread &&
          n.todo[n.at].choice == wanted.choice)
        return true;
    return false;
  }

  // Moves on to the next branch; false when there is none.
  bool next_branch() {
    for (; nodes_used_ > 0; --nodes_used_) {
      node& n = nodes_[nodes_used_ - 1];
      if (++n.at < n.todo.size()) return true;
    }
    return false;
  }

  options options_;
  result result_;
  memory memory_;
  view root_;
  std::array<thread, max_threads> threads_;
  int thread_count_ = 0;
  int running_ = -1;  // -1: set-up, or the end
  detail::context main_;
  std::function<void()> last_;
  struct object {
    void* pointer;
    void (*destroy)(void*);
  };
  std::vector<object> objects_;
  static constexpr std::size_t arena_bytes = 64 * 1024;
  std::unique_ptr<std::byte[]> arena_{new std::byte[arena_bytes]};
  std::size_t arena_used_ = 0;

  std::vector<node> nodes_;
  std::size_t nodes_used_ = 0;
  std::size_t level_ = 0;  // nodes passed in this execution
  int chosen_level_ = -1;
  int depth_ = 0;
  std::uint64_t steps_ = 0;
  outcome outcome_ = outcome::running;
  std::string violation_;
  int spurious_used_ = 0;
  std::vector<use> uses_;
  bool uses_changed_ = false;

  int guesses_used_ = 0;
  open_guess open_guess_;
  std::array<std::array<last_access, max_locations>, max_threads> recent_;

  struct step {
    int thread;
    int choice;
    guess guessed;
  };
  std::vector<step> log_;     // of this execution
  std::vector<step> script_;  // to follow when replaying_
  bool replaying_ = false;    // and then trace
  std::ostringstream trace_;
  std::array<sighting, 512> cache_{};  // of sightings
};

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

 private:
  engine& engine_;
};

// A property that must hold; anywhere in a scenario.
inline void check(bool holds, char const* text) {
  if (!holds) engine::current()->violate(text);
}

inline void engine::execute(std::function<void(run&)> const& scenario) {
  memory_.reset();
  root_ = view{};
  thread_count_ = 0;
  running_ = -1;
  last_ = nullptr;
  level_ = 0;
  chosen_level_ = -1;
  depth_ = 0;
  log_.clear();
  outcome_ = outcome::running;
  violation_.clear();
  spurious_used_ = 0;
  guesses_used_ = 0;
  open_guess_ = {};
  if (options_.future_reads > 0)
    for (auto& of_thread : recent_) of_thread.fill({});

  run r(*this);
  scenario(r);
  for (int t = 0; t < thread_count_; ++t) {
    thread& made = threads_[t];
    if (!made.stack) made.stack.reset(new std::byte[stack_bytes]);
    made.own = root_;
    made.own.clock[t] = 1;  // what others have not seen
    made.granted = 0;
    made.asleep_on = -1;
    made.finished = made.started = false;
    detail::context_make(made.context, made.stack.get(), stack_bytes,
                         &thread_entry, this);
  }
  // Each thread runs to its first step.
  for (int t = 0; t < thread_count_ && outcome_ == outcome::running; ++t) {
    running_ = t;
    detail::context_switch(main_, threads_[t].context);
  }
  running_ = -1;
  int const first = decide();
  if (first >= 0) {
    running_ = first;
    detail::context_switch(main_, threads_[first].context);
  }
  running_ = -1;
  for (int t = 0; t < thread_count_; ++t)
    detail::context_finish(threads_[t].context);
  if (open_guess_.thread >= 0) {
    outcome_ = outcome::unjustified;
    violation_.clear();
  }
  if (outcome_ == outcome::finished && last_) {
    last_();
    if (!violation_.empty()) outcome_ = outcome::violated;
  }
  while (!objects_.empty()) {
    objects_.back().destroy(objects_.back().pointer);
    objects_.pop_back();
  }
  arena_used_ = 0;
}

inline result engine::explore(std::function<void(run&)> const& scenario) {
  engine* const outer = std::exchange(current(), this);
  detail::context_init_native(main_);
  if (!options_.replay.empty()) {
    replaying_ = true;
    read_replay(options_.replay);
  }
  for (;;) {
    execute(scenario);
    if (outcome_ == outcome::violated) break;
    ++(outcome_ == outcome::finished ? result_.executions : result_.cut);
    if (uses_changed_) {  // what was decided before rests on too little
      uses_changed_ = false;
      nodes_used_ = 0;
    } else if (replaying_ || !next_branch()) {
      result_.complete = true;
      break;
    }
    if (result_.executions + result_.cut >= options_.max_executions) break;
  }
  result_.steps = steps_;
  if (outcome_ == outcome::violated) {
    result_.violation = violation_;
    result_.replay = replay_string();
    if (!replaying_) {  // once more, to list the steps
      replaying_ = true;
      script_ = log_;
      nodes_used_ = 0;
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
