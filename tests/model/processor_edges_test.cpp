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

TEST(ProcessorWord, EachEdgeIsNeeded) {
  model::expect_edges_are_needed(
      "processor_word.hpp", "",
      {{"next owner", "E1", small(), next_owner},
       {"claimer", "E1 E2", small(), claimer},
       {"push and take", "E3", small(), push_and_take},
       {"whose ring", "E3", small(), whose_ring},
       {"idle and look", "E2", small(), idle_and_look}});
}

TEST(IdleSet, EachEdgeIsNeeded) {
  model::expect_edges_are_needed(
      "idle_set.hpp", "class idle_set {",
      {{"idle and push", "E1", small(), idle_and_push},
       {"count, then bits", "E1", small(), count_then_bits},
       {"waker looks again", "E1", small(), waker_looks_again}});
}

}  // namespace
