// SPDX-License-Identifier: BSL-1.0
// Another process of this program, spoken to line by line through its standard
// input and output.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace http_service {

// Thrown where this process waits, after SIGINT or SIGTERM.
struct interrupted : std::runtime_error {
  explicit interrupted(int signal)
      : runtime_error("interrupted"), number(signal) {}
  int number;
};

// From now on SIGINT and SIGTERM end in `interrupted`, so that destructors
// remove what is half done.
void catch_interrupts();

// A child that cannot go on writes one line, this and the reason, and ends.
inline constexpr std::string_view error_mark = "error: ";

class child_process {
 public:
  using clock = std::chrono::steady_clock;

  // Runs this program with these arguments.  Throws std::system_error.
  // `role` names the process in messages.
  child_process(std::string role, std::vector<std::string> arguments);
  child_process(child_process const&) = delete;
  child_process& operator=(child_process const&) = delete;
  ~child_process();  // kills it if it has not ended

  pid_t id() const { return id_; }

  void write_line(std::string const&);

  // The next line of its output, or nothing if the deadline came first.
  // Throws std::runtime_error, with the reason if the child gave one, when the
  // child cannot go on.
  std::optional<std::string> read_line(clock::time_point deadline);

  // Ends its input and waits until it has ended; throws std::runtime_error if
  // it did not by the deadline, or did badly.
  void finish(clock::time_point deadline);

 private:
  bool wait(clock::time_point deadline);
  [[noreturn]] void report_end();

  std::string role_;
  pid_t id_ = -1;
  int input_ = -1, output_ = -1;
  int status_ = 0;
  bool has_ended_ = false;
  std::string received_;
};

}  // namespace http_service
