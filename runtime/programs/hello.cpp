// SPDX-License-Identifier: BSL-1.0
//
// The smallest program: one line, and how long after boot it was printed.
#include <system.hpp>

int main() {
  user::print("hello from user mode\n");
  return 0;
}
