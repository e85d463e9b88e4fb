// SPDX-License-Identifier: BSL-1.0
// Which backend a scheduler gets, and what the kernel's one says of itself.
// Most machines have no module: there these tests hold the refusal to its
// rules, and the rest of the unit tests in a virtual machine (./do vm) hold
// the backend to all others.
#include <activations/activations.hpp>

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <system_error>
#include <vector>

#include "blocking_ways.hpp"

namespace {

using activations::backend_choice;
using activations::scheduler;
using activations::scheduler_options;
using activations::threading;
using activations::user_thread;
using namespace blocking_ways;

namespace detail = activations::detail;

bool module_is_there() {
  return ::access("/dev/activations", R_OK | W_OK) == 0;
}

class environment {
 public:
  explicit environment(char const* backend) {
    if (char const* const before = std::getenv(name)) before_ = before;
    if (backend == nullptr)
      ::unsetenv(name);
    else
      ::setenv(name, backend, 1);
  }
  ~environment() {
    if (before_.empty())
      ::unsetenv(name);
    else
      ::setenv(name, before_.c_str(), 1);
  }
  environment(environment const&) = delete;
  environment& operator=(environment const&) = delete;

 private:
  static constexpr char const* name = "ACTIVATIONS_BACKEND";
  std::string before_;
};

std::string described(scheduler_options const& options = {}) {
  return scheduler(options).describe();
}

int error_of(std::function<void()> const& made) {
  try {
    made();
  } catch (std::system_error const& error) {
    return error.code().value();
  }
  return 0;
}

bool begins(std::string const& text, char const* with) {
  return text.rfind(with, 0) == 0;
}

TEST(BackendChoice, AutomaticTakesTheModuleOrSaysWhyNot) {
  environment const unset(nullptr);
  auto const text = described();
  if (module_is_there())
    EXPECT_TRUE(begins(text, "kernel backend (/dev/activations): ")) << text;
  else
    EXPECT_TRUE(begins(text, "portable backend (")) << text;
  if (::access("/dev/activations", F_OK) != 0) {
    EXPECT_TRUE(begins(text, "portable backend (no /dev/activations): "))
        << text;
  }
}

TEST(BackendChoice, KernelMeansTheModuleOrAnError) {
  auto const made = [] { scheduler({.backend = backend_choice::kernel}); };
  if (module_is_there())
    EXPECT_EQ(error_of(made), 0);
  else
    EXPECT_NE(error_of(made), 0);
}

TEST(BackendChoice, TheErrorNamesTheDevice) {
  if (::access("/dev/activations", F_OK) == 0) {
    // There, and lends no more than so many.
    EXPECT_EQ(
        error_of([] {
          scheduler({.processors = 1000, .backend = backend_choice::kernel});
        }),
        ENOSPC);
    return;
  }
  try {
    scheduler({.backend = backend_choice::kernel});
    FAIL();
  } catch (std::system_error const& error) {
    EXPECT_EQ(error.code().value(), ENOENT);
    EXPECT_NE(std::strstr(error.what(), "/dev/activations"), nullptr)
        << error.what();
  }
}

TEST(BackendChoice, TheEnvironmentDecidesWhereTheProgramDoesNot) {
  {
    environment const portable("portable");
    auto const text = described();
    EXPECT_TRUE(begins(text, "portable backend (ACTIVATIONS_BACKEND")) << text;
  }
  {
    environment const kernel("kernel");
    EXPECT_EQ(error_of([] { described(); }) == 0, module_is_there());
    auto const text = described({.backend = backend_choice::portable});
    EXPECT_TRUE(begins(text, "portable backend (as asked for)")) << text;
  }
}

TEST(BackendChoice, ModelsWithoutHandOverArePortable) {
  environment const kernel("kernel");
  for (auto const model : {threading::many_to_one, threading::one_to_one}) {
    auto const text = described({.model = model});
    EXPECT_TRUE(begins(text, "portable backend (")) << text;
    EXPECT_EQ(error_of([model] {
                scheduler({.model = model, .backend = backend_choice::kernel});
              }),
              EINVAL);
  }
}

TEST(BackendChoice, StatisticsOfTheOtherBackendAreZero) {
  scheduler here({.processors = 1, .backend = backend_choice::portable});
  auto const s = here.statistics();
  EXPECT_EQ(s.kernel.created, 0u);
  EXPECT_GE(s.portable.created, 1u);
  EXPECT_GE(s.kernel_threads.created, 1u);
}

TEST(ParkStub, BeginsWithABareSystemCall) {
  if constexpr (detail::arch::has_park_stub) {
    auto const stub = detail::arch::find_park_stub();
    unsigned char code[2];
    std::memcpy(code, reinterpret_cast<void const*>(stub.address), 2);
    EXPECT_EQ(code[0], 0x0F);
    EXPECT_EQ(code[1], 0x05);
    EXPECT_GT(stub.bytes, 2u);
    EXPECT_LT(stub.bytes, 256u);
    // The same each time: the kernel was told once.
    EXPECT_EQ(detail::arch::find_park_stub().address, stub.address);
  }
}

TEST(LockOwner, IsNotWorthSpinningForUnlessPublishedAsRunning) {
  scheduler here({.processors = 1, .backend = backend_choice::portable});
  here.run([] {
    detail::lock_owner owner;
    owner.set_to_caller();
    EXPECT_TRUE(owner.may_be_running());
    auto& state = detail::current_activation()->info->state;
    // As a kernel says that another program has its CPU.
    state.store(ACTIVATIONS_ACTIVATION_PREEMPTED);
    EXPECT_FALSE(owner.may_be_running());
    state.store(ACTIVATIONS_ACTIVATION_RUNNING);
    EXPECT_TRUE(owner.may_be_running());
    owner.clear();
  });
}

// ---- with the module -------------------------------------------------------

TEST(KernelStatistics, CountHandOversAndReturns) {
  if (!module_is_there()) return;  // see above
  scheduler here({.processors = 1, .backend = backend_choice::kernel});
  pipe_read pipe;
  std::atomic<int> entered{0};
  std::vector<user_thread> threads;
  for (int i = 0; i < 20; ++i)
    threads.push_back(here.spawn([&] {
      ++entered;
      pipe.block();
    }));
  EXPECT_TRUE(eventually([&] { return entered == 20; }));
  EXPECT_GE(here.statistics().kernel.blocks, 19u);
  pipe.release();
  threads.clear();
  auto const s = here.statistics();
  EXPECT_GE(s.kernel_threads.created, 20u);
  EXPECT_EQ(s.kernel.refusals, 0u);
  EXPECT_EQ(s.portable.created, 0u);
}

TEST(KernelStatistics, CountStopsOfThoseThatCompute) {
  if (!module_is_there()) return;
  scheduler here(
      {.processors = 1, .slice = 1ms, .backend = backend_choice::kernel});
  std::atomic<bool> over{false};
  std::vector<user_thread> hogs;
  for (int i = 0; i < 2; ++i)
    hogs.push_back(here.spawn([&] {
      while (!over) {
      }
    }));
  EXPECT_TRUE(
      eventually([&] { return here.statistics().kernel.preemptions >= 5; }));
  over = true;
}

TEST(KernelStatistics, CountBlocksWithNothingWaiting) {
  if (!module_is_there()) return;
  scheduler here({.processors = 1, .backend = backend_choice::kernel});
  EXPECT_TRUE(eventually([&] {
    // The first block hands over; who looks then, in vain, says so.
    here.run([] {
      for (int i = 0; i < 5; ++i) ::usleep(1000);
    });
    return here.statistics().kernel.keeps > 0;
  }));
}

}  // namespace
