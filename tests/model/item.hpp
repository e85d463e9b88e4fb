// SPDX-License-Identifier: BSL-1.0
//
// What the model tests of the queues push: a runnable with contents that a
// queue must publish, and a count of how often it was taken.
#pragma once

#include <activations/detail/runnable.hpp>

#include "model/atomics.hpp"

namespace activations::model {

struct item : detail::runnable {
  item() : runnable{nullptr, detail::runnable_kind::job} {}

  plain<int> contents{0};
  int taken = 0;  // increments commute

  // Before each push.
  item* fill(int value) {
    contents.set(value);
    return this;
  }
};

// By whoever got it out of a queue; null is ignored.
inline item* take(detail::runnable* from) {
  if (from == nullptr) return nullptr;
  auto* const one = static_cast<item*>(from);
  check(one->contents.get() != 0, "taken before it was filled");
  check(++one->taken == 1, "taken twice");
  return one;
}

}  // namespace activations::model
