// SPDX-License-Identifier: BSL-1.0
//
// The state machine of processors and activations: the real scheduler core and
// the real portable backend, over the model (runtime_seam.hpp), with kernel
// threads that block where the scenario says. Checked in every execution:
//
//   P1  when nothing moves any more, no job waits while a processor is idle or
//       its owner is blocked and a spare could take over;
//   P2  without blocks, no more jobs run at once than there are processors;
//   P4  each job runs, once;
//   P6  all threads of control end, also when there are no spares.
#include "model/explore.hpp"
#include "model/runtime_seam.hpp"

#define private public
#include <activations/portable_backend.hpp>
#undef private

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <functional>
#include <initializer_list>
#include <iterator>
#include <ostream>
#include <string>
#include <vector>

namespace {

namespace model = activations::model;
namespace detail = activations::detail;

struct plan {
  std::uint32_t processors = 1;
  std::uint32_t spares = 0;
  bool sentinels = false;
  bool monitor = false;
  bool unwoken = false;  // as after many searches in vain, see notify_of_one
};

class world;

// A piece of user code.
struct work : detail::job {
  work() : job(&work::start) {}
  world* in = nullptr;
  std::function<void()> body;
  bool pushed = false;
  int runs = 0;

  static void start(detail::job& self) noexcept;
};

class world {
 public:
  world(model::run& r, plan const& p)
      : plan_(p),
        core_(p.processors, p.processors + p.spares, 64 * 1024),
        lender_((use_threads(r), core_), cpus(p.processors), options(p)) {
    for (std::uint32_t i = 0; i < p.spares; ++i)
      (void)lender_.pool_.create(p.processors + i, i % p.processors, true);
    // Spares first, then helpers: with no preemption they sleep when the
    // owners begin.
    machine_.start([](model::machine::thread const& one) {
      return one.body != &detail::activation_threads::run_thread ? 1
             : static_cast<detail::activation_threads::slot*>(one.argument)
                     ->self.is_new
                 ? 0
                 : 2;
    });
    for (std::uint32_t i = 0; i < p.processors + p.spares; ++i)
      give_carriers(r, *core_.activation_at(i));
    if (p.unwoken) core_.most_futile_ = 0;
    r.when_quiet([this] { return when_quiet(); });
    r.finally([this] { check_end(); });
  }

  // Part of the set-up: queued before anybody runs.
  void start_with(work& w) {
    w.in = this;
    w.pushed = true;
    core_.inject(w);
    all_.push_back(&w);
  }
  void know(work& w) {
    w.in = this;
    all_.push_back(&w);
  }
  void push(work& w) {
    w.pushed = true;
    core_.make_runnable(w);
  }
  void block() { machine_.block(); }
  model::machine& machine() noexcept { return machine_; }
  detail::core& core() noexcept { return core_; }
  // As the preempt handler does it.
  void preempt() {
    detail::activation& self = *detail::current_activation();
    detail::disabled_region const region;
    core_.stop_here(self);
  }

  // As a strand in a pinned_scope yields.
  void yield_pinned() {
    detail::activation& self = *detail::current_activation();
    detail::strand& me = *self.current;
    me.pinned_to = &self;
    ++me.pins;
    detail::core::yield(self);
    --me.pins;
  }

  // What happened in all executions so far.
  static inline activations::portable_statistics reached;

  int running = 0;
  bool is_exact = true;  // until something blocks
  [[nodiscard]] int processors() const noexcept {
    return static_cast<int>(plan_.processors);
  }

 private:
  static std::vector<int> cpus(std::uint32_t count) {
    std::vector<int> all;
    for (std::uint32_t i = 0; i < count; ++i)
      all.push_back(static_cast<int>(i));
    return all;
  }
  static activations::portable_options options(plan const& p) {
    activations::portable_options o;
    o.hand_over = p.spares > 0;
    o.strict = true;
    return o;
  }

