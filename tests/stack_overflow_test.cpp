// SPDX-License-Identifier: BSL-1.0
#include <activations/detail/context.hpp>
#include <activations/detail/stack.hpp>
#include <activations/detail/stack_overflow.hpp>

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <thread>

namespace {

using namespace activations::detail;

stack_pool_options with_policy(guard_policy policy) {
  stack_pool_options options;
  options.policy = policy;
  return options;
}

stack_owner running;  // what the scheduler would know

bool look_up(stack_owner& owner) noexcept {
  owner = running;
  return static_cast<bool>(running.where);
}

[[gnu::noinline]] int recurse(int depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? 0 : recurse(depth - 1) + frame[0];
}

// Calls f on a stack of the pool, as user thread 17, "deep".
void run_on(stack_pool& pool, void (*f)()) {
  static context outside;
  static context inside;
  static void (*body)();
  body = f;
  running = {17, "deep", pool.allocate(64 * 1024)};
  context_init_native(outside);
  context_make(
      inside, running.where.base, running.where.size,
      [](void*) {
        context_enter(inside);
        body();
        context_switch_final(inside, outside);
      },
      nullptr);
  context_switch(outside, inside);
  if (!stack_is_intact(running.where, inside.sp)) stack_overrun(running);
  context_finish(inside);
  running = {};
}

void overflow(guard_policy policy) {
  alternate_stack const signals;
  stack_overflow_reporter::install(&look_up);
  stack_pool pool(with_policy(policy));
  run_on(pool, [] { recurse(1'000'000); });
}

// Those of a sanitizer.
void forget_handlers() {
  ::signal(SIGSEGV, SIG_DFL);
  ::signal(SIGBUS, SIG_DFL);
}

TEST(StackOverflowDeathTest, NamesThreadStackAndSize) {
  EXPECT_DEATH(overflow(guard_policy::best),
               "activations: stack overflow in user thread 17 \\(deep\\): its "
               "stack of 6[0-9]+ bytes at 0x[0-9a-f]+ was left at 0x[0-9a-f]+; "
               "give it a larger stack_bytes");
  EXPECT_DEATH(overflow(guard_policy::pages),
               "stack overflow in user thread 17 \\(deep\\).* was left at");
}

TEST(StackOverflowDeathTest, IsFoundAtTheNextSwitchWithoutAGuard) {
  EXPECT_DEATH(
      {
        stack_pool pool(with_policy(guard_policy::canaries));
        run_on(pool, [] {
          // As a large local array would: down to the canary and below it.
          auto* const low = running.where.base;
          for (int i = -64; i < 8; ++i)
            *reinterpret_cast<volatile char*>(low + i) = 1;
        });
      },
      "stack overflow in user thread 17 \\(deep\\): .* was overrun");
}

TEST(StackOverflowDeathTest, EndsByTheSignalOfTheFault) {
  EXPECT_EXIT(
      {
        forget_handlers();
        overflow(guard_policy::best);
      },
      testing::KilledBySignal(SIGSEGV), "stack overflow");
}

void own_handler(int) {
  constexpr char text[] = "the program's own handler\n";
  [[maybe_unused]] auto const n = ::write(2, text, sizeof text - 1);
  ::_exit(3);
}

void own_handler_with_info(int, siginfo_t* info, void*) {
  bool const right = info->si_addr == reinterpret_cast<void*>(0x123450);
  ::_exit(right ? 4 : 5);
}

void touch(std::uintptr_t address) {
  *reinterpret_cast<volatile char*>(address) = 1;
}

TEST(StackOverflowDeathTest, EarlierHandlerGetsItsFaultAfterTheReport) {
  EXPECT_EXIT(
      {
        struct sigaction action {};
        action.sa_handler = &own_handler;
        ::sigaction(SIGSEGV, &action, nullptr);
        overflow(guard_policy::best);
      },
      testing::ExitedWithCode(3),
      "stack overflow in user thread 17.*\n.*the program's own handler");
}

TEST(StackOverflowDeathTest, UnrelatedFaultGoesToTheEarlierHandlerAlone) {
  EXPECT_EXIT(
      {
        struct sigaction action {};
        action.sa_sigaction = &own_handler_with_info;
        action.sa_flags = SA_SIGINFO;
        ::sigaction(SIGSEGV, &action, nullptr);
        alternate_stack const signals;
        stack_overflow_reporter::install(&look_up);
        stack_pool pool;
        run_on(pool, [] { touch(0x123450); });
      },
      testing::ExitedWithCode(4), "^$");
}

TEST(StackOverflowDeathTest, UnrelatedFaultAndSentSignalKeepTheirDefault) {
  EXPECT_EXIT(
      {
        forget_handlers();
        alternate_stack const signals;
        stack_overflow_reporter::install(&look_up);
        touch(0x123450);
      },
      testing::KilledBySignal(SIGSEGV), "^$");
  EXPECT_EXIT(
      {
        forget_handlers();
        stack_overflow_reporter::install(&look_up);
        ::raise(SIGBUS);
        ::pause();
      },
      testing::KilledBySignal(SIGBUS), "^$");
}

TEST(StackOverflow, HandlersAreRestoredWhenTheLastUserGoes) {
  struct sigaction before;
  struct sigaction between;
  struct sigaction after;
  ::sigaction(SIGSEGV, nullptr, &before);
  stack_overflow_reporter::install(&look_up);
  stack_overflow_reporter::install(&look_up);
  stack_overflow_reporter::uninstall();
  ::sigaction(SIGSEGV, nullptr, &between);
  EXPECT_NE(between.sa_sigaction, before.sa_sigaction);
  EXPECT_NE(between.sa_flags & SA_ONSTACK, 0);
  stack_overflow_reporter::uninstall();
  ::sigaction(SIGSEGV, nullptr, &after);
  EXPECT_EQ(after.sa_sigaction, before.sa_sigaction);
}

TEST(StackOverflow, HandlerInstalledInBetweenStays) {
  stack_overflow_reporter::install(&look_up);
  struct sigaction mine {};
  struct sigaction original;
  mine.sa_handler = &own_handler;
  ::sigaction(SIGSEGV, &mine, &original);
  stack_overflow_reporter::uninstall();
  struct sigaction after;
  ::sigaction(SIGSEGV, nullptr, &after);
  EXPECT_EQ(after.sa_handler, &own_handler);
  ::sigaction(SIGSEGV, &original, nullptr);
}

TEST(AlternateStack, IsSetUpOnceAndTakenDown) {
  std::thread([] {
    stack_t before;
    ::sigaltstack(nullptr, &before);
    {
      alternate_stack const first;
      alternate_stack const second;
      EXPECT_EQ(first.is_owner(), (before.ss_flags & SS_DISABLE) != 0);
      EXPECT_FALSE(second.is_owner());
      stack_t during;
      ::sigaltstack(nullptr, &during);
      EXPECT_EQ(during.ss_flags & SS_DISABLE, 0);
    }
    stack_t after;
    ::sigaltstack(nullptr, &after);
    EXPECT_EQ(after.ss_flags & SS_DISABLE, before.ss_flags & SS_DISABLE);
  }).join();
}

}  // namespace
