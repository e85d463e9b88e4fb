// SPDX-License-Identifier: BSL-1.0
#include "measure.hpp"

#include "catalogue.hpp"
#include "file_set.hpp"
#include "order_store.hpp"
#include "process.hpp"

#include <stdlib.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <system_error>

namespace http_service {
namespace {

using namespace std::chrono_literals;
using clock = child_process::clock;

constexpr double warm_up_seconds = 0.4;
constexpr std::size_t most_shelves = 40;
constexpr auto files_name = "files.txt";
constexpr auto catalogue_name = "catalogue.lmdb";
constexpr auto orders_name = "orders.sqlite";

struct usage {
  std::uint64_t switches;
  double cpu_seconds;
};

std::string expect_line(child_process& child, char const* what) {
  auto line = child.read_line(clock::now() + 10s);
  if (!line) {
    throw std::runtime_error(std::string("the server did not ") + what +
                             " within 10 seconds");
  }
  return std::move(*line);
}

usage ask_usage(child_process& server) {
  server.write_line("usage");
  auto const json =
      nlohmann::json::parse(expect_line(server, "say what it used"));
  return {json.at("switches"), json.at("cpu_seconds")};
}

void sample(pid_t process, mode_result& result) {
  std::ifstream status("/proc/" + std::to_string(process) + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) {
      result.resident_peak_kib = std::max<std::uint64_t>(
          result.resident_peak_kib, std::stoull(line.substr(6)));
    } else if (line.starts_with("Threads:")) {
      result.threads_peak =
          std::max<unsigned>(result.threads_peak,
                             static_cast<unsigned>(std::stoul(line.substr(8))));
      break;  // comes after VmHWM
    }
  }
}

// Waits for the generator's next line and watches the server meanwhile.
std::string watch(child_process& generator, child_process& server,
                  mode_result& result, clock::time_point deadline) {
  while (clock::now() < deadline) {
    if (auto line = generator.read_line(clock::now() + 10ms)) return *line;
    sample(server.id(), result);
  }
  throw std::runtime_error("the load generator did not end in time");
}

// Every acknowledged order must be there, with its content.
void check_orders(std::string const& database,
                  std::vector<unsigned> const& acknowledged) {
  order_store orders(database);
  orders.check_integrity();
  for (auto const id : acknowledged) {
    auto const content = orders.find(id);
    if (content != order_text(id)) {
      throw std::runtime_error(
          "order " + std::to_string(id) +
          " was acknowledged, but the database " +
          (content.empty() ? "does not have it" : "has \"" + content + "\""));
    }
  }
  if (orders.count() < acknowledged.size()) {
    throw std::runtime_error("an order was acknowledged twice");
  }
}

void remove_database(std::string const& path) {
  for (auto const* suffix : {"", "-wal", "-shm"}) {
    std::error_code ignored;
    std::filesystem::remove(path + suffix, ignored);
  }
}

}  // namespace

void mode_result::add(mode_result const& other) {
  seconds += other.seconds;
  for (std::size_t k = 0; k < kind_count; ++k) {
    auto const& from = other.kinds[k];
    kinds[k].latencies_us.insert(kinds[k].latencies_us.end(),
                                 from.latencies_us.begin(),
                                 from.latencies_us.end());
    kinds[k].unanswered += from.unanswered;
    kinds[k].answered_in_time += from.answered_in_time;
  }
  answers_checked += other.answers_checked;
  orders_checked += other.orders_checked;
  threads_peak = std::max(threads_peak, other.threads_peak);
  resident_peak_kib = std::max(resident_peak_kib, other.resident_peak_kib);
  switches += other.switches;
  cpu_seconds += other.cpu_seconds;
  answers += other.answers;
  start_delay_p99_us = std::max(start_delay_p99_us, other.start_delay_p99_us);
}

temporary_directory::temporary_directory(std::string const& parent)
    : path_(parent + "/http_service_data.XXXXXX") {
  if (::mkdtemp(path_.data()) == nullptr) {
    throw std::system_error(errno, std::generic_category(),
                            "cannot make a directory in " + parent);
  }
}

temporary_directory::~temporary_directory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

void make_data(temporary_directory const& data, std::string const& files_from,
               unsigned products) {
  save_shelves(data.path(files_name), find_shelves(files_from, most_shelves));
  catalogue::create(data.path(catalogue_name), products);
}

mode_result measure(mode how, run_options const& options,
                    temporary_directory const& data) {
  mode_result result;
  result.how = how;
  result.seconds = options.seconds;
  auto const database = data.path(orders_name);
  remove_database(database);

  auto const per_connection = std::to_string(options.requests_per_connection);
  child_process server(
      std::string(name_of(how)) + " server",
      {"http_service_server", std::string(server_role), "--mode",
       std::string(name_of(how)), "--port", std::to_string(options.port),
       "--keep-alive", per_connection, "--catalogue", data.path(catalogue_name),
       "--orders", database, "--file-list", data.path(files_name)});
  auto const hello = nlohmann::json::parse(expect_line(server, "start"));
  result.backend = hello.at("backend");

  child_process generator(
      "load generator", {"http_service_load", std::string(load_role), "--port",
                         std::to_string(hello.at("port").get<int>()), "--rate",
                         std::to_string(options.rate), "--warm-up",
                         std::to_string(warm_up_seconds), "--seconds",
                         std::to_string(options.seconds), "--products",
                         std::to_string(options.products), "--keep-alive",
                         per_connection, "--file-list", data.path(files_name)});
  auto const limit = clock::now() + 20s +
                     std::chrono::ceil<std::chrono::seconds>(
                         std::chrono::duration<double>(options.seconds));
  watch(generator, server, result, limit);  // the warm-up is over
  auto const before = ask_usage(server);
  auto const load = parse_load_result(watch(generator, server, result, limit));
  if (!load.wrong.empty()) throw std::runtime_error(load.wrong);
  sample(server.id(), result);
  auto const after = ask_usage(server);
  generator.finish(clock::now() + 10s);
  server.finish(clock::now() + 10s);

  check_orders(database, load.committed_orders);
  remove_database(database);

  result.kinds = load.kinds;
  result.answers_checked = load.answers_checked;
  result.orders_checked = load.committed_orders.size();
  result.switches = after.switches - before.switches;
  result.cpu_seconds = after.cpu_seconds - before.cpu_seconds;
  result.start_delay_p99_us = load.start_delay_p99_us;
  for (auto const& kind : load.kinds) {
    result.answers += kind.latencies_us.size() - kind.unanswered;
  }
  return result;
}

}  // namespace http_service
