// SPDX-License-Identifier: BSL-1.0
//
// The memory edges of the words through which processors change hands, each
// in the smallest scenario that needs it, over weak memory: the functions are
// the runtime's own (runtime_seam.hpp). What an edge publishes stands for all
// that its users write before it: an atomic that is read relaxed.
#include "model/explore.hpp"
#include "model/mutation.hpp"
#include "model/runtime_seam.hpp"

#include <activations/portable_backend.hpp>

#include <gtest/gtest.h>

namespace {

namespace model = activations::model;
namespace detail = activations::detail;

constexpr auto relaxed = std::memory_order::relaxed;

using word = model::atomic<std::uint64_t>;
using flag = model::atomic<int>;

word& owned_by(model::run& r, std::uint32_t owner) {
  return r.make<word>(
      detail::processor_view{0}.next(ACTIVATIONS_PROCESSOR_RUNNING, owner));
}

model::options small() {
  model::options o;
  o.future_reads = 1;
  o.large = true;
  o.arena_bytes = 1024 * 1024;
  return o;
}

// ---- processor_word.hpp ----------------------------------------------------

// The next owner sees what the last one wrote.
void next_owner(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& written = r.make<flag>(0);
  r.spawn([&] {
    written.store(1, relaxed);
    (void)detail::transfer_processor(p, detail::view_processor(p), 2);
  });
  r.spawn([&] {
    auto const seen = detail::view_processor(p);
    if (seen.owner() == 2)
      model::check(written.load(relaxed) == 1, "a new owner sees old contents");
  });
}

// So does one that claims it.
void claimer(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& written = r.make<flag>(0);
  r.spawn([&] {
    written.store(1, relaxed);
    (void)detail::processor_to_idle(p, 1);
  });
  r.spawn([&] {
    auto const seen = detail::view_processor(p);
    if (seen.is_idle() && detail::transfer_processor(p, seen, 2))
      model::check(written.load(relaxed) == 1, "a claimer sees old contents");
  });
}

// A push into one's own ring against the loss of the processor: the pusher
// sees the loss, or the taker the runnable.
void push_and_take(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& rings = r.make<std::array<detail::run_ring<>, 2>>();
  auto& item = r.make<detail::runnable>();
  auto& left = r.make<bool>(false);
  auto& adopted = r.make<bool>(false);
  r.spawn([&] {
    (void)rings[0].push(&item, std::memory_order::seq_cst);
    left = detail::view_processor(p).owner() == 1;
  });
  r.spawn([&] {
    if (detail::transfer_processor(p, detail::view_processor(p), 2))
      adopted = rings[0].move_into(rings[1], std::memory_order::seq_cst) == 1;
  });
  r.finally([&] {
    model::check(!left || adopted, "a runnable in the ring of a loser");
  });
}

// Two that want it, from the same view: one gets it.
void two_takers(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& winners = r.make<int>(0);
  for (std::uint32_t i = 2; i < 4; ++i)
    r.spawn([&, i] {
      auto const seen = detail::view_processor(p);
      if (seen.owner() == 1) winners += detail::transfer_processor(p, seen, i);
    });
  r.finally([&] { model::check(winners == 1, "P2: a processor for two"); });
}

// The owner goes idle, or somebody takes the processor: one of the two.
void idle_against_take(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& winners = r.make<int>(0);
  r.spawn([&] { winners += detail::processor_to_idle(p, 1); });
  r.spawn([&] {
    auto const seen = detail::view_processor(p);
    if (seen.is_running()) winners += detail::transfer_processor(p, seen, 2);
  });
  r.finally(
      [&] { model::check(winners == 1, "P2: an idle processor that runs"); });
}

// An owner that goes idle against a pusher that looks for an idle one.
void idle_and_push(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& idle = r.make<detail::idle_set>();
  auto& queue = r.make<detail::injection_queue<>>();
  auto& item = r.make<detail::runnable>();
  auto& sleeps = r.make<bool>(false);
  auto& told = r.make<bool>(false);
  r.spawn([&] {
    if (!detail::processor_to_idle(p, 1)) return;
    idle.add(0);
    sleeps = queue.is_empty();
  });
  r.spawn([&] {
    queue.push(&item);
    told = idle.count() != 0;
  });
  r.finally([&] {
    model::check(!sleeps || told, "an owner sleeps beside a runnable");
  });
}

// The same against one that looks for an idle processor by its word alone.
void idle_and_look(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& queue = r.make<detail::injection_queue<>>();
  auto& item = r.make<detail::runnable>();
  auto& sleeps = r.make<bool>(false);
  auto& told = r.make<bool>(false);
  r.spawn(
      [&] { sleeps = detail::processor_to_idle(p, 1) && queue.is_empty(); });
  r.spawn([&] {
    queue.push(&item);
    told = detail::view_processor(p).is_idle();
  });
  r.finally([&] {
    model::check(!sleeps || told, "an owner sleeps beside a runnable");
  });
}

// A new owner pushes to its ring; one that goes idle asks the word whose ring
// to look at.
void whose_ring(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& rings = r.make<std::array<detail::run_ring<>, 2>>();
  auto& idle = r.make<flag>(0);
  auto& item = r.make<detail::runnable>();
  auto& sleeps = r.make<bool>(false);
  auto& told = r.make<bool>(false);
  auto& pushed = r.make<bool>(false);
  r.spawn([&] {
    if (!detail::transfer_processor(p, detail::view_processor(p), 2)) return;
    pushed = rings[1].push(&item, std::memory_order::seq_cst);
    told = idle.load(std::memory_order::seq_cst) != 0;
  });
  r.spawn([&] {
    idle.store(1, std::memory_order::seq_cst);
    sleeps = rings[detail::view_processor(p).owner() - 1].is_empty();
  });
  r.finally([&] {
    model::check(!pushed || !sleeps || told, "one sleeps beside a runnable");
  });
}

// A waker that finds nobody gives up, while one goes idle and another leaves
// the waking to it.
void waker_looks_again(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& idle = r.make<detail::idle_set>();
  auto& queue = r.make<detail::injection_queue<>>();
  auto& searching = r.make<flag>(1);
  auto& item = r.make<detail::runnable>();
  auto& sleeps = r.make<bool>(false);
  auto& told = r.make<bool>(false);
  auto& relied = r.make<bool>(false);
  auto& found = r.make<bool>(false);
  r.spawn([&] {
    if (!detail::processor_to_idle(p, 1)) return;
    idle.add(0);
    sleeps = queue.is_empty();
  });
  r.spawn([&] {
    queue.push(&item);
    if (idle.count() == 0) return;
    told = true;
    relied = searching.load(std::memory_order::seq_cst) != 0;
  });
  r.spawn([&] {
    searching.fetch_sub(1, std::memory_order::seq_cst);
    found = idle.any(
        [&](std::uint32_t) { return detail::view_processor(p).is_idle(); });
  });
  r.finally([&] {
    model::check(!sleeps || (told && (!relied || found)),
                 "nobody wakes the owner that sleeps");
  });
}

// Who sees the count sees the bit, and the word that it stands for.
void count_then_bits(model::run& r) {
  auto& p = owned_by(r, 1);
  auto& idle = r.make<detail::idle_set>();
  r.spawn([&] {
    if (detail::processor_to_idle(p, 1)) idle.add(3);
  });
  r.spawn([&] {
    if (idle.count() == 0) return;
    bool const found = idle.any([&](std::uint32_t i) {
      model::check(i == 3, "a bit of another processor");
      return detail::view_processor(p).is_idle();
    });
    model::check(found, "counted, but not to be found");
  });
}

// ---- spare_list.hpp --------------------------------------------------------

struct parked {
  detail::core home{1, 4, 64 * 1024};
  detail::spare_list spares;
  detail::activation all[3];
  std::array<flag, 3> written{};
  int popped[3] = {0, 0, 0};

