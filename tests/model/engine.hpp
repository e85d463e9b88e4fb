// SPDX-License-Identifier: BSL-1.0
//
// Runs a scenario of explore.hpp once for each branch: its threads as contexts
// of one kernel thread, one step at a time, over the memory of memory.hpp, in
// the order that search.hpp chooses.
//
// A step is one atomic or futex operation and all that its thread does up to
// its next one. Before it the thread says what it is about to do (`pending`),
// and waits to be chosen. Steps on locations that turn out to be one thread's
// own are no choice: they are done at once; should the location turn out to be
// shared after all, the search starts again with that knowledge.
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
#include <new>
#include <sstream>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <activations/detail/context.hpp>

#include "model/memory.hpp"
#include "model/results.hpp"
#include "model/search.hpp"

namespace activations::model {

class run;

class engine {
 public:
  // The engine whose scenario runs now; model tests use one kernel thread.
  static engine*& current() noexcept {
    static engine* one = nullptr;
    return one;
  }

  explicit engine(options const& o)
      : options_(o),
        search_({o.reduce, o.preemptions, o.seed, o.change_points}) {}

  result explore(std::function<void(run&)> const& scenario);

  // --- operations, called by model::atomic and its like --------------------
  // `where` is the address of the atomic, `raw` its value as constructed.

  // A new atomic begins its life there. What the set-up makes gets its number
  // at once, so that it has the same in each execution; in a large scenario at
  // its first use.
  void construct(void const* object, word raw) {
    places_.erase(object);
    if (running_ < 0 && !options_.large) locate(object, raw);
  }
  void construct_unwritten(void const* object) {
    places_.erase(object);
    locate(object, 0, false);
  }

  word load(void const* object, word raw, std::memory_order order, site where) {
    sight(where, operation::load, order, order);
    order = mutated(where, operation::load, order);
    int const at = locate(object, raw);
    if (running_ < 0) return memory_.value(at, memory_.newest(at));
    int const choice = schedule({operation::load, at, order, order});
    if (choice >= future_choice) return load_future(at, choice, where);
    if (!memory_.is_written(at, choice)) {
      violate("load of a slot that was never stored");
      leave(outcome::unjustified);
    }
    word const value = memory_.load(at, choice, self().own, order);
    note_load(at, order);
    trace(where, operation::load, at, order, value);
    tick();
    return value;
  }

  void store(void const* object, word raw, word value, std::memory_order order,
             site where) {
    sight(where, operation::store, order, order);
    order = mutated(where, operation::store, order);
    bool const skipped =
        is_mutated(where, operation::store, mutation::kind::skip);
    int const at = locate(object, raw);
    if (running_ < 0) {
      if (!skipped) memory_.exchange(at, value, root_, order);
      return;
    }
    schedule({operation::store, at, order, order});
    if (!skipped) {
      memory_.store(at, value, self().own, order);
      note_store(at, value);
    }
    trace(where, operation::store, at, order, value);
    tick();
  }

  // `change` gets the old value and gives the new one.
  template <class Change>
  word exchange(void const* object, word raw, Change change,
                std::memory_order order, site where) {
    sight(where, operation::exchange, order, order);
    order = mutated(where, operation::exchange, order);
    bool const skipped =
        is_mutated(where, operation::exchange, mutation::kind::skip);
    int const at = locate(object, raw);
    if (running_ >= 0) schedule({operation::exchange, at, order, order});
    word const old = memory_.value(at, memory_.newest(at));
    if (skipped) return old;
    word const value = change(old);
    if (running_ < 0) {
      memory_.exchange(at, value, root_, order);
      return old;
    }
    memory_.exchange(at, value, self().own, order);
    note_store(at, value);
    trace(where, operation::exchange, at, order, value);
    tick();
    return old;
  }

