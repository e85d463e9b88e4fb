// SPDX-License-Identifier: BSL-1.0
//
// The two queues of runnables, first in first out: `run_ring`, one for each
// activation, from which others steal; and `injection_queue`, one for each
// scheduler, for whoever owns no ring (foreign kernel threads, signal
// handlers, the monitor) and for what overflows a ring. In one file because
// each moves batches into the other.
#pragma once

#include <atomic>
#include <bit>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <utility>

#include <activations/detail/atomics.hpp>
#include <activations/detail/runnable.hpp>

namespace activations::detail {

template <class Atomics, std::uint32_t Capacity>
class run_ring;

// Source
//   The local run queue of Go (runtime/proc.go: runqput, runqget, runqgrab).
//   Deviations: 64-bit indices instead of 32 (a thief may be stopped for
//   minutes between its load and its compare-exchange; 2^32 yields take 40
//   seconds); a thief takes no more than its own ring has room for.
// State
//   head_   index of the oldest runnable. Only ever grows, by
//           compare-exchange of the owner (pop) or of a thief. Own cache line.
//   tail_   index of the next free slot. Written by the owner, read by all.
//           Own cache line, shared with head_seen_ only.
//   head_seen_  a value head_ once had. Owner only.
//   slots_  runnable i is in slots_[i % Capacity].
// Roles
//   Owner: push, pop, and steal_into with its own ring as `mine` (one thread
//   at a time). Any thread: steal_into from here, size, is_empty.
// Invariants
//   I1  head_seen_ <= head_ <= tail_ <= head_ + Capacity.
//   I2  whoever moves head_ from h to h + n owns runnables h .. h + n - 1.
// Edges
//   E1  push, append, steal_into(mine): tail_ store -> steal_into: tail_ load
//       publishes the slots and what their pointers lead to.
//   E2  steal_into: head_ compare-exchange -> push, steal_into(mine): head_
//       load. The thief has read its slots before the owner reuses them.
//   E3  the same tail_ stores with publish == seq_cst -> steal_into, is_empty:
//       tail_ load. For a pusher that next loads who is idle, against one
//       that announced itself idle (seq_cst) and looks here once more.
//   Loads of head_ by thieves are relaxed: an old value makes the
//   compare-exchange fail, nothing worse.
// Progress and memory
//   push is wait-free. pop and steal_into are lock-free: they start again
//   only if another thread took something. A thread that is stopped anywhere
//   here holds back at most what it has already taken. Indices wrap after
//   centuries. Nothing is allocated or reclaimed.
// Evidence
//   tests/model/run_ring_test.cpp weakens each labelled access.
template <class Atomics = std_atomics, std::uint32_t Capacity = 256>
class run_ring {
  static_assert(std::has_single_bit(Capacity));

 public:
  run_ring() = default;
  run_ring(run_ring const&) = delete;
  run_ring& operator=(run_ring const&) = delete;

  // Owner. False: full, nothing happened. `publish` is seq_cst for a caller
  // that must not miss a thief about to sleep (E3), else release.
  [[nodiscard]] bool push(
      runnable* item,
      std::memory_order publish = std::memory_order::release) noexcept {
    auto const t = tail_.load(std::memory_order::relaxed);  // our own word
    if (t - head_seen_ >= Capacity && fresh_room(t) == 0) [[unlikely]]
      return false;
    // Relaxed: tail_ publishes it.
    slots_[index(t)].store(item, std::memory_order::relaxed);
    tail_.store(t + 1, publish);  // E1 E3
    return true;
  }

  // Owner. The oldest runnable, or null.
  [[nodiscard]] runnable* pop() noexcept {
    auto const t = tail_.load(std::memory_order::relaxed);  // our own word
    auto h = head_.load(std::memory_order::relaxed);        // checked below
    while (h != t) {
      assert(t - h <= Capacity);  // I1
      // Relaxed: we stored it ourselves. A thief may have taken it, and then
      // the exchange fails.
      auto* const item = slots_[index(h)].load(std::memory_order::relaxed);
      // Relaxed: what we stored we need not publish to ourselves; E2 of an
      // earlier thief goes through this exchange unharmed.
      if (head_.compare_exchange_weak(h, h + 1, std::memory_order::relaxed,
                                      std::memory_order::relaxed))
        return item;
    }
    return nullptr;
  }

