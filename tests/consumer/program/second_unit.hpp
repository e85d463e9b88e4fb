// SPDX-License-Identifier: BSL-1.0
// The other translation unit of the consumers' program.
#pragma once

#include <activations/activations.hpp>

// Adds amount to sum under the mutex, blocking and yielding on the way.
void add(activations::mutex& mutex, int& sum, int amount);

// The same on a user thread of its own.
activations::user_thread start_adding(activations::mutex& mutex, int& sum,
                                      int amount);

// The calling user thread's id as this unit sees it.
activations::user_thread::id current_id();
