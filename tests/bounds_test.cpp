// SPDX-License-Identifier: BSL-1.0
// Bounds: the cap on kernel threads holds, surplus ones end, and a system that
// refuses threads, descriptors or memory makes a program slower, not wrong:
// it blocks like ordinary threads, and a counter says so.
#include <activations/activations.hpp>

#include <gtest/gtest.h>

#include <dirent.h>
#include <grp.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <sstream>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "blocking_ways.hpp"

namespace {

using namespace blocking_ways;
using activations::scheduler;
using activations::scheduler_options;
using activations::user_thread;

// One that was joined may be listed for a while yet: its flags say that it ends.
bool is_ending(char const* tid) {
  constexpr unsigned long pf_exiting = 4;
  std::ifstream file(std::string("/proc/self/task/") + tid + "/stat");
  std::string line;
  std::getline(file, line);
  auto const name_end = line.rfind(')');
  if (name_end == std::string::npos) return true;
  std::istringstream fields(line.substr(name_end + 1));
  std::string skipped;
  unsigned long flags = 0;
  for (int i = 0; i < 6; ++i) fields >> skipped;
  fields >> flags;
  return (flags & pf_exiting) != 0;
}

std::size_t kernel_threads() {
  std::size_t count = 0;
  DIR* const tasks = ::opendir("/proc/self/task");
  while (dirent const* const entry = ::readdir(tasks))
    count += entry->d_name[0] != '.' && !is_ending(entry->d_name);
  ::closedir(tasks);
  return count;
}

// Those of a scheduler that carry no user code: maker, monitor, sentinels.
constexpr std::size_t helpers(unsigned processors) {
  return 2 + processors;
}

// ---- the cap ---------------------------------------------------------------

TEST(Bounds, TheCapIsNeverExceeded) {
  for (unsigned const processors : {1u, 2u})
    for (unsigned const cap : {1u, 2u, 3u, 6u, 20u})
      for (bool const strict : {false, true}) {
        auto const before = kernel_threads();
        scheduler here({.processors = processors,
                        .max_activations = cap,
                        .strict = strict});
        auto const most = std::max(processors, cap);
        std::atomic<int> done{0};
        std::vector<user_thread> threads;
        for (int i = 0; i < 40; ++i)
          threads.push_back(here.spawn([&] {
            for (int round = 0; round < 4; ++round) {
              ::usleep(500);
              activations::this_thread::yield();
            }
            ++done;
          }));
        unsigned seen = 0;
        std::size_t seen_threads = 0;
        EXPECT_TRUE(eventually([&] {
          seen = std::max(seen, here.statistics().kernel_threads.activations);
          seen_threads = std::max(seen_threads, kernel_threads());
          return done == 40;
        }));
        EXPECT_LE(seen, most);
        EXPECT_LE(seen_threads, before + most + helpers(processors));
      }
}

TEST(Bounds, BlocksBeyondTheCapKeepTheirProcessorsAndAreCounted) {
  scheduler here({.processors = 1, .max_activations = 3});
  std::vector<std::unique_ptr<pipe_read>> pipes;
  std::vector<user_thread> threads;
  // In order of entry; written after the place in it was taken, so that who
  // is stopped between the two harms nobody.
  std::array<std::atomic<int>, 6> who;
  for (auto& one : who) one = -1;
  std::atomic<int> entered{0};
  std::atomic<int> left{0};
  for (int i = 0; i < 6; ++i) {
    pipes.push_back(std::make_unique<pipe_read>());
    threads.push_back(here.spawn([&, i, &pipe = *pipes.back()] {
      who[static_cast<std::size_t>(entered++)] = i;
      pipe.block();
      ++left;
    }));
  }
  EXPECT_TRUE(eventually([&] { return entered == 3; }));
  EXPECT_TRUE(eventually(
      [&] { return here.statistics().kernel_threads.no_spare > 0; }));
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(entered, 3);
  // Each that comes back lets the next one in.
  for (int i = 0; i < 6; ++i) {
    auto const& next = who[static_cast<std::size_t>(i)];
    ASSERT_TRUE(eventually([&] { return next >= 0; })) << i;
    pipes[static_cast<std::size_t>(next)]->release();
    EXPECT_TRUE(eventually([&] { return left == i + 1; })) << i;
  }
  EXPECT_EQ(entered, 6);
}

TEST(Bounds, SurplusThreadsEnd) {
  auto const before = kernel_threads();
  scheduler here({.processors = 2});
  pipe_read pipe;
  pipe_read second;
  std::atomic<int> entered{0};
  std::vector<user_thread> threads;
  for (int i = 0; i < 100; ++i)
    threads.push_back(here.spawn([&] {
      ++entered;
      pipe.block();
    }));
  EXPECT_TRUE(eventually([&] { return entered == 100; }));
  EXPECT_GE(here.statistics().kernel_threads.activations, 100u);
  pipe.release();
  threads.clear();
  EXPECT_TRUE(eventually([&] {
    return here.statistics().kernel_threads.activations <= 2 + 2 * 4 + 2;
  })) << here.statistics().kernel_threads.activations;
  // The counters are read one by one, and the last thread may just be ending.
  EXPECT_TRUE(eventually([&] {
    auto const now = here.statistics().kernel_threads;
    return now.created == now.ended + now.activations;
  }));
  auto const s = here.statistics().kernel_threads;
  EXPECT_GE(s.ended, 80u);
  EXPECT_TRUE(eventually(
      [&] { return kernel_threads() <= before + helpers(2) + s.activations; }));
  // The places of the ended ones serve again.
  entered = 0;
  for (int i = 0; i < 60; ++i)
    threads.push_back(here.spawn([&] {
      ++entered;
      second.block();
    }));
  EXPECT_TRUE(eventually([&] { return entered == 60; }));
  second.release();
}

TEST(Bounds, SpareCountsAreThoseThatArePossible) {
  scheduler here({.processors = 2, .max_activations = 5});
  EXPECT_TRUE(
      eventually([&] { return here.statistics().kernel_threads.spares == 3; }));
  auto const s = here.statistics().kernel_threads;
  EXPECT_EQ(s.activations, 5u);
  EXPECT_EQ(s.created, 5u);
  EXPECT_EQ(s.creation_failures, 0u);
}

// ---- refusals, each in a process of its own --------------------------------

constexpr int finished_well = 0;
constexpr int refused_to_start = 3;
constexpr int wrong = 4;

// The exit status of a child that runs `body`; a hang ends by a signal.
int in_child(std::function<int()> const& body) {
  std::fflush(nullptr);
  pid_t const child = ::fork();
  check(child >= 0, "fork");
  if (child == 0) {
    ::alarm(static_cast<unsigned>(hang_limit.count()));
    int result = wrong;
    try {
      result = body();
    } catch (std::exception const& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
    }
    ::_exit(result);
  }
  int status = 0;
  check(::waitpid(child, &status, 0) == child, "waitpid");
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void limit(int which, rlim_t to) {
  rlimit const both{to, to};
  check(::setrlimit(which, &both) == 0, "setrlimit");
}

// RLIMIT_NPROC does not bind root, and counts all of a user's threads: each
// caller is a user of its own, as others may run these tests at the same time.
void become_nobody_in_particular() {
  if (::getuid() != 0) return;
  // The group that may use the kernel module stays.
  struct stat device {};
  bool const has_module = ::stat("/dev/activations", &device) == 0;
  check(::setgroups(has_module, &device.st_gid) == 0, "setgroups");
  auto const nobody = static_cast<uid_t>(20'000 + ::getpid() % 40'000);
  check(::setgid(nobody) == 0, "setgid");
  check(::setuid(nobody) == 0, "setuid");
}

// Work that blocks everywhere; returns whether all of it was done.
bool work_through(scheduler& here) {
  std::atomic<int> done{0};
  std::mutex mutex;
  std::vector<user_thread> threads;
  for (int i = 0; i < 12; ++i)
    threads.push_back(here.spawn([&] {
      for (int round = 0; round < 5; ++round) {
        ::usleep(300);
        {
          std::lock_guard const lock(mutex);
          ::usleep(10);
        }
        activations::this_thread::sleep_for(100us);
        activations::this_thread::yield();
      }
      ++done;
    }));
  for (auto& thread : threads) thread.join();
  return done == 12;
}

TEST(Refusals, NoMoreThreadsOnceItRuns) {
  EXPECT_EQ(in_child([] {
              become_nobody_in_particular();
              scheduler here({.processors = 2});
              limit(RLIMIT_NPROC, 0);
              if (!work_through(here)) return wrong;
              // Blocks for as long as it takes to want another thread.
              pipe_read pipe;
              std::vector<user_thread> threads;
              for (int i = 0; i < 16; ++i)
                threads.push_back(here.spawn([&] { pipe.block(); }));
              bool const counted = eventually([&] {
                return here.statistics().kernel_threads.creation_failures > 0;
              });
              pipe.release();
              for (auto& thread : threads) thread.join();
              return counted && work_through(here) ? finished_well : wrong;
            }),
            finished_well);
}

TEST(Refusals, RepeatedRefusalsAreNotAskedForAgainAtOnce) {
  EXPECT_EQ(in_child([] {
              become_nobody_in_particular();
              scheduler here({.processors = 1});
              limit(RLIMIT_NPROC, 0);
              pipe_read pipe;
              std::vector<user_thread> threads;
              for (int i = 0; i < 16; ++i)
                threads.push_back(here.spawn([&] { pipe.block(); }));
              auto const failures = [&] {
                return here.statistics().kernel_threads.creation_failures;
              };
              if (!eventually([&] { return failures() > 0; })) return wrong;
              auto const before = failures();
              std::this_thread::sleep_for(500ms);
              auto const more = failures() - before;
              std::fprintf(stderr, "%d refusals in half a second\n",
                           static_cast<int>(more));
              pipe.release();
              for (auto& thread : threads) thread.join();
              // A retry in 100 ms is meant; ten times that is a storm.
              return more <= 50 ? finished_well : wrong;
            }),
            finished_well);
}

TEST(Refusals, AnyNumberOfThreadsIsEnoughOrRefusedAtTheStart) {
  int starts = 0;
  int refusals = 0;
  for (rlim_t threads = 1; threads <= 16; ++threads) {
    int const result = in_child([threads] {
      become_nobody_in_particular();
      limit(RLIMIT_NPROC, threads);
      try {
        scheduler here({.processors = 2});
        return work_through(here) ? finished_well : wrong;
      } catch (std::system_error const&) {
        return refused_to_start;
      }
    });
    EXPECT_TRUE(result == finished_well || result == refused_to_start)
        << threads << ": " << result;
    starts += result == finished_well;
    refusals += result == refused_to_start;
  }
  EXPECT_GT(starts, 0);
  // Not as root's own user: others may run threads under this one's.
  if (::getuid() == 0) {
    EXPECT_GT(refusals, 0);
  }
}

TEST(Refusals, FewDescriptorsAreEnough) {
  for (rlim_t const files : {3, 4, 5, 6, 8, 12, 64}) {
    EXPECT_EQ(in_child([files] {
                // Where the module cannot be opened for lack of one, too.
                ::unsetenv("ACTIVATIONS_BACKEND");
                limit(RLIMIT_NOFILE, files);
                scheduler here({.processors = 2, .slice = 2ms});
                return work_through(here) ? finished_well : wrong;
              }),
              finished_well)
        << files;
  }
}

TEST(Refusals, DescriptorsThatRunOutLaterAreEnough) {
  EXPECT_EQ(in_child([] {
              limit(RLIMIT_NOFILE, 64);
              scheduler here({.processors = 2, .slice = 2ms});
              std::vector<int> files;
              for (int f; (f = ::dup(0)) >= 0;) files.push_back(f);
              return work_through(here) && work_through(here) ? finished_well
                                                              : wrong;
            }),
            finished_well);
}

#if !ACTIVATIONS_ASAN && !ACTIVATIONS_TSAN
// Bytes of address space in use.
rlim_t address_space() {
  std::ifstream statm("/proc/self/statm");
  rlim_t pages = 0;
  statm >> pages;
  return pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE));
}

