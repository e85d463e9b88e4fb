// SPDX-License-Identifier: BSL-1.0
//
// Mutation tests of memory orders: each atomic operation of a structure that
// spells an order stronger than relaxed is weakened in every way, one at a
// time, and some scenario must then find a violation; and for each label of
// the operation ("// E1") a scenario that speaks for this edge must find one.
// The operations are found by running the scenarios, their labels by reading
// the header. So an operation without a label, a label without need, an order
// that is stronger than needed and a label that no scenario comes to all fail.
// Last, each compare-exchange stores whatever it finds, which must not go
// unnoticed either.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "model/explore.hpp"

namespace activations::model {

struct scenario {
  char const* name;
  // The labels that a violation found here speaks for, separated by blanks: a
  // scenario that cannot fail for want of any other.
  char const* edges;
  options settings;
  std::function<void(run&)> body;
};

inline std::vector<std::memory_order> weaker(operation on,
                                             std::memory_order order) {
  using enum std::memory_order;
  bool const reads = on != operation::store;
  bool const writes = on != operation::load;
  std::vector<std::memory_order> all;
  if (order == seq_cst && reads && writes) all.push_back(acq_rel);
  if ((order == seq_cst || order == acq_rel) && reads) all.push_back(acquire);
  if ((order == seq_cst || order == acq_rel) && writes) all.push_back(release);
  if (order != relaxed) all.push_back(relaxed);
  return all;
}

inline std::vector<mutation> weakenings(sighting const& at) {
  std::vector<mutation> all;
  for (auto const order : weaker(at.on, at.order))
    all.push_back({mutation::kind::order, at.where, at.on, at.order, order});
  if (at.on == operation::compare_exchange)
    for (auto const order : weaker(operation::load, at.failure))
      all.push_back(
          {mutation::kind::failure_order, at.where, at.on, at.failure, order});
  return all;
}

inline std::set<std::string> words(std::string const& text) {
  std::istringstream in(text);
  std::set<std::string> all;
  for (std::string one; in >> one;) all.insert(one);
  return all;
}

// A weakening that no scenario can notice, and why it stays: `row` as printed.
struct exemption {
  std::string labels;
  std::string row;
  char const* reason;
};

// The lines of a source file, from 1.
class source {
 public:
  explicit source(char const* path) {
    std::ifstream in(path);
    lines_.emplace_back();
    for (std::string line; std::getline(in, line);) lines_.push_back(line);
  }

  // First and last line of what begins with `structure`; of the whole file
  // if that is empty.
  [[nodiscard]] std::pair<int, int> lines_of(
      std::string const& structure) const {
    if (structure.empty()) return {1, static_cast<int>(lines_.size()) - 1};
    std::size_t first = 1;
    while (first < lines_.size() && lines_[first].rfind(structure, 0) != 0)
      ++first;
    std::size_t last = first;
    while (last < lines_.size() && lines_[last].rfind('}', 0) != 0) ++last;
    return {static_cast<int>(first), static_cast<int>(last)};
  }

  // First and last line of the statement that covers `line`.
  [[nodiscard]] std::pair<int, int> statement(int line) const {
    auto first = static_cast<std::size_t>(line);
    while (first > 1 && !ends_statement(lines_[first - 1])) --first;
    auto last = static_cast<std::size_t>(line);
    while (last + 1 < lines_.size() && !ends_statement(lines_[last])) ++last;
    return {static_cast<int>(first), static_cast<int>(last)};
  }

  // The labels in the comments of that statement.
  [[nodiscard]] std::string labels(int line) const {
    auto const [first, last] = statement(line);
    std::string found;
    for (int i = first; i <= last; ++i)
      add_labels(lines_[static_cast<std::size_t>(i)], found);
    return found;
  }

  // A line of code with a label.
  [[nodiscard]] bool is_labelled(int line) const {
    auto const& text = lines_[static_cast<std::size_t>(line)];
    if (text.find_first_not_of(' ') == text.find("//")) return false;
    std::string found;
    add_labels(text, found);
    return !found.empty();
  }

 private:
  static bool ends_statement(std::string const& line) {
    auto code = line.substr(0, line.find("//"));
    while (!code.empty() && code.back() == ' ') code.pop_back();
    return code.empty() || code.back() == ';' || code.back() == '{' ||
           code.back() == '}' || code.back() == ':';
  }

  static void add_labels(std::string const& line, std::string& found) {
    auto const comment = line.find("//");
    if (comment == std::string::npos) return;
    for (auto i = comment; i + 1 < line.size(); ++i) {
      if (line[i] != 'E' || line[i - 1] != ' ') continue;
      auto end = i + 1;
      while (end < line.size() && line[end] >= '0' && line[end] <= '9') ++end;
      if (end == i + 1) continue;
      auto const label = line.substr(i, end - i);
      if ((" " + found + " ").find(" " + label + " ") == std::string::npos)
        found += (found.empty() ? "" : " ") + label;
    }
  }

