// SPDX-License-Identifier: BSL-1.0
//
// What the module's operations cost, as ratios within one boot: all on one
// CPU, in turns with what they are compared to, so that a slow minute of the
// machine hits both. Asserts nothing about time. Under an emulator that counts
// instructions as time (-icount) the same ratios are of instructions.
#include <fcntl.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>

#include "scene.hpp"

namespace kernel_tests {
namespace {

constexpr unsigned samples_a_turn = 200;
constexpr unsigned turns = 9;

struct samples {
  std::vector<std::uint64_t> ticks;
  void add(std::uint64_t begin, std::uint64_t end) {
    ticks.push_back(end - begin);
  }
  double median() {
    std::nth_element(ticks.begin(), ticks.begin() + ticks.size() / 2,
                     ticks.end());
    return static_cast<double>(ticks[ticks.size() / 2]);
  }
};

void pin_to_cpu_0() {
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  CPU_SET(0, &cpus);
  sched_setaffinity(0, sizeof(cpus), &cpus);
}

enum class attached { no, without_processor, disabled, keeping };

void attach_as(space* one, unsigned i, attached how) {
  switch (how) {
    case attached::no:
      return;
    case attached::without_processor:
      one->attach(i, none);
      return;
    case attached::disabled:
      one->own(i).disabled = 1;
      [[fallthrough]];
    case attached::keeping:
      one->attach(i, i);
  }
}

// There and back, and one way: two threads and two words.
struct futex_times {
  samples round_trip, one_way;
};
futex_times futex_switches(attached how) {
  std::unique_ptr<space> one;
  if (how != attached::no) one = std::make_unique<space>(2, 4);
  futex_times result;
  std::atomic<std::uint32_t> words[2] = {};
  std::uint64_t volatile begin = 0;
  auto const wake = [&](int k) {
    words[k].store(1, std::memory_order::release);
    raw_call(SYS_futex, &words[k], FUTEX_WAKE_PRIVATE, 1);
  };
  auto const wait = [&](int k) {
    while (words[k].exchange(0, std::memory_order::acq_rel) == 0) {
      raw_call(SYS_futex, &words[k], FUTEX_WAIT_PRIVATE, 0, nullptr);
    }
  };
  std::thread other([&] {
    pin_to_cpu_0();
    attach_as(one.get(), 1, how);
    for (unsigned n = 0; n < samples_a_turn; ++n) {
      wait(1);
      result.one_way.add(begin, __rdtsc());
      wake(0);
    }
    if (one) one->detach();
  });
  std::thread first([&] {
    pin_to_cpu_0();
    attach_as(one.get(), 0, how);
    sched_yield();
    for (unsigned n = 0; n < samples_a_turn; ++n) {
      begin = __rdtsc();
      wake(1);
      wait(0);
      result.round_trip.add(begin, __rdtsc());
    }
    if (one) one->detach();
  });
  first.join();
  other.join();
  return result;
}

samples null_ioctls() {
  int const fd = open_device();
  samples result;
  for (unsigned n = 0; n < samples_a_turn; ++n) {
    std::uint64_t const begin = __rdtsc();
    raw_ioctl(fd, _IO(ACTIVATIONS_IOCTL_TYPE, 255), nullptr);
    result.add(begin, __rdtsc());
  }
  close(fd);
  return result;
}

// A spare that, whenever it is dispatched, does `serve` and gives the
// processor back to activation 0, until that has detached.
class server {
 public:
  template <class F>
  server(space& one, F serve)
      : thread_([this, &one, serve] {
          pin_to_cpu_0();
          one.own(1).disabled = 1;
          one.attach(1, none);
          long result = one.park();
          while (result == 0 && !over_.load()) {
            serve();
            while ((result = one.switch_to(0)) == -EAGAIN && !over_.load()) {
              sched_yield();
            }
          }
          one.detach();
        }) {
    while (one.info().spare_count.load() == 0) sched_yield();
  }
  // By activation 0, at the end: the server inherits its processor.
  void leave(space& one) {
    over_ = true;
    one.detach();
  }
  void join() { thread_.join(); }

 private:
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

struct block_times {
  samples block_to_next, switch_to;
};
enum class block_in { pipe, futex };
block_times blocks(block_in what, unsigned count = samples_a_turn) {
  space one(1, 2);
  block_times result;
  int ends[2];
  if (pipe(ends) != 0) std::abort();
  std::uint64_t volatile blocked = 0, switched = 0;
  std::atomic<std::uint32_t> word = 0;
  server spare(one, [&] {
    result.block_to_next.add(blocked, __rdtsc());
    if (what == block_in::pipe) {
      raw_call(SYS_write, ends[1], "x", 1);
    } else {
      word.fetch_add(1);
      raw_call(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1);
    }
    // Until it has come back and stands stopped at its user boundary.
    while ((one.stopped_words()[0].load() & 1) == 0) sched_yield();
    one.stopped_words()[0].store(0);
    switched = __rdtsc();
  });
  std::thread worker([&] {
    pin_to_cpu_0();
    one.attach(0, 0);
    one.control().work_waiting = 1;
    for (unsigned n = 0; n < count; ++n) {
      char byte;
      std::uint32_t const seen = word.load();
      blocked = __rdtsc();
      if (what == block_in::pipe) {
        raw_call(SYS_read, ends[0], &byte, 1);
      } else {
        raw_call(SYS_futex, &word, FUTEX_WAIT_PRIVATE, seen, nullptr);
      }
      std::uint64_t const now = __rdtsc();
      if (switched > blocked) result.switch_to.add(switched, now);
    }
    spare.leave(one);
  });
  worker.join();
  spare.join();
  close(ends[0]);
  close(ends[1]);
  return result;
}

// Stopped in user mode by a kick of its own, or by the call STOP, and back.
samples stops(bool by_kick) {
  space one(1, 2);
  samples result;
  server spare(one, [] {});
  std::thread worker([&] {
    pin_to_cpu_0();
    one.attach(0, 0);
    one.control().work_waiting = 1;
    for (unsigned n = 0; n < samples_a_turn; ++n) {
      std::uint64_t const begin = __rdtsc();
      if (by_kick) {
        one.kick(0);
      } else {
        one.stop();
      }
      result.add(begin, __rdtsc());
    }
    spare.leave(one);
  });
  worker.join();
  spare.join();
  return result;
}

// Medians of the turns' own ratios.
class ratios {
 public:
  void add(std::string const& name, double ratio) {
    auto& list = lists_[name];
    if (list.empty()) order_.push_back(name);
    list.push_back(ratio);
  }
  void print() {
    for (auto const& name : order_) {
      auto& list = lists_[name];
      std::sort(list.begin(), list.end());
      found("%-62s %7.2f  (%.2f..%.2f)", name.c_str(), list[list.size() / 2],
            list.front(), list.back());
    }
  }

