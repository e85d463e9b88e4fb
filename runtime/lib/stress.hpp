/* SPDX-License-Identifier: BSL-1.0 */
/*
 * What the register check of a target (user_stress.S) works on: shared by
 * assembler and C++.  programs/interrupt_stress.cpp says what it is for.
 */
#pragma once

#define STRESS_GENERAL 0
#define STRESS_FLAGS 256
#define STRESS_CONTROL 264
#define STRESS_STOP 280
#define STRESS_MISMATCHES 288
#define STRESS_ROUNDS 296
#define STRESS_COUNTER 304
#define STRESS_STACK 312
#define STRESS_INCREMENTS 320
#define STRESS_FIRST_BAD 328
#define STRESS_VECTOR 336

#ifndef __ASSEMBLER__
#include <cstddef>
#include <cstdint>

struct stress_state {
  std::uint64_t general[32];  // by register number; not all are looked at
  std::uint64_t flags;
  std::uint64_t control[2];  // of floating point
  std::uint64_t stop;        // W: the handler
  std::uint64_t mismatches;
  std::uint64_t rounds;
  std::uint64_t* counter;  // incremented once a round, by load and reserve
  std::uint64_t stack;     // of the caller
  std::uint64_t increments;
  std::uint64_t first_bad;  // register number, or a name below
  alignas(16) std::uint64_t vector[64];
};
static_assert(offsetof(stress_state, stop) == STRESS_STOP);
static_assert(offsetof(stress_state, counter) == STRESS_COUNTER);
static_assert(offsetof(stress_state, first_bad) == STRESS_FIRST_BAD);
static_assert(offsetof(stress_state, vector) == STRESS_VECTOR);

// Loads every register with what `state` says and compares them all, round
// after round, until state->stop. Returns then.
extern "C" void stress_loop(stress_state* state);

// Fills in the words that the target alone can choose: which control bits.
extern "C" std::uint64_t const stress_flag_bits;
extern "C" std::uint64_t const stress_control_bits[2];
// Loads the word and leaves its reservation open.
extern "C" void stress_reserve(std::uint64_t* word);
#endif
