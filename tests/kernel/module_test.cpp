// SPDX-License-Identifier: BSL-1.0
//
// Loading and unloading, and memory that runs out at each allocation.
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>

#include "scene.hpp"

namespace kernel_tests {
namespace {

class Module : public ::testing::Test {
 protected:
  void SetUp() override {
    if (access(module_file(), R_OK) != 0) {
      GTEST_SKIP() << "no module file: neither ACTIVATIONS_MODULE nor "
                   << module_file();
    }
    ASSERT_TRUE(module_becomes_idle());
  }
};

TEST_F(Module, IsNotLoadedTwice) {
  EXPECT_EQ(load_module(), -EEXIST);
  found("EEXIST");
}

TEST_F(Module, InUseIsNotUnloaded) {
  for (auto kind : {scene_kind::busy, scene_kind::idle, scene_kind::keeper,
                    scene_kind::storm}) {
    child process([kind] {
      scene now(kind);
      now.begin();
      for (;;) pause();
    });
    ASSERT_TRUE(process.wait_for(1));
    EXPECT_EQ(unload_module(), -EWOULDBLOCK) << name_of(kind);
  }
  found("EWOULDBLOCK in 4 scenes");
}

TEST_F(Module, UnloadsAfterUseAndLoadsAgain) {
  for (int i = 0; i < 3; ++i) {
    {
      child process([] {
        scene now(scene_kind::storm);
        now.begin();
        for (;;) pause();
      });
      ASSERT_TRUE(process.wait_for(1));
    }
    ASSERT_TRUE(module_becomes_idle());
    ASSERT_EQ(unload_module(), 0);
    EXPECT_LT(open_device(), 0);
    ASSERT_EQ(load_module(), 0);
  }
  found("3 times");
}

TEST_F(Module, AllocationsMayFail) {
  std::string const parameter =
      "/sys/module/activations/parameters/fail_allocation";
  if (access(parameter.c_str(), W_OK) != 0) {
    GTEST_SKIP() << "the module is built without " << parameter;
  }
  auto const set = [&](int n) { std::ofstream(parameter) << n << std::flush; };
  int n = 1, refused = 0;
  for (; n < 200; ++n) {
    set(n);
    child process([] {
      int const fd = open_device();
      if (fd < 0) _exit(fd == -ENOMEM ? 2 : 3);
      auto argument = open_argument(2, 8);
      long const opened = raw_ioctl(fd, ACTIVATIONS_IOCTL_OPEN, &argument);
      if (opened < 0) _exit(opened == -ENOMEM ? 2 : 3);
      activations_attach attach = {};
      attach.registers = 4096;
      for (unsigned i = 0; i < 4; ++i) {
        attach.index = i;
        attach.processor = i ? none : 0;
        std::thread([&] {
          long const attached =
              raw_ioctl(fd, ACTIVATIONS_IOCTL_ATTACH, &attach);
          if (attached < 0) _exit(attached == -ENOMEM ? 2 : 3);
        }).join();
      }
      _exit(0);
    });
    outcome const result = process.wait();
    EXPECT_TRUE(result.exited_with(0) || result.exited_with(2))
        << "allocation " << n << ": " << result.describe();
    if (result.exited_with(2)) ++refused;
    // Not one left to fail.
    if (text_of(parameter) != "0") break;
  }
  set(0);
  EXPECT_TRUE(module_becomes_idle());
  found("%d allocations, %d of which the program was told of", n - 1, refused);
  EXPECT_GT(refused, 0);
  child process([] {
    scene now(scene_kind::busy);
    now.begin();
    now.finish();
  });
  EXPECT_TRUE(process.wait().exited_with(0));
}

}  // namespace
}  // namespace kernel_tests
