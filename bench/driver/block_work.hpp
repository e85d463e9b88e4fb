// SPDX-License-Identifier: BSL-1.0
// The blocking benches' work: one round is about 50 us of computing and one
// operation that blocks in the kernel, written as any program would write it.
// Both drivers run this very code, so that only the threads differ.
//
//   sleep   nanosleep for 2 ms
//   fdread  read of a timer's descriptor that becomes ready after 2 ms
//   ufault  first touch of a page that a companion process supplies 2 ms later
//           (userfaultfd, needs root): a page-in without a disk
//   dread   4 KiB read with O_DIRECT from the file BL_FILE
//   fault   first touch of a cold page of BL_FILE
//   pipe20  write a request to a pipe, read the reply, which a companion
//           process sends about 20 us later
//   pmutex  20 of the 50 us happen under one pthread_mutex that all share
//   pcread  4 KiB read of a file that is in the page cache
//   none    nothing: the ceiling
#pragma once

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "companion.hpp"
#include "measure.hpp"

namespace bench {

enum class block_kind {
  sleep,
  fdread,
  ufault,
  dread,
  fault,
  pipe20,
  pmutex,
  pcread,
  none
};

inline std::optional<block_kind> block_kind_of(std::string const& name) {
  static constexpr char const* names[] = {"sleep",  "fdread", "ufault",
                                          "dread",  "fault",  "pipe20",
                                          "pmutex", "pcread", "none"};
  for (int i = 0; i < 9; ++i)
    if (name == names[i]) return static_cast<block_kind>(i);
  return {};
}

class block_work {
 public:
  static constexpr double compute_us = 50;
  static constexpr double locked_us = 20;  // pmutex: of those 50
  static constexpr long wait_ns = 2'000'000;
  static constexpr double reply_us = 20;

  block_work(block_kind kind, int tasks, int rounds)
      : kind_(kind), tasks_(tasks), rounds_(rounds) {
    latencies_.assign(static_cast<std::size_t>(tasks),
                      std::vector<float>(static_cast<std::size_t>(rounds)));
    allow_descriptors();
    switch (kind_) {
      case block_kind::fdread:
        make_timers();
        break;
      case block_kind::ufault:
        make_faulting_memory();
        break;
      case block_kind::dread:
        open_cold_file(O_DIRECT);
        break;
      case block_kind::fault:
        map_cold_file();
        break;
      case block_kind::pipe20:
        make_pipes();
        break;
      case block_kind::pcread:
        open_warm_file();
        break;
      default:
        break;
    }
    double const rate = steps_per_us();
    steps_ = static_cast<std::uint64_t>(compute_us * rate);
    locked_steps_ = static_cast<std::uint64_t>(locked_us * rate);
    if (kind_ == block_kind::pmutex) steps_ -= locked_steps_;
  }

  block_work(block_work const&) = delete;

  int tasks() const { return tasks_; }
  int rounds() const { return rounds_; }
  double duration() const { return end_ - start_; }

  void compute() const { bench::compute(steps_); }

  // The blocking operation of one round.
  void block(int task, int round) {
    switch (kind_) {
      case block_kind::sleep: {
        timespec left{0, wait_ns};
        while (nanosleep(&left, &left) && errno == EINTR) {
        }
        break;
      }
      case block_kind::fdread: {
        itimerspec when{};
        when.it_value.tv_nsec = wait_ns;
        int const fd = fds_[static_cast<std::size_t>(task)];
        timerfd_settime(fd, 0, &when, nullptr);
        std::uint64_t expirations;
        read_all(fd, &expirations, sizeof expirations);
        break;
      }
      case block_kind::dread: {
        alignas(4096) char page[4096];
        read_page(page_of(task, round), page);
        break;
      }
      case block_kind::pcread: {
        char page[4096];
        read_page(page_of(task, round), page);
        break;
      }
      case block_kind::fault:
      case block_kind::ufault:
        use(*static_cast<char const volatile*>(memory_ + page_of(task, round) *
                                                             page_bytes));
        break;
      case block_kind::pipe20: {
        auto const number = static_cast<std::uint32_t>(task);
        while (write(request_, &number, sizeof number) < 0 && errno == EINTR) {
        }
        char answer;
        read_all(fds_[static_cast<std::size_t>(task)], &answer, 1);
        break;
      }
      case block_kind::pmutex:
        pthread_mutex_lock(&mutex_);
        bench::compute(locked_steps_);
        pthread_mutex_unlock(&mutex_);
        break;
      case block_kind::none:
        break;
    }
  }

