// SPDX-License-Identifier: BSL-1.0
//
// Which branch of a scenario to take next: the tree of choices behind
// explore.hpp. The engine asks at each step; the tree answers from memory
// where it has been before, opens a new node where it has not, and after each
// execution moves on to the next branch, depth first.
//
// Sleep sets (Godefroid, LNCS 1032) skip a branch when all it adds is the
// exchange of independent steps. With a bound on preemptions (Musuvathi and
// Qadeer, PLDI 2007) sleep sets would be unsound and are not used.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "model/memory.hpp"

namespace activations::model {

// Choices beside "reads store number n".
inline constexpr int success_choice = -1;      // a compare-exchange
inline constexpr int spurious_choice = -2;     // fails, wakes for no reason
inline constexpr int timeout_choice = -3;      // of a wait, at once
inline constexpr int future_choice = 1 << 20;  // plus index of the guess

// One step that a thread can do next.
struct transition {
  int thread;
  int choice;
  int at;  // its location; negative: none
  bool writes;
  bool orders;   // seq_cst: changes the floor of its location
  bool alone;    // futex or guess: depends on every step of its location
  bool counted;  // spends a budget: never put to sleep
  bool operator==(transition const& other) const noexcept {
    return thread == other.thread && choice == other.choice;
  }
};

inline bool independent(transition const& a, transition const& b) noexcept {
  if (a.thread == b.thread) return false;
  if (a.at != b.at) return true;
  if (a.alone || b.alone) return false;
  if (a.writes && b.writes) return false;
  // A load of one given store commutes with later stores and other loads,
  // but a seq_cst load does not with what moves the floor elsewhere.
  if (!a.orders || !b.orders) return true;
  return !a.writes && !b.writes && a.choice == b.choice;
}

// A value that a load may take from a store to come, by `writer`.
struct guess {
  word value;
  int writer;
  bool operator==(guess const& other) const noexcept {
    return value == other.value && writer == other.writer;
  }
};

// What happened, in the order of time: enough to do it again.
struct step {
  int thread;
  int choice;
  guess guessed;
};

struct search_options {
  bool reduce = true;      // false: every interleaving, to test the search
  int preemptions = -1;    // at most; -1: any number
  std::uint64_t seed = 0;  // not 0: walk at random instead
  int change_points = 3;   // of a random walk
};

class search {
 public:
  explicit search(search_options const& o) : options_(o), random_(o.seed) {}

  // Forgets everything but how it searches.
  void restart() noexcept { used_ = 0; }

  void begin_execution() {
    level_ = 0;
    preemptions_ = 0;
    if (options_.seed == 0) return;
    used_ = 0;
    for (auto& one : priority_) one = static_cast<int>(random_() % 100'000);
    change_at_.clear();
    for (int i = 0; i < options_.change_points; ++i)
      change_at_.push_back(random_() % (longest_ + 1));
  }

  // The next step, or null if all that could be done has been done elsewhere.
  // `last` ran until now; candidates(list) is called at new nodes only and
  // lists what can be done, that of `last` first. At least one can.
  template <class Candidates>
  transition const* choose(int last, Candidates candidates) {
    if (level_ == used_ && !open(last, candidates)) return nullptr;
    node const& n = nodes_[level_++];
    longest_ = std::max(longest_, level_);
    transition const& chosen = n.todo[n.at];
    if (n.could_go_on && chosen.thread != last) ++preemptions_;
    return &chosen;
  }

  // Moves on to the next branch; false when there is none.
  bool next_branch() {
    if (options_.seed != 0) return true;
    for (; used_ > 0; --used_) {
      node& n = nodes_[used_ - 1];
      if (++n.at < n.todo.size()) return true;
    }
    return false;
  }

  // The node that chose the step now being done.
  [[nodiscard]] int level() const noexcept {
    return static_cast<int>(level_) - 1;
  }
  [[nodiscard]] transition const& chosen_at(int level) const noexcept {
    node const& n = nodes_[static_cast<std::size_t>(level)];
    return n.todo[n.at];
  }
  [[nodiscard]] guess const& guess_of(int level, int choice) const noexcept {
    return nodes_[static_cast<std::size_t>(level)]
        .guesses[static_cast<std::size_t>(choice - future_choice)];
  }

  // A branch more for the load that was chosen at `level`.
  void add_guess(int level, guess const& g) {
    if (options_.seed != 0) return;
    node& n = nodes_[static_cast<std::size_t>(level)];
    if (std::find(n.guesses.begin(), n.guesses.end(), g) != n.guesses.end())
      return;
    transition const load = n.todo[n.at];
    n.todo.push_back({load.thread,
                      future_choice + static_cast<int>(n.guesses.size()),
                      load.at, false, false, true, true});
    n.guesses.push_back(g);
  }

 private:
  struct node {
    std::vector<transition> sleeping;
    std::vector<transition> todo;  // explored, current, still to explore
    std::vector<guess> guesses;
    std::size_t at = 0;        // index of the current one
    bool could_go_on = false;  // the thread that ran last
  };

  template <class Candidates>
  bool open(int last, Candidates candidates) {
    if (used_ == nodes_.size()) nodes_.emplace_back();
    node& n = nodes_[used_];
    n.sleeping.clear();
    n.todo.clear();
    n.guesses.clear();
    n.at = 0;
    candidates(n.todo);
    n.could_go_on = n.todo.front().thread == last;
    if (options_.seed != 0) {
      keep_one_at_random(n);
    } else if (options_.preemptions >= 0) {
      if (n.could_go_on && preemptions_ >= options_.preemptions)
        erase_if(n.todo, [&](auto const& t) { return t.thread != last; });
    } else if (options_.reduce && used_ > 0) {
      inherit_sleep(n, nodes_[used_ - 1]);
      erase_if(n.todo, [&](auto const& t) {
        return std::find(n.sleeping.begin(), n.sleeping.end(), t) !=
               n.sleeping.end();
      });
    }
    if (n.todo.empty()) return false;
    ++used_;
    return true;
  }

  template <class Predicate>
  static void erase_if(std::vector<transition>& list, Predicate unwanted) {
    list.erase(std::remove_if(list.begin(), list.end(), unwanted), list.end());
  }

  static void inherit_sleep(node& n, node const& before) {
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

  // Priorities that change at a few places (Burckhardt and others, ASPLOS
  // 2010): finds what needs few preemptions, wherever they are.
  void keep_one_at_random(node& n) {
    auto const running = static_cast<std::size_t>(n.todo.front().thread);
    if (std::find(change_at_.begin(), change_at_.end(), used_) !=
        change_at_.end())
      priority_[running] = -static_cast<int>(used_);
    int best = n.todo.front().thread;
    for (transition const& t : n.todo)
      if (priority_[static_cast<std::size_t>(t.thread)] >
          priority_[static_cast<std::size_t>(best)])
        best = t.thread;
    erase_if(n.todo, [&](auto const& t) { return t.thread != best; });
    n.todo = {n.todo[random_() % n.todo.size()]};
  }

  search_options options_;
  std::vector<node> nodes_;
  std::size_t used_ = 0;
  std::size_t level_ = 0;  // nodes passed in this execution
  int preemptions_ = 0;
  std::mt19937_64 random_;
  std::array<int, max_threads> priority_{};
  std::vector<std::size_t> change_at_;
  std::size_t longest_ = 0;
};

}  // namespace activations::model
