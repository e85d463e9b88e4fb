// SPDX-License-Identifier: BSL-1.0
//
// Two threads on each core that compare every register with what they put
// there, while a timer's upcalls switch between them: both are resumed in user
// mode, at whatever instruction they were stopped.
//
// Words of the command line:
//   upcalls=N   on each core (10000)
//   rate=N      of the timer, in Hz (5000)
//   way=N       how contexts are resumed; 2, the default: each way in turn
//               aarch64: 0 own trampolines, 1 shared ones, 3 by system call
//               x86-64: 0 jmp through memory, 1 ret $128, 3 iretq
//   control=1   the negative control: no resume range is registered, so an
//               upcall saves a half-resumed context. It must fail where an
//               interrupt can come at each instruction: under QEMU's
//               -singlestep and -icount.  Ends at the first mismatch.
//
// Status 0: no mismatch, and no increment lost that a thread made by load and
// reserve, though the handler leaves a reservation open each time.  The digest
// is over the places where the threads were stopped: the same in each run
// under -icount.
#include <activations/detail/bare/image.hpp>

#include <atomic>
#include <cstring>

#include <stress.hpp>
#include <system.hpp>
#include <user_resume.hpp>

namespace {

using user::u64;

constexpr unsigned most_cores = 8;
constexpr u64 stack_bytes = 64 * 1024;

struct context {
  user::saved_general general;
  user::saved_vector vector;
};

struct alignas(64) core_work {
  context contexts[2];
  stress_state states[2];
  unsigned running;
  u64 counter;
  u64 reserved_counts;
  u64 upcalls;
  u64 after_stop;
  u64 seed;
  u64 digest;
  u64 second_ended;  // W: the second thread
  std::atomic<u64> done;
};
core_work works[most_cores];

u64 wanted_upcalls = 10'000;
u64 rate = 5'000;
u64 way = 2;
bool is_control = false;

u64 option(char const* name, u64 otherwise) {
  char const* at = std::strstr(user::page_at(0).arguments, name);
  if (at == nullptr) return otherwise;
  u64 value = 0;
  for (at += std::strlen(name); *at >= '0' && *at <= '9'; ++at) {
    value = 10 * value + static_cast<u64>(*at - '0');
  }
  return value;
}

void print_number(char const* what, u64 value) {
  char digits[24];
  char* at = digits + sizeof digits;
  *--at = 0;
  do {
    *--at = static_cast<char>('0' + value % 10);
  } while ((value /= 10) != 0);
  user::print(what);
  user::print(at);
}

u64 next_random(u64& seed) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

// The second thread may have been stopped for good between its increment and
// its note of it: one more in the counter is none lost.
u64 lost_increments(core_work const& work) {
  u64 const noted = work.states[0].increments + work.states[1].increments +
                    work.reserved_counts;
  return noted > work.counter ? noted - work.counter : work.counter - noted > 1;
}

void report(u64 core) {
  core_work const& work = works[core];
  print_number("core ", core);
  print_number(": upcalls ", work.upcalls);
  print_number(", rounds ", work.states[0].rounds);
  print_number(" and ", work.states[1].rounds);
  print_number(", mismatches ",
               work.states[0].mismatches + work.states[1].mismatches);
  for (auto const& state : work.states) {
    if (state.mismatches != 0) print_number(", first ", state.first_bad);
  }
  print_number(", increments lost ", lost_increments(work));
  print_number(", digest ", work.digest);
  user::print("\n");
}

[[noreturn]] void fail(u64 core, char const* why) {
  user::print(why);
  report(core);
  user::exit(1);
}

// A timer that counts from its own upcall never comes while that is being
// left. So every other time the next one is set to come about when the resume
// sequence runs: some come earlier, some later, as fast or slow as QEMU is.
void aim(activations_dispatcher& page, core_work& work) {
  constexpr u64 least_ns = 20'000;  // the kernel's least slice
  if (work.upcalls % 2 == 0) {
    user::call(ACTIVATIONS_CALL_SLICE, page.index, 1'000'000'000 / rate);
    return;
  }
  u64 const slice_ns = least_ns << next_random(work.seed) % 5;
  u64 const leave =
      user::now_ns() + slice_ns / 2 + next_random(work.seed) % slice_ns;
  user::call(ACTIVATIONS_CALL_SLICE, page.index, slice_ns);
  while (user::now_ns() < leave) {
  }
}

void choose_way([[maybe_unused]] u64 turn) {
#if defined(__aarch64__)
  using activations::detail::arch::resume_way;
  user::wanted_resume_way = way == 3 ? resume_way::trap
                            : way == 0 || (way == 2 && turn / 2 % 2 != 0)
                                ? resume_way::own
                                : resume_way::shared;
#elif defined(__x86_64__)
  using activations::detail::arch::resume_way;
  constexpr resume_way ways[] = {resume_way::jump, resume_way::return_below,
                                 resume_way::iret};
  user::resume_way = ways[way == 2 ? turn % 3 : way == 3 ? 2 : way];
#endif
}

activations_save_slot* switch_threads(activations_dispatcher& page, u64 events,
                                      activations_save_slot* slot,
                                      void* vector) {
  core_work& work = works[page.core];
  if ((events & (ACTIVATIONS_EVENT_FAULT | ACTIVATIONS_EVENT_TRAP)) != 0) {
    fail(page.core, "a fault or trap: ");
  }
  ++work.upcalls;
  if (is_control && work.states[0].mismatches + work.states[1].mismatches != 0)
    fail(page.core, "as is to be expected: ");
  // A thread that was stopped between load and store must not succeed on
  // account of this load.
  ++work.counter;
  ++work.reserved_counts;
  stress_reserve(&work.counter);
  auto const& stopped = reinterpret_cast<machine::frame const&>(*slot);
  work.digest = (work.digest ^ stopped.pc()) * 0x100'0000'01b3;
  // Each way is aimed at: every other upcall is.
  choose_way(work.upcalls);
  if (work.upcalls >= wanted_upcalls) {
    work.states[0].stop = 1;
    work.states[1].stop = 1;
    if (++work.after_stop > 1000) {
      fail(page.core, "a thread does not end: ");
    }
    // When the second has ended, the first does.
    if (work.running == 0 && work.second_ended != 0) {
      user::call(ACTIVATIONS_CALL_SLICE, page.index, 1'000'000'000 / rate);
      return slot;
    }
  }
  context& from = work.contexts[work.running];
  work.running ^= 1;
  context const& to = work.contexts[work.running];
  std::memcpy(&from.general, slot, sizeof from.general);
  std::memcpy(&from.vector, vector, sizeof from.vector);
  std::memcpy(slot, &to.general, sizeof to.general);
  std::memcpy(vector, &to.vector, sizeof to.vector);
  aim(page, work);
  stress_reserve(&work.counter);
  return slot;
}

void fill(stress_state& state, core_work& work, u64 seed) {
  for (auto& x : state.general) x = next_random(seed);
  for (auto& v : state.vector) v = next_random(seed);
  state.flags = next_random(seed) & stress_flag_bits;
  for (int i = 0; i < 2; ++i) {
    state.control[i] = next_random(seed) & stress_control_bits[i];
  }
  state.counter = &work.counter;
}

[[noreturn]] void second_thread(stress_state* state) {
  stress_loop(state);
  static_cast<u64 volatile&>(works[user::this_page().core].second_ended) = 1;
  for (;;) user::counter();  // the handler goes on with the first
}

void run(void*) {
  auto& page = user::this_page();
  core_work& work = works[page.core];
  fill(work.states[0], work, 0x1234567 + page.core);
  fill(work.states[1], work, 0x89abcdef + page.core);
  work.seed = 0x2545f491 + page.core;
  auto const stack = reinterpret_cast<u64>(user::map(stack_bytes));
  // As an upcall would begin it: the same registers, another purpose.
  auto first = machine::frame::upcall(
      reinterpret_cast<u64>(&second_thread), stack + stack_bytes,
      reinterpret_cast<u64>(&work.states[1]), 0, 0, page.thread_pointer);
#if defined(__riscv)
  asm("mv %0, gp" : "=r"(first.reg(3)));
#endif
  std::memcpy(&work.contexts[1].general, &first, sizeof first);
  if (is_control) {
    for (auto& range : page.resume) range = {0, 0};
  }
  user::call(ACTIVATIONS_CALL_SLICE, page.index, 1'000'000'000 / rate);
  user::activation_control(page.index)
      .disabled.store(0, std::memory_order::release);
  stress_loop(&work.states[0]);
  user::activation_control(page.index)
      .disabled.store(1, std::memory_order::release);
  user::call(ACTIVATIONS_CALL_SLICE, page.index, 0);
  work.done.store(1, std::memory_order::release);
}

}  // namespace

int main() {
  wanted_upcalls = option("upcalls=", wanted_upcalls);
  rate = option("rate=", rate);
  way = option("way=", way);
  is_control = option("control=", 0) != 0;
  unsigned const cores = user::page_at(0).cores;
  user::on_upcall = &switch_threads;
  for (unsigned i = 0; i < cores; ++i) {
    if (activations_image_start(i + 1, i, &run, nullptr) != 0) return 97;
  }
  u64 mismatches = 0;
  u64 lost = 0;
  for (unsigned i = 0; i < cores; ++i) {
    core_work const& work = works[i];
    while (work.done.load(std::memory_order::acquire) == 0) {
      user::call(ACTIVATIONS_CALL_PARK, user::now_ns() + 10'000'000);
    }
    report(i);
    mismatches += work.states[0].mismatches + work.states[1].mismatches;
    lost += lost_increments(work);
  }
  return mismatches == 0 && lost == 0 ? 0 : 1;
}