  void note_latency(int task, int round, double seconds) {
    latencies_[static_cast<std::size_t>(task)]
              [static_cast<std::size_t>(round)] = static_cast<float>(seconds);
  }

  void start() {
    getrusage(RUSAGE_SELF, &usage_);
    start_ = now();
  }

  void stop() {
    end_ = now();
    rusage const before = usage_;
    getrusage(RUSAGE_SELF, &usage_);
    auto value = [](timeval t) {
      return static_cast<double>(t.tv_sec) +
             1e-6 * static_cast<double>(t.tv_usec);
    };
    cpu_ = value(usage_.ru_utime) - value(before.ru_utime) +
           value(usage_.ru_stime) - value(before.ru_stime);
    switches_ = static_cast<double>(usage_.ru_nvcsw - before.ru_nvcsw +
                                    usage_.ru_nivcsw - before.ru_nivcsw);
  }

  // One result line; `more` is further members, each with a leading comma.
  void report(std::string const& peer, std::string const& bench,
              std::string const& more = {}) const {
    std::vector<float> all;
    for (auto const& of_task : latencies_)
      all.insert(all.end(), of_task.begin(), of_task.end());
    std::sort(all.begin(), all.end());
    double const n = static_cast<double>(tasks_) * rounds_;
    std::printf(
        "{\"peer\":\"%s\",\"bench\":\"%s\",\"tasks\":%d,\"rounds\":%d,"
        "\"value\":%.6g,\"unit\":\"rounds/s\",\"p50_us\":%.1f,\"p99_us\":%.1f,"
        "\"max_us\":%.1f,\"cpu_us_per_round\":%.2f,"
        "\"switches_per_round\":%.2f%s}\n",
        peer.c_str(), bench.c_str(), tasks_, rounds_, n / duration(),
        1e6 * quantile(all, .5), 1e6 * quantile(all, .99),
        1e6 * quantile(all, 1), 1e6 * cpu_ / n, switches_ / n, more.c_str());
    std::fflush(stdout);
  }

 private:
  static constexpr std::size_t page_bytes = 4096;

  [[noreturn]] static void fail(char const* what) {
    std::perror(what);
    std::exit(1);
  }

  static void use(char value) {
    // relaxed: only there so that the access has a result.
    sink.fetch_add(static_cast<unsigned char>(value),
                   std::memory_order::relaxed);
  }

  static void read_all(int fd, void* to, std::size_t bytes) {
    while (read(fd, to, bytes) < 0)
      if (errno != EINTR) fail("read");
  }

  void read_page(std::size_t page, char* to) const {
    if (pread(file_, to, page_bytes, static_cast<off_t>(page * page_bytes)) < 0)
      fail("pread");
    use(to[0]);
  }

  // Each round of each task has a page of its own, far from its neighbours'.
  std::size_t page_of(int task, int round) const {
    std::size_t const i =
        static_cast<std::size_t>(task) * static_cast<std::size_t>(rounds_) +
        static_cast<std::size_t>(round);
    return kind_ == block_kind::ufault ? i : (i * 40503u + 12345u) % pages_;
  }

  // A descriptor or two for each task: more than the usual soft limit.
  static void allow_descriptors() {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }

