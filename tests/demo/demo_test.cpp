// SPDX-License-Identifier: BSL-1.0
// http_service_demo from outside: its options, its reports, and that whatever
// goes wrong ends in one clear sentence with nothing half-written.
#include "scratch_directory.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sqlite3.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <thread>
#include <vector>

extern char** environ;

namespace {

using namespace std::chrono_literals;

// The smallest run that still asks every kind of question.
std::string const small_run = " --seconds 0.5 --rate 100 --products 500";

struct outcome {
  int status;  // of exit; 128 + N: ended by signal N
  std::string output, error;

  bool is_one_sentence() const {
    return error.starts_with("http_service_demo: ") &&
           std::count(error.begin(), error.end(), '\n') == 1 &&
           error.ends_with("\n");
  }
  bool says(std::string const& words) const {
    return error.find(words) != std::string::npos;
  }
};

class Demo : public testing::Test {
 protected:
  // Runs the program by the shell, in an empty directory of its own, and
  // `meanwhile` beside it.
  outcome run(std::string const& arguments, std::string const& before = "",
              std::function<void(pid_t)> const& meanwhile = {}) {
    auto const command = before + "cd " + scratch_.path() +
                         " && exec " DEMO_PROGRAM " " + arguments + " >" +
                         notes_.path("output") + " 2>" + notes_.path("error");
    std::string shell = "sh", option = "-c", text = command;
    char* argv[] = {shell.data(), option.data(), text.data(), nullptr};
    pid_t child = -1;
    EXPECT_EQ(::posix_spawn(&child, "/bin/sh", nullptr, nullptr, argv, environ),
              0);
    if (meanwhile) meanwhile(child);
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            notes_.read("output"), notes_.read("error")};
  }

  // Waits until a run under way has made a file of this name in its data
  // directory, and returns the path.
  std::string wait_for_data(std::string const& name) {
    for (int i = 0; i < 2'000; ++i) {
      for (auto const& each :
           std::filesystem::directory_iterator(scratch_.path())) {
        if (each.is_directory() && exists(each.path() / name)) {
          return each.path() / name;
        }
      }
      std::this_thread::sleep_for(5ms);
    }
    ADD_FAILURE() << "no " << name << " appeared";
    return {};
  }

