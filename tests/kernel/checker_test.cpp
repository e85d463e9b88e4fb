// SPDX-License-Identifier: BSL-1.0
//
// Negative controls of the register checker itself: what a handler changes in
// its frame is corruption, and has to be found. Needs no module.
#include <signal.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include <cstring>

#include "raw_call.hpp"
#include "registers.hpp"

namespace kernel_tests {
namespace {

enum class damage { nothing, r12, flags, xmm, red_zone, x87 };
damage wanted;

void damaging_handler(int, siginfo_t*, void* frame) {
  auto& context = *static_cast<ucontext_t*>(frame);
  auto& registers = context.uc_mcontext.gregs;
  switch (wanted) {
    case damage::nothing:
      break;
    case damage::r12:
      registers[REG_R12] ^= 1;
      break;
    case damage::flags:
      registers[REG_EFL] ^= 1;
      break;
    case damage::xmm:
      context.uc_mcontext.fpregs->_xmm[5].element[1] ^= 4;
      break;
    case damage::x87:
      context.uc_mcontext.fpregs->_st[3].significand[0] ^= 1;
      break;
    case damage::red_zone: {
      std::uint64_t word;
      auto* at = reinterpret_cast<char*>(registers[REG_RSP]) - 64;
      std::memcpy(&word, at, 8);
      word ^= 1;
      std::memcpy(at, &word, 8);
    }
  }
}

struct with_handler {
  with_handler() {
    struct sigaction action = {};
    action.sa_sigaction = damaging_handler;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &action, nullptr);
  }
};

// The handler runs inside the call, on the way back to user mode.
bool survives(damage kind) {
  with_handler handler;
  register_findings findings;
  register_checker checker(findings, seed());
  wanted = kind;
  long result;
  return checker.call(SYS_tgkill, getpid(), gettid(), SIGUSR1, 0, result);
}

TEST(Checker, FindsNothingWhereNothingIsWrong) {
  register_findings findings;
  register_checker checker(findings, seed());
  unsigned char byte = 0;
  unsigned char const memory = 0x5a;
  long result;
  for (int i = 0; i < 1000; ++i) {
    checker.loop(50);
    checker.call(SYS_getpid, 0, 0, 0, 0, result);
    EXPECT_EQ(result, getpid());
    checker.fault(&memory, byte);
    EXPECT_EQ(byte, 0x5a);
  }
  EXPECT_TRUE(survives(damage::nothing));
  EXPECT_EQ(findings.corrupt, 0u) << findings.describe();
  found("%s", findings.describe().c_str());
}

TEST(Checker, FindsAChangedRegister) {
  EXPECT_FALSE(survives(damage::r12));
}
TEST(Checker, FindsAChangedFlag) {
  EXPECT_FALSE(survives(damage::flags));
}
TEST(Checker, FindsAChangedVectorRegister) {
  EXPECT_FALSE(survives(damage::xmm));
}
TEST(Checker, FindsAChangedX87Register) {
  EXPECT_FALSE(survives(damage::x87));
}
TEST(Checker, FindsAChangedRedZone) {
  EXPECT_FALSE(survives(damage::red_zone));
}

}  // namespace
}  // namespace kernel_tests
