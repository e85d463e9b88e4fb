// SPDX-License-Identifier: BSL-1.0
#include "thread_state.hpp"

#include <unistd.h>

#include <cerrno>

namespace thread_state {

thread_local int plain = 0;
thread_local std::string lazy = "a string that is too long to be kept inside";

namespace {
thread_local pid_t tid = 0;
}

[[gnu::noinline]] pid_t remembered_tid() {
  pid_t found = tid;
  asm volatile("" : "+r"(found));
  if (found == 0) tid = found = ::gettid();
  return found;
}

unsigned compute(unsigned rounds) {
  unsigned x = 1;
  for (; rounds > 0; --rounds) {
    x = x * 1664525 + 1013904223;
    asm volatile("" : "+r"(x));
  }
  return x;
}

void set_errno(int value) {
  errno = value;
}
int get_errno() {
  return errno;
}

std::string make_text(int owner, std::size_t bytes) {
  return std::string(bytes, static_cast<char>('A' + owner % 26));
}
bool is_text_of(int owner, std::string const& text) {
  return text.find_first_not_of(static_cast<char>('A' + owner % 26)) ==
         std::string::npos;
}

}  // namespace thread_state