  // A directory with as many files as one cold request reads.
  std::string make_files() {
    auto const directory = notes_.path("files");
    std::filesystem::create_directory(directory);
    for (int i = 0; i < 8; ++i) {
      notes_.write("files/" + std::to_string(i),
                   std::string(10'000, static_cast<char>('a' + i)));
    }
    return directory;
  }

  scratch_directory scratch_;  // the program's working directory
  scratch_directory notes_;    // what it printed
};

TEST_F(Demo, HelpNamesEveryOption) {
  auto const done = run("--help");
  EXPECT_EQ(done.status, 0);
  for (auto const* option :
       {"--seconds", "--rate", "--mode", "--json", "--port", "--keep-alive",
        "--products", "--files"}) {
    EXPECT_NE(done.output.find(option), std::string::npos) << option;
  }
}

class WrongOption : public Demo,
                    public testing::WithParamInterface<char const*> {};

TEST_P(WrongOption, IsRefusedInOneSentence) {
  auto const done = run(GetParam());
  EXPECT_EQ(done.status, 2);
  EXPECT_TRUE(done.is_one_sentence()) << done.error;
  EXPECT_EQ(done.output, "");
  EXPECT_EQ(scratch_.count(), 0);
}

INSTANTIATE_TEST_SUITE_P(Each, WrongOption,
                         testing::Values("--colour", "--rate", "--rate fast",
                                         "--rate 0", "--rate -5", "--rate nan",
                                         "--seconds 0", "--seconds 1e9",
                                         "--mode some-to-some", "--port 70000",
                                         "--keep-alive 0", "stray"));

class Mode : public Demo, public testing::WithParamInterface<char const*> {};

TEST_P(Mode, ReportsWhatItMeasuredAndChecked) {
  auto const mode = std::string(GetParam());
  auto const done = run("--json report.json --mode " + mode + small_run);
  ASSERT_EQ(done.status, 0) << done.error;
  EXPECT_EQ(done.error, "");
  EXPECT_NE(done.output.find(mode), std::string::npos);
  EXPECT_NE(done.output.find("Ran on: "), std::string::npos);
  EXPECT_NE(done.output.find("report.json and report.svg"), std::string::npos);
  EXPECT_EQ(scratch_.count(), 2) << "only the reports stay";

  auto const json = nlohmann::json::parse(scratch_.read("report.json"));
  auto const& measured = json.at("modes").at(0);
  EXPECT_EQ(measured.at("mode"), mode);
  EXPECT_GT(measured.at("orders_checked"), 0);
  EXPECT_GE(measured.at("answers_checked"), measured.at("orders_checked"));
  EXPECT_GT(measured.at("kernel_threads_peak"), 1);
  EXPECT_GT(measured.at("context_switches_per_request"), 0);
  EXPECT_GT(measured.at("resident_peak_kib"), 1'000);
  ASSERT_EQ(measured.at("kinds").size(), 4);
  for (auto const& kind : measured.at("kinds")) {
    EXPECT_GT(kind.at("requests"), 0);
    EXPECT_GT(kind.at("p50_ms"), 0);
    EXPECT_GE(kind.at("p99_ms"), kind.at("p50_ms"));
  }
  auto const svg = scratch_.read("report.svg");
  EXPECT_TRUE(svg.starts_with("<svg ")) << svg;
  EXPECT_TRUE(svg.ends_with("</svg>\n")) << svg;
}

INSTANTIATE_TEST_SUITE_P(Each, Mode,
                         testing::Values("many-to-one", "one-to-one",
                                         "many-to-many"));

TEST_F(Demo, ComparesAllModesByDefault) {
  auto const done = run(small_run);
  ASSERT_EQ(done.status, 0) << done.error;
  auto const json =
      nlohmann::json::parse(scratch_.read("build/demo/report.json"));
  ASSERT_EQ(json.at("modes").size(), 3);
  EXPECT_NE(json.at("finding").get<std::string>().find("p99 of a hot request"),
            std::string::npos);
  EXPECT_TRUE(scratch_.has("build/demo/report.svg"));
}

TEST_F(Demo, PortInUseIsSaidInOneSentence) {
  auto const socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(socket, 1), 0);
  ASSERT_EQ(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size),
            0);
  auto const port = std::to_string(ntohs(address.sin_port));
  scratch_.write("report.json", "old");
  auto const done = run("--json report.json --port " + port + small_run);
  ::close(socket);
  EXPECT_EQ(done.status, 1);
  EXPECT_TRUE(done.is_one_sentence()) << done.error;
  EXPECT_TRUE(done.says("port " + port) && done.says("in use")) << done.error;
  EXPECT_EQ(scratch_.read("report.json"), "old");
  EXPECT_EQ(scratch_.count(), 1);
}

TEST_F(Demo, PortOfChoiceServesAllModesInTurn) {
  auto const done = run("--port 38917" + small_run);
  EXPECT_EQ(done.status, 0) << done.error;
}

TEST_F(Demo, MissingFilesAreSaidInOneSentence) {
  auto const done = run("--json report.json --files /does/not/exist");
  EXPECT_EQ(done.status, 1);
  EXPECT_TRUE(done.is_one_sentence()) << done.error;
  EXPECT_TRUE(done.says("/does/not/exist")) << done.error;
  EXPECT_EQ(scratch_.count(), 0);
}

TEST_F(Demo, TooFewFilesAreSaidInOneSentence) {
  auto const done = run("--json report.json --files " + scratch_.path());
  EXPECT_EQ(done.status, 1);
  EXPECT_TRUE(done.is_one_sentence()) << done.error;
  EXPECT_TRUE(done.says("holds 0 readable files")) << done.error;
  EXPECT_EQ(scratch_.count(), 0);
}

TEST_F(Demo, ReportThatCannotBeWrittenStopsItAtOnce) {
  for (auto const* path : {"nowhere/report.json", "/dev/full", "."}) {
    auto const done = run(std::string("--json ") + path);
    EXPECT_EQ(done.status, 1);
    EXPECT_TRUE(done.is_one_sentence()) << done.error;
    EXPECT_TRUE(done.says("cannot write")) << done.error;
    EXPECT_EQ(scratch_.count(), 0);
  }
}

// ulimit -f counts blocks of 512 bytes.
TEST_F(Demo, FullDiskAtTheStartIsSaidInOneSentence) {
  auto const done = run("--json report.json", "ulimit -f 1000; ");
  EXPECT_EQ(done.status, 1);
  EXPECT_TRUE(done.is_one_sentence()) << done.error;
  EXPECT_TRUE(done.says("catalogue: cannot reserve")) << done.error;
  EXPECT_EQ(scratch_.count(), 0);
}

TEST_F(Demo, FullDiskUnderLoadIsSaidInOneSentence) {
  auto const done =
      run("--json report.json --seconds 10 --rate 500 --products 500",
          "ulimit -f 1000; ");
  EXPECT_EQ(done.status, 1);
  EXPECT_TRUE(done.is_one_sentence()) << done.error;
  EXPECT_TRUE(done.says("could not be committed")) << done.error;
  EXPECT_EQ(scratch_.count(), 0);
}

TEST_F(Demo, FileThatVanishesIsNamed) {
  auto const files = make_files();
  auto const done =
      run("--json report.json --mode one-to-one --seconds 10"
          " --rate 100 --products 500 --files " +
              files,
          "", [&](pid_t) {
            wait_for_data("orders.sqlite");
            std::this_thread::sleep_for(500ms);
            std::filesystem::remove(files + "/7");
          });
  EXPECT_EQ(done.status, 1);
  EXPECT_TRUE(done.is_one_sentence()) << done.error;
  EXPECT_TRUE(done.says("cannot read " + files + "/7")) << done.error;
  EXPECT_EQ(scratch_.count(), 0);
}

TEST_F(Demo, WrongAnswerFailsTheRun) {
  auto const files = make_files();
  auto const done =
      run("--json report.json --mode one-to-one --seconds 10"
          " --rate 100 --products 500 --files " +
              files,
          "", [&](pid_t) {
            wait_for_data("orders.sqlite");
            std::this_thread::sleep_for(500ms);
            notes_.write("files/7", std::string(10'000, '?'));
          });
  EXPECT_EQ(done.status, 1);
  EXPECT_TRUE(done.is_one_sentence()) << done.error;
  EXPECT_TRUE(done.says("wrong answer to cold files request")) << done.error;
  EXPECT_EQ(scratch_.count(), 0);
}

TEST_F(Demo, LostOrderFailsTheRun) {
  auto const done =
      run("--json report.json --mode one-to-one --seconds 1.5 --rate 100"
          " --products 500",
          "", [&](pid_t) {
            auto const path = wait_for_data("orders.sqlite");
            std::this_thread::sleep_for(1s);
            sqlite3* database = nullptr;
            ASSERT_EQ(sqlite3_open(path.c_str(), &database), SQLITE_OK);
            sqlite3_busy_timeout(database, 5'000);
            EXPECT_EQ(sqlite3_exec(database, "DELETE FROM orders WHERE id = 1",
                                   nullptr, nullptr, nullptr),
                      SQLITE_OK);
            EXPECT_EQ(sqlite3_changes(database), 1);
            sqlite3_close(database);
          });
  EXPECT_EQ(done.status, 1);
  EXPECT_TRUE(done.is_one_sentence()) << done.error;
  EXPECT_TRUE(done.says("order 1 was acknowledged, but the database does not"))
      << done.error;
  EXPECT_EQ(scratch_.count(), 0);
}

TEST_F(Demo, InterruptedRunLeavesNothing) {
  auto const begin = std::chrono::steady_clock::now();
  auto const done =
      run("--json report.json --seconds 30 --rate 100", "", [&](pid_t demo) {
        wait_for_data("orders.sqlite");
        ::kill(demo, SIGTERM);
      });
  EXPECT_EQ(done.status, 128 + SIGTERM);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 15s);
  EXPECT_EQ(scratch_.count(), 0);
}

// A server that accepts and never answers: every request is counted, with the
// time since it was due, also those for which no connection was free.
TEST_F(Demo, LatencyCountsFromTheIntendedStart) {
  auto const socket = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(socket, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(socket, 1'000), 0);
  ASSERT_EQ(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size),
            0);

  auto const files = make_files();
  std::string list;
  for (int i = 0; i < 8; ++i) list += files + "/" + std::to_string(i) + "\n";
  notes_.write("list", list);
  auto const done =
      run("load --rate 1000 --warm-up 0 --seconds 0.5 --products 500"
          " --keep-alive 1 --port " +
          std::to_string(ntohs(address.sin_port)) + " --file-list " +
          notes_.path("list"));
  ::close(socket);
  ASSERT_EQ(done.status, 0) << done.error;
  auto const json =
      nlohmann::json::parse(done.output.substr(done.output.find('{')));
  std::vector<unsigned> latencies_us;
  for (auto const& kind : json.at("kinds")) {
    EXPECT_EQ(kind.at("latencies_us").size(), kind.at("unanswered"));
    for (auto const& us : kind.at("latencies_us")) latencies_us.push_back(us);
  }
  EXPECT_GT(latencies_us.size(), 400);
  EXPECT_LT(latencies_us.size(), 600);
  auto const [least, most] =
      std::minmax_element(latencies_us.begin(), latencies_us.end());
  EXPECT_GE(*least, 900'000);  // the generator's patience is 1 s
  EXPECT_GT(*most - *least, 450'000);
}

}  // namespace