  void use_threads(model::run&) {
    model::engine::current()->make_thread_local(
        reinterpret_cast<void*&>(detail::current_activation_pointer));
    machine_.wants_thread = [this](model::machine::entry body) {
      if (body == &detail::spare_maker::run_maker) return false;
      if (body == &detail::lookout::run_monitor) return plan_.monitor;
      if (body == &detail::lookout::run_sentinel) return plan_.sentinels;
      return true;
    };
  }

  // Stacks that outlive the execution: the real pool would map new ones.
  void give_carriers(model::run& r, detail::activation& to) {
    struct alignas(64) memory {
      std::byte bytes[carrier_bytes];
      memory() noexcept {}
    };
    for (int i = 0; i < 2; ++i) {
      auto& m = r.make<memory>();
      auto* const made = new (m.bytes + carrier_bytes - 1024) detail::strand;
      made->memory.base = m.bytes;
      made->memory.size = carrier_bytes;
      made->memory.guard = detail::guard_kind::pages;
      made->home = &core_;
      detail::context_make(made->machine, m.bytes, carrier_bytes - 1024,
                           &detail::core::carrier_entry, made);
      made->next = to.carriers;
      to.carriers = made;
      ++to.carrier_count;
    }
  }

  // Nothing moves: what is left to do must be impossible to do.
  bool when_quiet() {
    bool waits = false;
    for (work const* w : all_) waits = waits || (w->pushed && w->runs == 0);
    for (std::uint32_t i = 0; waits && i < plan_.processors; ++i) {
      auto const view = core_.processor_at(i).view();
      model::check(!view.is_idle(), "P1: a job waits, a processor is idle");
      if (!plan_.sentinels && !plan_.monitor) continue;
      auto* const owner = core_.activation_at(view.owner());
      model::check(!machine_.is_blocked(thread_of(*owner)) ||
                       lender_.pool_.spares(i) == 0,
                   "P1: a job waits for a blocked owner, a spare parks");
    }
    check_accounts();
    // Who lost its processor comes back first, to an owner that is blocked.
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i) {
      auto& a = *core_.activation_at(i);
      if (a.is_lost.load() && machine_.release(thread_of(a))) return true;
    }
    return machine_.release_one();
  }

  static int thread_of(detail::activation const& a) {
    return a.tid.load(std::memory_order::relaxed) - 1;
  }

  // Nobody is on the way from one state to another: who is what adds up.
  void check_accounts() {
    std::uint32_t idle = 0;
    std::vector<int> roles(core_.activation_slots(), 0);
    for (std::uint32_t i = 0; i < plan_.processors; ++i) {
      auto const view = core_.processor_at(i).view();
      idle += view.is_idle();
      ++roles[view.owner()];
    }
    model::check(core_.idle().count() == idle,
                 "account: the idle set is not the idle words");
    model::check(core_.searching_.load() == 0,
                 "account: a searcher counted that does not search");
    for (std::uint32_t i = 0; i < plan_.processors; ++i) {
      auto& spares = lender_.pool_.lanes_[i];
      std::uint32_t length = 0;
      auto next = static_cast<std::uint32_t>(spares.head_.load());
      for (; next != ACTIVATIONS_INDEX_NONE && length < 99; ++length) {
        ++roles[next];
        next = core_.activation_at(next)->next_spare.load();
      }
      model::check(spares.size() == length,
                   "account: spares counted that are not there");
    }
    std::uint32_t lost = 0;
    for (std::uint32_t i = 0; i < core_.activation_slots(); ++i) {
      auto& a = *core_.activation_at(i);
      model::check(roles[i] <= 1,
                   "account: an activation is a spare twice, or an owner, too");
      lost += a.is_lost.load();
      auto const state = a.info->state.load();
      if (roles[i] == 0)
        model::check(machine_.is_blocked(thread_of(a)) ||
                         state == ACTIVATIONS_ACTIVATION_PREEMPTED ||
                         state == ACTIVATIONS_ACTIVATION_PARKED,
                     "account: an activation that nobody knows of");
    }
    model::check(core_.lost().load() == lost,
                 "account: losses counted that are none");
  }

