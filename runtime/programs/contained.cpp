// SPDX-License-Identifier: BSL-1.0
//
// Hostile user code: wrong arguments, wild jumps, privileged instructions, a
// stack that is nowhere.  Each must end in an error or an upcall of this
// space; others live on.  Run it beside another program.
#include <activations/detail/bare/image.hpp>

#include <atomic>
#include <cerrno>
#include <cstdio>

#include <system.hpp>

void after_attempt();

namespace {

using user::u64;

int failures = 0;
std::atomic<u64> seen{0};
std::atomic<bool> done{false};

void expect(char const* what, long result, long wanted) {
  if (result == wanted) return;
  std::printf("%s: %ld, not %ld\n", what, result, wanted);
  ++failures;
}

void wrong_arguments() {
  constexpr u64 memory = ACTIVATIONS_IMAGE_MEMORY;
  expect("no such call", user::call(999), -ENOSYS);
  expect("print the kernel", user::call(ACTIVATIONS_IMAGE_PRINT, 0x100000, 16),
         -EFAULT);
  expect("print too much",
         user::call(ACTIVATIONS_IMAGE_PRINT, memory, 1u << 20), -EINVAL);
  expect("print across the end",
         user::call(ACTIVATIONS_IMAGE_PRINT, ~u64{0} - 4, 16), -EFAULT);
  expect("map the kernel", user::call(ACTIVATIONS_IMAGE_MAP, 0x100000, 4096, 3),
         -EINVAL);
  expect("map nowhere",
         user::call(ACTIVATIONS_IMAGE_MAP, memory, ~u64{4095}, 3), -EINVAL);
  expect("map askew", user::call(ACTIVATIONS_IMAGE_MAP, memory + 1, 4096, 3),
         -EINVAL);
  expect("unmap the info area",
         user::call(ACTIVATIONS_IMAGE_UNMAP, ACTIVATIONS_IMAGE_INFO, 4096),
         -EINVAL);
  expect("write to the info area",
         user::call(ACTIVATIONS_IMAGE_PROTECT, ACTIVATIONS_IMAGE_INFO, 4096, 3),
         -EINVAL);
  expect("attach too many", user::call(ACTIVATIONS_CALL_ATTACH, 99, 0),
         -EINVAL);
  expect("attach to no core", user::call(ACTIVATIONS_CALL_ATTACH, 2, 99),
         -EINVAL);
  expect("kick nobody", user::call(ACTIVATIONS_CALL_KICK, 77), -EINVAL);
  expect("resume from the kernel",
         user::call(ACTIVATIONS_IMAGE_RESUME, 0x100000), -EFAULT);
}

// Goes on where `attempt` was entered from, whatever was stopped.
activations_save_slot* note(activations_dispatcher&, u64 events,
                            activations_save_slot* slot, void*) {
  if ((events & (ACTIVATIONS_EVENT_FAULT | ACTIVATIONS_EVENT_TRAP)) == 0)
    return slot;
  seen.fetch_or(events, std::memory_order::relaxed);
  auto& stopped = *reinterpret_cast<machine::frame*>(slot);
  auto const next = machine::frame::upcall(
      reinterpret_cast<u64>(&after_attempt), user::this_page().cookie, 0, 0, 0,
      user::this_page().thread_pointer);
  stopped = next;
  return slot;
}

using attempt = void (*)();
void jump_to_kernel() {
  reinterpret_cast<attempt>(0x100000)();
}
void jump_nowhere() {
  reinterpret_cast<attempt>(0x3f0000000000)();
}
void read_kernel() {
  (void)*reinterpret_cast<u64 volatile*>(0x100000);
}
void write_text() {
  *reinterpret_cast<u64 volatile*>(ACTIVATIONS_IMAGE_USER_BEGIN) = 0;
}
void write_info() {
  *reinterpret_cast<u64 volatile*>(ACTIVATIONS_IMAGE_INFO) = 0;
}
void privileged() {
#if defined(__x86_64__)
  asm volatile("hlt");
#elif defined(__aarch64__)
  asm volatile("msr daifset, #15");
#else
  asm volatile("csrw sstatus, zero");
#endif
}
void lose_stack() {
#if defined(__x86_64__)
  asm volatile("xorl %%esp, %%esp\n\tpushq $0" ::: "memory");
#elif defined(__aarch64__)
  asm volatile("mov x9, #0\n\tmov sp, x9\n\tstr xzr, [sp, #-16]!" ::
                   : "x9", "memory");
#else
  asm volatile("li sp, 0\n\tsd zero, -16(sp)" ::: "memory");
#endif
  __builtin_trap();
}

struct {
  char const* name;
  attempt run;
} const attempts[] = {{"jump to the kernel", jump_to_kernel},
                      {"jump nowhere", jump_nowhere},
                      {"read the kernel", read_kernel},
                      {"write text", write_text},
                      {"write the info area", write_info},
                      {"privileged instruction", privileged},
                      {"no stack", lose_stack}};
unsigned next_attempt = 0;

void try_next() {
  auto& control = user::activation_control(user::this_page().index);
  while (next_attempt < sizeof attempts / sizeof *attempts) {
    auto const& what = attempts[next_attempt++];
    seen.store(0, std::memory_order::relaxed);
    control.disabled.store(0, std::memory_order::seq_cst);
    what.run();
    control.disabled.store(1, std::memory_order::seq_cst);
    std::printf("%s: nobody noticed\n", what.name);
    ++failures;
  }
  done.store(true, std::memory_order::release);
  for (;;) user::call(ACTIVATIONS_CALL_DETACH);
}

void begin(void*) {
  // A stack for what goes on after each attempt.
  user::this_page().cookie =
      reinterpret_cast<u64>(user::map(65'536)) + 65'536 - 64;
  try_next();
}

}  // namespace

void after_attempt() {
  // The resume before has enabled upcalls; try_next counts from disabled.
  user::activation_control(user::this_page().index)
      .disabled.store(1, std::memory_order::seq_cst);
  if (seen.load(std::memory_order::relaxed) == 0) ++failures;
  try_next();
}

int main() {
  wrong_arguments();
  user::on_upcall = &note;
  if (activations_image_start(1, 0, &begin, nullptr) != 0) return 97;
  while (!done.load(std::memory_order::acquire))
    user::call(ACTIVATIONS_CALL_PARK, user::now_ns() + 1'000'000);
  std::printf("%u attempts, %d failures\n", next_attempt, failures);
  return failures == 0 ? 0 : 1;
}
