// SPDX-License-Identifier: BSL-1.0
//
// What things cost in instructions: run it under QEMU's -icount shift=0, where
// a nanosecond is an instruction of whatever core.  Averages; the loop around
// is taken off.
//
//   ./do image ARCH --run costs --cpus 2 --qemu "-icount shift=0"
#include <activations/activations.hpp>
#include <activations/detail/bare/image.hpp>
#include <activations/detail/context.hpp>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <vector>

#include <system.hpp>
#include <user_resume.hpp>

namespace {

using user::u64;

void print(char const* what, u64 total, u64 times) {
  std::printf("%s: %lu instructions\n", what, (total + times / 2) / times);
}

// Of `times` calls of f, without the loop.
template <class F>
u64 total_of(u64 times, F f) {
  u64 const begin = user::now_ns();
  for (u64 i = 0; i < times; ++i) f();
  u64 const middle = user::now_ns();
  for (u64 i = 0; i < times; ++i) asm volatile("");
  u64 const end = user::now_ns();
  return (middle - begin) - (end - middle);
}

void null_call() {
  constexpr u64 times = 20'000;
  print("null system call",
        total_of(times, [] { user::call(ACTIVATIONS_IMAGE_NULL); }), times);
}

// ---- resume and interrupt, on a dispatcher of our own --------------------------

constexpr u64 resumes = 500;
constexpr u64 interrupts = 500;

user::saved_general target;
user::saved_vector target_vector;
u64 resumes_left;
bool by_resume;
u64 resumes_begin;
u64 direct_total;
std::atomic<bool> is_done{false};

u64 last_seen;
u64 interrupts_seen;
u64 interrupt_ticks;

void landed();

// By a call, or by the resume sequence: the difference is its cost.
[[gnu::noinline]] void go_on() {
  if (by_resume) {
    auto& control = user::activation_control(user::this_page().index);
    control.disabled.store(1, std::memory_order::relaxed);
    user::resume(target, target_vector, &control.disabled);
  } else {
    auto& control = user::activation_control(user::this_page().index);
    control.disabled.store(0, std::memory_order::relaxed);
    landed();
  }
  asm volatile("");  // no tail call: its jump would be cheaper
}

void count_interrupts();

[[gnu::noinline]] void landed() {
  if (--resumes_left != 0) return go_on();
  u64 const took = user::now_ns() - resumes_begin;
  if (!by_resume) {
    direct_total = took;
    return;
  }
  print("user-mode resume of a whole context", took - direct_total, resumes);
  count_interrupts();
  is_done.store(true, std::memory_order::release);
  for (;;) user::call(ACTIVATIONS_CALL_DETACH);
}

activations_save_slot* note_interrupt(activations_dispatcher& page, u64 events,
                                      activations_save_slot* slot, void*) {
  u64 const now = user::counter();
  if ((events & ACTIVATIONS_EVENT_TIMER) == 0) return slot;
  interrupt_ticks += now - last_seen;
  // No multiple of anything, so that coarse counters average out.
  u64 const next_ns = 30'000 + 1'237 * ++interrupts_seen % 4'001;
  user::call(ACTIVATIONS_CALL_SLICE, page.index,
             interrupts_seen == interrupts ? 0 : next_ns);
  return slot;
}

void count_interrupts() {
  auto& page = user::this_page();
  user::on_upcall = &note_interrupt;
  user::call(ACTIVATIONS_CALL_SLICE, page.index, 30'000);
  auto volatile& seen = last_seen;
  auto volatile& count = interrupts_seen;
  while (count != interrupts) seen = user::counter();
  print("timer interrupt to the upcall's handler",
        static_cast<u64>(static_cast<unsigned __int128>(interrupt_ticks) *
                             page.clock_multiplier >>
                         32),
        interrupts);
}

void measure_resume(void*) {
  auto& page = user::this_page();
  constexpr u64 stack_bytes = 64 * 1024;
  auto const stack = reinterpret_cast<u64>(user::map(stack_bytes));
  auto frame =
      machine::frame::upcall(reinterpret_cast<u64>(&landed),
                             stack + stack_bytes, 0, 0, 0, page.thread_pointer);
#if defined(__x86_64__)
  frame.rsp -= 8;  // as if it had been called
#elif defined(__riscv)
  asm("mv %0, gp" : "=r"(frame.reg(3)));
#endif
  std::memcpy(&target, &frame, sizeof target);
  page.resuming = reinterpret_cast<u64>(&target);
  for (bool const way : {false, true}) {
    by_resume = way;
    resumes_left = resumes;
    resumes_begin = user::now_ns();
    go_on();
  }
}

// ---- messages ---------------------------------------------------------------------

constexpr u64 round_trips = 1'000;
std::atomic<u64> ball{0};

// Sleeps until it is our turn.
void await(u64 turn) {
  while (ball.load(std::memory_order::acquire) < turn)
    user::call(ACTIVATIONS_CALL_PARK, user::never);
}

void answer(void*) {
  for (u64 i = 0; i < round_trips; ++i) {
    await(2 * i + 1);
    ball.store(2 * i + 2, std::memory_order::release);
    user::call(ACTIVATIONS_CALL_KICK, 0);
  }
}

void messages() {
  activations_image_start(3, 1, &answer, nullptr);
  u64 const begin = user::now_ns();
  for (u64 i = 0; i < round_trips; ++i) {
    ball.store(2 * i + 1, std::memory_order::release);
    user::call(ACTIVATIONS_CALL_KICK, 3);
    await(2 * i + 2);
  }
  print("message to a sleeper on another core, both sides",
        user::now_ns() - begin, 2 * round_trips);
}

// ---- threads ------------------------------------------------------------------------

struct switch_pair {
  activations::detail::context main, other;
};

void bounce(void* argument) {
  auto& pair = *static_cast<switch_pair*>(argument);
  activations::detail::context_enter(pair.other);
  for (;;) activations::detail::context_switch(pair.other, pair.main);
}

void bare_switch() {
  constexpr u64 times = 10'000;
  std::vector<std::byte> stack(64 * 1024);
  switch_pair pair;
  activations::detail::context_init_native(pair.main);
  activations::detail::context_make(pair.other, stack.data(), stack.size(),
                                    bounce, &pair);
  print("switch of stacks alone",
        total_of(times,
                 [&] {
                   activations::detail::context_switch(pair.main, pair.other);
                 }),
        2 * times);
  activations::detail::context_finish(pair.other);
}

void yields() {
  constexpr u64 times = 10'000;
  activations::scheduler scheduler({.processors = 1});
  scheduler.run([&] {
    bool over = false;  // one processor: no two of them run at once
    activations::user_thread other([&] {
      while (!over) activations::this_thread::yield();
    });
    print("user-thread switch by yield",
          total_of(times, [] { activations::this_thread::yield(); }),
          2 * times);
    over = true;
  });
}

void thread_life() {
  constexpr u64 times = 5'000;
  activations::scheduler scheduler({.processors = 1});
  scheduler.run([&] {
    print("user thread from its start to its join",
          total_of(times, [] { activations::user_thread([] {}).join(); }),
          times);
  });
}

}  // namespace

int main() {
  null_call();
  if (activations_image_start(2, 0, &measure_resume, nullptr) != 0) return 97;
  while (!is_done.load(std::memory_order::acquire))
    user::call(ACTIVATIONS_CALL_PARK, user::now_ns() + 1'000'000);
  if (user::page_at(0).cores > 1) messages();
  bare_switch();
  yields();
  thread_life();
  return 0;
}
