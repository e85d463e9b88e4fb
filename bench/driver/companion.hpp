// SPDX-License-Identifier: BSL-1.0
// Companion processes of a measurement: the driver's own executable, started
// again in another role. A process of its own, so that its threads and CPU
// time are not counted with the driver's.
//
//   serve-faults FD US     supplies each page that faults on userfaultfd FD,
//                          US microseconds after the fault
//   serve-pipes FD US FD…  answers each request read from FD (a task number)
//                          on that task's pipe after US microseconds
//   hog CPU                keeps one CPU busy
//   sample PID US          counts PID's runnable threads every US microseconds,
//                          from a line on stdin to the next; prints the result
//
// Start companions before the runtime under test exists: they are forked.
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "measure.hpp"

namespace bench {

// A running companion, with its stdin and stdout at `to()` and `from()` when
// they are wanted. Killed when this object goes.
class companion {
 public:
  explicit companion(std::vector<std::string> role, bool talks = false) {
    role.insert(role.begin(), "companion");
    std::vector<char*> argv;
    for (auto& word : role) argv.push_back(word.data());
    argv.push_back(nullptr);
    int in[2] = {-1, -1}, out[2] = {-1, -1};
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    if (talks) {
      if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC)) fail("pipe2");
      posix_spawn_file_actions_adddup2(&files, in[0], 0);
      posix_spawn_file_actions_adddup2(&files, out[1], 1);
    } else {  // else the runner would wait for it to close its output
      posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
      posix_spawn_file_actions_adddup2(&files, 1, 2);
    }
    if (int const error = posix_spawn(&pid_, "/proc/self/exe", &files, nullptr,
                                      argv.data(), environ)) {
      errno = error;
      fail("posix_spawn");
    }
    posix_spawn_file_actions_destroy(&files);
    if (talks) {
      close(in[0]);
      close(out[1]);
      to_ = in[1];
      from_ = out[0];
    }
  }

  companion(companion&& other) noexcept
      : pid_(std::exchange(other.pid_, 0)),
        to_(std::exchange(other.to_, -1)),
        from_(std::exchange(other.from_, -1)) {}
  companion& operator=(companion&&) = delete;

  ~companion() {
    if (pid_) end();
    if (to_ >= 0) close(to_);
    if (from_ >= 0) close(from_);
  }

  void tell(char const* line) const {
    if (write(to_, line, std::strlen(line)) < 0) fail("companion");
  }

  std::string ask(char const* line) const {
    tell(line);
    std::string answer;
    char c;
    while (read(from_, &c, 1) == 1 && c != '\n') answer += c;
    return answer;
  }

  // Ends the process; CPU seconds it has used.
  double end() {
    kill(pid_, SIGKILL);
    rusage use{};
    while (wait4(pid_, nullptr, 0, &use) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    auto value = [](timeval t) {
      return static_cast<double>(t.tv_sec) +
             1e-6 * static_cast<double>(t.tv_usec);
    };
    return value(use.ru_utime) + value(use.ru_stime);
  }

 private:
  [[noreturn]] static void fail(char const* what) {
    std::perror(what);
    std::exit(1);
  }

  pid_t pid_ = 0;
  int to_ = -1;
  int from_ = -1;
};

namespace roles {

// Things that become due a fixed delay after they were asked for: the first in
// is the first due.
template <class Item>
class delay_line {
 public:
  explicit delay_line(double delay_us) : delay_(1e-6 * delay_us) {}

  void add(Item item) { line_.push_back({now() + delay_, item}); }

  // Waits until `fd` is readable or the next item is due.
  void wait(int fd) const {
    double const left = line_.empty() ? 0.2 : line_.front().due - now();
    if (left <= 0) return;
    timespec const limit{0, static_cast<long>(left * 1e9)};
    pollfd ready{fd, POLLIN, 0};
    ppoll(&ready, 1, &limit, nullptr);
  }

  template <class Deliver>
  void deliver_due(Deliver deliver) {
    double const time = now();
    for (; !line_.empty() && line_.front().due <= time; line_.pop_front())
      deliver(line_.front().item);
  }

