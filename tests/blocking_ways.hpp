// SPDX-License-Identifier: BSL-1.0
// For tests: the ways in which unmodified code blocks its kernel thread, each
// with somebody outside who ends the block, and a wait with a limit that only
// a hang exceeds.
#pragma once

#include <gtest/gtest.h>

#include <arpa/nameser.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <resolv.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <activations/config.hpp>

namespace blocking_ways {

using namespace std::chrono_literals;

#if ACTIVATIONS_ASAN || ACTIVATIONS_TSAN
inline constexpr auto hang_limit = 150s;
#else
inline constexpr auto hang_limit = 45s;
#endif

// Waits until `holds()`; false after a time that only a hang takes.
template <class Condition>
[[nodiscard]] bool eventually(Condition holds) {
  auto const limit = std::chrono::steady_clock::now() + hang_limit;
  for (auto pause = 20us; !holds(); pause = std::min(pause * 2, 2000us)) {
    if (std::chrono::steady_clock::now() > limit) return false;
    std::this_thread::sleep_for(pause);
  }
  return true;
}

inline void check(bool good, char const* what) {
  if (!good) throw std::system_error(errno, std::generic_category(), what);
}

// One way to block.  block() is called by any number of threads and returns
// some time after release(); nothing else ends it.
class blocker {
 public:
  virtual ~blocker() = default;
  virtual void block() = 0;
  // Once, by a kernel thread outside, when all who ever will have called
  // block().
  virtual void release() = 0;
};

class pipe_read : public blocker {
 public:
  pipe_read() { check(::pipe2(ends_, O_CLOEXEC) == 0, "pipe"); }
  ~pipe_read() override {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  void block() override {
    char byte;
    // Nothing but the byte may end it: SA_RESTART is our promise.
    check(::read(ends_[0], &byte, 1) == 1, "read");
  }
  void release() override {
    char const enough[4096] = {};
    check(::write(ends_[1], enough, sizeof enough) > 0, "write");
  }
  [[nodiscard]] int read_end() const { return ends_[0]; }

 private:
  int ends_[2];
};

// Many short ones: until released it only ever sleeps again.
class short_sleeps : public blocker {
 public:
  void block() override {
    while (!released_.load()) {
      timespec const pause{0, 2'000'000};
      ::nanosleep(&pause, nullptr);
    }
  }
  void release() override { released_ = true; }

 private:
  std::atomic<bool> released_{false};
};

// A futex inside a library: held by a thread outside.
class library_mutex : public blocker {
 public:
  library_mutex() { pthread_mutex_lock(&mutex_); }
  void block() override {
    pthread_mutex_lock(&mutex_);
    pthread_mutex_unlock(&mutex_);
  }
  void release() override { pthread_mutex_unlock(&mutex_); }

 private:
  pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
};

class library_semaphore : public blocker {
 public:
  library_semaphore() { sem_init(&semaphore_, 0, 0); }
  ~library_semaphore() override { sem_destroy(&semaphore_); }
  void block() override {
    while (sem_wait(&semaphore_) != 0) check(errno == EINTR, "sem_wait");
    sem_post(&semaphore_);
  }
  void release() override { sem_post(&semaphore_); }

 private:
  sem_t semaphore_;
};

class library_condition : public blocker {
 public:
  void block() override {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return released_; });
  }
  void release() override {
    std::lock_guard const lock(mutex_);
    released_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool released_ = false;
};

class thread_join : public blocker {
 public:
  void block() override {
    std::thread inner([this] { pipe_.block(); });
    inner.join();
  }
  void release() override { pipe_.release(); }

 private:
  pipe_read pipe_;
};

class poll_wait : public blocker {
 public:
  void block() override {
    pollfd one{pipe_.read_end(), POLLIN, 0};
    while (::poll(&one, 1, -1) < 0) check(errno == EINTR, "poll");
  }
  void release() override { pipe_.release(); }

 private:
  pipe_read pipe_;
};

class socket_receive : public blocker {
 public:
  socket_receive() {
    check(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends_) == 0,
          "socketpair");
  }
  ~socket_receive() override {
    ::close(ends_[0]);
    ::close(ends_[1]);
  }
  void block() override {
    char byte;
    check(::recv(ends_[0], &byte, 1, 0) >= 0, "recv");
  }
  void release() override { ::shutdown(ends_[1], SHUT_WR); }

 private:
  int ends_[2];
};

class file_lock : public blocker {
 public:
  file_lock() {
    check((held_ = ::mkstemp(path_)) >= 0, "mkstemp");
    check(::flock(held_, LOCK_EX) == 0, "flock");
  }
  ~file_lock() override {
    ::close(held_);
    ::unlink(path_);
  }
  void block() override {
    int const file = ::open(path_, O_RDONLY | O_CLOEXEC);
    check(file >= 0, "open");
    while (::flock(file, LOCK_EX) != 0) check(errno == EINTR, "flock");
    ::close(file);
  }
  void release() override { ::flock(held_, LOCK_UN); }

 private:
  char path_[32] = "/tmp/activations_lock_XXXXXX";
  int held_ = -1;
};

// waitid(2) for a child that ends when a pipe closes.  Made before any
// scheduler, so that the child is a copy of a quiet process.
class child_wait : public blocker {
 public:
  child_wait() {
    check(::pipe2(ends_, O_CLOEXEC) == 0, "pipe");
    child_ = ::fork();
    check(child_ >= 0, "fork");
    if (child_ == 0) {
      ::close(ends_[1]);
      char byte;
      (void)!::read(ends_[0], &byte, 1);
      ::_exit(0);
    }
  }
  ~child_wait() override {
    ::close(ends_[0]);
    if (!released_) ::close(ends_[1]);
    ::waitpid(child_, nullptr, 0);
  }
  void block() override {
    siginfo_t info;
    while (::waitid(P_PID, static_cast<id_t>(child_), &info,
                    WEXITED | WNOWAIT) != 0)
      check(errno == EINTR, "waitid");
  }
  void release() override {
    released_ = true;
    ::close(ends_[1]);
  }

