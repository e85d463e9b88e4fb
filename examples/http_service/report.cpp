// SPDX-License-Identifier: BSL-1.0
#include "report.hpp"

#include <sys/utsname.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <thread>
#include <utility>

namespace http_service {
namespace {

// The result that is wanted, as ratios of hot p99s: many-to-one's over
// many-to-many's, and many-to-many's over one-to-one's.
constexpr double least_over_many_to_one = 5;
constexpr double most_over_one_to_one = 1.5;

template <typename... Values>
std::string format(char const* pattern, Values... values) {
  char buffer[512];
  std::snprintf(buffer, sizeof buffer, pattern, values...);
  return buffer;
}

std::string milliseconds(latency_distribution const& curve, double share) {
  if (curve.count() == 0) return "-";
  return format(curve.is_bound(share) ? ">%.2f" : "%.2f", curve.at(share));
}

double switches_per_answer(mode_result const& mode) {
  return mode.answers == 0 ? 0
                           : static_cast<double>(mode.switches) /
                                 static_cast<double>(mode.answers);
}

double cpu_us_per_answer(mode_result const& mode) {
  return mode.answers == 0
             ? 0
             : mode.cpu_seconds * 1e6 / static_cast<double>(mode.answers);
}

template <std::size_t... K>
std::array<latency_distribution, kind_count> distributions(
    mode_result const& mode, std::index_sequence<K...>) {
  return {latency_distribution(mode.kinds[K])...};
}

// The hot requests of a mode, if it ran and answered any.
latency_distribution const* hot(report const& r, mode wanted) {
  for (std::size_t m = 0; m < r.modes.size(); ++m) {
    auto const& curve = r.curves[m].kinds[index_of(request_kind::hot)];
    if (r.modes[m].how == wanted && curve.count() != 0) return &curve;
  }
  return nullptr;
}

std::uint64_t unanswered(mode_result const& mode) {
  std::uint64_t sum = 0;
  for (auto const& kind : mode.kinds) sum += kind.unanswered;
  return sum;
}

}  // namespace

mode_curves::mode_curves(mode_result const& mode)
    : kinds(distributions(mode, std::make_index_sequence<kind_count>())) {}

report make_report(run_options const& options, unsigned rounds,
                   double load_before, std::vector<mode_result> modes) {
  report r{options, rounds, load_before, std::move(modes), {}};
  for (auto const& mode : r.modes) r.curves.emplace_back(mode);
  return r;
}

std::string table(report const& r) {
  auto text = format("%g requests/s for %g s in each mode:", r.options.rate,
                     r.options.seconds * r.rounds);
  for (std::size_t k = 0; k < kind_count; ++k) {
    text += format("%s %u %% %s", k == 0 ? "" : ",", kind_percent[k],
                   std::string(kind_names[k]).c_str());
  }
  text += "\n\n";
  text += format("%-13s %-11s %9s %9s %9s %8s %9s %9s\n", "", "", "answers",
                 "p50", "p99", "kernel", "switches", "resident");
  text += format("%-13s %-11s %9s %9s %9s %8s %9s %9s\n", "mode", "request",
                 "/s", "ms", "ms", "threads", "/request", "MiB");
  for (std::size_t m = 0; m < r.modes.size(); ++m) {
    auto const& mode = r.modes[m];
    text += std::string(84, '-') + "\n";
    for (std::size_t k = 0; k < kind_count; ++k) {
      auto const& curve = r.curves[m].kinds[k];
      text += format(
          "%-13s %-11s %9.1f %9s %9s",
          k == 0 ? std::string(name_of(mode.how)).c_str() : "",
          std::string(kind_names[k]).c_str(),
          static_cast<double>(mode.kinds[k].answered_in_time) / mode.seconds,
          milliseconds(curve, 0.5).c_str(), milliseconds(curve, 0.99).c_str());
      if (k == 0) {
        text += format(" %8u %9.2f %9.1f", mode.threads_peak,
                       switches_per_answer(mode),
                       static_cast<double>(mode.resident_peak_kib) / 1024);
      }
      text += "\n";
    }
    if (auto const missing = unanswered(mode); missing != 0) {
      text += format(
          "%-13s %llu requests had no answer by the end; > is what "
          "they had waited\n",
          "", static_cast<unsigned long long>(missing));
    }
  }
  return text;
}

std::string finding(report const& r) {
  auto const* const ours = hot(r, mode::many_to_many);
  auto const* const stalled = hot(r, mode::many_to_one);
  auto const* const threads = hot(r, mode::one_to_one);
  if (ours == nullptr || stalled == nullptr || threads == nullptr) {
    return "Nothing is compared: that takes all three modes.";
  }
  auto const bound = [](latency_distribution const* of) {
    return of->is_bound(0.99) ? "over " : "";
  };
  auto const ratio_to_stalled = stalled->at(0.99) / ours->at(0.99);
  auto const ratio_to_threads = ours->at(0.99) / threads->at(0.99);
  auto const numbers = format(
      "p99 of a hot request, which never waits itself, is %s%.2f ms "
      "with many-to-many, %s%.2f ms with one-to-one and %s%.2f ms with "
      "many-to-one",
      bound(ours), ours->at(0.99), bound(threads), threads->at(0.99),
      bound(stalled), stalled->at(0.99));
  auto const beats_stalls = ratio_to_stalled >= least_over_many_to_one;
  auto const keeps_up = ratio_to_threads <= most_over_one_to_one;
  if (beats_stalls && keeps_up) {
    return "The " + numbers +
           ": with many-to-many, those who wait for a socket or a disk hold up "
           "nobody else.";
  }
  std::string missed;
  if (!beats_stalls) {
    missed = format("many-to-one's is only %.1f times many-to-many's",
                    ratio_to_stalled);
  }
  if (!keeps_up) {
    if (!missed.empty()) missed += ", and ";
    missed +=
        format("many-to-many's is %.1f times one-to-one's", ratio_to_threads);
  }
  auto const processors = std::thread::hardware_concurrency();
  auto const excuse =
      r.load_before > processors / 2.0
          ? format(
                "the machine was busy before it began (load %.1f on %u "
                "processors)",
                r.load_before, processors)
          : std::string("a lower --rate tells whether the machine is too slow");
  return "This run does not show what it should: the " + numbers + ", so " +
         missed + "; " + excuse + ".";
}

std::string backend_note(report const& r) {
  for (auto const& mode : r.modes) {
    if (mode.how != http_service::mode::many_to_many) continue;
    return "Ran on: " + mode.backend +
           "; the kernel module would add an upcall at the very moment a "
           "thread blocks, unblocks or is preempted, where this backend has to "
           "notice from outside.";
  }
  return "Ran on: " + r.modes.front().backend +
         "; the kernel module would matter to many-to-many only.";
}

std::string checks_note(report const& r) {
  std::uint64_t answers = 0;
  std::uint64_t orders = 0;
  for (auto const& mode : r.modes) {
    answers += mode.answers_checked;
    orders += mode.orders_checked;
  }
  return format(
      "Checked: all %llu answers were right, and all %llu "
      "acknowledged orders are in the database.",
      static_cast<unsigned long long>(answers),
      static_cast<unsigned long long>(orders));
}

std::string to_json_text(report const& r) {
  using nlohmann::json;
  constexpr std::array shares{0.0, 0.1,  0.25, 0.5,   0.75,
                              0.9, 0.95, 0.99, 0.995, 0.999};
  utsname system{};
  ::uname(&system);

  auto modes = json::array();
  for (std::size_t m = 0; m < r.modes.size(); ++m) {
    auto const& mode = r.modes[m];
    auto kinds = json::array();
    for (std::size_t k = 0; k < kind_count; ++k) {
      auto const& curve = r.curves[m].kinds[k];
      auto percentiles = json::array();
      for (auto const share : shares) {
        percentiles.push_back({{"percentile", share * 100},
                               {"ms", curve.at(share)},
                               {"is_lower_bound", curve.is_bound(share)}});
      }
      kinds.push_back(
          {{"kind", kind_names[k]},
           {"requests", curve.count()},
           {"unanswered", mode.kinds[k].unanswered},
           {"answers_per_second",
            static_cast<double>(mode.kinds[k].answered_in_time) / mode.seconds},
           {"p50_ms", curve.at(0.5)},
           {"p99_ms", curve.at(0.99)},
           {"latency", std::move(percentiles)}});
    }
    modes.push_back(
        {{"mode", name_of(mode.how)},
         {"backend", mode.backend},
         {"seconds", mode.seconds},
         {"kinds", std::move(kinds)},
         {"kernel_threads_peak", mode.threads_peak},
         {"resident_peak_kib", mode.resident_peak_kib},
         {"context_switches_per_request", switches_per_answer(mode)},
         {"cpu_us_per_request", cpu_us_per_answer(mode)},
         {"generator_start_delay_p99_us", mode.start_delay_p99_us},
         {"answers_checked", mode.answers_checked},
         {"orders_checked", mode.orders_checked}});
  }
  json const all{
      {"report", "activations http_service_demo"},
      {"version", 1},
      {"machine",
       {{"kernel", std::string(system.sysname) + " " + system.release},
        {"architecture", system.machine},
        {"processors", std::thread::hardware_concurrency()},
        {"load_average_before", r.load_before}}},
      {"rate_per_second", r.options.rate},
      {"seconds_per_mode", r.options.seconds * r.rounds},
      {"rounds", r.rounds},
      {"requests_per_connection", r.options.requests_per_connection},
      {"percent_of_requests", kind_percent},
      {"modes", std::move(modes)},
      {"finding", finding(r)},
      {"backend", backend_note(r)},
      {"checks", checks_note(r)}};
  return all.dump(2) + "\n";
}

}  // namespace http_service
