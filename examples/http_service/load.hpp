// SPDX-License-Identifier: BSL-1.0
// The load generator: a process of its own, so that its processor time and its
// context switches are not the server's.
//
// Open loop: requests start at instants fixed beforehand, whether or not the
// server keeps up, and a latency counts from that instant, not from the one at
// which a socket was free.  A server that stalls therefore shows the stall in
// every request that came meanwhile.
#pragma once

#include "workload.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace http_service {

struct load_options {
  int port = 0;  // on 127.0.0.1
  double rate = 0;
  double warm_up_seconds = 0;  // verified, but not counted
  double seconds = 0;          // counted
  unsigned products = 0;
  unsigned requests_per_connection = 1;
  std::string file_list;
};

struct kind_result {
  // From the intended start to the last byte of the answer, in microseconds.
  // A request without an answer appears with the time it had waited.
  std::vector<std::uint32_t> latencies_us;
  std::uint64_t unanswered = 0;
  std::uint64_t answered_in_time = 0;  // within the counted seconds
};

struct load_result {
  std::array<kind_result, kind_count> kinds;
  std::vector<unsigned> committed_orders;  // acknowledged by the server
  std::uint64_t answers_checked = 0;
  std::uint32_t start_delay_p99_us =
      0;              // by which the generator itself is late
  std::string wrong;  // what was wrong with the first wrong answer, if any
};

// Runs the load and writes to standard output the line "counting" when the
// warm-up is over, and then a load_result as one line of JSON.  Ends at the
// first wrong answer.  Bounded in number of requests, connections and time.
void generate_load(load_options const&);

// Reads what generate_load wrote.
load_result parse_load_result(std::string const& line);

}  // namespace http_service
