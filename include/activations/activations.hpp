// SPDX-License-Identifier: BSL-1.0
//
// Everything: include this one header and link threads.
#pragma once

#include <activations/barrier.hpp>
#include <activations/condition_variable.hpp>
#include <activations/counting_semaphore.hpp>
#include <activations/event.hpp>
#include <activations/fork_join.hpp>
#include <activations/latch.hpp>
#include <activations/mutex.hpp>
#include <activations/scheduler.hpp>
#include <activations/task.hpp>
#include <activations/this_thread.hpp>
#include <activations/user_thread.hpp>
