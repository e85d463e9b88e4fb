// SPDX-License-Identifier: BSL-1.0
//
// As much of Google Benchmark's interface as bench/*_benchmark.cpp use, so that
// the image runs the same sources.  Results go to the console as its JSON,
// between two marker lines:
//
//   === benchmark results
//   === end of benchmark results
//
// There is no clock of processor time here: cpu_time is real_time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <activations/detail/bare/image.hpp>

namespace benchmark {

using IterationCount = std::int64_t;

// Of what this is how much: in the result a value by name.
class Counter {
 public:
  enum Flags {
    kDefaults = 0,
    kIsRate = 1,
    kIsIterationInvariant = 4,
    kIsIterationInvariantRate = kIsRate | kIsIterationInvariant,
    kInvert = 1 << 31,
  };
  Counter(double value = 0, Flags flags = kDefaults)
      : value_(value), flags_(flags) {}

  double result(IterationCount iterations, double seconds) const {
    double value = value_;
    if (flags_ & kIsIterationInvariant)
      value *= static_cast<double>(iterations);
    if (flags_ & kIsRate) value /= seconds;
    return flags_ & kInvert ? 1 / value : value;
  }

 private:
  double value_;
  Flags flags_;
};
constexpr Counter::Flags operator|(Counter::Flags a, Counter::Flags b) {
  return static_cast<Counter::Flags>(static_cast<unsigned>(a) |
                                     static_cast<unsigned>(b));
}

// Few names, in their order.
class UserCounters {
 public:
  Counter& operator[](char const* name) {
    for (auto& [known, counter] : all_)
      if (known == name) return counter;
    return all_.emplace_back(name, Counter()).second;
  }
  auto begin() const { return all_.begin(); }
  auto end() const { return all_.end(); }

 private:
  std::vector<std::pair<std::string, Counter>> all_;
};

// What a benchmark loops over: for (auto _ : state).
class State {
 public:
  State(IterationCount iterations, std::vector<std::int64_t> arguments)
      : arguments_(std::move(arguments)), iterations_(iterations) {}

  struct [[maybe_unused]] value {};
  class iterator {
   public:
    explicit iterator(State* state)
        : state_(state), left_(state == nullptr ? 0 : state->iterations_) {}
    bool operator!=(iterator const&) {
      if (left_ != 0) return true;
      state_->end_ = std::chrono::steady_clock::now();
      return false;
    }
    void operator++() { --left_; }
    value operator*() const { return {}; }

   private:
    State* state_;
    IterationCount left_;
  };
  iterator begin() {
    begin_ = std::chrono::steady_clock::now();
    return iterator(this);
  }
  iterator end() { return iterator(nullptr); }

  std::int64_t range(std::size_t i = 0) const { return arguments_[i]; }
  IterationCount iterations() const { return iterations_; }
  double seconds() const {
    return std::chrono::duration<double>(end_ - begin_).count();
  }

  UserCounters counters;

 private:
  std::vector<std::int64_t> arguments_;
  IterationCount iterations_;
  std::chrono::steady_clock::time_point begin_{}, end_{};
};

template <class T>
inline void DoNotOptimize(T&& value) {
  asm volatile("" : : "r,m"(value) : "memory");
}

namespace internal {

// One function with its arguments.
class Benchmark {
 public:
  Benchmark(char const* name, void (*function)(State&))
      : name_(name), function_(function) {}

  Benchmark* Arg(std::int64_t value) {
    arguments_.push_back(value);
    return this;
  }
  Benchmark* MeasureProcessCPUTime() {
    suffix_ += "/process_time";
    return this;
  }
  Benchmark* UseRealTime() {
    suffix_ += "/real_time";
    return this;
  }

  void run(int family, bool& is_first) const {
    if (arguments_.empty()) run_one(name_ + suffix_, {}, family, 0, is_first);
    int instance = 0;
    for (auto const argument : arguments_)
      run_one(name_ + "/" + std::to_string(argument) + suffix_, {argument},
              family, instance++, is_first);
  }

 private:
  static constexpr double enough_seconds = 0.05;
  static constexpr IterationCount most_iterations = 1'000'000'000;

  // More and more iterations, until they take long enough.
  void run_one(std::string const& name, std::vector<std::int64_t> arguments,
               int family, int instance, bool& is_first) const {
    IterationCount count = 1;
    for (;;) {
      State state(count, arguments);
      function_(state);
      if (state.seconds() >= enough_seconds || count >= most_iterations) {
        print(name, state, family, instance, is_first);
        return;
      }
      double const factor =
          state.seconds() > 0.005 ? 1.4 * enough_seconds / state.seconds() : 10;
      count =
          static_cast<IterationCount>(static_cast<double>(count) * factor) + 1;
    }
  }

  static void print(std::string const& name, State const& state, int family,
                    int instance, bool& is_first) {
    double const each_ns =
        state.seconds() * 1e9 / static_cast<double>(state.iterations());
    std::printf("%s    {\n", is_first ? "" : ",\n");
    is_first = false;
    std::printf("      \"name\": \"%s\",\n", name.c_str());
    std::printf("      \"family_index\": %d,\n", family);
    std::printf("      \"per_family_instance_index\": %d,\n", instance);
    std::printf("      \"run_name\": \"%s\",\n", name.c_str());
    std::printf("      \"run_type\": \"iteration\",\n");
    std::printf("      \"repetitions\": 1,\n      \"repetition_index\": 0,\n");
    std::printf("      \"threads\": 1,\n      \"iterations\": %ld,\n",
                static_cast<long>(state.iterations()));
    std::printf("      \"real_time\": %e,\n      \"cpu_time\": %e,\n", each_ns,
                each_ns);
    std::printf("      \"time_unit\": \"ns\"");
    for (auto const& [counter, value] : state.counters)
      std::printf(",\n      \"%s\": %e", counter.c_str(),
                  value.result(state.iterations(), state.seconds()));
    std::printf("\n    }");
  }

  std::string name_;
  std::string suffix_;
  void (*function_)(State&);
  std::vector<std::int64_t> arguments_;
};

inline std::vector<Benchmark*>& all() {
  static auto* const made = new std::vector<Benchmark*>;
  return *made;
}
inline Benchmark* add(char const* name, void (*function)(State&)) {
  return all().emplace_back(new Benchmark(name, function));
}

}  // namespace internal

inline int run_all() {
  std::printf(
      "=== benchmark results\n{\n  \"context\": {\n"
      "    \"date\": \"1970-01-01T00:00:00+00:00\",\n"
      "    \"host_name\": \"image\",\n    \"executable\": \"image\",\n"
      "    \"num_cpus\": %u,\n    \"mhz_per_cpu\": 0,\n"
      "    \"cpu_scaling_enabled\": false,\n    \"caches\": [],\n"
      "    \"load_avg\": [],\n    \"library_build_type\": \"release\"\n"
      "  },\n  \"benchmarks\": [\n",
      activations_image_cores());
  bool is_first = true;
  int family = 0;
  for (auto const* each : internal::all()) each->run(family++, is_first);
  std::printf("\n  ]\n}\n=== end of benchmark results\n");
  return 0;
}

}  // namespace benchmark

#define BENCHMARK(function)                                     \
  [[maybe_unused]] static benchmark::internal::Benchmark* const \
      benchmark_##function = benchmark::internal::add(#function, function)
#define BENCHMARK_MAIN()         \
  int main() {                   \
    return benchmark::run_all(); \
  }
