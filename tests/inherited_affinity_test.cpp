// SPDX-License-Identifier: BSL-1.0
// Activations sit on one CPU each; threads and children that user code makes
// on one may use all CPUs of the process.
#include <activations/activations.hpp>

#include <gtest/gtest.h>

#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <optional>
#include <thread>

namespace {

using activations::scheduler;

cpu_set_t mask_here() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  EXPECT_EQ(sched_getaffinity(0, sizeof mask, &mask), 0);
  return mask;
}
bool same(cpu_set_t const& a, cpu_set_t const& b) {
  return CPU_EQUAL(&a, &b) != 0;
}
cpu_set_t mask_of_new_thread() {
  cpu_set_t mask;
  std::thread([&] { mask = mask_here(); }).join();
  return mask;
}
// True if a child that is forked here has this mask.
bool child_has(cpu_set_t const& mask) {
  pid_t const child = ::fork();
  if (child == 0) {
    cpu_set_t mine;
    CPU_ZERO(&mine);
    sched_getaffinity(0, sizeof mine, &mine);
    ::_exit(CPU_EQUAL(&mine, &mask) ? 0 : 1);
  }
  int status = -1;
  while (::waitpid(child, &status, 0) < 0) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Sanitizers make threads with attributes of their own, which inherit the one
// CPU (docs/differences.md).
#if ACTIVATIONS_ASAN || ACTIVATIONS_TSAN
constexpr bool default_attributes_reach_the_system = false;
#else
constexpr bool default_attributes_reach_the_system = true;
#endif

class InheritedAffinity : public testing::Test {
 protected:
  InheritedAffinity() : whole_(mask_here()) {}
  cpu_set_t whole_;
};

TEST_F(InheritedAffinity, AnActivationSitsOnOneCpu) {
  scheduler here({.backend = activations::backend_choice::portable});
  cpu_set_t const mask = here.run([] { return mask_here(); });
  EXPECT_EQ(CPU_COUNT(&mask), 1);
}

#if !ACTIVATIONS_ASAN && !ACTIVATIONS_TSAN
TEST_F(InheritedAffinity, AThreadMadeInAUserThreadHasTheProcesssMask) {
  scheduler here;
  EXPECT_TRUE(same(here.run([] { return mask_of_new_thread(); }), whole_));
  // By an activation that was made later, too: these block first.
  std::vector<activations::user_thread> threads;
  std::atomic<int> good{0};
  for (int i = 0; i < 8; ++i)
    threads.push_back(here.spawn([&] {
      ::usleep(1000);
      good += same(mask_of_new_thread(), whole_);
    }));
  threads.clear();
  EXPECT_EQ(good, 8);
}

TEST_F(InheritedAffinity, AThreadOfAThreadHasIt) {
  scheduler here;
  cpu_set_t mask;
  here.run([&] { std::thread([&] { mask = mask_of_new_thread(); }).join(); });
  EXPECT_TRUE(same(mask, whole_));
}
#endif

TEST_F(InheritedAffinity, AForkedChildHasTheProcesssMask) {
  scheduler here;
  EXPECT_TRUE(here.run([this] { return child_has(whole_); }));
  EXPECT_TRUE(child_has(whole_));
}

TEST_F(InheritedAffinity, TheThreadThatMadeTheSchedulerKeepsItsMask) {
  scheduler here;
  here.run([] {});
  EXPECT_TRUE(same(mask_here(), whole_));
}

TEST_F(InheritedAffinity, HoldsUntilTheLastSchedulerIsGone) {
  std::optional<scheduler> first(std::in_place);
  std::optional<scheduler> second(std::in_place);
  first.reset();
  if (default_attributes_reach_the_system) {
    EXPECT_TRUE(same(second->run([] { return mask_of_new_thread(); }), whole_));
  }
  EXPECT_TRUE(second->run([this] { return child_has(whole_); }));
  second.reset();
  // Back to the system's rule: a new thread has its maker's mask.
  std::thread([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
      if (CPU_ISSET(cpu, &whole_)) {
        CPU_SET(cpu, &one);
        break;
      }
    sched_setaffinity(0, sizeof one, &one);
    EXPECT_TRUE(same(mask_of_new_thread(), one));
    EXPECT_TRUE(child_has(one));
  }).join();
  EXPECT_TRUE(same(mask_of_new_thread(), whole_));
}

TEST_F(InheritedAffinity, OtherDefaultAttributesStayAsTheyWere) {
  pthread_attr_t before;
  ASSERT_EQ(pthread_getattr_default_np(&before), 0);
  std::size_t stack_before = 0;
  pthread_attr_getstacksize(&before, &stack_before);
  {
    scheduler here;
    pthread_attr_t during;
    ASSERT_EQ(pthread_getattr_default_np(&during), 0);
    std::size_t stack_during = 0;
    pthread_attr_getstacksize(&during, &stack_during);
    EXPECT_EQ(stack_during, stack_before);
    pthread_attr_destroy(&during);
  }
  pthread_attr_destroy(&before);
}

}  // namespace
