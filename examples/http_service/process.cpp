// SPDX-License-Identifier: BSL-1.0
#include "process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <system_error>
#include <utility>

extern char** environ;

namespace http_service {
namespace {

using namespace std::chrono_literals;

std::sig_atomic_t volatile caught_signal = 0;

void throw_if_interrupted() {
  if (caught_signal != 0) throw interrupted(caught_signal);
}

[[noreturn]] void fail(int error, std::string const& what) {
  throw std::system_error(error, std::generic_category(), what);
}

struct pipe_ends {
  int read, write;
};

pipe_ends make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) fail(errno, "cannot make a pipe");
  return {ends[0], ends[1]};
}

void close_end(int& end) {
  if (end >= 0) ::close(std::exchange(end, -1));
}

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int signal) { caught_signal = signal; };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

child_process::child_process(std::string role,
                             std::vector<std::string> arguments)
    : role_(std::move(role)) {
  std::vector<char*> argv;
  for (auto& each : arguments) argv.push_back(each.data());
  argv.push_back(nullptr);

  auto const to_child = make_pipe();
  auto const from_child = make_pipe();
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, to_child.read, STDIN_FILENO);
  ::posix_spawn_file_actions_adddup2(&actions, from_child.write, STDOUT_FILENO);
  auto const error = ::posix_spawn(&id_, "/proc/self/exe", &actions, nullptr,
                                   argv.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(to_child.read);
  ::close(from_child.write);
  input_ = to_child.write;
  output_ = from_child.read;
  if (error != 0) {
    close_end(input_);
    close_end(output_);
    fail(error, "cannot start the " + role_);
  }
}

child_process::~child_process() {
  close_end(input_);
  close_end(output_);
  if (!has_ended_) {
    ::kill(id_, SIGKILL);
    while (::waitpid(id_, &status_, 0) < 0 && errno == EINTR) {
    }
  }
}

void child_process::write_line(std::string const& text) {
  auto const line = text + "\n";
  // Lines are short: the pipe takes all of one or nothing.
  if (::write(input_, line.data(), line.size()) < 0) report_end();
}

std::optional<std::string> child_process::read_line(
    clock::time_point deadline) {
  for (;;) {
    auto const end = received_.find('\n');
    if (end != std::string::npos) {
      auto line = received_.substr(0, end);
      received_.erase(0, end + 1);
      if (line.starts_with(error_mark)) {
        throw std::runtime_error(line.substr(error_mark.size()));
      }
      return line;
    }
    throw_if_interrupted();
    auto const left =
        std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now());
    if (left <= 0ms) return std::nullopt;
    pollfd ready{output_, POLLIN, 0};
    auto const count = ::poll(&ready, 1, static_cast<int>(left.count()));
    if (count <= 0) continue;
    char buffer[65'536];
    auto const got = ::read(output_, buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) report_end();
    received_.append(buffer, static_cast<std::size_t>(got));
  }
}

void child_process::finish(clock::time_point deadline) {
  close_end(input_);
  if (!wait(deadline)) {
    throw std::runtime_error("the " + role_ + " did not end in time");
  }
  if (status_ != 0) report_end();
}

bool child_process::wait(clock::time_point deadline) {
  while (!has_ended_) {
    auto const result = ::waitpid(id_, &status_, WNOHANG);
    if (result == id_) {
      has_ended_ = true;
    } else if (clock::now() >= deadline) {
      return false;
    } else {
      throw_if_interrupted();
      ::poll(nullptr, 0, 2);
    }
  }
  return true;
}

void child_process::report_end() {
  if (!wait(clock::now() + 5s)) {
    throw std::runtime_error("the " + role_ + " fell silent");
  }
  if (WIFSIGNALED(status_)) {
    throw std::runtime_error("the " + role_ + " was ended by signal " +
                             std::to_string(WTERMSIG(status_)) + " (" +
                             ::strsignal(WTERMSIG(status_)) + ")");
  }
  throw std::runtime_error("the " + role_ + " ended with status " +
                           std::to_string(WEXITSTATUS(status_)));
}

}  // namespace http_service
