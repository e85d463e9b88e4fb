// SPDX-License-Identifier: BSL-1.0
#include "child.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <thread>

namespace kernel_tests {
namespace {

struct shared_words {
  std::atomic<unsigned> step;
  std::atomic<std::uint64_t> count;
};

// Inherited by the children of one test at a time.
shared_words& shared() {
  static auto* words = static_cast<shared_words*>(
      mmap(nullptr, sizeof(shared_words), PROT_READ | PROT_WRITE,
           MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  return *words;
}

std::string contents(std::string const& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  std::string result = text.str();
  while (!result.empty() && result.back() == '\n') result.pop_back();
  return result;
}

}  // namespace

bool outcome::exited_with(int code) const {
  return !hung && WIFEXITED(status) && WEXITSTATUS(status) == code;
}

bool outcome::killed_by(int signal) const {
  return !hung && WIFSIGNALED(status) && WTERMSIG(status) == signal;
}

std::string outcome::describe() const {
  if (hung) return "hung";
  if (WIFEXITED(status)) {
    return "exit status " + std::to_string(WEXITSTATUS(status));
  }
  if (WIFSIGNALED(status)) {
    return "killed by signal " + std::to_string(WTERMSIG(status));
  }
  return "wait status " + std::to_string(status);
}

child::child(std::function<void()> const& body) {
  shared().step = 0;
  shared().count = 0;
  std::fflush(stdout);
  pid_ = fork();
  if (pid_ != 0) return;
  setpgid(0, 0);
  body();
  std::fflush(stdout);
  _exit(::testing::Test::HasFailure() ? 1 : 0);
}

child::~child() {
  if (pid_ <= 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

outcome child::wait(std::chrono::seconds limit) {
  outcome result;
  auto const deadline = std::chrono::steady_clock::now() + limit;
  for (;;) {
    pid_t const got = waitpid(pid_, &result.status, WNOHANG);
    if (got == pid_) {
      pid_ = -1;
      return result;
    }
    if (std::chrono::steady_clock::now() > deadline) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  result.hung = true;
  print_threads(pid_);
  kill(pid_, SIGKILL);
  // A process that SIGKILL does not end is worth a report of its own.
  for (int i = 0; i < 2500; ++i) {
    if (waitpid(pid_, &result.status, WNOHANG) == pid_) {
      pid_ = -1;
      return result;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  std::printf("process %d survives SIGKILL\n", pid_);
  print_threads(pid_);
  pid_ = -1;
  return result;
}

bool child::wait_for(unsigned step, std::chrono::seconds limit) {
  auto const deadline = std::chrono::steady_clock::now() + limit;
  while (shared().step.load() < step) {
    siginfo_t ended = {};
    waitid(P_PID, static_cast<id_t>(pid_), &ended, WEXITED | WNOHANG | WNOWAIT);
    if (ended.si_pid == pid_) return shared().step.load() >= step;
    if (std::chrono::steady_clock::now() > deadline) {
      std::printf("step %u not reached\n", step);
      print_threads(pid_);
      return false;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

std::uint64_t child::counted() const noexcept {
  return shared().count.load();
}

void reached(unsigned step) noexcept {
  unsigned seen = shared().step.load();
  while (seen < step && !shared().step.compare_exchange_weak(seen, step)) {
  }
}

bool has_reached(unsigned step) noexcept {
  return shared().step.load() >= step;
}

void count(std::uint64_t n) noexcept {
  shared().count.fetch_add(n);
}

void found(char const* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::printf("found: ");
  std::vprintf(format, arguments);
  std::printf("\n");
  va_end(arguments);
}

void print_threads(pid_t pid) {
  std::string const tasks = "/proc/" + std::to_string(pid) + "/task";
  DIR* directory = opendir(tasks.c_str());
  if (!directory) return;
  while (dirent* entry = readdir(directory)) {
    if (entry->d_name[0] == '.') continue;
    std::string const task = tasks + "/" + entry->d_name + "/";
    std::string const stat = contents(task + "stat");
    std::printf("thread %s state %s syscall %s\n%s\n", entry->d_name,
                stat.substr(stat.rfind(')') + 1, 2).c_str(),
                contents(task + "syscall").c_str(),
                contents(task + "stack").c_str());
  }
  closedir(directory);
  std::fflush(stdout);
}

std::chrono::milliseconds budget() {
  static long const ms = [] {
    char const* text = std::getenv("ACTIVATIONS_SECONDS");
    return text ? static_cast<long>(std::atof(text) * 1000) : 2000L;
  }();
  return std::chrono::milliseconds(ms);
}

std::uint64_t seed() {
  static std::uint64_t const value = [] {
    char const* text = std::getenv("ACTIVATIONS_SEED");
    if (text) return std::strtoull(text, nullptr, 0);
    return static_cast<unsigned long long>(
        std::chrono::steady_clock::now().time_since_epoch().count());
  }();
  return value;
}

void run_test_in_child(std::function<void()> const& body) {
  child process(body);
  outcome const result = process.wait(
      std::chrono::seconds(180) +
      std::chrono::duration_cast<std::chrono::seconds>(budget() * 4));
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
}

}  // namespace kernel_tests