  // The owner of `mine` takes the older half of this ring, rounded up: the
  // oldest runnable goes to `first`, to be run at once, the others to the end
  // of `mine`. Returns how many were taken in all; 0: the ring was empty.
  // While it runs the runnables are in neither ring, so a caller that took
  // more than one looks for idle processors afterwards, as after a push
  // (`publish` as there).
  // Requires: &mine != this.
  [[nodiscard]] std::size_t steal_into(
      run_ring& mine, runnable*& first,
      std::memory_order publish = std::memory_order::release) noexcept {
    assert(&mine != this);
    // Relaxed: the word of `mine` that only the caller writes.
    auto const end = mine.tail_.load(std::memory_order::relaxed);
    auto const most = mine.fresh_room(end) + 1;
    // Relaxed: an old head is found out by the exchange.
    auto h = head_.load(std::memory_order::relaxed);
    for (;;) {
      auto const t = tail_.load(std::memory_order::seq_cst);  // E1 E3
      auto n = t - h;
      if (static_cast<std::int64_t>(n) <= 0) return 0;
      if (n > Capacity) {                            // h is from long before t
        h = head_.load(std::memory_order::relaxed);  // as above
        continue;
      }
      n -= n / 2;
      if (n > most) n = most;
      // Relaxed: E1 published them. The owner may overwrite them meanwhile,
      // but then head_ has moved and the exchange fails. The slots of `mine`
      // behind its tail are the caller's to scribble on.
      auto* const oldest = slots_[index(h)].load(std::memory_order::relaxed);
      for (position i = 1; i < n; ++i)
        mine.slots_[index(end + i - 1)].store(
            slots_[index(h + i)].load(std::memory_order::relaxed),
            std::memory_order::relaxed);
      if (head_.compare_exchange_strong(h, h + n,
                                        std::memory_order::release,     // E2
                                        std::memory_order::relaxed)) {  // retry
        if (n > 1) mine.tail_.store(end + n - 1, publish);              // E1 E3
        first = oldest;
        return static_cast<std::size_t>(n);
      }
      Atomics::pause();
    }
  }

  // The owner of `mine` moves all of this ring, in order, to the end of
  // `mine`, as far as there is room there. Returns how many.
  // Requires: &mine != this.
  std::size_t move_into(
      run_ring& mine,
      std::memory_order publish = std::memory_order::release) noexcept {
    assert(&mine != this);
    // Relaxed, all as in steal_into.
    auto const end = mine.tail_.load(std::memory_order::relaxed);
    auto const most = mine.fresh_room(end);
    auto h = head_.load(std::memory_order::relaxed);
    for (;;) {
      auto const t = tail_.load(std::memory_order::seq_cst);  // E1 E3
      auto n = t - h;
      if (static_cast<std::int64_t>(n) <= 0 || most == 0) return 0;
      if (n > Capacity) {  // h is from long before t
        h = head_.load(std::memory_order::relaxed);
        continue;
      }
      if (n > most) n = most;
      for (position i = 0; i < n; ++i)
        mine.slots_[index(end + i)].store(
            slots_[index(h + i)].load(std::memory_order::relaxed),
            std::memory_order::relaxed);
      if (head_.compare_exchange_strong(h, h + n,
                                        std::memory_order::release,     // E2
                                        std::memory_order::relaxed)) {  // retry
        mine.tail_.store(end + n, publish);                             // E1 E3
        return static_cast<std::size_t>(n);
      }
      Atomics::pause();
    }
  }

  // Owner. At least this many pushes will succeed.
  [[nodiscard]] std::uint32_t room() noexcept {
    // Relaxed: our own word.
    return static_cast<std::uint32_t>(
        fresh_room(tail_.load(std::memory_order::relaxed)));
  }