TEST(Refusals, LittleAddressSpaceIsEnoughOrRefused) {
  int starts = 0;
  int refusals = 0;
  for (rlim_t megabytes : {0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 128, 512}) {
    int const result = in_child([megabytes] {
      limit(RLIMIT_AS, address_space() + (megabytes << 20));
      try {
        scheduler here({.processors = 2});
        return work_through(here) ? finished_well : wrong;
      } catch (std::system_error const&) {
        return refused_to_start;
      } catch (std::bad_alloc const&) {
        return refused_to_start;
      }
    });
    EXPECT_TRUE(result == finished_well || result == refused_to_start)
        << megabytes << " MiB: " << result;
    starts += result == finished_well;
    refusals += result == refused_to_start;
  }
  EXPECT_GT(starts, 0);
  EXPECT_GT(refusals, 0);
}

TEST(Refusals, AddressSpaceThatRunsOutLaterIsSurvived) {
  for (rlim_t kilobytes : {0, 64, 256, 1024, 4096}) {
    EXPECT_EQ(in_child([kilobytes] {
                scheduler here({.processors = 2});
                // What is there already goes on; nothing new can be had.
                std::atomic<bool> limited{false};
                std::atomic<int> done{0};
                std::vector<user_thread> threads;
                for (int i = 0; i < 12; ++i)
                  threads.push_back(here.spawn([&] {
                    while (!limited) activations::this_thread::yield();
                    for (int round = 0; round < 10; ++round) {
                      ::usleep(300);
                      activations::this_thread::yield();
                    }
                    ++done;
                  }));
                limit(RLIMIT_AS, address_space() + (kilobytes << 10));
                limited = true;
                for (auto& thread : threads) thread.join();
                if (done != 12) return wrong;
                // New threads: either they run, or their maker is told.
                int started = 0;
                int refused = 0;
                for (int i = 0; i < 200; ++i) try {
                    threads[0] = here.spawn([] { ::usleep(100); });
                    ++started;
                  } catch (std::system_error const&) {
                    ++refused;
                  } catch (std::bad_alloc const&) {
                    ++refused;
                  }
                if (started + refused != 200) return wrong;
                return finished_well;
              }),
              finished_well)
        << kilobytes;
  }
}