  parked() {
    for (std::uint32_t i = 0; i < 3; ++i) {
      all[i].index = i;
      home.set_activation(i, &all[i]);
    }
  }
  void push(std::uint32_t i) {
    written[i].store(1, relaxed);
    spares.push(all[i]);
  }
  detail::activation* pop() {
    auto* const found = spares.pop(home);
    if (found == nullptr) return nullptr;
    model::check(++popped[found->index] == 1, "popped twice");
    model::check(written[found->index].load(relaxed) == 1,
                 "a spare with old contents");
    return found;
  }
  void finish() {
    while (pop() != nullptr) {
    }
    for (int n : popped) model::check(n == 1, "a spare was lost");
  }
};

void push_and_pop(model::run& r) {
  auto& s = r.make<parked>();
  r.spawn([&] {
    s.push(0);
    s.push(1);
  });
  r.spawn([&] { s.push(2); });
  r.spawn([&] { s.pop(); });
  r.finally([&] { s.finish(); });
}

// One is popped, used and pushed again while another pop is under way.
void pushed_again(model::run& r) {
  auto& s = r.make<parked>();
  for (std::uint32_t i = 0; i < 3; ++i) s.push(i);
  r.spawn([&] {
    auto* const one = s.pop();
    auto* const other = s.pop();
    if (one == nullptr || other == nullptr) return;
    s.popped[one->index] = 0;
    s.push(one->index);
  });
  r.spawn([&] { s.pop(); });
  r.finally([&] { s.finish(); });
}

// ---- order.hpp -------------------------------------------------------------

struct told {
  detail::activation self;
  flag written{0};
};

void send_and_wait(model::run& r) {
  auto& s = r.make<told>();
  r.spawn([&] {
    s.written.store(1, relaxed);
    detail::send_order(s.self, detail::order::take);
  });
  r.spawn([&] {
    model::check(detail::wait_order(s.self) == detail::order::take,
                 "another order");
    model::check(s.written.load(relaxed) == 1, "an order without its fields");
  });
}

// A nudge does not hide an order, whichever comes first.
void nudge_and_send(model::run& r) {
  auto& s = r.make<told>();
  r.spawn([&] { detail::nudge(s.self); });
  r.spawn([&] { detail::send_order(s.self, detail::order::granted); });
  r.spawn([&] {
    auto got = detail::wait_order(s.self);
    if (got == detail::order::look) got = detail::wait_order(s.self);
    model::check(got == detail::order::granted, "the order was hidden");
  });
  // A nudge that comes late finds nobody.
}

// A deadline that comes with the order loses it not.
void late_order(model::run& r) {
  auto& s = r.make<told>();
  r.spawn([&] {
    s.written.store(1, relaxed);
    detail::send_order(s.self, detail::order::granted);
  });
  r.spawn([&] {
    auto got = detail::wait_order(s.self, 1000);
    if (got == detail::order::none) got = detail::wait_order(s.self);
    model::check(got == detail::order::granted, "another order");
    model::check(s.written.load(relaxed) == 1, "an order without its fields");
  });
}

// ---- watcher.hpp -----------------------------------------------------------

struct watched {
  detail::watcher helper;
  model::atomic<std::uint32_t> listing{0};
  flag news{0};
  flag written{0};
};

// News and a helper that goes to sleep: it is woken, or sees them.
void news_and_sleep(model::run& r) {
  auto& s = r.make<watched>();
  r.spawn([&] {
    s.news.store(1, std::memory_order::seq_cst);
    if (s.listing.load(std::memory_order::seq_cst) != 0) s.helper.wake();
  });
  r.spawn([&] {
    (void)s.helper.sleep(s.listing, [&] {
      return s.news.load(std::memory_order::seq_cst) != 0;
    });
  });
  r.finally([&] {
    model::check(s.listing.load() == 0, "counted though it is awake");
  });
}

// The same for news of any order, told with each wake.
void wake_without_count(model::run& r, bool listed) {
  auto& s = r.make<watched>();
  r.spawn([&] {
    s.news.store(1, relaxed);
    s.helper.wake();
  });
  r.spawn([&, listed] {
    auto const news = [&] { return s.news.load(relaxed) != 0; };
    if (listed)
      (void)s.helper.sleep(s.listing, news);
    else
      s.helper.sleep_unlisted(news);
    model::check(s.news.load(relaxed) != 0, "woken without the news");
  });
  r.finally([&] {
    model::check(s.listing.load() == 0, "counted though it is awake");
  });
}

// The deadline comes with the wake: who is awake again sees the news, whether
// or not it slept again.
void woken_late(model::run& r) {
  auto& s = r.make<watched>();
  r.spawn([&] {
    s.news.store(1, relaxed);
    s.helper.wake();
  });
  r.spawn([&] {
    auto const news = [&] { return s.news.load(relaxed) != 0; };
    (void)s.helper.sleep(s.listing, news, 1000);
    if (!news()) (void)s.helper.sleep(s.listing, news);
    model::check(news(), "woken without the news");
  });
  r.finally([&] {
    model::check(s.listing.load() == 0, "counted though it is awake");
  });
}

// Sleeps again and again; two wake it.
void woken_by_two(model::run& r) {
  auto& s = r.make<watched>();
  for (int i = 0; i < 2; ++i)
    r.spawn([&] {
      s.news.fetch_add(1, std::memory_order::seq_cst);
      if (s.listing.load(std::memory_order::seq_cst) != 0) s.helper.wake();
    });
  r.spawn([&] {
    for (int seen = 0; seen < 2;) {
      (void)s.helper.sleep(s.listing, [&] {
        return s.news.load(std::memory_order::seq_cst) > seen;
      });
      seen = s.news.load(std::memory_order::seq_cst);
    }
  });
  r.finally([&] {
    model::check(s.listing.load() == 0, "counted though it is awake");
  });
}

TEST(ProcessorWord, EachEdgeIsNeeded) {
  model::expect_edges_are_needed(
      "processor_word.hpp", "",
      {{"next owner", "E1", small(), next_owner},
       {"claimer", "E1 E2", small(), claimer},
       {"push and take", "E3", small(), push_and_take},
       {"whose ring", "E3", small(), whose_ring},
       {"two takers", "", small(), two_takers},
       {"idle against take", "", small(), idle_against_take},
       {"idle and look", "E2", small(), idle_and_look}});
}

TEST(IdleSet, EachEdgeIsNeeded) {
  model::expect_edges_are_needed(
      "idle_set.hpp", "class idle_set {",
      {{"idle and push", "E1", small(), idle_and_push},
       {"count, then bits", "E1", small(), count_then_bits},
       {"waker looks again", "E1", small(), waker_looks_again}});
}

TEST(SpareList, EachEdgeIsNeeded) {
  auto o = small();
  model::expect_edges_are_needed("portable/spare_list.hpp",
                                 "class spare_list {",
                                 {{"push and pop", "E1", o, push_and_pop},
                                  {"pushed again", "E1", o, pushed_again}});
}

TEST(Order, EachEdgeIsNeeded) {
  auto o = small();
  o.timeouts = 1;
  o.early_timeouts = 1;
  model::expect_edges_are_needed("portable/order.hpp", "",
                                 {{"send and wait", "E1", o, send_and_wait},
                                  {"late order", "E1", o, late_order},
                                  {"nudge and send", "", o, nudge_and_send}});
}

TEST(Watcher, EachEdgeIsNeeded) {
  auto o = small();
  auto late = o;
  late.early_timeouts = 1;
  model::expect_edges_are_needed(
      "watcher.hpp", "class watcher {",
      {{"news and sleep", "E1", o, news_and_sleep},
       {"wake", "E2 E3", o, [](model::run& r) { wake_without_count(r, true); }},
       {"wake, not listed", "E2 E3", o,
        [](model::run& r) { wake_without_count(r, false); }},
       {"woken late", "E2 E3", late, woken_late},
       {"woken by two", "E1", o, woken_by_two}},
      {{"E2", "exchange acq_rel -> acquire",
        "publishes listing_, which is plain"},
       {"E2 E3", "exchange acq_rel -> release", "reads listing_, likewise"}});
}

}  // namespace
