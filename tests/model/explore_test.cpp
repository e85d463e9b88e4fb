// SPDX-License-Identifier: BSL-1.0
//
// The model checker itself: the known outcomes of litmus tests, each allowed
// one found and no forbidden one.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <set>
#include <string>

#include "model/atomics.hpp"

namespace {

namespace model = activations::model;
using std::memory_order;
using enum std::memory_order;

using word = model::atomic<int>;

// The outcomes of a scenario, as the strings that its threads' registers make.
struct outcomes {
  std::set<std::string> seen;
  model::result found;

  bool has(std::string const& one) const { return seen.count(one) > 0; }
};

struct registers {
  int r[4] = {0, 0, 0, 0};
};

template <class Scenario>
outcomes all(int count, Scenario scenario, model::options o = {}) {
  outcomes result;
  result.found = model::explore(o, [&](model::run& run) {
    auto& out = run.make<registers>();
    scenario(run, out);
    run.finally([&result, &out, count] {
      std::string one;
      for (int i = 0; i < count; ++i) one += std::to_string(out.r[i]);
      result.seen.insert(one);
    });
  });
  EXPECT_TRUE(result.found.ok()) << result.found.report;
  return result;
}

outcomes store_buffering(memory_order store, memory_order load) {
  return all(2, [=](model::run& run, registers& out) {
    auto& x = run.make<word>(0);
    auto& y = run.make<word>(0);
    run.spawn([&, store, load] {
      x.store(1, store);
      out.r[0] = y.load(load);
    });
    run.spawn([&, store, load] {
      y.store(1, store);
      out.r[1] = x.load(load);
    });
  });
}

TEST(Litmus, StoreBufferingIsForbiddenToSeqCstOnly) {
  EXPECT_EQ(store_buffering(seq_cst, seq_cst).seen,
            (std::set<std::string>{"01", "10", "11"}));
  EXPECT_TRUE(store_buffering(release, seq_cst).has("00"));
  EXPECT_TRUE(store_buffering(seq_cst, acquire).has("00"));
  EXPECT_TRUE(store_buffering(relaxed, relaxed).has("00"));
}

outcomes message_passing(memory_order store, memory_order load) {
  return all(2, [=](model::run& run, registers& out) {
    auto& data = run.make<word>(0);
    auto& flag = run.make<word>(0);
    run.spawn([&, store] {
      data.store(1, relaxed);
      flag.store(1, store);
    });
    run.spawn([&, load] {
      out.r[0] = flag.load(load);
      out.r[1] = data.load(relaxed);
    });
  });
}

TEST(Litmus, MessagePassingNeedsReleaseAndAcquire) {
  EXPECT_EQ(message_passing(release, acquire).seen,
            (std::set<std::string>{"00", "01", "11"}));
  EXPECT_TRUE(message_passing(relaxed, acquire).has("10"));
  EXPECT_TRUE(message_passing(release, relaxed).has("10"));
}

outcomes independent_reads(memory_order store, memory_order load) {
  return all(4, [=](model::run& run, registers& out) {
    auto& x = run.make<word>(0);
    auto& y = run.make<word>(0);
    run.spawn([&, store] { x.store(1, store); });
    run.spawn([&, store] { y.store(1, store); });
    run.spawn([&, load] {
      out.r[0] = x.load(load);
      out.r[1] = y.load(load);
    });
    run.spawn([&, load] {
      out.r[2] = y.load(load);
      out.r[3] = x.load(load);
    });
  });
}

TEST(Litmus, ReadersAgreeOnIndependentWritesUnderSeqCstOnly) {
  EXPECT_FALSE(independent_reads(seq_cst, seq_cst).has("1010"));
  EXPECT_TRUE(independent_reads(release, acquire).has("1010"));
  EXPECT_TRUE(independent_reads(seq_cst, acquire).has("1010"));
  EXPECT_EQ(independent_reads(seq_cst, seq_cst).seen.size(), 15u);
  EXPECT_EQ(independent_reads(relaxed, relaxed).seen.size(), 16u);
}

TEST(Litmus, WritesToReadsReachAThirdThread) {
  auto const run = [](memory_order pass) {
    return all(3, [=](model::run& r, registers& out) {
      auto& x = r.make<word>(0);
      auto& y = r.make<word>(0);
      r.spawn([&] { x.store(1, relaxed); });
      r.spawn([&, pass] {
        out.r[0] = x.load(relaxed);
        y.store(1, pass);
      });
      r.spawn([&] {
        out.r[1] = y.load(acquire);
        out.r[2] = x.load(relaxed);
      });
    });
  };
  EXPECT_FALSE(run(release).has("110"));
  EXPECT_TRUE(run(relaxed).has("110"));
}

TEST(Litmus, OneLocationIsCoherent) {
  auto const found = all(4, [](model::run& r, registers& out) {
    auto& x = r.make<word>(0);
    r.spawn([&] { x.store(1, relaxed); });
    r.spawn([&] { x.store(2, relaxed); });
    r.spawn([&] {
      out.r[0] = x.load(relaxed);
      out.r[1] = x.load(relaxed);
    });
    r.spawn([&] {
      out.r[2] = x.load(relaxed);
      out.r[3] = x.load(relaxed);
    });
  });
  EXPECT_TRUE(found.has("1212"));
  EXPECT_TRUE(found.has("2121"));
  EXPECT_FALSE(found.has("1221"));
  EXPECT_FALSE(found.has("1000"));
}

// data = 1; x = 1 (release); x = 2 by `middle`; a reader of 2 wants data.
template <class Middle>
outcomes release_sequence(bool same_thread, Middle middle) {
  return all(2, [=](model::run& r, registers& out) {
    auto& data = r.make<word>(0);
    auto& x = r.make<word>(0);
    r.spawn([&, same_thread, middle] {
      data.store(1, relaxed);
      x.store(1, release);
      if (same_thread) middle(x);
    });
    if (!same_thread) r.spawn([&, middle] { middle(x); });
    r.spawn([&] {
      out.r[0] = x.load(acquire);
      out.r[1] = data.load(relaxed);
    });
  });
}

TEST(Litmus, ReadModifyWritesContinueAReleaseSequence) {
  auto const add = [](word& x) {
    int one = 1;
    x.compare_exchange_strong(one, 2, relaxed, relaxed);
  };
  EXPECT_FALSE(release_sequence(false, add).has("20"));
  EXPECT_TRUE(release_sequence(false, add).has("21"));
  EXPECT_FALSE(release_sequence(true, add).has("20"));
}

TEST(Litmus, AStoreOfTheSameThreadEndsAReleaseSequence) {
  auto const store = [](word& x) { x.store(2, relaxed); };
  EXPECT_TRUE(release_sequence(true, store).has("20"));  // since C++20
  EXPECT_TRUE(release_sequence(false, store).has("20"));
}

// Load buffering: each thread reads what the other stores afterwards.
outcomes load_buffering(memory_order load, int future_reads) {
  model::options o;
  o.future_reads = future_reads;
  return all(
      2,
      [=](model::run& r, registers& out) {
        auto& x = r.make<word>(0);
        auto& y = r.make<word>(0);
        r.spawn([&, load] {
          out.r[0] = x.load(load);
          y.store(1, relaxed);
        });
        r.spawn([&, load] {
          out.r[1] = y.load(load);
          x.store(1, relaxed);
        });
      },
      o);
}

TEST(Litmus, LoadBufferingIsFoundWithFutureReads) {
  EXPECT_FALSE(load_buffering(relaxed, 0).has("11"));
  EXPECT_TRUE(load_buffering(relaxed, 1).has("11"));
  EXPECT_FALSE(load_buffering(acquire, 1).has("11"));
  EXPECT_EQ(load_buffering(relaxed, 1).seen.size(), 4u);
}

TEST(Litmus, AFutureReadObeysHappensBefore) {
  model::options o;
  o.future_reads = 1;
  auto const with = [&](memory_order store) {
    return all(
        2,
        [=](model::run& r, registers& out) {
          auto& x = r.make<word>(0);
          auto& y = r.make<word>(0);
          r.spawn([&, store] {
            out.r[0] = x.load(relaxed);
            y.store(1, store);
          });
          r.spawn([&] {
            out.r[1] = y.load(acquire);
            x.store(1, relaxed);
          });
        },
        o);
  };
  EXPECT_FALSE(with(release).has("11"));
  EXPECT_TRUE(with(relaxed).has("11"));
}

TEST(Litmus, AnAtomicIncrementLosesNothing) {
  auto const found = all(1, [](model::run& r, registers& out) {
    auto& x = r.make<word>(0);
    auto& left = r.make<word>(3);
    for (int i = 0; i < 3; ++i)
      r.spawn([&] {
        x.fetch_add(1, relaxed);
        if (left.fetch_sub(1, acq_rel) == 1) out.r[0] = x.load(relaxed);
      });
  });
  EXPECT_EQ(found.seen, (std::set<std::string>{"3"}));
}

TEST(Litmus, AFailedCompareExchangeMayReadAnOldValue) {
  auto const found = all(2, [](model::run& r, registers& out) {
    auto& x = r.make<word>(0);
    r.spawn([&] {
      x.store(1, relaxed);
      x.store(2, relaxed);
    });
    r.spawn([&] {
      int seven = 7;
      out.r[0] = x.compare_exchange_strong(seven, 8, relaxed, relaxed);
      out.r[1] = seven;
    });
  });
  EXPECT_EQ(found.seen, (std::set<std::string>{"00", "01", "02"}));
}

TEST(Litmus, AWeakCompareExchangeMayFailForNoReason) {
  model::options o;
  o.spurious = 1;
  auto const found = all(
      1,
      [](model::run& r, registers& out) {
        auto& x = r.make<word>(0);
        r.spawn([&] {
          int zero = 0;
          out.r[0] = x.compare_exchange_weak(zero, 8, relaxed, relaxed);
        });
      },
      o);
  EXPECT_EQ(found.seen, (std::set<std::string>{"0", "1"}));
}

// Mutual exclusion by flags: the classic use of the store-load pair.
model::result dekker(memory_order store, memory_order load) {
  return model::explore({}, [=](model::run& r) {
    auto& x = r.make<word>(0);
    auto& y = r.make<word>(0);
    auto& inside = r.make<model::plain<int>>(0);
    r.spawn([&, store, load] {
      x.store(1, store);
      if (y.load(load) == 0) inside.set(1);
    });
    r.spawn([&, store, load] {
      y.store(1, store);
      if (x.load(load) == 0) inside.set(2);
    });
  });
}

TEST(Litmus, DekkerNeedsSeqCstOnBothSides) {
  EXPECT_TRUE(dekker(seq_cst, seq_cst).ok());
  EXPECT_FALSE(dekker(release, seq_cst).ok());
  EXPECT_FALSE(dekker(seq_cst, acquire).ok());
}

TEST(Litmus, SeqCstOnOtherWordsDoesNotOrderRelaxedOnes) {
  // A fence would; a seq_cst operation on z is none.
  auto const found = all(2, [](model::run& r, registers& out) {
    auto& x = r.make<word>(0);
    auto& y = r.make<word>(0);
    auto& z = r.make<word>(0);
    r.spawn([&] {
      x.store(1, relaxed);
      z.load(seq_cst);
      out.r[0] = y.load(relaxed);
    });
    r.spawn([&] {
      y.store(1, relaxed);
      z.load(seq_cst);
      out.r[1] = x.load(relaxed);
    });
  });
  EXPECT_TRUE(found.has("00"));
}

TEST(DataRace, IsFoundWhateverTheSchedule) {
  auto const run = [](memory_order store, memory_order load) {
    return model::explore({}, [=](model::run& r) {
      auto& data = r.make<model::plain<int>>(0);
      auto& flag = r.make<word>(0);
      r.spawn([&, store] {
        data.set(1);
        flag.store(1, store);
      });
      r.spawn([&, load] {
        if (flag.load(load) == 1) model::check(data.get() == 1, "stale");
      });
    });
  };
  EXPECT_TRUE(run(release, acquire).ok());
  EXPECT_NE(run(relaxed, acquire).violation.find("data race"),
            std::string::npos);
  EXPECT_NE(run(release, relaxed).violation.find("data race"),
            std::string::npos);
}

TEST(Deadlock, IsAViolation) {
  auto const run = [](bool wake) {
    return model::explore({}, [=](model::run& r) {
      auto& flag = r.make<model::atomic<std::uint32_t>>(0u);
      r.spawn([&] {
        while (flag.load(acquire) == 0) model::futex_wait(flag, 0);
      });
      r.spawn([&, wake] {
        flag.store(1, release);
        if (wake) model::futex_wake(flag);
      });
    });
  };
  EXPECT_TRUE(run(true).ok());
  EXPECT_NE(run(false).violation.find("deadlock"), std::string::npos);
}

TEST(Replay, ShowsTheSameViolation) {
  auto const scenario = [](model::run& r) {
    auto& data = r.make<word>(0);
    auto& flag = r.make<word>(0);
    r.spawn([&] {
      data.store(1, relaxed);
      flag.store(1, relaxed);
    });
    r.spawn([&] {
      if (flag.load(acquire) == 1)
        model::check(data.load(relaxed) == 1, "flag without data");
    });
  };
  auto const found = model::explore({}, scenario);
  ASSERT_EQ(found.violation, "flag without data");
  model::options o;
  o.replay = found.replay;
  auto const again = model::explore(o, scenario);
  EXPECT_EQ(again.violation, found.violation);
  EXPECT_EQ(again.report, found.report);
  EXPECT_NE(found.report.find("explore_test.cpp:"), std::string::npos);
}

TEST(Search, IndependentThreadsAreOneExecution) {
  auto const found = model::explore({}, [](model::run& r) {
    for (int i = 0; i < 4; ++i) {
      auto& own = r.make<word>(0);
      r.spawn([&] {
        for (int n = 0; n < 5; ++n) own.store(own.load(relaxed) + 1, relaxed);
      });
    }
  });
  EXPECT_TRUE(found.ok());
  EXPECT_LE(found.executions, 3u);  // and those that learn whose is what
}

TEST(Search, CountsExecutionGraphsOnce) {
  // n readers of one store each read old or new: 2^n graphs.
  auto const found = model::explore({}, [](model::run& r) {
    auto& x = r.make<word>(0);
    r.spawn([&] { x.store(1, relaxed); });
    for (int i = 0; i < 4; ++i) r.spawn([&] { (void)x.load(relaxed); });
  });
  EXPECT_TRUE(found.ok());
  EXPECT_GE(found.executions, 16u);
  EXPECT_LE(found.executions, 16u + 5u);
}

// Small programs made at random: the reductions lose no outcome.
class random_program {
 public:
  explicit random_program(std::uint32_t seed) : random_(seed) {
    for (auto& one : steps_) one = {pick(3), pick(2), orders[pick(6)], pick(4)};
  }

