// SPDX-License-Identifier: BSL-1.0
// One run of one mode: a server process, a load generator process, what they
// used, and whether every answer and every order was right.
#pragma once

#include "load.hpp"
#include "mode.hpp"

#include <cstdint>
#include <string>
#include <string_view>

namespace http_service {

// The first argument of this program when measure() starts it.
inline constexpr std::string_view server_role = "serve";
inline constexpr std::string_view load_role = "load";

struct run_options {
  double rate = 0;     // requests per second
  double seconds = 0;  // counted, after a short warm-up
  int port = 0;
  unsigned products = 0;
  unsigned requests_per_connection = 5;
};

struct mode_result {
  mode how{};
  std::string backend;  // as the scheduler describes itself
  double seconds = 0;   // counted ones
  std::array<kind_result, kind_count> kinds;
  std::uint64_t answers_checked = 0;
  std::uint64_t orders_checked = 0;
  // Of the server process:
  unsigned threads_peak = 0;  // seen, looking every 10 ms
  std::uint64_t resident_peak_kib = 0;
  std::uint64_t switches = 0;  // context switches
  double cpu_seconds = 0;
  // Answers given while those two were counted:
  std::uint64_t answers = 0;
  // How late the generator itself started requests, 99th percentile.
  std::uint32_t start_delay_p99_us = 0;

  void add(mode_result const& another_round);
};

// A new directory, removed with its content by the destructor.
class temporary_directory {
 public:
  explicit temporary_directory(std::string const& parent);
  temporary_directory(temporary_directory const&) = delete;
  ~temporary_directory();

  std::string path(char const* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Makes, in a directory, the data that all runs share: the catalogue and the
// list of files to read, taken from `files_from`.  Throws std::runtime_error.
void make_data(temporary_directory const&, std::string const& files_from,
               unsigned products);

// Throws std::runtime_error if anything failed or any answer was wrong.
mode_result measure(mode, run_options const&, temporary_directory const&);

}  // namespace http_service
