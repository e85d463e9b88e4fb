// SPDX-License-Identifier: BSL-1.0
//
// Long system calls under a fast timer: each maps, changes or unmaps much
// memory, and an interrupt must not wait for its end.  With --arguments
// latency=N the kernel ends with status 1 if the timer once came more than N ns
// late; with --qemu "-icount shift=0" a nanosecond is an instruction.
//
// With `end` it is for two spaces: the end of one, with all its memory, must
// not put off the timer of the other.
//
// Status 0: the calls did what they should, and the timer came meanwhile.
#include <activations/detail/bare/image.hpp>

#include <cstdio>
#include <cstring>

#include <system.hpp>

namespace {

using user::u64;

constexpr u64 begin = 0x1800000000;
constexpr u64 bytes = 8 << 20;
constexpr u64 read_write = ACTIVATIONS_ACCESS_READ | ACTIVATIONS_ACCESS_WRITE;

int failures = 0;
void expect(char const* what, long result) {
  if (result == 0) return;
  std::printf("%s: %ld\n", what, result);
  ++failures;
}

// The first comes to channel 15 first.
int end_or_sleep() {
  if (user::call(ACTIVATIONS_IMAGE_CHANNEL_CALL, 15, 0) == 0) {
    expect("map",
           user::call(ACTIVATIONS_IMAGE_MAP, begin, 3 * bytes, read_write));
    // The other sleeps, too, when this one ends.
    auto const later = user::now_ns() + 50'000;
    while (user::now_ns() < later) user::call(ACTIVATIONS_CALL_PARK, later);
    return failures;
  }
  auto const stop = user::now_ns() + 100'000'000;
  while (user::now_ns() < stop)
    user::call(ACTIVATIONS_CALL_PARK, user::now_ns() + 5'000);
  return 0;
}

}  // namespace

int main() {
  if (std::strstr(user::page_at(0).arguments, "end") != nullptr)
    return end_or_sleep();
  auto& control = user::activation_control(user::this_page().index);
  user::call(ACTIVATIONS_CALL_SLICE, 0, 25'000);
  u64 ticks = 0;
  for (int round = 0; round < 3; ++round) {
    expect("map", user::call(ACTIVATIONS_IMAGE_MAP, begin, bytes, read_write));
    for (u64 at = begin; at < begin + bytes; at += 4096) {
      if (*reinterpret_cast<u64 volatile*>(at) != 0) ++failures;
      *reinterpret_cast<u64 volatile*>(at) = at;
    }
    expect("protect", user::call(ACTIVATIONS_IMAGE_PROTECT, begin, bytes, 1));
    for (u64 at = begin; at < begin + bytes; at += 4096)
      if (*reinterpret_cast<u64 volatile*>(at) != at) ++failures;
    expect("unmap", user::call(ACTIVATIONS_IMAGE_UNMAP, begin, bytes));
    expect("guard", user::call(ACTIVATIONS_IMAGE_PROTECT, begin, bytes, 0));
    if (user::call(ACTIVATIONS_IMAGE_MAP, begin, 4096, read_write) == 0)
      ++failures;
    expect("unmap guards", user::call(ACTIVATIONS_IMAGE_UNMAP, begin, bytes));
    expect("unmap nothing", user::call(ACTIVATIONS_IMAGE_UNMAP,
                                       ACTIVATIONS_IMAGE_LAZY, u64{64} << 30));
    // This dispatcher is disabled: the timer leaves its mark only.
    if (control.pending.exchange(0) & ACTIVATIONS_EVENT_TIMER) ++ticks;
  }
  user::call(ACTIVATIONS_CALL_SLICE, 0, 0);
  std::printf(
      "%d failures, %s\n", failures,
      ticks == 3 ? "the timer came in each round" : "the timer did not come");
  return failures == 0 && ticks == 3 ? 0 : 1;
}