  std::set<std::string> outcomes(model::options o) {
    std::set<std::string> seen;
    auto const found = model::explore(o, [&](model::run& r) {
      auto& x = r.make<word>(0);
      auto& y = r.make<word>(0);
      auto& out = r.make<std::array<int, 8>>();
      out.fill(0);
      for (int t = 0; t < 3; ++t)
        r.spawn([&, t] {
          for (int i = t * 3; i < std::min(t * 3 + 3, 8); ++i)
            out[i] = run(steps_[i], steps_[i].on == 0 ? x : y, i + 1);
        });
      r.finally([&] {
        std::string one;
        for (int value : out) one += std::to_string(value) + " ";
        seen.insert(one + std::to_string(x.load()) + std::to_string(y.load()));
      });
    });
    EXPECT_TRUE(found.ok()) << found.report;
    return seen;
  }

 private:
  struct step {
    int kind;
    int on;
    memory_order order;
    int expected;
  };
  static constexpr memory_order orders[] = {relaxed, relaxed, acquire,
                                            release, acq_rel, seq_cst};

  int pick(int below) {
    return static_cast<int>(random_() % static_cast<std::uint32_t>(below));
  }

  static int run(step const& s, word& w, int value) {
    bool const rmw = s.order == acq_rel || s.kind == 2;
    if (!rmw && s.kind == 0)
      return w.load(s.order == release ? relaxed : s.order);
    if (!rmw) {
      w.store(value, s.order == acquire ? relaxed : s.order);
      return 0;
    }
    int expected = s.expected;
    w.compare_exchange_strong(expected, 10 * value, s.order,
                              s.order == seq_cst ? seq_cst : relaxed);
    return expected;
  }

  std::minstd_rand random_;
  std::array<step, 8> steps_;
};

TEST(Search, ReductionsLoseNoOutcome) {
  model::options all;
  all.reduce = false;
  std::size_t count = 0;
  for (std::uint32_t seed = 1; seed <= 150; ++seed) {
    random_program program(seed);
    auto const expected = program.outcomes(all);
    EXPECT_EQ(program.outcomes({}), expected) << "seed " << seed;
    count += expected.size();
  }
  EXPECT_GT(count, 1000u);
}

TEST(Search, ReductionsLoseNoOutcomeOfFutureReads) {
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    random_program program(seed);
    model::options o;
    o.future_reads = 1;
    auto const reduced = program.outcomes(o);
    o.reduce = false;
    EXPECT_EQ(reduced, program.outcomes(o)) << "seed " << seed;
  }
}

}  // namespace