  void check_end() {
    auto const now = lender_.statistics();
    using counter = std::uint64_t activations::portable_statistics::*;
    for (counter const which :
         {counter{&activations::portable_statistics::sentinel_takes},
          counter{&activations::portable_statistics::monitor_takes},
          counter{&activations::portable_statistics::returns},
          counter{&activations::portable_statistics::preemptions},
          counter{&activations::portable_statistics::direct_resumes}})
      reached.*which += now.*which;
    for (work const* w : all_)
      if (w->pushed) model::check(w->runs == 1, "P4: a job was lost");
    model::check(running == 0, "P6: a thread of control did not go on");
    // Each processor has one owner, and nobody owns two.
    for (std::uint32_t i = 0; i < plan_.processors; ++i)
      for (std::uint32_t j = 0; j < i; ++j)
        model::check(core_.processor_at(i).view().owner() !=
                         core_.processor_at(j).view().owner(),
                     "P2: one activation owns two processors");
  }

  static constexpr std::size_t carrier_bytes = 32 * 1024;

  plan plan_;
  model::machine machine_;
  detail::core core_;
  activations::portable_backend lender_;
  std::vector<work*> all_;
};

void work::start(detail::job& self) noexcept {
  work& w = static_cast<work&>(self);
  model::check(++w.runs == 1, "P4: a job ran twice");
  ++w.in->running;
  if (w.in->is_exact)
    model::check(w.in->running <= w.in->processors(),
                 "P2: more jobs run than there are processors");
  if (w.body) w.body();
  --w.in->running;
}

model::options settings() {
  model::options o;
  o.sequential = true;
  o.timeouts = 6;
  o.look_ns = 30'000;  // a search ends at its second look
  o.max_steps = 20'000;
  o.arena_bytes = 4 * 1024 * 1024;
  return o;
}

// A job makes two more.
void fan_out(model::run& r, plan const& p) {
  auto& w = r.make<world>(r, p);
  auto& jobs = r.make<std::array<work, 3>>();
  jobs[0].body = [&] {
    w.push(jobs[1]);
    w.push(jobs[2]);
  };
  w.start_with(jobs[0]);
  w.know(jobs[1]);
  w.know(jobs[2]);
}

// A foreign kernel thread makes two jobs while owners go idle.
void from_outside(model::run& r, plan const& p) {
  auto& w = r.make<world>(r, p);
  auto& jobs = r.make<std::array<work, 2>>();
  for (auto& one : jobs) w.know(one);
  r.spawn([&] {
    w.push(jobs[0]);
    w.push(jobs[1]);
  });
}

void two_from_outside(model::run& r, plan const& p) {
  auto& w = r.make<world>(r, p);
  auto& jobs = r.make<std::array<work, 2>>();
  for (auto& one : jobs) w.know(one);
  for (auto& one : jobs) r.spawn([&] { w.push(one); });
}

// A job blocks with another one waiting.
void block(model::run& r, plan const& p) {
  auto& w = r.make<world>(r, p);
  w.is_exact = false;
  auto& jobs = r.make<std::array<work, 2>>();
  jobs[0].body = [&] {
    w.push(jobs[1]);
    w.block();
  };
  w.start_with(jobs[0]);
  w.know(jobs[1]);
}

// All block, and come back one after the other.
void all_block(model::run& r, plan const& p) {
  auto& w = r.make<world>(r, p);
  w.is_exact = false;
  auto& jobs = r.make<std::array<work, 3>>();
  for (auto& one : jobs) {
    one.body = [&] { w.block(); };
    w.start_with(one);
  }
}

// A job is made elsewhere while its processor's owner blocks.
void push_to_blocked(model::run& r, plan const& p) {
  auto& w = r.make<world>(r, p);
  w.is_exact = false;
  auto& jobs = r.make<std::array<work, 2>>();
  jobs[0].body = [&] { w.block(); };
  w.start_with(jobs[0]);
  w.know(jobs[1]);
  r.spawn([&] { w.push(jobs[1]); });
}

