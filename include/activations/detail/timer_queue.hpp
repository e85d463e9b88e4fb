// SPDX-License-Identifier: BSL-1.0
//
// Deadlines of waiting threads and tasks: a pairing heap of nodes that live in
// the waiting frames, under one lock.  Called in a disabled region.
#pragma once

#include <atomic>
#include <cstdint>

#include <activations/detail/futex.hpp>

namespace activations::detail {

struct timer_node {
  std::uint64_t deadline_ns = 0;
  // Called under the queue's lock, in a disabled region.  May make a thread
  // runnable; neither waits nor allocates.
  void (*expire)(timer_node&) noexcept = nullptr;

  // The heap's.  `previous` is the parent of a first child, else the left
  // sibling; a node in no heap has linked == false.
  timer_node* child = nullptr;
  timer_node* sibling = nullptr;
  timer_node* previous = nullptr;
  bool linked = false;
};

// State   earliest_ns_: the deadline of the root, UINT64_MAX when empty.
//         W: under the lock.  R: anybody, as a hint, relaxed.
class timer_queue {
 public:
  [[nodiscard]] std::uint64_t earliest_ns() const noexcept {
    // Relaxed: a late reader is woken by timer_set, or looks again soon.
    return earliest_ns_.load(std::memory_order::relaxed);
  }

  // True when `node` is now the earliest.
  bool add(timer_node& node) noexcept {
    lock_.lock();
    node.child = node.sibling = node.previous = nullptr;
    node.linked = true;
    root_ = root_ == nullptr ? &node : merge(root_, &node);
    bool const is_first = root_ == &node;
    publish();
    lock_.unlock();
    return is_first;
  }

  // When it returns the node is in no heap and its expiry, if any, is over.
  void remove(timer_node& node) noexcept {
    lock_.lock();
    if (node.linked) {
      unlink(node);
      publish();
    }
    lock_.unlock();
  }

  // Expires all that is due.  Returns how many.
  unsigned expire_due(std::uint64_t now_ns) noexcept {
    unsigned count = 0;
    lock_.lock();
    while (root_ != nullptr && root_->deadline_ns <= now_ns) {
      timer_node& due = *root_;
      unlink(due);
      ++count;
      due.expire(due);
    }
    publish();
    lock_.unlock();
    return count;
  }

 private:
  void publish() noexcept {
    earliest_ns_.store(root_ == nullptr ? UINT64_MAX : root_->deadline_ns,
                       std::memory_order::relaxed);
  }

  static timer_node* merge(timer_node* a, timer_node* b) noexcept {
    if (b->deadline_ns < a->deadline_ns) {
      timer_node* const t = a;
      a = b;
      b = t;
    }
    b->previous = a;
    b->sibling = a->child;
    if (a->child != nullptr) a->child->previous = b;
    a->child = b;
    a->sibling = nullptr;
    a->previous = nullptr;
    return a;
  }

  // Two passes, in place: pairs from the left, then merges from the right.
  static timer_node* merge_siblings(timer_node* first) noexcept {
    timer_node* paired = nullptr;  // linked by sibling, last pair first
    while (first != nullptr) {
      timer_node* const a = first;
      timer_node* const b = a->sibling;
      first = b == nullptr ? nullptr : b->sibling;
      a->sibling = a->previous = nullptr;
      timer_node* pair = a;
      if (b != nullptr) {
        b->sibling = b->previous = nullptr;
        pair = merge(a, b);
      }
      pair->sibling = paired;
      paired = pair;
    }
    timer_node* result = nullptr;
    while (paired != nullptr) {
      timer_node* const next = paired->sibling;
      paired->sibling = nullptr;
      result = result == nullptr ? paired : merge(result, paired);
      paired = next;
    }
    return result;
  }

  void unlink(timer_node& node) noexcept {
    timer_node* const below = merge_siblings(node.child);
    if (&node == root_) {
      root_ = below;
    } else {
      if (node.previous->child == &node)
        node.previous->child = node.sibling;
      else
        node.previous->sibling = node.sibling;
      if (node.sibling != nullptr) node.sibling->previous = node.previous;
      if (below != nullptr) root_ = merge(root_, below);
    }
    node.child = node.sibling = node.previous = nullptr;
    node.linked = false;
  }

  std::atomic<std::uint64_t> earliest_ns_{UINT64_MAX};
  futex_lock lock_;
  timer_node* root_ = nullptr;
};

}  // namespace activations::detail