  bool compare_exchange(void const* object, word raw, word& expected,
                        word desired, bool weak, std::memory_order success,
                        std::memory_order failure, site where) {
    sight(where, operation::compare_exchange, success, failure);
    success = mutated(where, operation::compare_exchange, success);
    if (is_mutated(where, operation::compare_exchange,
                   mutation::kind::failure_order) &&
        options_.mutate.from == failure)
      failure = options_.mutate.order;
    bool const blind =
        is_mutated(where, operation::compare_exchange, mutation::kind::blind);
    if (is_mutated(where, operation::compare_exchange,
                   mutation::kind::refuse)) {
      expected = load(object, raw, failure, where);
      return false;
    }
    int const at = locate(object, raw);
    if (running_ < 0) {
      word const old = memory_.value(at, memory_.newest(at));
      if (old != expected && !blind) {
        expected = old;
        return false;
      }
      memory_.exchange(at, desired, root_, success);
      return true;
    }
    pending next{operation::compare_exchange, at, success, failure};
    next.expected = expected;
    next.weak = weak;
    next.blind = blind;
    int choice = schedule(next);
    if (choice == success_choice) {
      memory_.exchange(at, desired, self().own, success);
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
    expected = memory_.load(at, choice, self().own, failure);
    note_load(at, failure);
    trace(where, operation::load, at, failure, expected);
    tick();
    return false;
  }

  // Sleeps if the newest value is `expected`, as the kernel's futex does.
  // False: the deadline, in the model's time, came first.
  bool futex_wait(void const* object, word raw, word expected, site where,
                  std::uint64_t deadline_ns = UINT64_MAX) {
    if (running_ < 0) die("futex_wait outside a thread");
    int const at = locate(object, raw);
    pending next{operation::futex_wait, at, relaxed, relaxed};
    next.expected = expected;
    next.weak = deadline_ns != UINT64_MAX;
    int const choice = schedule(next);
    touch(at);
    trace(where, operation::futex_wait, at, relaxed, expected);
    tick();
    if (choice == spurious_choice) {
      ++spurious_used_;
      return true;
    }
    if (choice == timeout_choice) {
      ++early_timeouts_used_;
      now_ns_ = std::max(now_ns_, deadline_ns);
      return false;
    }
    // The kernel's load is this thread's: later ones read nothing older.
    int const newest = memory_.newest(at);
    if (memory_.load(at, newest, self().own, relaxed) != expected) return true;
    thread& sleeper = self();
    sleeper.asleep_on = at;
    sleeper.asleep_since = log_.size();
    sleeper.deadline_ns = deadline_ns;
    sleeper.next = {operation::resume, nowhere, relaxed, relaxed};
    give_way();
    return !std::exchange(self().timed_out, false);
  }

  // Wakes those that have slept longest. Returns how many.
  int futex_wake(void const* object, word raw, int count, site where) {
    bool const skipped =
        is_mutated(where, operation::futex_wake, mutation::kind::skip);
    sight(where, operation::futex_wake, relaxed, relaxed);
    int const at = locate(object, raw);
    if (running_ >= 0) {
      schedule({operation::futex_wake, at, relaxed, relaxed});
      touch(at);
      trace(where, operation::futex_wake, at, relaxed,
            static_cast<word>(count));
      tick();
    }
    if (skipped) return 0;
    int woken = 0;
    for (; woken < count; ++woken) {
      thread* first = nullptr;
      for (int t = 0; t < thread_count_; ++t)
        if (threads_[t].asleep_on == at &&
            (first == nullptr ||
             threads_[t].asleep_since < first->asleep_since))
          first = &threads_[t];
      if (first == nullptr) break;
      first->asleep_on = awake;
    }
    return woken;
  }

  // The model's time: moves on a little with each look, and to the deadline of
  // a sleeper when nothing else can happen.
  std::uint64_t now_ns() noexcept { return now_ns_ += options_.look_ns; }

  // --- data races: FastTrack (Flanagan and Freund, PLDI 2009) --------------

  struct history {
    int writer = -1;
    std::int16_t written = 0;
    std::array<std::int16_t, max_threads> read{};
  };

  void read_plain(history& h) {
    if (running_ < 0) return;
    view const& own = self().own;
    if (h.writer >= 0 && h.writer != running_ &&
        own.clock[h.writer] < h.written)
      violate("data race: read of a value whose write it is not ordered after");
    h.read[running_] = own.clock[running_];
  }

  void write_plain(history& h) {
    if (running_ < 0) return;
    view const& own = self().own;
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

  // In the set-up, or by a thread.
  int spawn(std::function<void()> body) {
    if (thread_count_ == max_threads) die("too many threads");
    int const made = thread_count_++;
    threads_[made].body = std::move(body);
    if (running_ >= 0) {
      start(made, self().own);
      threads_[made].started = true;
      threads_[made].next = {operation::resume, nowhere, relaxed, relaxed};
    }
    return made;
  }
  void finally(std::function<void()> body) { last_ = std::move(body); }
  void when_quiet(std::function<bool()> body) { quiet_ = std::move(body); }

  // A variable of which each thread of the scenario has its own.
  void make_thread_local(void*& variable) {
    if (variables_used_ == variables_.size()) die("too many thread-locals");
    variables_[variables_used_++] = &variable;
  }

  // At the same address in each execution: guesses are of pointers too.
  template <class T, class... Arguments>
  T& make(Arguments&&... arguments) {
    void* at = arena_.get() + arena_used_;
    std::size_t left = options_.arena_bytes - arena_used_;
    if (std::align(alignof(T), sizeof(T), at, left) == nullptr)
      die("the objects of the scenario do not fit");
    arena_used_ = options_.arena_bytes - left + sizeof(T);
    T* const made = new (at) T(std::forward<Arguments>(arguments)...);
    if constexpr (!std::is_trivially_destructible_v<T>)
      objects_.push_back(
          {made, [](void* object) { static_cast<T*>(object)->~T(); }});
    return *made;
  }

  [[nodiscard]] int running() const noexcept { return running_; }
  // The lowest address of the running thread's stack.
  [[nodiscard]] void* stack() noexcept { return self().stack.get(); }
  static constexpr std::size_t stack_bytes = 128 * 1024;

 private:
  static constexpr auto relaxed = std::memory_order::relaxed;
  static constexpr int nowhere = -1;  // the location of resume
  static constexpr int awake = -1;

  // What a thread is about to do.
  struct pending {
    operation kind = operation::resume;
    int at = nowhere;
    std::memory_order order = relaxed;
    std::memory_order failure = relaxed;
    word expected = 0;
    bool weak = false;  // may fail for no reason; of a wait: has a deadline
    bool blind = false;
  };

  struct thread {
    std::function<void()> body;
    detail::context context;
    std::unique_ptr<std::byte[]> stack;
    view own;
    pending next;
    int granted = 0;
    int asleep_on = awake;
    std::size_t asleep_since = 0;
    std::uint64_t deadline_ns = 0;
    bool timed_out = false;
    bool finished = false;
    bool started = false;  // has said what it does first
    std::array<void*, 2> variables{};
  };

  enum class outcome { running, finished, violated, equal, unjustified };

  // Where the value of an atomic is kept, by its address.
  struct place {
    void const* object = nullptr;
    int location = nowhere;
    std::uint32_t execution = 0;
  };

  // Which threads did what with a location, over all executions. Addresses
  // may differ from one to the next, numbers do not on the same path.
  struct use {
    unsigned readers = 0;
    unsigned writers = 0;
  };

  class place_table {
   public:
    void begin_execution() noexcept { ++execution_; }
    // The place of an object, which has no location in a new execution.
    place& insert(void const* object) {
      place* found = &find(object);
      if (found->object == nullptr) {
        if (2 * ++used_ > places_.size()) {
          grow();
          found = &find(object);
        }
        found->object = object;
      }
      if (found->execution != execution_) {
        found->execution = execution_;
        found->location = nowhere;
      }
      return *found;
    }
    void erase(void const* object) noexcept {
      place& found = find(object);
      if (found.object != nullptr) found.location = nowhere;
    }

   private:
    place& find(void const* object) noexcept {
      auto const bits = reinterpret_cast<std::uintptr_t>(object);
      std::size_t i = (bits >> 2) * 0x9E3779B97F4A7C15u >> 20;
      for (;; ++i) {
        place& here = places_[i & (places_.size() - 1)];
        if (here.object == object || here.object == nullptr) return here;
      }
    }
    void grow() {
      std::vector<place> old(places_.size() * 2);
      old.swap(places_);
      for (place const& one : old)
        if (one.object != nullptr) find(one.object) = one;
    }
    std::vector<place> places_ = std::vector<place>(256);
    std::size_t used_ = 0;
    std::uint32_t execution_ = 0;
  };

  struct last_access {
    int level = -1;  // of the node that chose a relaxed load; -1: other
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

  thread& self() noexcept { return threads_[running_]; }

  int locate(void const* object, word raw, bool written = true) {
    place& here = places_.insert(object);
    if (here.location != nowhere) return here.location;
    if (!options_.sequential && memory_.size() == max_locations)
      die("too many locations");
    here.location = memory_.add(raw, written);
    if (static_cast<std::size_t>(memory_.size()) > uses_.size())
      uses_.emplace_back();
    return here.location;
  }

  // --- running one execution ----------------------------------------------

  void execute(std::function<void(run&)> const& scenario);

  void start(int t, view const& own) {
    thread& made = threads_[t];
    if (!made.stack) made.stack.reset(new std::byte[stack_bytes]);
    made.own = own;
    made.own.clock[t] = 1;  // what others have not seen
    made.granted = 0;
    made.asleep_on = awake;
    made.timed_out = made.finished = made.started = false;
    made.variables = {};
    detail::context_make(made.context, made.stack.get(), stack_bytes,
                         &thread_entry, this);
  }

  static void thread_entry(void* argument) {
    engine& e = *static_cast<engine*>(argument);
    detail::context_enter(e.self().context);
    e.self().body();
    thread& ended = e.self();
    ended.finished = true;
    if (ended.started)
      e.give_way();
    else
      e.switch_to(-1);
    die("a finished thread was resumed");
  }

  // -1: the engine itself, between executions.
  void switch_to(int next) {
    int const before = running_;
    for (std::size_t i = 0; i < variables_used_; ++i) {
      variables_of(before)[i] = *variables_[i];
      *variables_[i] = variables_of(next)[i];
    }
    running_ = next;
    detail::context_switch(before < 0 ? main_ : threads_[before].context,
                           next < 0 ? main_ : threads_[next].context);
  }
  std::array<void*, 2>& variables_of(int t) noexcept {
    return t < 0 ? main_variables_ : threads_[t].variables;
  }

  // The calling thread is about to do `next`: returns its choice when it is
  // its turn.
  int schedule(pending const& next) {
    thread& caller = self();
    caller.next = next;
    bool const local = is_local(running_, next);
    if (!caller.started) {
      caller.started = true;
      switch_to(-1);
      return caller.granted;
    }
    if (!local || ++depth_ > options_.max_steps) {
      give_way();
      return caller.granted;
    }
    ++steps_;
    int const choice = only_choice(next);
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

  // Lets whoever is chosen go on; returns when the caller is chosen.
  void give_way() {
    int const chosen = decide();
    if (chosen != running_) switch_to(chosen);
  }

  // Abandons the execution. Does not return.
  void leave(outcome why) {
    outcome_ = why;
    switch_to(-1);
  }

  // Chooses the next step; returns its thread, or -1 to end the execution.
  int decide() {
    if (outcome_ != outcome::running || !wait_for_something()) return -1;
    if (++depth_ > options_.max_steps) {
      violation_ = "no end: more steps than options.max_steps";
      outcome_ = outcome::violated;
      return -1;
    }
    transition t;
    guess guessed{};
    if (replaying_) {
      t = follow_script(guessed);
    } else {
      transition const* const chosen = search_.choose(
          running_, [this](auto& list) { list_candidates(list); });
      if (chosen == nullptr) {
        outcome_ = outcome::equal;
        return -1;
      }
      t = *chosen;
      if (t.choice >= future_choice)
        guessed = search_.guess_of(search_.level(), t.choice);
    }
    threads_[t.thread].granted = t.choice;
    log_.push_back({t.thread, t.choice, guessed});
    was_chosen_ = true;
    ++steps_;
    return t.thread;
  }

  // False: nothing can happen any more.
  bool wait_for_something() {
    for (;;) {
      bool finished = true;
      thread* next = nullptr;  // to time out
      for (int t = 0; t < thread_count_; ++t) {
        thread& one = threads_[t];
        if (one.finished) continue;
        if (one.asleep_on == awake) return true;
        finished = false;
        if (one.deadline_ns != UINT64_MAX &&
            (next == nullptr || one.deadline_ns < next->deadline_ns))
          next = &one;
      }
      if (!finished && next != nullptr && timeouts_ < options_.timeouts) {
        ++timeouts_;
        now_ns_ = std::max(now_ns_, next->deadline_ns);
        next->asleep_on = awake;
        next->timed_out = true;
        continue;
      }
      if (!finished && quiet_) {
        int const before = std::exchange(running_, -1);
        bool const more = quiet_();
        running_ = before;
        if (more && violation_.empty()) {
          timeouts_ = 0;
          continue;
        }
      }
      if (!violation_.empty()) {
        outcome_ = outcome::violated;
      } else if (finished || quiet_) {
        outcome_ = outcome::finished;
      } else {
        violation_ = "deadlock: every thread sleeps";
        outcome_ = outcome::violated;
      }
      return false;
    }
  }

  // The thread that ran last goes first: fewer stack switches.
  void list_candidates(std::vector<transition>& list) {
    int const first = running_ < 0 ? 0 : running_;
    for (int i = 0; i < thread_count_; ++i) {
      int const t = (first + i) % thread_count_;
      if (!threads_[t].finished && threads_[t].asleep_on == awake)
        add_choices(list, t);
    }
  }

  void add_choices(std::vector<transition>& list, int t) {
    pending const& p = threads_[t].next;
    view const& own = threads_[t].own;
    int const newest = p.at == nowhere ? 0 : memory_.newest(p.at);
    bool const may_fail = spurious_used_ < options_.spurious;
    auto const add = [&](int choice, bool writes, std::memory_order order) {
      bool const futex =
          p.kind == operation::futex_wait || p.kind == operation::futex_wake;
      list.push_back({t, choice, p.at, writes, is_seq_cst(order), futex,
                      choice == spurious_choice || choice == timeout_choice});
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
        if (may_fail && memory_.value(p.at, newest) == p.expected)
          add(spurious_choice, true, p.order);
        if (p.weak && early_timeouts_used_ < options_.early_timeouts)
          add(timeout_choice, true, p.order);
        break;
      case operation::compare_exchange:
        if (p.blind || memory_.value(p.at, newest) == p.expected) {
          add(success_choice, true, p.order);
          if (p.weak && may_fail) add(spurious_choice, true, p.failure);
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
    use& here = uses_[static_cast<std::size_t>(p.at)];
    unsigned const own = 1u << t;
    bool const writes = p.kind != operation::load;
    if (!(here.readers & own) || (writes && !(here.writers & own))) {
      here.readers |= own;
      if (writes) here.writers |= own;
      uses_changed_ = true;
    }
    if (p.kind == operation::futex_wait || p.kind == operation::futex_wake)
      return false;
    if (p.weak && options_.spurious > 0) return false;
    unsigned const others =
        (writes ? here.readers | here.writers : here.writers) & ~own;
    return others == 0;
  }

  void tick() {
    if (!options_.sequential) ++self().own.clock[running_];
    was_chosen_ = false;
  }

  // --- values from stores to come -----------------------------------------

  void touch(int at) {
    if (options_.future_reads == 0) return;
    if (open_guess_.thread == running_ && open_guess_.at == at)
      leave(outcome::unjustified);  // coherence: it would have to wait
    recent_[running_][at].level = -1;
  }

  void note_load(int at, std::memory_order order) {
    if (options_.future_reads == 0) return;
    touch(at);
    // A local step was not chosen, and has nobody to hear from.
    if (order != relaxed || !was_chosen_ || replaying_) return;
    pending const& p = self().next;
    recent_[running_][at] = {search_.level(), self().own.clock[running_],
                             p.kind == operation::compare_exchange, p.expected};
  }

  void note_store(int at, word value) {
    if (options_.future_reads == 0) return;
    touch(at);
    view const& own = self().own;
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
    if (guesses_used_ >= options_.future_reads || replaying_) return;
    for (int t = 0; t < thread_count_; ++t) {
      last_access const& l = recent_[t][at];
      if (t == running_ || l.level < 0 || own.clock[t] >= l.clock) continue;
      // It would not have made a compare-exchange fail.
      if (l.expects && l.expected == value) continue;
      search_.add_guess(l.level, {value, running_});
    }
  }

  word load_future(int at, int choice, site where) {
    (void)choice;
    guess const& g = log_.back().guessed;
    ++guesses_used_;
    open_guess_ = {running_, at, g.value, g.writer, self().own.clock[running_]};
    recent_[running_][at].level = -1;
    trace(where, operation::load, at, relaxed, g.value, " (of a later store)");
    tick();
    return g.value;
  }

  // --- mutations ----------------------------------------------------------

  bool is_mutated(site const& where, operation on, mutation::kind what) {
    mutation const& m = options_.mutate;
    return m.what == what && running_ >= 0 && m.on == on &&
           where.line >= m.where.line &&
           where.line <= std::max(m.where.line, m.last_line) &&
           (m.where.file == where.file ||
            std::strcmp(m.where.file, where.file) == 0);
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
    if (options_.mutate.what != mutation::kind::none || running_ < 0) return;
    sighting const now{where, on, order, failure};
    auto const same = [&](sighting const& s) {
      return s.on == on && s.order == order && s.failure == failure &&
             s.where.line == where.line && s.where.file == where.file;
    };
    auto const hash =
        static_cast<std::size_t>(where.line * 8 + static_cast<int>(on));
    sighting& cached = cache_[hash % cache_.size()];
    if (same(cached)) return;
    cached = now;
    for (sighting const& s : result_.sightings)
      if (same(s)) return;
    result_.sightings.push_back(now);
  }

  // --- replay and report --------------------------------------------------

  // Addresses in the arena are told from its start, and so are the same in
  // each process.
  std::string shown(word value) const {
    word const offset = value - reinterpret_cast<word>(arena_.get());
    return offset < options_.arena_bytes ? "@" + std::to_string(offset)
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

  void read_script(std::string const& text) {
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

  transition follow_script(guess& guessed) {
    if (log_.size() >= script_.size()) die("the replay is too short");
    step const& wanted = script_[log_.size()];
    guessed = wanted.guessed;
    return {wanted.thread, wanted.choice, nowhere, false, false, false, false};
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

  options options_;
  search search_;
  result result_;
  memory memory_;
  place_table places_;
  std::vector<use> uses_;  // of each location
  bool uses_changed_ = false;
  view root_;
  std::array<thread, max_threads> threads_;
  int thread_count_ = 0;
  int running_ = -1;  // -1: set-up, or the end
  detail::context main_;
  std::array<void**, 2> variables_{};
  std::size_t variables_used_ = 0;
  std::array<void*, 2> main_variables_{};
  std::function<void()> last_;
  std::function<bool()> quiet_;
  struct object {
    void* pointer;
    void (*destroy)(void*);
  };
  std::vector<object> objects_;
  std::unique_ptr<std::byte[]> arena_{new std::byte[options_.arena_bytes]};
  std::size_t arena_used_ = 0;

  int depth_ = 0;
  std::uint64_t steps_ = 0;
  std::uint64_t now_ns_ = 0;
  int timeouts_ = 0;
  bool was_chosen_ = false;  // the step now being done, by the search
  outcome outcome_ = outcome::running;
  std::string violation_;
  int spurious_used_ = 0;
  int early_timeouts_used_ = 0;
  int guesses_used_ = 0;
  open_guess open_guess_;
  std::array<std::array<last_access, max_locations>, max_threads> recent_;

  std::vector<step> log_;     // of this execution
  std::vector<step> script_;  // to follow when replaying_
  bool replaying_ = false;    // and then trace
  std::ostringstream trace_;
  std::array<sighting, 512> cache_{};  // of sightings
};

}  // namespace activations::model