// A job is stopped in the middle and goes on later.
void preempt(model::run& r, plan const& p) {
  auto& w = r.make<world>(r, p);
  auto& jobs = r.make<std::array<work, 2>>();
  w.is_exact = false;
  jobs[0].body = [&] {
    w.push(jobs[1]);
    w.preempt();
  };
  w.start_with(jobs[0]);
  w.know(jobs[1]);
}

// A pinned job lets another one go first.
void yield_pinned(model::run& r, plan const& p) {
  auto& w = r.make<world>(r, p);
  auto& jobs = r.make<std::array<work, 3>>();
  w.is_exact = p.spares == 0;
  jobs[0].body = [&] {
    w.push(jobs[1]);
    w.yield_pinned();
    w.push(jobs[2]);
  };
  w.start_with(jobs[0]);
  w.know(jobs[1]);
  w.know(jobs[2]);
}

// It holds what all others wait for, and no spare is left: P6.
void stopped_holder(model::run& r, plan const& p) {
  auto& w = r.make<world>(r, p);
  w.is_exact = false;
  auto& jobs = r.make<std::array<work, 3>>();
  auto& lock = r.make<model::atomic<std::uint32_t>>(1u);
  jobs[0].body = [&] {
    w.push(jobs[1]);
    w.preempt();
    lock.store(0, std::memory_order::seq_cst);
    for (int t = 0; t < model::max_threads; ++t) w.machine().release(t);
  };
  jobs[1].body = [&] {
    while (lock.load(std::memory_order::seq_cst) != 0) w.block();
  };
  w.start_with(jobs[0]);
  w.know(jobs[1]);
}

// ---- what is explored ------------------------------------------------------

using statistic = std::uint64_t activations::portable_statistics::*;

struct scene {
  char const* name;
  int preemptions;       // all executions with at most so many
  std::uint64_t random;  // and so many at random, with any number
  void (*body)(model::run&);
  statistic comes_to = nullptr;  // what happens in some of them
};

// Printed as the parameter of a test.
std::ostream& operator<<(std::ostream& out, scene const& one) {
  return out << one.name;
}

constexpr scene scenes[] = {
    {"grant", 2, 500, [](model::run& r) { from_outside(r, {1}); }},
    {"grant_by_two", 1, 500, [](model::run& r) { two_from_outside(r, {1}); }},
    {"grant_one_of_two", 1, 500, [](model::run& r) { from_outside(r, {2}); }},
    {"idle", 1, 500, [](model::run& r) { fan_out(r, {2}); }},
    {"idle_unwoken", 0, 500,
     [](model::run& r) {
       fan_out(r, {2, 1, false, true, true});
     }},
    {"block", 1, 500,
     [](model::run& r) {
       block(r, {1, 1, true});
     },
     &activations::portable_statistics::sentinel_takes},
    {"block_of_two", 0, 1000,
     [](model::run& r) {
       block(r, {2, 1, true});
     },
     &activations::portable_statistics::sentinel_takes},
    {"unblock", 1, 500,
     [](model::run& r) {
       all_block(r, {1, 1, true});
     },
     &activations::portable_statistics::returns},
    {"unblock_with_spares", 0, 1000,
     [](model::run& r) {
       all_block(r, {1, 2, true});
     },
     &activations::portable_statistics::returns},
    {"push_to_a_blocked", 1, 500,
     [](model::run& r) {
       push_to_blocked(r, {1, 1, true});
     }},
    {"preempt", 1, 500,
     [](model::run& r) {
       preempt(r, {1, 1, true});
     },
     &activations::portable_statistics::preemptions},
    {"preempt_of_two", 0, 1000,
     [](model::run& r) {
       preempt(r, {2, 1, true});
     },
     &activations::portable_statistics::preemptions},
    {"hand_off", 1, 500,
     [](model::run& r) {
       yield_pinned(r, {1, 1, true});
     },
     &activations::portable_statistics::preemptions},
    {"hand_off_without_spare", 1, 0,
     [](model::run& r) {
       yield_pinned(r, {2, 0});
     }},
    {"fall_back", 1, 500,
     [](model::run& r) {
       stopped_holder(r, {1, 1, false, true});
     },
     &activations::portable_statistics::direct_resumes},
    {"monitor_alone", 0, 1000,
     [](model::run& r) {
       all_block(r, {1, 1, false, true});
     },
     &activations::portable_statistics::monitor_takes},
};