  // Owner. Pushes `count` runnables linked by `next`, of which the last need
  // not end the chain. Requires: count <= room().
  void append(runnable* item, std::size_t count,
              std::memory_order publish) noexcept {
    assert(count <= room());
    auto t = tail_.load(std::memory_order::relaxed);  // our own word
    for (; count > 0; --count, item = item->next)
      slots_[index(t++)].store(item, std::memory_order::relaxed);  // as push
    tail_.store(t, publish);                                       // E1 E3
  }

  // Any thread. True: everything whose push came before, in the order of the
  // seq_cst operations (E3), has been taken.
  [[nodiscard]] bool is_empty() const noexcept {
    auto const t = tail_.load(std::memory_order::seq_cst);  // E3
    // Relaxed: an old head only makes the ring look fuller.
    auto const h = head_.load(std::memory_order::relaxed);
    return static_cast<std::int64_t>(t - h) <= 0;
  }

  // Any thread; a hint.
  [[nodiscard]] std::uint32_t size() const noexcept {
    // Relaxed: a hint.
    auto const t = tail_.load(std::memory_order::relaxed);
    auto const h = head_.load(std::memory_order::relaxed);
    auto const n = static_cast<std::int64_t>(t - h);
    return n < 0 ? 0 : n > Capacity ? Capacity : static_cast<std::uint32_t>(n);
  }

 private:
  using position = std::uint64_t;

  static std::size_t index(position p) noexcept { return p & (Capacity - 1); }

  // Owner: how many more fit when tail_ is t.
  position fresh_room(position t) noexcept {
    head_seen_ = head_.load(std::memory_order::acquire);  // E2
    assert(t - head_seen_ <= Capacity);                   // I1
    return Capacity - (t - head_seen_);
  }

  alignas(cache_line_bytes)
      typename Atomics::template atomic<position> tail_{0};
  position head_seen_ = 0;
  alignas(cache_line_bytes)
      typename Atomics::template atomic<position> head_{0};
  alignas(cache_line_bytes)
      typename Atomics::template slot<runnable*> slots_[Capacity];
};

// Source
//   A Treiber stack (IBM RJ 5118, 1986) that is only ever emptied whole, so
//   that it has no ABA problem, and behind it one word for the rest of a
//   batch that a taker had no room for.
// State
//   incoming_  newest of the runnables pushed, linked by `next` to older ones.
//              Written by any thread. Own cache line.
//   waiting_   last of a ring of runnables in order (its `next` is the
//              first), all older than incoming_; null: none. Taken whole by
//              exchange, put back by compare-exchange from null. Own line.
// Roles
//   Any thread, any number at once: push, push_all, is_empty; push also in
//   a signal handler that interrupted any function of this class.
//   Owner of a ring: take_into.
// Invariants
//   I1  whoever exchanged a chain out of a word is alone with its runnables.
//   I2  in order of push, unless two takers overlap or a taker is overtaken
//       by a push between its two words.
// Edges
//   E1  push: incoming_ compare-exchange -> take_into: incoming_ exchange
//       publishes the links and what is behind them. Later pushes go through
//       as read-modify-writes and keep the older edges alive.
//   E2  take_into: waiting_ compare-exchange -> take_into: waiting_ exchange
//       publishes the links of what is put back, and passes E1 on.
//   E3  push, take_into: the same exchanges -> is_empty: both loads, seq_cst
//       for one that pushes, or puts back, and then loads who is idle,
//       against one that announced itself idle (seq_cst) and looks here.
// Progress and memory
//   push is lock-free: it starts again only if another push, or a take,
//   succeeded. take_into is lock-free likewise. A taker that is stopped in
//   the middle holds back what it has in hand: at most what was in the word
//   it emptied. From waiting_ it walks `limit` links with it in hand; from
//   incoming_ all of them, once, to turn them round.
//   Nothing is allocated; runnables are not touched after they were handed
//   out.
// Evidence
//   tests/model/injection_queue_test.cpp weakens each labelled access.
template <class Atomics = std_atomics>
class injection_queue {
 public:
  injection_queue() = default;
  injection_queue(injection_queue const&) = delete;
  injection_queue& operator=(injection_queue const&) = delete;

  // Any thread, signal handlers too. The caller looks for idle processors
  // afterwards.
  void push(runnable* item) noexcept { push_newest(item, item); }

