// SPDX-License-Identifier: BSL-1.0
//
// The tests of the kernel module against its raw device.  Needs root and a
// kernel that has loaded it.
//
//   kernel_tests [--gtest_filter=SUITE.*]
//   ACTIVATIONS_SECONDS=n     how long each long test goes on, default 2
//   ACTIVATIONS_SEED=n        repeats a random run
//   ACTIVATIONS_MODULE=FILE   activations.ko, for the tests that load it
//   ACTIVATIONS_SLOW_DISK=FILE  a slow disk of 64 MiB or more, to fault on
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>

#include "child.hpp"

int main(int argc, char** argv) {
  // What the tests of exec become.
  if (argc == 2 && std::strcmp(argv[1], "--exit-7") == 0) return 7;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  ::testing::InitGoogleTest(&argc, argv);
  if (!::testing::GTEST_FLAG(list_tests)) {
    std::printf("seed %llu, %lld ms for each long test\n",
                static_cast<unsigned long long>(kernel_tests::seed()),
                static_cast<long long>(kernel_tests::budget().count()));
  }
  return RUN_ALL_TESTS();
}
