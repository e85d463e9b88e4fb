// SPDX-License-Identifier: BSL-1.0
// What /proc tells of a thread: first the parsing of its text, then threads
// whose state we know.
#include <activations/detail/portable/thread_state.hpp>

#include <gtest/gtest.h>

#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <functional>
#include <string>
#include <thread>

#include "blocking_ways.hpp"

namespace {

using namespace blocking_ways;
using activations::detail::thread_activity;
using activations::detail::thread_inspector;

// Not inlined: the compiler would parse for us, and complain.
[[gnu::noinline]] thread_activity parse(std::string const& text,
                                        activations_cause* cause = nullptr) {
  return thread_inspector::parse(text.c_str(), cause);
}

TEST(ThreadState, RunningMeansOnACpuOrReady) {
  EXPECT_EQ(parse("running\n"), thread_activity::running);
  activations_cause untouched{};
  untouched.number = 77;
  EXPECT_EQ(parse("running\n", &untouched), thread_activity::running);
  EXPECT_EQ(untouched.number, 77u);
}

TEST(ThreadState, ASystemCallHasNumberAndArguments) {
  activations_cause cause{};
  cause.address = 5;
  EXPECT_EQ(parse("0 0x3 0x7ffd10 0x400 0x0 0xffffffffffffffff 0x6 "
                  "0x7ffdfff0 0x7f12\n",
                  &cause),
            thread_activity::blocked);
  EXPECT_EQ(cause.kind, unsigned{ACTIVATIONS_CAUSE_SYSCALL});
  EXPECT_EQ(cause.number, 0u);
  EXPECT_EQ(cause.address, 0u);
  EXPECT_EQ(cause.arguments[0], 3u);
  EXPECT_EQ(cause.arguments[1], 0x7ffd10u);
  EXPECT_EQ(cause.arguments[2], 0x400u);
  EXPECT_EQ(cause.arguments[3], 0u);
  EXPECT_EQ(cause.arguments[4], 0xffffffffffffffffu);
  EXPECT_EQ(cause.arguments[5], 6u);
}

TEST(ThreadState, AFutexCallIsACauseOfItsOwn) {
  activations_cause cause{};
  auto const text = std::to_string(SYS_futex) +
                    " 0x7f0012345678 0x80 0x2 0x0 0x0 0x0 0x7ffd 0x7f12\n";
  EXPECT_EQ(parse(text, &cause), thread_activity::blocked);
  EXPECT_EQ(cause.kind, unsigned{ACTIVATIONS_CAUSE_FUTEX});
  EXPECT_EQ(cause.arguments[0], 0x7f0012345678u);
}

TEST(ThreadState, NoSystemCallIsAFaultWithItsPlace) {
  activations_cause cause{};
  cause.arguments[0] = 9;
  EXPECT_EQ(parse("-1 0x7ffd2000 0x401234\n", &cause),
            thread_activity::blocked);
  EXPECT_EQ(cause.kind, unsigned{ACTIVATIONS_CAUSE_FAULT});
  EXPECT_EQ(cause.address, 0x401234u);
  EXPECT_EQ(cause.arguments[0], 0u);
}

TEST(ThreadState, NonsenseIsUnknown) {
  for (auto const* text : {"", "\n", "runn", "xyz 1 2", "0x", " \n"})
    EXPECT_NE(parse(text), thread_activity::running) << text;
  EXPECT_EQ(parse(""), thread_activity::unknown);
  EXPECT_EQ(parse("\n"), thread_activity::unknown);
  EXPECT_EQ(parse("xyz 1 2"), thread_activity::unknown);
  activations_cause cause{};
  // Cut short: what is there counts.
  EXPECT_EQ(parse("35 0x1", &cause), thread_activity::blocked);
  EXPECT_EQ(cause.number, 35u);
  EXPECT_EQ(cause.arguments[0], 1u);
  EXPECT_EQ(cause.arguments[1], 0u);
}

// A thread of which we know what it does.
class subject {
 public:
  explicit subject(std::function<void()> work)
      : thread_([this, work = std::move(work)] {
          tid_ = ::gettid();
          work();
        }) {
    while (tid_ == 0) std::this_thread::yield();
  }
  ~subject() { thread_.join(); }
  [[nodiscard]] pid_t tid() const { return tid_; }

