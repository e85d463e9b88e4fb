// SPDX-License-Identifier: BSL-1.0
// What every measurement needs: clocks, a fixed amount of work, figures from
// /proc, quantiles, and the result line. Used by both drivers; nothing here
// knows which kind of thread calls it.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace bench {

inline double seconds(clockid_t clock) {
  timespec t;
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

inline double now() {
  return seconds(CLOCK_MONOTONIC);
}

// One timed section. `cpu` is CPU seconds of this process per wall second, so
// that a single-threaded figure taken on a busy machine can be corrected:
// value * cpu.
struct elapsed {
  double wall;
  double cpu;
};

class stopwatch {
 public:
  elapsed stop() const {
    double const wall = now() - wall_;
    return {wall, (seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu_) / wall};
  }

 private:
  double wall_ = now();
  double cpu_ = seconds(CLOCK_PROCESS_CPUTIME_ID);
};

inline void emit(char const* peer, char const* bench, double value,
                 char const* unit, double cpu) {
  std::printf(
      "{\"peer\":\"%s\",\"bench\":\"%s\",\"value\":%.6g,"
      "\"unit\":\"%s\",\"cpu\":%.3f}\n",
      peer, bench, value, unit, cpu);
  std::fflush(stdout);
}

inline void emit_each(char const* peer, char const* bench, elapsed time,
                      auto count, char const* unit) {
  emit(peer, bench, time.wall * 1e9 / static_cast<double>(count), unit,
       time.cpu);
}

// Work of a fixed size rather than of a fixed duration: time lost to other
// processes is then not mistaken for work done. A chain of dependent steps, so
// no compiler or core makes it shorter.
inline std::uint64_t spin(std::uint64_t steps) {
  std::uint64_t x = 88172645463325252u;
  for (std::uint64_t i = 0; i < steps; ++i) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
  }
  return x;
}

inline std::atomic<std::uint64_t> sink{0};

inline void compute(std::uint64_t steps) {
  // relaxed: only there so that the work has a result.
  sink.fetch_add(spin(steps), std::memory_order::relaxed);
}

// Steps that take a microsecond of CPU here: the best of several tries.
// BENCH_STEPS_PER_US overrides it: the runner sets it, so that the drivers of
// one comparison do exactly the same work.
inline double steps_per_us() {
  if (char const* given = std::getenv("BENCH_STEPS_PER_US"))
    return std::atof(given);
  constexpr std::uint64_t probe = 200000;
  double best = 1e9;
  for (int i = 0; i < 25; ++i) {
    double const start = seconds(CLOCK_THREAD_CPUTIME_ID);
    compute(probe);
    best = std::min(best, seconds(CLOCK_THREAD_CPUTIME_ID) - start);
  }
  return probe / (best * 1e6);
}

// A number that follows `key` in a file of lines "key   number".
inline double proc_number(char const* path, char const* key) {
  std::FILE* file = std::fopen(path, "r");
  if (!file) return 0;
  char line[256];
  double value = 0;
  std::size_t const length = std::strlen(key);
  while (std::fgets(line, sizeof line, file))
    if (!std::strncmp(line, key, length)) {
      value = std::atof(line + length);
      break;
    }
  std::fclose(file);
  return value;
}

// Bytes of memory. `available` is what the whole machine has left: it sees
// everything, but also what other processes do. `kernel` is the part of the
// kernel's memory that threads account for: their stacks, thread structures
// (all of them slab) and our page tables.
struct memory_now {
  double resident = 1024 * proc_number("/proc/self/status", "VmRSS:");
  double available = 1024 * proc_number("/proc/meminfo", "MemAvailable:");
  double kernel = 1024 * (proc_number("/proc/meminfo", "KernelStack:") +
                          proc_number("/proc/meminfo", "SUnreclaim:") +
                          proc_number("/proc/self/status", "VmPTE:"));
};

inline void emit_memory(char const* peer, char const* bench, memory_now before,
                        auto count, double cpu) {
  memory_now const after;
  auto line = [&](char const* what, double bytes) {
    emit(peer, (std::string(bench) + what).c_str(),
         bytes / static_cast<double>(count), "B/thread", cpu);
  };
  double const resident = after.resident - before.resident;
  line("-rss", resident);
  line("-memavail", before.available - after.available);
  line("-total", resident + after.kernel - before.kernel);
}

// The value below which a share of the sorted samples lies.
inline double quantile(std::vector<float> const& sorted, double share) {
  if (sorted.empty()) return 0;
  auto const last = static_cast<double>(sorted.size() - 1);
  return sorted[static_cast<std::size_t>(share * last)];
}

// Times in ns, kept to 1.6 %: any number of them in a fixed space.
class histogram {
 public:
  void add(std::uint64_t ns) {
    ++count_;
    max_ = std::max(max_, ns);
    ++buckets_[index(ns)];
  }

  std::uint64_t count() const { return count_; }
  double max_us() const { return 1e-3 * static_cast<double>(max_); }

  double quantile_us(double share) const {
    auto rank = static_cast<std::uint64_t>(share * static_cast<double>(count_));
    for (std::size_t i = 0; i < buckets_.size(); ++i) {
      if (rank < buckets_[i]) return 1e-3 * static_cast<double>(value(i));
      rank -= buckets_[i];
    }
    return max_us();
  }

 private:
  static constexpr unsigned fine_bits = 6;  // 64 buckets an octave

  static std::size_t index(std::uint64_t ns) {
    if (ns < (1u << fine_bits)) return ns;
    unsigned const shift =
        static_cast<unsigned>(std::bit_width(ns)) - 1 - fine_bits;
    return (std::size_t{shift} << fine_bits) + (ns >> shift);
  }
  static std::uint64_t value(std::size_t i) {
    if (i < (2u << fine_bits)) return i;
    unsigned const shift = static_cast<unsigned>(i >> fine_bits) - 1;
    return (i - (std::size_t{shift} << fine_bits)) << shift;
  }

  std::vector<std::uint64_t> buckets_ =
      std::vector<std::uint64_t>((65 - fine_bits) << fine_bits);
  std::uint64_t count_ = 0;
  std::uint64_t max_ = 0;
};

}  // namespace bench
