// SPDX-License-Identifier: BSL-1.0
// Problem: a service is written in the plain, blocking way.  Its requests
// wait for sockets, for a disk that reads and for a disk that writes, inside
// libraries that know nothing of user threads (cpp-httplib, SQLite, LMDB).
// What does that do to the requests that wait for nothing?
//
//   many-to-one    all user threads on one kernel thread: whoever waits stalls
//                  everybody
//   one-to-one     a kernel thread for each connection
//   many-to-many   user threads on scheduler activations: whoever waits hands
//                  its processor to somebody else
//
// The handlers are the same three times; server.cpp says what differs.  This
// file reads the options, runs the modes and reports.
//
// Read on in: handlers.hpp (the service), server.cpp (cpp-httplib on user
// threads), load.cpp (the load), measure.cpp (one run), report.cpp, chart.cpp.
#include "chart.hpp"
#include "load.hpp"
#include "measure.hpp"
#include "mode.hpp"
#include "output_file.hpp"
#include "process.hpp"
#include "report.hpp"
#include "server.hpp"

#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <iostream>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace http_service {
namespace {

constexpr auto default_json = "build/demo/report.json";
constexpr double most_requests = 1e6;  // of one mode: bounds memory and time

struct demo_options {
  run_options run{.rate = 2'000, .seconds = 5, .products = 100'000};
  std::string mode = "all";
  std::string json = default_json;
  std::string files = "/usr/share";
};

std::vector<mode> wanted_modes(std::string const& name) {
  std::vector<mode> wanted;
  for (auto const m : all_modes) {
    if (name == "all" || name == name_of(m)) wanted.push_back(m);
  }
  return wanted;
}

std::string svg_path(std::string const& json) {
  return std::filesystem::path(json).replace_extension(".svg");
}

// Returns the directory of the reports.
std::string check_paths(demo_options const& options) {
  namespace fs = std::filesystem;
  auto const directory = fs::path(options.json).parent_path().string();
  if (svg_path(options.json) == options.json) {
    throw std::runtime_error("--json " + options.json +
                             ": that is the name of the picture beside it");
  }
  if (options.json == default_json) {
    std::error_code error;
    fs::create_directories(directory, error);
    if (error) {
      throw std::runtime_error("cannot make the directory " + directory + ": " +
                               error.message());
    }
  }
  return directory.empty() ? "." : directory;
}

// Says on a terminal what is under way, for as long as it is.
class progress_line {
 public:
  explicit progress_line(std::string const& text) {
    if (is_terminal_) std::fputs(text.c_str(), stderr);
  }
  progress_line(progress_line const&) = delete;
  ~progress_line() {
    if (is_terminal_) std::fputs("\r\033[K", stderr);
  }

