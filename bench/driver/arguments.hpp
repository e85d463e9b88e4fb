// SPDX-License-Identifier: BSL-1.0
// The command line of a driver: DRIVER BENCH WORKERS [N | KIND TASKS ROUNDS].
// A bench whose name starts with "block" may carry variants, joined by '-':
// "block-strict-hogs" is the block bench with both.
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>

namespace bench {

// A driver's exit status when it has no such bench, as runners expect.
inline constexpr int no_such_bench = 2;

struct arguments {
  std::string bench;
  unsigned workers = 2;
  long n = 0;       // 0: the bench's own default
  long second = 0;  // memory: per cent of the threads that park
  std::string kind = "sleep";
  int tasks = 64;
  int rounds = 50;

  arguments(int argc, char** argv) {
    auto text = [&](int i) { return argc > i ? argv[i] : ""; };
    bench = text(1);
    if (argc > 2) workers = static_cast<unsigned>(std::atoi(argv[2]));
    if (workers == 0) workers = 2;
    if (is_block() || is_ping_pong()) {
      if (argc > 3) kind = argv[3];
      if (argc > 4) tasks = std::atoi(argv[4]);
      if (argc > 5) rounds = std::atoi(argv[5]);
    } else {
      n = std::atol(text(3));
      second = std::atol(text(4));
    }
  }

  bool is_block() const { return bench == "block" || starts("block-"); }
  bool is_ping_pong() const { return bench == "pingpong" || has("pingpong"); }

  // Whether the bench's name carries this variant.
  bool has(std::string_view variant) const {
    std::string_view rest = bench;
    for (;;) {
      auto const dash = rest.find('-');
      if (rest.substr(0, dash) == variant) return true;
      if (dash == rest.npos) return false;
      rest.remove_prefix(dash + 1);
    }
  }

 private:
  bool starts(std::string_view prefix) const {
    return std::string_view(bench).substr(0, prefix.size()) == prefix;
  }
};

}  // namespace bench
