// SPDX-License-Identifier: BSL-1.0
//
// A driver in user space.  One dispatcher is told of each interrupt of the
// serial line, reads what came, and hands each line to a user thread of its
// own, which prints it backwards: the kernel knows nothing of lines, and no
// work is done where the interrupt came.  A line "end" ends the program.
//
// Status 0: the lines' bytes add up to what the command line says (sum=N), and
// each was printed by a thread of its own.
#include <activations/activations.hpp>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>

#include <system.hpp>

namespace {

using user::u64;

constexpr unsigned driver_index = ACTIVATIONS_IMAGE_DISPATCHERS - 1;

struct line {
  std::array<char, 80> text;
  unsigned length;
};

activations::scheduler* scheduler;
std::atomic<u64> interrupts{0}, threads{0}, sum{0};
std::atomic<bool> is_over{false};
u64 lines = 0;

void print_backwards(line const& l) {
  char text[96];
  unsigned n = 0;
  std::memcpy(text, "echo: ", 6);
  for (n = 6; n < 6 + l.length; ++n) text[n] = l.text[6 + l.length - 1 - n];
  text[n++] = '\n';
  for (unsigned i = 0; i < l.length; ++i)
    sum.fetch_add(static_cast<unsigned char>(l.text[i]));
  threads.fetch_add(1);
  user::print(text, n);
}

// What came up to now; true: the end.
bool read_lines(line& current) {
  long c;
  while ((c = user::call(ACTIVATIONS_IMAGE_DEVICE, 0, 0)) >= 0) {
    if (c != '\n' && c != '\r') {
      if (current.length < current.text.size())
        current.text[current.length++] = static_cast<char>(c);
      continue;
    }
    if (current.length == 3 && std::memcmp(current.text.data(), "end", 3) == 0)
      return true;
    if (current.length != 0) {
      ++lines;
      scheduler->spawn([l = current] { print_backwards(l); }).detach();
    }
    current.length = 0;
  }
  return false;
}

void drive(void*) {
  if (user::call(ACTIVATIONS_IMAGE_LISTEN, 0) != 0) user::exit(97);
  user::print("ready for input\n");
  line current{};
  auto& devices = user::this_page().devices;
  for (;;) {
    // Disabled all the time: an interrupt ends the sleep, or the next one.
    auto const events =
        static_cast<u64>(user::call(ACTIVATIONS_CALL_PARK, user::never));
    if ((events & ACTIVATIONS_EVENT_DEVICE) == 0) continue;
    if (devices.exchange(0, std::memory_order::acquire) == 0) continue;
    ++interrupts;
    if (read_lines(current)) break;
  }
  is_over.store(true, std::memory_order::release);
}

}  // namespace

int main() {
  char const* const wanted = std::strstr(user::page_at(0).arguments, "sum=");
  u64 wanted_sum = 0;
  for (char const* at = wanted + 4;
       wanted != nullptr && *at >= '0' && *at <= '9'; ++at)
    wanted_sum = 10 * wanted_sum + static_cast<u64>(*at - '0');
  {
    activations::scheduler here;
    scheduler = &here;
    if (activations_image_start(driver_index, 0, &drive, nullptr) != 0)
      return 97;
    here.run([] {
      while (!is_over.load(std::memory_order::acquire))
        activations::this_thread::sleep_for(std::chrono::milliseconds(1));
    });
  }
  bool const is_fine = threads == lines && sum == wanted_sum && interrupts > 0;
  std::printf("%lu lines by %lu threads, sum %lu of %lu, %s\n", lines,
              threads.load(), sum.load(), wanted_sum,
              is_fine ? "as expected" : "not as expected");
  return is_fine ? 0 : 1;
}
