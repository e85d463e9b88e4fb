// SPDX-License-Identifier: BSL-1.0
//
// A user thread that runs over the end of its stack: the guard stops it, and
// the space ends with a message that names the thread.  Instead, with `wild` it
// writes to no memory at all; with `disabled`, too, where no upcall may come;
// and with `speechless` there, when the upcall stack is not memory either.
#include <activations/activations.hpp>

#include <cstring>

#include <system.hpp>

namespace {

[[gnu::noinline]] unsigned go_down(unsigned volatile* above) {
  unsigned volatile here[64];
  here[0] = *above + 1;
  return go_down(here) + here[0];
}

bool is_asked_for(char const* word) {
  return std::strstr(user::page_at(0).arguments, word) != nullptr;
}

void write_nowhere() {
  *reinterpret_cast<unsigned volatile*>(0x18) = 1;
}

}  // namespace

int main() {
  activations::scheduler here({.processors = 1});
  here.run([&] {
    activations::user_thread({.name = "deep"}, [&] {
      if (is_asked_for("wild")) write_nowhere();
      if (is_asked_for("disabled") || is_asked_for("speechless")) {
        activations::detail::disabled_region const region;
        if (is_asked_for("speechless")) user::this_page().stack = 64;
        write_nowhere();
      }
      unsigned volatile zero = 0;
      (void)go_down(&zero);
    }).join();
  });
  return 0;
}