  std::vector<std::string> lines_;
};

// Checks the scenarios as they are, then with each weakening of `header`.
// Prints one row for each catch: line, labels, what was weakened, by what.
// `structure` is how the line starts on which its definition begins; it ends
// with the first line that closes a brace at the margin. Empty: all of the
// header.
inline void expect_edges_are_needed(std::string const& header,
                                    std::string const& structure,
                                    std::vector<scenario> const& scenarios,
                                    std::vector<exemption> const& stays = {}) {
  std::vector<sighting> sites;
  for (scenario const& s : scenarios) {
    result const found = explore(s.settings, s.body);
    EXPECT_TRUE(found.ok())
        << s.name << ": "
        << (found.report.empty() ? "not complete" : found.report);
    std::printf("%-24s %9llu executions, %9llu cut, %10llu steps\n", s.name,
                static_cast<unsigned long long>(found.executions),
                static_cast<unsigned long long>(found.cut),
                static_cast<unsigned long long>(found.steps));
    for (sighting const& at : found.sightings) {
      std::string const file = at.where.file;
      if (file.size() < header.size() ||
          file.compare(file.size() - header.size(), header.size(), header) != 0)
        continue;
      bool known = false;
      for (sighting const& other : sites)
        known = known || (other.on == at.on && other.order == at.order &&
                          other.failure == at.failure &&
                          other.where.line == at.where.line);
      if (!known) sites.push_back(at);
    }
  }
  ASSERT_FALSE(sites.empty()) << "no operation of " << header << " was seen";
  if (::testing::Test::HasFailure()) return;

  source const text(sites.front().where.file);
  auto const [first, last] = text.lines_of(structure);
  ASSERT_LT(first, last) << header << " does not define " << structure;
  for (int line = first; line <= last; ++line) {
    if (!text.is_labelled(line)) continue;
    auto const [from, to] = text.statement(line);
    bool reached = false;
    for (sighting const& at : sites)
      reached |= from <= at.where.line && at.where.line <= to;
    EXPECT_TRUE(reached) << header << ':' << line << ": no scenario comes here";
  }
  int caught = 0;
  std::map<int, std::set<std::string>> uncovered;  // labels of each line
  for (sighting const& at : sites) {
    if (at.where.line < first || at.where.line > last) continue;
    auto const changes = weakenings(at);
    if (changes.empty()) continue;
    std::string const labels = text.labels(at.where.line);
    EXPECT_FALSE(labels.empty())
        << header << ':' << at.where.line << " has no label";
    auto& open =
        uncovered.try_emplace(at.where.line, words(labels)).first->second;
    for (mutation const& change : changes) {
      std::string const row =
          std::string(name_of(at.on)) +
          (change.what == mutation::kind::failure_order ? " failing " : " ") +
          name_of(change.from) + " -> " + name_of(change.order);
      bool found_one = false;
      for (scenario const& s : scenarios) {
        std::string news;
        for (auto const& edge : words(s.edges))
          if (open.count(edge) > 0) news += (news.empty() ? "" : " ") + edge;
        if (found_one && news.empty()) continue;
        options changed = s.settings;
        changed.mutate = change;
        result const found = explore(changed, s.body);
        if (found.violation.empty()) continue;
        std::printf(
            "  line %-4d %-10s %-44s %s: %s (execution %llu)\n", at.where.line,
            labels.c_str(), row.c_str(), s.name, found.violation.c_str(),
            static_cast<unsigned long long>(found.executions + found.cut + 1));
        for (auto const& edge : words(s.edges)) open.erase(edge);
        found_one = true;
        if (open.empty()) break;
      }
      bool excused = false;
      for (exemption const& e : stays) {
        if (e.labels != labels || e.row != row) continue;
        excused = true;
        std::printf("  line %-4d %-10s %-44s stays: %s\n", at.where.line,
                    labels.c_str(), row.c_str(), e.reason);
      }
      EXPECT_FALSE(found_one && excused) << row << " needs no exemption";
      EXPECT_TRUE(found_one || excused) << header << ':' << at.where.line << " "
                                        << row << ": no scenario notices";
      caught += found_one;
    }
  }
  for (auto const& [line, edges] : uncovered)
    for (auto const& edge : edges)
      ADD_FAILURE() << header << ':' << line << ": no scenario for " << edge
                    << " notices a weakening";
  std::set<int> compared;
  for (sighting const& at : sites) {
    if (at.where.line < first || at.where.line > last ||
        at.on != operation::compare_exchange ||
        !compared.insert(at.where.line).second)
      continue;
    bool noticed = false;
    for (scenario const& s : scenarios) {
      options changed = s.settings;
      changed.mutate = {mutation::kind::blind, at.where, at.on, at.order,
                        at.order};
      result const found = explore(changed, s.body);
      noticed = !found.violation.empty();
      if (!noticed) continue;
      std::printf(
          "  line %-4d %-10s %-44s %s: %s (execution %llu)\n", at.where.line,
          "", "compare_exchange without comparing", s.name,
          found.violation.c_str(),
          static_cast<unsigned long long>(found.executions + found.cut + 1));
      break;
    }
    EXPECT_TRUE(noticed) << header << ':' << at.where.line
                         << " need not compare: no scenario notices";
    caught += noticed;
  }
  std::printf("%s, %s: %d mutations caught\n", header.c_str(),
              structure.c_str(), caught);
}

}  // namespace activations::model