scene const& scene_of(std::string const& name) {
  return *std::find_if(std::begin(scenes), std::end(scenes),
                       [&](scene const& one) { return one.name == name; });
}

model::result explore_scene(scene const& one, model::mutation const& change,
                            std::uint64_t most) {
  auto o = settings();
  o.mutate = change;
  o.preemptions = one.preemptions;
  o.max_executions = most;
  auto const found = model::explore(o, one.body);
  if (!found.violation.empty() || one.random == 0) return found;
  o.seed = 1;
  o.random_executions = std::min(one.random, most);
  auto more = model::explore(o, one.body);
  more.executions += found.executions;
  more.complete = more.complete && found.complete;
  return more;
}

class Processors : public ::testing::TestWithParam<scene> {};

// ACTIVATIONS_MODEL_WALKS=100000: so many random walks in each scene, for a
// long search.
TEST_P(Processors, ConserveWorkAndLoseNothing) {
  auto one = GetParam();
  if (char const* const walks = std::getenv("ACTIVATIONS_MODEL_WALKS"))
    one.random = std::strtoull(walks, nullptr, 10);
  world::reached = {};
  auto const found = explore_scene(one, {}, 1'000'000);
  std::printf("%llu executions\n",
              static_cast<unsigned long long>(found.executions));
  EXPECT_TRUE(found.ok()) << found.report;
  if (one.comes_to != nullptr) {
    EXPECT_GT(world::reached.*one.comes_to, 0u) << "never came to it";
  }
}

// ---- mutations -------------------------------------------------------------

// An operation of the runtime, by how its line or the next begins.
struct place {
  char const* header;
  char const* code;
  model::operation on;
};

constexpr place transfer{"detail/processor_word.hpp",
                         "  return word.compare_exchange_strong(\n"
                         "      seen.word, seen.next(",
                         model::operation::compare_exchange};
constexpr place to_idle{"detail/processor_word.hpp",
                        "  return word.compare_exchange_strong(\n"
                        "      expected, seen.next(",
                        model::operation::compare_exchange};
constexpr place send{"detail/portable/order.hpp", "  to.token.store(",
                     model::operation::store};
constexpr place wake{"tests/model/runtime_seam.hpp",
                     "      return model::futex_wake(",
                     model::operation::futex_wake};

// The path of a header as the compiler saw it.
std::string path_of(char const* header) {
  std::string const here = __FILE__;
  auto const root = here.substr(0, here.rfind("tests/model/"));
  if (std::string(header).rfind("tests/", 0) == 0) return root + header;
  // That of the include directory is in no file name of ours.
  static auto const found = model::explore(
      [] {
        auto o = settings();
        o.max_executions = 1;
        return o;
      }(),
      scenes[0].body);
  for (auto const& at : found.sightings) {
    std::string const file = at.where.file;
    auto const i = file.rfind("activations/detail/processor_word.hpp");
    if (i != std::string::npos)
      return file.substr(0, i) + "activations/" + header;
  }
  return header;
}

model::mutation mutation_of(place const& where, model::mutation::kind what) {
  static std::deque<std::string> paths;  // outlive the sites
  paths.push_back(path_of(where.header));
  std::ifstream in(paths.back());
  std::string const text{std::istreambuf_iterator<char>(in), {}};
  auto const begin = text.find(where.code);
  if (begin == std::string::npos) {
    ADD_FAILURE() << where.header << " has no " << where.code;
    return {};
  }
  auto const end = text.find(';', begin);
  model::mutation made;
  made.what = what;
  made.on = where.on;
  made.where = {
      paths.back().c_str(),
      static_cast<int>(std::count(text.begin(), text.begin() + begin, '\n')) +
          1};
  made.last_line =
      static_cast<int>(std::count(text.begin(), text.begin() + end, '\n')) + 1;
  return made;
}