 private:
  std::atomic<pid_t> tid_{0};
  std::thread thread_;
};

class LiveThread : public testing::Test {
 protected:
  // Looks through a kept descriptor and by a new one.
  [[nodiscard]] bool becomes(pid_t tid, thread_activity wanted,
                             activations_cause* cause = nullptr) {
    int const file = inspector_.open(tid);
    EXPECT_GE(file, 0);
    bool const good = eventually([&] {
      return inspector_.look(file, tid, cause) == wanted &&
             inspector_.look(-1, tid, cause) == wanted;
    });
    ::close(file);
    return good;
  }
  thread_inspector inspector_;
};

TEST_F(LiveThread, ABusyThreadIsRunning) {
  std::atomic<bool> stop{false};
  subject const busy([&] {
    while (!stop) {
    }
  });
  EXPECT_TRUE(becomes(busy.tid(), thread_activity::running));
  int const file = inspector_.open(busy.tid());
  int blocked = 0;
  for (int i = 0; i < 2000; ++i)
    blocked +=
        inspector_.look(file, busy.tid(), nullptr) != thread_activity::running;
  EXPECT_EQ(blocked, 0);
  ::close(file);
  stop = true;
}

TEST_F(LiveThread, AReaderIsBlockedInReadOfItsDescriptor) {
  pipe_read pipe;
  subject const reader([&] { pipe.block(); });
  activations_cause cause{};
  EXPECT_TRUE(becomes(reader.tid(), thread_activity::blocked, &cause));
  EXPECT_TRUE(eventually([&] {
    return inspector_.look(-1, reader.tid(), &cause) ==
               thread_activity::blocked &&
           cause.number == SYS_read;
  }));
  EXPECT_EQ(cause.kind, unsigned{ACTIVATIONS_CAUSE_SYSCALL});
  EXPECT_EQ(cause.arguments[0], static_cast<unsigned>(pipe.read_end()));
  EXPECT_EQ(cause.arguments[2], 1u);
  pipe.release();
}

TEST_F(LiveThread, AWaiterForALockIsBlockedInFutex) {
  library_mutex mutex;
  subject const waiter([&] { mutex.block(); });
  activations_cause cause{};
  EXPECT_TRUE(eventually([&] {
    return inspector_.look(-1, waiter.tid(), &cause) ==
               thread_activity::blocked &&
           cause.kind == ACTIVATIONS_CAUSE_FUTEX;
  }));
  mutex.release();
}

TEST_F(LiveThread, AFaultingThreadIsBlockedInNoSystemCall) {
  if (!page_fault::is_permitted())
    GTEST_SKIP() << "userfaultfd is forbidden here";
  page_fault pages;
  subject const faulting([&] { pages.block(); });
  activations_cause cause{};
  EXPECT_TRUE(eventually([&] {
    return inspector_.look(-1, faulting.tid(), &cause) ==
               thread_activity::blocked &&
           cause.kind == ACTIVATIONS_CAUSE_FAULT;
  }));
  EXPECT_NE(cause.address, 0u);
  pages.release();
}

TEST_F(LiveThread, AThreadThatEndedIsUnknown) {
  pid_t gone;
  int file;
  {
    pipe_read pipe;
    subject const brief([&] { pipe.block(); });
    gone = brief.tid();
    file = inspector_.open(gone);
    pipe.release();
  }
  EXPECT_TRUE(eventually([&] {
    return inspector_.look(file, gone, nullptr) == thread_activity::unknown;
  }));
  EXPECT_TRUE(eventually([&] { return inspector_.open(gone) < 0; }));
  ::close(file);
}

TEST_F(LiveThread, LookingKeepsErrno) {
  errno = EXDEV;
  (void)inspector_.look(-1, 0, nullptr);
  EXPECT_EQ(errno, EXDEV);
  (void)inspector_.look(-1, ::gettid(), nullptr);
  EXPECT_EQ(errno, EXDEV);
}

}  // namespace
