// SPDX-License-Identifier: BSL-1.0
// Reports appear whole or not at all.
#include "output_file.hpp"

#include "scratch_directory.hpp"

#include <sys/resource.h>

#include <gtest/gtest.h>

#include <csignal>
#include <stdexcept>
#include <string>

namespace {

using http_service::output_file;

std::string message_of(std::runtime_error const& error) {
  return error.what();
}

TEST(OutputFile, AppearsWhenPublished) {
  scratch_directory const scratch;
  auto const path = scratch.path("report");
  output_file file(path);
  file.write("whole");
  EXPECT_FALSE(scratch.has("report"));
  file.publish();
  EXPECT_EQ(scratch.read("report"), "whole");
  EXPECT_EQ(scratch.count(), 1);
}

TEST(OutputFile, LeavesNothingWhenNotPublished) {
  scratch_directory const scratch;
  { output_file(scratch.path("report")).write("half"); }
  EXPECT_EQ(scratch.count(), 0);
}

TEST(OutputFile, FullDiskLeavesTheOldFileAlone) {
  scratch_directory const scratch;
  scratch.write("report", "old");
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  rlimit const small{4'096, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  std::string message;
  try {
    output_file file(scratch.path("report"));
    file.write(std::string(10'000, 'x'));
    file.publish();
  } catch (std::runtime_error const& error) {
    message = message_of(error);
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(message,
            "cannot write " + scratch.path("report") + ": File too large");
  EXPECT_EQ(scratch.read("report"), "old");
  EXPECT_EQ(scratch.count(), 1);
}

TEST(OutputFile, RefusesWhatIsNotARegularFile) {
  EXPECT_THROW(output_file("/dev/full"), std::runtime_error);
}

}  // namespace