 private:
  bool is_terminal_ = ::isatty(STDERR_FILENO) != 0;
};

void run_demo(demo_options const& options) {
  auto const requests = options.run.rate * options.run.seconds;
  if (requests > most_requests) {
    throw std::runtime_error(
        "--rate times --seconds is more than a million requests");
  }
  double load_before = 0;
  ::getloadavg(&load_before, 1);
  auto const directory = check_paths(options);
  // Opened first: better no run than a run whose report cannot be written.
  output_file json(options.json);
  output_file svg(svg_path(options.json));

  temporary_directory const data(directory);
  make_data(data, options.files, options.run.products);

  // Two rounds in turn, so that a disturbance of the machine does not hit one
  // mode alone.
  auto const rounds = options.run.seconds >= 2 ? 2U : 1U;
  auto run = options.run;
  run.seconds /= rounds;
  std::vector<mode_result> results;
  auto const modes = wanted_modes(options.mode);
  for (unsigned round = 0; round < rounds; ++round) {
    for (std::size_t m = 0; m < modes.size(); ++m) {
      progress_line const progress("round " + std::to_string(round + 1) +
                                   " of " + std::to_string(rounds) + ", " +
                                   std::string(name_of(modes[m])) + " ...");
      auto result = measure(modes[m], run, data);
      if (round == 0) {
        results.push_back(std::move(result));
      } else {
        results[m].add(result);
      }
    }
  }

  auto const all = make_report(run, rounds, load_before, std::move(results));
  json.write(to_json_text(all));
  svg.write(to_svg(all));
  svg.publish();
  json.publish();

  std::cout << table(all) << "\n"
            << finding(all) << "\n"
            << backend_note(all) << "\n"
            << checks_note(all) << "\n"
            << "Written: " << json.path() << " and " << svg.path() << std::endl;
}

// CLI::Range would let "nan" pass.
CLI::Validator between(double least, double most) {
  return {[=](std::string const& text) {
            char* end = nullptr;
            auto const value = std::strtod(text.c_str(), &end);
            if (end != text.c_str() && *end == '\0' && value >= least &&
                value <= most) {
              return std::string();
            }
            std::ostringstream message;
            message << text << " is not a number from " << least << " to "
                    << most;
            return message.str();
          },
          ""};
}

void add_options(CLI::App& app, demo_options& options) {
  app.add_option("--seconds", options.run.seconds,
                 "how long each mode is measured")
      ->check(between(0.1, 600))
      ->capture_default_str();
  app.add_option("--rate", options.run.rate, "requests per second")
      ->check(between(1, 50'000))
      ->capture_default_str();
  std::vector<std::string> modes(mode_names.begin(), mode_names.end());
  modes.emplace_back("all");
  app.add_option("--mode", options.mode, "which mode to run")
      ->check(CLI::IsMember(std::move(modes)))
      ->capture_default_str();
  app.add_option("--json", options.json,
                 "the report; its picture goes beside it, ending in .svg")
      ->capture_default_str();
  app.add_option("--port", options.run.port,
                 "port on 127.0.0.1; 0: any that is free")
      ->check(between(0, 65'535))
      ->capture_default_str();
  app.add_option("--keep-alive", options.run.requests_per_connection,
                 "requests that a connection carries")
      ->check(between(1, 1e6))
      ->capture_default_str();
  app.add_option("--products", options.run.products,
                 "products in the catalogue")
      ->check(between(1, 1e7))
      ->capture_default_str();
  app.add_option("--files", options.files, "directory of files to read cold")
      ->capture_default_str();
}

// Returns the status to exit with, if the program is to end here.
std::optional<int> parse(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (CLI::CallForHelp const& help) {
    return app.exit(help);
  } catch (CLI::ParseError const& error) {
    std::cerr << "http_service_demo: " << error.what()
              << "; --help lists the options\n";
    return 2;
  }
}

int demo_program(int argc, char** argv) {
  CLI::App app(
      "A small HTTP service made of blocking parts, run three ways under the "
      "same load",
      "http_service_demo");
  demo_options options;
  add_options(app, options);
  if (auto const status = parse(app, argc, argv)) return *status;
  catch_interrupts();
  try {
    run_demo(options);
    return 0;
  } catch (interrupted const& by) {
    std::cerr << "http_service_demo: interrupted, so nothing was written\n";
    return 128 + by.number;
  } catch (std::exception const& error) {
    std::cerr << "http_service_demo: " << error.what() << "\n";
    return 1;
  }
}

// The two processes that measure() starts: whoever started them reports their
// errors.
template <typename Work>
int child_program(Work work) {
  try {
    work();
    return 0;
  } catch (std::exception const& error) {
    std::cout << error_mark << error.what() << std::endl;
    return 1;
  }
}

int serve_program(int argc, char** argv) {
  CLI::App app;
  server_options options;
  std::string mode;
  app.add_option("--mode", mode)->required();
  app.add_option("--port", options.port)->required();
  app.add_option("--keep-alive", options.requests_per_connection)->required();
  app.add_option("--catalogue", options.data.catalogue)->required();
  app.add_option("--orders", options.data.orders)->required();
  app.add_option("--file-list", options.data.file_list)->required();
  if (auto const status = parse(app, argc, argv)) return *status;
  return child_program([&] {
    options.how = wanted_modes(mode).at(0);
    serve(options);
  });
}

int load_program(int argc, char** argv) {
  CLI::App app;
  load_options options;
  app.add_option("--port", options.port)->required();
  app.add_option("--rate", options.rate)->required();
  app.add_option("--warm-up", options.warm_up_seconds)->required();
  app.add_option("--seconds", options.seconds)->required();
  app.add_option("--products", options.products)->required();
  app.add_option("--keep-alive", options.requests_per_connection)->required();
  app.add_option("--file-list", options.file_list)->required();
  if (auto const status = parse(app, argc, argv)) return *status;
  return child_program([&] { generate_load(options); });
}

}  // namespace
}  // namespace http_service

int main(int argc, char** argv) {
  using namespace http_service;
  // A file beyond RLIMIT_FSIZE, and a pipe nobody reads, are errors to report.
  std::signal(SIGXFSZ, SIG_IGN);
  std::signal(SIGPIPE, SIG_IGN);
  std::string_view const role = argc > 1 ? argv[1] : "";
  if (role == server_role) return serve_program(argc - 1, argv + 1);
  if (role == load_role) return load_program(argc - 1, argv + 1);
  return demo_program(argc, argv);
}