void expect_noticed(char const* what, scene const& one,
                    model::mutation const& change) {
  auto const found = explore_scene(one, change, 3'000);
  std::printf("  %-44s %-22s %s (execution %llu)\n", what, one.name,
              found.violation.c_str(),
              static_cast<unsigned long long>(found.executions + 1));
  EXPECT_FALSE(found.violation.empty())
      << what << ": not noticed in " << one.name;
}

// Each transition is made of a change of the word, an order and a wake-up.
TEST_P(Processors, MissEachPartOfATransition) {
  using kind = model::mutation::kind;
  auto const& one = GetParam();
  expect_noticed("the word does not change hands", one,
                 mutation_of(transfer, kind::refuse));
  expect_noticed("no order", one, mutation_of(send, kind::skip));
  expect_noticed("no wake-up", one, mutation_of(wake, kind::skip));
}

INSTANTIATE_TEST_SUITE_P(Model, Processors, ::testing::ValuesIn(scenes),
                         [](auto const& info) {
                           return std::string(info.param.name);
                         });

struct slip {
  char const* what;
  place where;
  model::mutation::kind how;
  char const* noticed_in;
};

// What follows the words: counts, lists, flags.
TEST(ProcessorAccounts, AreEachNeeded) {
  using enum model::operation;
  using kind = model::mutation::kind;
  constexpr char const* idle_set = "detail/idle_set.hpp";
  constexpr char const* spares = "detail/portable/spare_list.hpp";
  constexpr char const* core = "detail/core.hpp";
  constexpr char const* losses = "detail/portable/losses.hpp";
  constexpr char const* watcher = "detail/watcher.hpp";
  for (slip const& one : std::initializer_list<slip>{
           {"an idle processor without its bit",
            {idle_set, "    bits_[processor / 64].fetch_or(", exchange},
            kind::skip,
            "grant"},
           {"an idle processor that is not counted",
            {idle_set, "    count_.fetch_add(", exchange},
            kind::skip,
            "grant"},
           {"one counted idle for ever",
            {idle_set, "    count_.fetch_sub(", exchange},
            kind::skip,
            "grant"},
           {"a search that is not counted",
            {core, "    searching_.fetch_add(", exchange},
            kind::skip,
            "grant"},
           {"a search that does not end",
            {core, "        searching_.fetch_sub(1", exchange},
            kind::skip,
            "grant"},
           {"two wakers at once",
            {core, "      if (!searching_.compare_exchange_strong(",
             compare_exchange},
            kind::blind,
            "grant_by_two"},
           {"a waker that gives up and stays counted",
            {core, "      searching_.fetch_sub(1", exchange},
            kind::skip,
            "grant"},
           {"a helper that nobody can wake",
            {watcher, "    auto const was =\n        word_.exchange(",
             exchange},
            kind::skip,
            "block"},
           {"a helper that is not counted",
            {watcher, "    listing.fetch_add(", exchange},
            kind::skip,
            "block"},
           {"an owner that is never seen in user code",
            {"detail/activation.hpp", "    disabled.store(depth", store},
            kind::skip,
            "block"},
           {"a loss that is not settled",
            {losses, "    if (!self.is_lost.exchange(", exchange},
            kind::skip,
            "block"},
           {"a spare without its link",
            {spares, "      a.next_spare.store(", store},
            kind::skip,
            "unblock_with_spares"},
           {"two that push a spare at once",
            {spares,
             "    } while (!head_.compare_exchange_weak(head, "
             "successor(head, a.index)",
             compare_exchange},
            kind::blind,
            "unblock_with_spares"},
           {"a spare that is not counted",
            {spares, "    size_.fetch_add(", exchange},
            kind::skip,
            "block"},
           {"a spare counted though it is gone",
            {spares, "        size_.fetch_sub(", exchange},
            kind::skip,
            "block"},
           {"an owner that idles without saying so", to_idle, kind::refuse,
            "grant"},
       })
    expect_noticed(one.what, scene_of(one.noticed_in),
                   mutation_of(one.where, one.how));
}

}  // namespace