 private:
  int ends_[2];
  pid_t child_;
  bool released_ = false;
};

// A load from memory whose pages somebody else has to bring.
class page_fault : public blocker {
 public:
  page_fault() {
    file_ = static_cast<int>(::syscall(
        SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY));
    check(file_ >= 0, "userfaultfd");
    uffdio_api api{};
    api.api = UFFD_API;
    check(::ioctl(file_, UFFDIO_API, &api) == 0, "UFFDIO_API");
    memory_ = static_cast<char*>(::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    check(memory_ != MAP_FAILED, "mmap");
    uffdio_register all{};
    all.range = {reinterpret_cast<std::uintptr_t>(memory_), bytes};
    all.mode = UFFDIO_REGISTER_MODE_MISSING;
    check(::ioctl(file_, UFFDIO_REGISTER, &all) == 0, "UFFDIO_REGISTER");
  }
  ~page_fault() override {
    ::close(file_);
    ::munmap(memory_, bytes);
  }
  // False where the system forbids it.
  static bool is_permitted() {
    long const file = ::syscall(SYS_userfaultfd,
                                O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    if (file < 0) return false;
    ::close(static_cast<int>(file));
    return true;
  }
  // A page of its own for each of the first `pages` callers.
  __attribute__((no_sanitize("thread", "address"))) void block() override {
    auto const page = next_.fetch_add(1) % pages;
    auto const* const at =
        static_cast<char const volatile*>(memory_ + page * 4096);
    (void)*at;
  }
  void release() override {
    uffdio_zeropage all{};
    all.range = {reinterpret_cast<std::uintptr_t>(memory_), bytes};
    check(::ioctl(file_, UFFDIO_ZEROPAGE, &all) == 0, "UFFDIO_ZEROPAGE");
  }
  [[nodiscard]] std::uintptr_t address() const {
    return reinterpret_cast<std::uintptr_t>(memory_);
  }

 private:
  static constexpr std::size_t pages = 64;
  static constexpr std::size_t bytes = pages * 4096;
  int file_ = -1;
  char* memory_ = nullptr;
  std::atomic<std::size_t> next_{0};
};

// The C library's resolver, which asks a server that keeps it waiting.
class name_lookup : public blocker {
 public:
  name_lookup() {
    server_ = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    check(server_ >= 0, "socket");
    sockaddr_in here = local(0);
    check(::bind(server_, reinterpret_cast<sockaddr*>(&here), sizeof here) == 0,
          "bind");
    socklen_t length = sizeof here;
    ::getsockname(server_, reinterpret_cast<sockaddr*>(&here), &length);
    port_ = here.sin_port;
  }
  ~name_lookup() override {
    if (answers_.joinable()) {
      ended_ = true;
      ::shutdown(server_, SHUT_RDWR);
      answers_.join();
    }
    ::close(server_);
  }
  void block() override {
    auto const state = std::make_unique<struct __res_state>();
    check(res_ninit(state.get()) == 0, "res_ninit");
    state->nscount = 1;
    state->nsaddr_list[0] = local(port_);
    state->retrans = 1;
    state->retry = 60;
    unsigned char answer[NS_PACKETSZ];
    (void)res_nquery(state.get(), "example.test", ns_c_in, ns_t_a, answer,
                     sizeof answer);
    res_nclose(state.get());
  }
  void release() override {
    answers_ = std::thread([this] {
      unsigned char packet[NS_PACKETSZ];
      sockaddr_in from{};
      while (!ended_) {
        pollfd one{server_, POLLIN, 0};
        if (::poll(&one, 1, 50) <= 0) continue;
        socklen_t length = sizeof from;
        auto const n = ::recvfrom(server_, packet, sizeof packet, MSG_DONTWAIT,
                                  reinterpret_cast<sockaddr*>(&from), &length);
        if (n < NS_HFIXEDSZ) continue;
        packet[2] |= 0x80;  // an answer
        packet[3] = static_cast<unsigned char>((packet[3] & 0xF0) | 3);  // none
        ::sendto(server_, packet, static_cast<std::size_t>(n), 0,
                 reinterpret_cast<sockaddr*>(&from), length);
      }
    });
  }

 private:
  static sockaddr_in local(in_port_t port) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = port;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
  }
  int server_ = -1;
  in_port_t port_ = 0;
  std::thread answers_;
  std::atomic<bool> ended_{false};
};

struct way {
  char const* name;
  std::unique_ptr<blocker> (*make)();

  friend std::ostream& operator<<(std::ostream& out, way const& w) {
    return out << w.name;
  }
};

template <class Kind>
std::unique_ptr<blocker> make() {
  return std::make_unique<Kind>();
}

inline std::vector<way> all_ways() {
  std::vector<way> ways{{"PipeRead", make<pipe_read>},
                        {"Nanosleep", make<short_sleeps>},
                        {"PthreadMutex", make<library_mutex>},
                        {"Semaphore", make<library_semaphore>},
                        {"ConditionVariable", make<library_condition>},
                        {"ThreadJoin", make<thread_join>},
                        {"Poll", make<poll_wait>},
                        {"SocketReceive", make<socket_receive>},
                        {"FileLock", make<file_lock>},
                        {"ChildWait", make<child_wait>},
                        {"NameLookup", make<name_lookup>}};
  if (page_fault::is_permitted())
    ways.push_back({"PageFault", make<page_fault>});
  return ways;
}

}  // namespace blocking_ways
