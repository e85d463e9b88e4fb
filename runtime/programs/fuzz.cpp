// SPDX-License-Identifier: BSL-1.0
//
// Wild system calls: run=fuzz,fuzz.  The first space makes calls with random
// numbers and arguments, all but those that by their nature end it; the second
// watches over its own memory and work meanwhile, and ends later.  Words of the
// command line: seed=N (from the clock), calls=N (10000).
//
// Status 0: the first comes to its end, and nothing of the second has changed.
#include <activations/activations.hpp>
#include <activations/fork_join.hpp>

#include <cstdio>
#include <cstring>

#include <system.hpp>

namespace {

using user::u64;

u64 seed;
u64 next_random() {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  seed ^= seed << 17;
  return seed;
}

u64 option(char const* name, u64 otherwise) {
  char const* at = std::strstr(user::page_at(0).arguments, name);
  if (at == nullptr) return otherwise;
  u64 value = 0;
  for (at += std::strlen(name); *at >= '0' && *at <= '9'; ++at)
    value = 10 * value + static_cast<u64>(*at - '0');
  return value;
}

// Where the calls may do harm to this space itself, and shall.
constexpr u64 playground = 0x1800000000;
constexpr u64 largest = 64 << 20;

u64 argument() {
  u64 const r = next_random();
  switch (r >> 8 & 15) {
    case 0:
      return 0;
    case 1:
      return ~u64{0} - (r >> 16 & 0xffff);
    case 2:
      return r >> 16 & 31;
    case 3:
      return u64{1} << (r >> 16 & 63);
    case 4:
      return 0x100000 + (r >> 16 & 0xffff000);  // the kernel
    case 5:
      return ACTIVATIONS_IMAGE_CHANNEL + (r >> 16 & 0xfffff);
    case 6:
      return ACTIVATIONS_IMAGE_LAZY + (r >> 16 & 0xfffffff000);
    case 7:
      return ACTIVATIONS_IMAGE_USER_END - (r >> 16 & 0xffff);
    case 8:
      return r;
    default:
      return playground + (r >> 16 & 0xff000);
  }
}

bool is_own(u64 address, u64 bytes) {
  u64 const end = address + bytes;
  return address < playground && (end < address || end > 0x1000000000);
}

// What it must not do if it wants to see its own end.
bool is_fatal(u64 number, u64 const (&a)[4]) {
  switch (number) {
    case ACTIVATIONS_IMAGE_EXIT:
    case ACTIVATIONS_CALL_DETACH:
    case ACTIVATIONS_CALL_ATTACH:  // at an entry that it never set
    case ACTIVATIONS_IMAGE_PRINT:  // of its own memory, to the log
      return true;
    case ACTIVATIONS_CALL_PARK:
    case ACTIVATIONS_CALL_RELEASE:
      return a[0] > user::now_ns() + 50'000;
    case ACTIVATIONS_IMAGE_RESUME:
      return a[0] >= ACTIVATIONS_IMAGE_USER_BEGIN &&
             a[0] < ACTIVATIONS_IMAGE_USER_END;
    case ACTIVATIONS_IMAGE_UNMAP:
    case ACTIVATIONS_IMAGE_PROTECT:
    case ACTIVATIONS_IMAGE_ALIAS:
      return is_own(a[0], a[1]);
    default:
      return false;
  }
}

int make_wild_calls() {
  seed = option("seed=", user::counter() | 1);
  u64 const calls = option("calls=", 10'000);
  std::printf("seed=%lu\n", seed);
  u64 refused = 0, made = 0;
  // A slice that ends beyond the end of time is not over at once.
  user::call(ACTIVATIONS_CALL_SLICE, 0, user::never - 10'000);
  while (made < calls) {
    u64 const number = next_random() % 48;
    u64 a[4] = {argument(), argument(), argument(), argument()};
    // Large areas are allowed, but take their time.
    if (number >= ACTIVATIONS_IMAGE_MAP && a[1] % 4096 == 0) a[1] %= largest;
    if (is_fatal(number, a)) continue;
    ++made;
    if (user::call(number, a[0], a[1], a[2], a[3]) < 0) ++refused;
  }
  std::printf("%lu wild calls, %s\n", made,
              refused != 0 ? "refusals among them" : "none refused");
  return refused != 0 ? 0 : 1;
}

u64 sum(u64 from, u64 to) {
  if (to - from < 64) {
    u64 total = 0;
    for (; from < to; ++from) total += from * from;
    return total;
  }
  u64 const middle = from + (to - from) / 2;
  auto const [a, b] = activations::fork_join([=] { return sum(from, middle); },
                                             [=] { return sum(middle, to); });
  return a + b;
}

int watch_over_itself() {
  constexpr u64 words = 64 * 1024;
  auto* const memory = static_cast<u64*>(user::map(words * sizeof(u64)));
  if (memory == nullptr) return 97;
  for (u64 i = 0; i < words; ++i) memory[i] = i * 0x9e3779b97f4a7c15u;
  activations::scheduler here;
  u64 const wanted = here.run([] { return sum(0, 20'000); });
  u64 bad = 0;
  for (int round = 0; round < 100; ++round) {
    if (here.run([] { return sum(0, 20'000); }) != wanted) ++bad;
    for (u64 i = 0; i < words; ++i)
      if (memory[i] != i * 0x9e3779b97f4a7c15u) ++bad;
    here.run([] {
      activations::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
  }
  std::printf("the other space: %lu differences\n", bad);
  return bad == 0 ? 0 : 1;
}

}  // namespace

int main() {
  // The first comes to channel 15 first.
  bool const is_first = user::call(ACTIVATIONS_IMAGE_CHANNEL_CALL, 15, 0) == 0;
  return is_first ? make_wild_calls() : watch_over_itself();
}