 private:
  struct entry {
    double due;
    Item item;
  };
  double delay_;
  std::deque<entry> line_;
};

inline int serve_faults(int fd, double delay_us) {
  fcntl(fd, F_SETFL, O_NONBLOCK);
  delay_line<std::uint64_t> line(delay_us);
  for (;;) {
    line.wait(fd);
    uffd_msg message;
    while (read(fd, &message, sizeof message) == sizeof message)
      if (message.event == UFFD_EVENT_PAGEFAULT)
        line.add(message.arg.pagefault.address & ~std::uint64_t{4095});
    line.deliver_due([&](std::uint64_t page) {
      uffdio_zeropage supply{{page, 4096}, 0, 0};
      while (ioctl(fd, UFFDIO_ZEROPAGE, &supply) && errno == EAGAIN) {
      }
    });
  }
}

inline int serve_pipes(int requests, double delay_us,
                       std::vector<int> const& replies) {
  fcntl(requests, F_SETFL, O_NONBLOCK);
  delay_line<std::uint32_t> line(delay_us);
  for (;;) {
    line.wait(requests);
    std::uint32_t task[64];
    ssize_t const got = read(requests, task, sizeof task);
    for (ssize_t i = 0; i < got / ssize_t{sizeof task[0]}; ++i)
      line.add(task[i]);
    line.deliver_due([&](std::uint32_t which) {
      if (write(replies[which], "", 1) != 1) std::exit(1);
    });
  }
}

inline int hog(int cpu) {
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(cpu, &only);
  sched_setaffinity(0, sizeof only, &only);
  for (;;) compute(1'000'000);
}

// Reads /proc/PID/task/*/stat through descriptors that stay open: about 3 us a
// thread, so 256 threads every 25 ms take 3 % of one CPU.
class thread_sampler {
 public:
  explicit thread_sampler(std::string const& pid)
      : path_("/proc/" + pid + "/task"), folder_(opendir(path_.c_str())) {}

  void sample() {
    if (!folder_) return;
    ++samples_;
    std::uint64_t runnable = 0, idle_class = 0, threads = 0;
    rewinddir(folder_);
    while (dirent const* entry = readdir(folder_)) {
      if (entry->d_name[0] == '.') continue;
      char const state = state_of(entry->d_name);
      if (!state) continue;
      ++threads;
      if (state == 'R') ++runnable;
      if (state == 'I') ++idle_class;
    }
    runnable_ += runnable + idle_class;
    idle_class_ += idle_class;
    most_runnable_ = std::max(most_runnable_, runnable + idle_class);
    most_threads_ = std::max(most_threads_, threads);
  }

  void print() const {
    double const n = samples_ ? static_cast<double>(samples_) : 1;
    std::printf(
        "\"samples\":%lu,\"runnable\":%.3f,\"runnable_idle_class\":%.3f"
        ",\"runnable_max\":%lu,\"threads_max\":%lu\n",
        static_cast<unsigned long>(samples_),
        static_cast<double>(runnable_) / n,
        static_cast<double>(idle_class_) / n,
        static_cast<unsigned long>(most_runnable_),
        static_cast<unsigned long>(most_threads_));
    std::fflush(stdout);
  }

 private:
  // 'R' runnable, 'I' runnable in the idle class, 0 gone, else its state.
  char state_of(char const* tid) {
    auto& fd = open_.try_emplace(tid, -1).first->second;
    if (fd < 0)
      fd = open((path_ + "/" + tid + "/stat").c_str(), O_RDONLY | O_CLOEXEC);
    char text[1024];
    ssize_t const length = pread(fd, text, sizeof text - 1, 0);
    if (length <= 0) {
      close(fd);
      open_.erase(tid);
      return 0;
    }
    text[length] = 0;
    char* field = std::strrchr(text, ')');
    if (!field) return 0;
    char const state = field[2];
    if (state != 'R') return state;
    for (int i = 2; i < 41 && field; ++i) field = std::strchr(field + 1, ' ');
    return field && std::atoi(field) == SCHED_IDLE ? 'I' : 'R';
  }

  std::string path_;
  DIR* folder_;
  std::unordered_map<std::string, int> open_;
  std::uint64_t samples_ = 0, runnable_ = 0, idle_class_ = 0;
  std::uint64_t most_runnable_ = 0, most_threads_ = 0;
};

inline int sample(std::string const& pid, double interval_us) {
  auto line = [] {
    char c = 0;
    while (read(0, &c, 1) == 1 && c != '\n') {
    }
    return c == '\n';
  };
  timespec const interval{0, static_cast<long>(interval_us * 1e3)};
  while (line()) {
    thread_sampler sampler(pid);
    for (;;) {
      pollfd word{0, POLLIN, 0};
      if (ppoll(&word, 1, &interval, nullptr) > 0) break;
      sampler.sample();
    }
    if (!line()) break;
    sampler.print();
  }
  return 0;
}

}  // namespace roles

// The exit status if this process was started as a companion.
inline std::optional<int> companion_main(int argc, char** argv) {
  if (argc < 3 || std::string_view(argv[0]) != "companion") return {};
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_TIMERSLACK, 1);  // ns; 50 us by default
  std::string_view const role = argv[1];
  auto number = [&](int i) { return argc > i ? std::atoi(argv[i]) : 0; };
  if (role == "serve-faults") return roles::serve_faults(number(2), number(3));
  if (role == "serve-pipes") {
    std::vector<int> replies;
    for (int i = 4; i < argc; ++i) replies.push_back(number(i));
    return roles::serve_pipes(number(2), number(3), replies);
  }
  if (role == "hog") return roles::hog(number(2));
  if (role == "sample") return roles::sample(argv[2], number(3));
  return 1;
}

}  // namespace bench