  // Any thread. A chain linked by `next` in the order in which it is to run.
  // Costs one walk to turn it round.
  void push_all(runnable* first) noexcept {
    if (first == nullptr) return;
    auto* const oldest = first;
    push_newest(reversed(first), oldest);
  }

  // The owner of `mine` takes up to `limit` of the oldest runnables: the
  // first goes to `first`, to be run at once, the others to the end of `mine`
  // as far as there is room. Returns how many were taken; 0: none waited, or
  // others have them in hand and will put back what they leave.
  // A caller that took more than one, or after whom !is_empty(), looks for
  // idle processors, as after a push (`publish` as in run_ring::push).
  template <std::uint32_t Capacity>
  [[nodiscard]] std::size_t take_into(
      run_ring<Atomics, Capacity>& mine, runnable*& first, std::size_t limit,
      std::memory_order publish = std::memory_order::release) noexcept {
    assert(limit > 0);
    auto* last = take_waiting();
    bool const older = last != nullptr;
    if (!older) last = take_incoming();
    if (last == nullptr) return 0;

    std::size_t const most = mine.room() + std::size_t{1};
    if (limit > most) limit = most;
    first = last->next;
    std::size_t n = 1;
    auto* cut = first;  // the last one that we keep
    for (; n < limit && cut != last; ++n) cut = cut->next;
    if (cut != last) {
      last->next = cut->next;
      put_back(last, older);
    }
    if (n > 1) mine.append(first->next, n - 1, publish);
    return n;
  }

  // Any thread. True: everything whose push came before, in the order of the
  // seq_cst operations (E3), has been taken or is in the hands of a taker.
  [[nodiscard]] bool is_empty() const noexcept {
    return incoming_.load(std::memory_order::seq_cst) == nullptr &&  // E3
           waiting_.load(std::memory_order::seq_cst) == nullptr;     // E3
  }

 private:
  // Both return the last of a ring of runnables, or null.
  runnable* take_waiting() noexcept {
    // Relaxed: a hint that spares a locked instruction; who must know asks
    // is_empty() first, and what that saw this load does not miss.
    if (waiting_.load(std::memory_order::relaxed) == nullptr) return nullptr;
    return waiting_.exchange(nullptr, std::memory_order::acquire);  // E2
  }
  runnable* take_incoming() noexcept {
    // Relaxed: as above.
    if (incoming_.load(std::memory_order::relaxed) == nullptr) return nullptr;
    auto* const newest =
        incoming_.exchange(nullptr, std::memory_order::acquire);  // E1
    if (newest == nullptr) return nullptr;
    newest->next = reversed(newest);
    return newest;
  }

  void put_back(runnable* last, bool older) noexcept {
    for (;;) {
      runnable* none = nullptr;
      if (waiting_.compare_exchange_strong(
              none, last, std::memory_order::seq_cst,  // E2 E3
              std::memory_order::relaxed))             // not touched: retry
        return;
      // Another taker put its rest back meanwhile: join the two.
      auto* const other = take_waiting();
      if (other == nullptr) continue;
      std::swap(last->next, other->next);
      if (older) last = other;
    }
  }

  void push_newest(runnable* newest, runnable* oldest) noexcept {
    // Relaxed: only compared, never followed.
    auto* top = incoming_.load(std::memory_order::relaxed);
    do {
      oldest->next = top;
    } while (!incoming_.compare_exchange_weak(
        top, newest, std::memory_order::seq_cst,  // E1 E3
        std::memory_order::relaxed));             // only compared
  }

  static runnable* reversed(runnable* item) noexcept {
    runnable* done = nullptr;
    while (item != nullptr) {
      auto* const next = item->next;
      item->next = done;
      done = item;
      item = next;
    }
    return done;
  }

  static_assert(std::atomic<runnable*>::is_always_lock_free);
  alignas(cache_line_bytes)
      typename Atomics::template atomic<runnable*> incoming_{nullptr};
  alignas(cache_line_bytes)
      typename Atomics::template atomic<runnable*> waiting_{nullptr};
};

}  // namespace activations::detail