 private:
  std::map<std::string, std::vector<double>> lists_;
  std::vector<std::string> order_;
};

KERNEL_TEST(Cost, OfEachOperationAsARatio) {
  pin_to_cpu_0();
  ratios all;
  for (unsigned turn = 0; turn < turns; ++turn) {
    auto base = futex_switches(attached::no);
    double const one_way = base.one_way.median();
    double const round_trip = base.round_trip.median();
    double const null_ioctl = null_ioctls().median();
    all.add("null ioctl, ticks", null_ioctl);
    all.add("futex wake and switch / null ioctl", one_way / null_ioctl);
    all.add("futex round trip / null ioctl", round_trip / null_ioctl);
    for (auto what : {block_in::futex, block_in::pipe}) {
      auto block = blocks(what);
      ASSERT_GT(block.switch_to.ticks.size(), 0u);
      std::string const in = what == block_in::futex ? "futex" : "pipe";
      all.add("block in a " + in + " to next thread / futex wake and switch",
              block.block_to_next.median() / one_way);
      all.add("SWITCH_TO one back from a " + in + " / futex wake and switch",
              block.switch_to.median() / one_way);
    }
    all.add("call STOP, SWITCH_TO back / futex round trip",
            stops(false).median() / round_trip);
    all.add("kick, stub, SWITCH_TO back / futex round trip",
            stops(true).median() / round_trip);
    all.add("futex round trip, attached, no processor / unattached",
            futex_switches(attached::without_processor).round_trip.median() /
                round_trip);
    all.add(
        "futex round trip, attached, disabled / unattached",
        futex_switches(attached::disabled).round_trip.median() / round_trip);
    all.add("futex round trip, attached, keeping / unattached",
            futex_switches(attached::keeping).round_trip.median() / round_trip);
    all.add("futex round trip, unattached again / unattached",
            futex_switches(attached::no).round_trip.median() / round_trip);
  }
  all.print();
}

// The kernel's own events between a block and the next thread in user mode, the
// last one of twenty. Under -icount the stamps are instructions, those of the
// tracing included.
TEST(Cost, OfABlockInParts) {
  std::string const folder = "/sys/kernel/tracing/";
  if (access((folder + "trace").c_str(), W_OK) != 0) {
    GTEST_SKIP() << "tracefs is not mounted";
  }
  auto const set = [&](std::string const& file, char const* text) {
    std::ofstream(folder + file) << text << std::flush;
  };
  char const* const events[] = {
      "sched/sched_switch",         "sched/sched_wakeup",        "raw_syscalls",
      "irq_vectors/irq_work_entry", "irq_vectors/irq_work_exit", "activations"};
  auto const enable = [&](char const* value) {
    one_cpu const quiet;
    for (auto event : events) {
      set("events/" + std::string(event) + "/enable", value);
    }
  };
  set("trace_clock", "x86-tsc");
  enable("1");
  child process([] { blocks(block_in::futex, 20); });
  EXPECT_TRUE(process.wait().exited_with(0));
  enable("0");
  std::vector<std::string> lines;
  std::ifstream trace(folder + "trace");
  for (std::string line; std::getline(trace, line);) lines.push_back(line);
  set("trace_clock", "local");
  set("trace", "");
  // From the last block to the second system call's end after it.
  std::size_t block = lines.size();
  while (block > 0 &&
         lines[block - 1].find("activations_block") == std::string::npos) {
    --block;
  }
  ASSERT_GT(block, 3u) << "no block was traced";
  for (std::size_t n = block - 3; n < lines.size() && n < block + 14; ++n) {
    std::printf("  %s\n", lines[n].c_str());
  }
  found("%zu events traced", lines.size());
}

// What a program that does not use the module pays for its being loaded.
TEST(Cost, OfTheLoadedModuleToOthers) {
  if (access(module_file(), R_OK) != 0) {
    GTEST_SKIP() << "no module file " << module_file();
  }
  ASSERT_TRUE(module_becomes_idle());
  ratios all;
  for (unsigned turn = 0; turn < 3; ++turn) {
    ASSERT_EQ(unload_module(), 0);
    double const without = futex_switches(attached::no).round_trip.median();
    ASSERT_EQ(load_module(), 0);
    double const with = futex_switches(attached::no).round_trip.median();
    all.add("futex round trip, module loaded / not loaded", with / without);
  }
  all.print();
}

}  // namespace
}  // namespace kernel_tests
