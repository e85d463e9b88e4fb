// SPDX-License-Identifier: BSL-1.0
//
// The transitions of the word that says to which activation a virtual
// processor is lent (abi.h: activations_processor_info.word).  Everybody who
// plays the kernel in the portable backend changes the word through these
// functions only: owners, returners, spares, the monitor.
//
// Source      Barrelfish's dispatcher ownership, reduced to one word.  The
//             difference: the word is an account, not a lock.  Every structure
//             above is safe for any number of running activations; a lost
//             processor is noticed at the loser's next scheduling point.  So
//             a taker needs no answer from the owner (no membarrier, no
//             hand-back): taking from an owner that was about to run costs one
//             counted excess, never a lost or doubled piece of work.
// State       one 64-bit word: state, owner, tag.  Writers: below.
// Roles       claim_idle, take: any activation, for itself; grant: whoever
//             holds a claimed word, for a sleeping activation; to_idle and
//             from_idle: the owner.
// Invariants  I1 one owner at a time, by construction.
//             I2 the tag grows by one with each change, so that a CAS from a
//                word once read succeeds only if nothing changed in between.
//             I3 a processor is IDLE only while its owner sleeps or is about
//                to sleep on its own token.
// Edges       E1 each change: CAS -> load: the next owner sees what the last
//                one wrote before it went idle or gave the processor away.
//             E2 to_idle: CAS, then the queues are read again; a pusher writes
//                its queue, then reads the word (all seq_cst): one of the two
//                sees the other.
//             E3 transfer: CAS, then the new owner reads the last one's ring;
//                who pushes to its own ring reads the word afterwards (all
//                seq_cst): either it sees that it lost the processor, or the
//                new owner sees the runnable.  Likewise for one that goes idle
//                and asks the word whose ring to look at.
// Progress    each function is one CAS: lock-free; tag wraps after 2^41
//             changes of one processor.
// Evidence    tests/model/processor_edges_test.cpp.
#pragma once

#include <atomic>
#include <cstdint>

#include <activations/abi.h>

namespace activations::detail {

struct processor_view {
  std::uint64_t word;

  [[nodiscard]] constexpr std::uint32_t state() const noexcept {
    return static_cast<std::uint32_t>(word & ACTIVATIONS_WORD_STATE_MASK);
  }
  [[nodiscard]] constexpr std::uint32_t owner() const noexcept {
    return static_cast<std::uint32_t>(word >> ACTIVATIONS_WORD_OWNER_SHIFT) &
           ACTIVATIONS_INDEX_NONE;
  }
  [[nodiscard]] constexpr std::uint64_t tag() const noexcept {
    return word >> ACTIVATIONS_WORD_TAG_SHIFT;
  }
  [[nodiscard]] constexpr bool is_running() const noexcept {
    return state() == ACTIVATIONS_PROCESSOR_RUNNING;
  }
  [[nodiscard]] constexpr bool is_idle() const noexcept {
    return state() == ACTIVATIONS_PROCESSOR_IDLE;
  }
  // The word that follows this one.
  [[nodiscard]] constexpr std::uint64_t next(
      std::uint32_t state, std::uint32_t owner) const noexcept {
    return ((tag() + 1) << ACTIVATIONS_WORD_TAG_SHIFT) |
           (std::uint64_t{owner} << ACTIVATIONS_WORD_OWNER_SHIFT) | state;
  }
};

template <class Word>
[[nodiscard]] inline processor_view view_processor(Word const& word) noexcept {
  return {word.load(std::memory_order::seq_cst)};  // E1 E2 E3
}

// Gives the processor, as it was seen, to `activation`, running.  This one
// transition is grant, take, claim and hand-off: who may ask for it differs.
// Returns false when the word had changed: nothing happened then.
template <class Word>
[[nodiscard]] inline bool transfer_processor(
    Word& word, processor_view seen, std::uint32_t activation) noexcept {
  return word.compare_exchange_strong(
      seen.word, seen.next(ACTIVATIONS_PROCESSOR_RUNNING, activation),
      std::memory_order::seq_cst, std::memory_order::relaxed);  // E1 E3
}

// The owner declares its processor idle.  False: it was taken meanwhile.
template <class Word>
[[nodiscard]] inline bool processor_to_idle(Word& word,
                                            std::uint32_t self) noexcept {
  processor_view const seen = view_processor(word);
  if (!seen.is_running() || seen.owner() != self) return false;
  auto expected = seen.word;
  return word.compare_exchange_strong(
      expected, seen.next(ACTIVATIONS_PROCESSOR_IDLE, self),
      std::memory_order::seq_cst, std::memory_order::relaxed);  // E1 E2
}

}  // namespace activations::detail