TEST(Refusals, NoMemoryAtAllIsSurvived) {
  EXPECT_EQ(in_child([] {
              scheduler here({.processors = 2});
              std::atomic<bool> go{false};
              std::atomic<int> entered{0};
              std::atomic<int> done{0};
              pipe_read pipe;
              std::vector<user_thread> threads;
              for (int i = 0; i < 40; ++i)
                threads.push_back(here.spawn([&] {
                  while (!go) activations::this_thread::yield();
                  ++entered;
                  pipe.block();
                  activations::this_thread::yield();
                  ++done;
                }));
              limit(RLIMIT_AS, address_space());
              for (std::size_t bytes = 1 << 20; bytes >= 16; bytes /= 2)
                for (void* kept = &go; kept != nullptr;) {
                  kept = std::malloc(bytes);
                  // A compiler may leave out a malloc that nobody sees.
                  asm volatile("" : : "r"(kept) : "memory");
                }
              go = true;
              // Stacks of threads that ended earlier may serve them all.
              bool const counted = eventually([&] {
                return entered == 40 ||
                       here.statistics().kernel_threads.creation_failures > 0;
              });
              pipe.release();
              for (auto& thread : threads) thread.join();
              return counted && done == 40 ? finished_well : wrong;
            }),
            finished_well);
}
#endif

}  // namespace