  void make_timers() {
    for (int i = 0; i < tasks_; ++i) {
      fds_.push_back(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
      if (fds_.back() < 0) fail("timerfd_create");
    }
  }

  void make_pipes() {
    std::vector<std::string> role{"serve-pipes"};
    std::vector<int> theirs;
    auto make = [&](int mine) {  // ours closes at exec, theirs does not
      int ends[2];
      if (pipe(ends)) fail("pipe");
      fcntl(ends[mine], F_SETFD, FD_CLOEXEC);
      theirs.push_back(ends[1 - mine]);
      return ends[mine];
    };
    request_ = make(1);
    role.push_back(std::to_string(theirs.back()));
    role.push_back(std::to_string(reply_us));
    for (int i = 0; i < tasks_; ++i) {
      fds_.push_back(make(0));
      role.push_back(std::to_string(theirs.back()));
    }
    server_.emplace(role);
    for (int fd : theirs) close(fd);
  }

  void open_file(char const* path, int flags) {
    file_ = open(path, O_RDONLY | O_CLOEXEC | flags);
    struct stat status;
    if (file_ < 0 || fstat(file_, &status)) fail(path);
    pages_ = static_cast<std::size_t>(status.st_size) / page_bytes;
    if (pages_ == 0) fail(path);
  }

  void open_cold_file(int flags) {
    char const* path = std::getenv("BL_FILE");
    if (!path) {
      std::fputs("set BL_FILE to a file of 512 MiB or more\n", stderr);
      std::exit(1);
    }
    open_file(path, flags);
    if (static_cast<std::size_t>(tasks_) * static_cast<std::size_t>(rounds_) >
        pages_) {
      std::fputs("BL_FILE is too small for so many rounds\n", stderr);
      std::exit(1);
    }
    posix_fadvise(file_, 0, 0, POSIX_FADV_DONTNEED);
  }

  void map_cold_file() {
    open_cold_file(0);
    map(pages_ * page_bytes, PROT_READ, MAP_SHARED, file_);
    madvise(memory_, pages_ * page_bytes, MADV_RANDOM);
  }

  // This executable: a file that every machine has, read once to warm it.
  void open_warm_file() {
    open_file("/proc/self/exe", 0);
    char page[page_bytes];
    for (std::size_t i = 0; i < pages_; ++i) read_page(i, page);
  }

  void map(std::size_t bytes, int protection, int flags, int fd) {
    void* const at = mmap(nullptr, bytes, protection, flags, fd, 0);
    if (at == MAP_FAILED) fail("mmap");
    memory_ = static_cast<char*>(at);
  }

  void make_faulting_memory() {
    pages_ =
        static_cast<std::size_t>(tasks_) * static_cast<std::size_t>(rounds_);
    std::size_t const bytes = pages_ * page_bytes;
    map(bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    madvise(memory_, bytes, MADV_NOHUGEPAGE);
    int const fd = static_cast<int>(syscall(SYS_userfaultfd, 0));
    uffdio_api api{UFFD_API, 0, 0};
    uffdio_register where{{reinterpret_cast<std::uintptr_t>(memory_), bytes},
                          UFFDIO_REGISTER_MODE_MISSING,
                          0};
    if (fd < 0 || ioctl(fd, UFFDIO_API, &api) ||
        ioctl(fd, UFFDIO_REGISTER, &where))
      fail("userfaultfd");
    server_.emplace(std::vector<std::string>{"serve-faults", std::to_string(fd),
                                             std::to_string(wait_ns / 1000)});
  }

  block_kind kind_;
  int tasks_;
  int rounds_;
  std::uint64_t steps_ = 0;
  std::uint64_t locked_steps_ = 0;
  std::vector<std::vector<float>> latencies_;

  std::vector<int> fds_;
  int request_ = -1;
  int file_ = -1;
  char* memory_ = nullptr;
  std::size_t pages_ = 0;
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
  std::optional<companion> server_;

  rusage usage_{};
  double start_ = 0;
  double end_ = 0;
  double cpu_ = 0;
  double switches_ = 0;
};

}  // namespace bench
