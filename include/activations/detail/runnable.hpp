// SPDX-License-Identifier: BSL-1.0
//
// What a run queue holds: the common head of everything that can be run.
// A runnable is in at most one queue at a time, and whoever took it out is
// alone with it; that is why `next` is a plain pointer.
#pragma once

namespace activations::detail {

enum class runnable_kind : unsigned char { strand, task, job, activation };

struct runnable {
  runnable* next = nullptr;
  runnable_kind kind;
};

}  // namespace activations::detail
