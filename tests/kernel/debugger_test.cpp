// SPDX-License-Identifier: BSL-1.0
//
// A debugger sees each thread where it really is, and the program goes on
// unharmed when it lets go. One that stops a thread in the few instructions
// between its stop and the call of the stub sees the stub; the real registers
// are then where rsi points.
#include <dirent.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <vector>

#include "scene.hpp"

namespace kernel_tests {
namespace {

using namespace std::chrono_literals;

std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> result;
  DIR* directory = opendir(("/proc/" + std::to_string(pid) + "/task").c_str());
  while (dirent* entry = directory ? readdir(directory) : nullptr) {
    if (entry->d_name[0] != '.') result.push_back(std::atoi(entry->d_name));
  }
  if (directory) closedir(directory);
  return result;
}

bool in_stub(std::uint64_t address) {
  for (auto stub : {park_stub::plain(), park_stub::wide()}) {
    if (address >= stub.address && address < stub.address + stub.bytes) {
      return true;
    }
  }
  return false;
}

class Debugger : public ::testing::TestWithParam<scene_kind> {};
INSTANTIATE_TEST_SUITE_P(In, Debugger,
                         ::testing::Values(scene_kind::busy, scene_kind::storm),
                         [](auto const& info) { return name_of(info.param); });

// Runs until it is told by SIGTERM, then checks.
std::atomic<bool> told;
void play(scene_kind kind) {
  struct sigaction action = {};
  action.sa_handler = [](int) { told = true; };
  sigaction(SIGTERM, &action, nullptr);
  scene now(kind);
  now.begin();
  while (!told) std::this_thread::sleep_for(1ms);
  now.finish();
  EXPECT_EQ(now.findings.corrupt.load(), 0u) << now.findings.describe();
}

bool attach(pid_t tid) {
  if (ptrace(PTRACE_ATTACH, tid, 0, 0) != 0) return false;
  int status = 0;
  return waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status);
}

TEST_P(Debugger, SeesTheRealRegisters) {
  child process([] { play(GetParam()); });
  ASSERT_TRUE(process.wait_for(1));
  unsigned looked = 0, at_stub = 0, unexplained = 0, failed = 0;
  for (int round = 0; round < 5; ++round) {
    for (pid_t tid : threads_of(process.pid())) {
      if (!attach(tid)) {
        ++failed;
        continue;
      }
      user_regs_struct registers = {};
      ptrace(PTRACE_GETREGS, tid, 0, &registers);
      ++looked;
      if (in_stub(registers.rip)) {
        ++at_stub;
        // activations_registers.bytes: not 0 while it holds a thread's.
        long const word = ptrace(PTRACE_PEEKDATA, tid, registers.rsi, 0);
        if (static_cast<std::uint32_t>(word) == 0) ++unexplained;
      }
      ptrace(PTRACE_DETACH, tid, 0, 0);
    }
  }
  kill(process.pid(), SIGTERM);
  outcome const result = process.wait();
  found(
      "%u looks at threads, %u in the stub, %u of them without the real "
      "registers, %u could not be attached to",
      looked, at_stub, unexplained, failed);
  EXPECT_GT(looked, 0u);
  EXPECT_EQ(unexplained, 0u);
  EXPECT_EQ(failed, 0u);
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
}

TEST_P(Debugger, SetsTheRegistersItRead) {
  child process([] { play(GetParam()); });
  ASSERT_TRUE(process.wait_for(1));
  unsigned set = 0;
  for (int round = 0; round < 5; ++round) {
    for (pid_t tid : threads_of(process.pid())) {
      if (!attach(tid)) continue;
      user_regs_struct registers = {};
      if (ptrace(PTRACE_GETREGS, tid, 0, &registers) == 0 &&
          ptrace(PTRACE_SETREGS, tid, 0, &registers) == 0) {
        ++set;
      }
      ptrace(PTRACE_DETACH, tid, 0, 0);
    }
  }
  kill(process.pid(), SIGTERM);
  outcome const result = process.wait();
  found("%u times set", set);
  EXPECT_GT(set, 0u);
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
}

// Back to a stop: a thread that was told to step sleeps in a call.
void stop_again(pid_t pid, pid_t tid) {
  raw_call(SYS_tgkill, pid, tid, SIGSTOP);
  int status = 0;
  while (waitpid(tid, &status, __WALL) == tid && WIFSTOPPED(status) &&
         WSTOPSIG(status) != SIGSTOP) {
    // The trap of the step that ended first.
    ptrace(PTRACE_CONT, tid, 0, 0);
  }
}

// One thread at a time, while the others run and are stopped.
TEST(DebuggerSteps, NeverShowTheStub) {
  child process([] { play(scene_kind::storm); });
  ASSERT_TRUE(process.wait_for(1));
  unsigned steps = 0, at_stub = 0, threads = 0;
  auto all = threads_of(process.pid());
  for (unsigned n = 0; n < 10 * all.size() && steps < 2000; ++n) {
    pid_t const tid = all[n % all.size()];
    if (!attach(tid)) continue;
    ++threads;
    bool first = true;
    for (int n = 0; n < 200; ++n) {
      user_regs_struct registers = {};
      ptrace(PTRACE_GETREGS, tid, 0, &registers);
      // The first look may be at one on its way to park.
      if (in_stub(registers.rip) && !first) ++at_stub;
      if (in_stub(registers.rip)) break;
      first = false;
      // In a call: it would not come back soon.
      if (static_cast<long>(registers.orig_rax) >= 0) break;
      if (ptrace(PTRACE_SINGLESTEP, tid, 0, 0) != 0) break;
      ++steps;
      int status = 0;
      pid_t got = 0;
      for (int tries = 0; tries < 50 && got != tid; ++tries) {
        got = waitpid(tid, &status, __WALL | WNOHANG);
        if (got != tid) std::this_thread::sleep_for(1ms);
      }
      if (got != tid) {
        stop_again(process.pid(), tid);
        break;
      }
      if (!WIFSTOPPED(status)) break;
    }
    // ptrace leaves the trap flag behind when it stepped over a popf.
    user_regs_struct registers = {};
    ptrace(PTRACE_GETREGS, tid, 0, &registers);
    registers.eflags &= ~0x100ull;
    ptrace(PTRACE_SETREGS, tid, 0, &registers);
    ptrace(PTRACE_DETACH, tid, 0, 0);
  }
  kill(process.pid(), SIGTERM);
  outcome const result = process.wait();
  found("%u steps of %u threads, %u in the stub", steps, threads, at_stub);
  EXPECT_GT(steps, 0u);
  EXPECT_EQ(at_stub, 0u);
  EXPECT_TRUE(result.exited_with(0)) << result.describe();
}

}  // namespace
}  // namespace kernel_tests
