// SPDX-License-Identifier: BSL-1.0
//
// A user thread that runs over the end of its stack: the guard stops it, and
// the space ends with a message that names the thread.  With `wild` it writes
// to no memory at all instead.
#include <activations/activations.hpp>

#include <cstring>

#include <system.hpp>

namespace {

[[gnu::noinline]] unsigned go_down(unsigned volatile* above) {
  unsigned volatile here[64];
  here[0] = *above + 1;
  return go_down(here) + here[0];
}

}  // namespace

int main() {
  bool const is_wild =
      std::strstr(user::page_at(0).arguments, "wild") != nullptr;
  activations::scheduler here({.processors = 1});
  here.run([&] {
    activations::user_thread({.name = "deep"}, [&] {
      if (is_wild) *reinterpret_cast<unsigned volatile*>(0x18) = 1;
      unsigned volatile zero = 0;
      (void)go_down(&zero);
    }).join();
  });
  return 0;
}
