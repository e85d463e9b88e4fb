// SPDX-License-Identifier: BSL-1.0
//
// Stands in for GoogleTest where only a cross compiler's own library exists:
// the few macros that the cross-compiled tests use. One source file a program, since
// `main` is here. Prints a line for each test and one at the end; exits with 1
// if any failed.
#pragma once

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace stand_in {

struct test {
  char const* suite;
  char const* name;
  void (*body)();
  test* next;
};

inline test* first = nullptr;
inline test** last = &first;
inline int failures = 0;

inline bool add(test& added) {
  *last = &added;
  last = &added.next;
  return true;
}

inline bool expect(bool held, char const* expression, char const* file,
                   int line) {
  if (held) return true;
  std::printf("%s:%d: expected %s\n", file, line, expression);
  ++failures;
  return false;
}

// Runs `body` in a child; true if a signal ended it and it printed `text`.
template <class Body>
bool dies(Body body, std::string const& text) {
  int ends[2];
  if (::pipe(ends) != 0) return false;
  std::fflush(nullptr);
  pid_t const child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    body();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string output;
  char chunk[512];
  for (ssize_t n; (n = ::read(ends[0], chunk, sizeof chunk)) > 0;)
    output.append(chunk, static_cast<std::size_t>(n));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) && output.find(text) != std::string::npos;
}

}  // namespace stand_in

#define TEST(suite, name)                                                    \
  static void suite##_##name();                                              \
  static stand_in::test suite##_##name##_entry = {#suite, #name,             \
                                                  &suite##_##name, nullptr}; \
  [[maybe_unused]] static bool const suite##_##name##_added =                \
      stand_in::add(suite##_##name##_entry);                                 \
  static void suite##_##name()

#define EXPECT_TRUE(a) stand_in::expect(!!(a), #a, __FILE__, __LINE__)
#define EXPECT_FALSE(a) stand_in::expect(!(a), "!(" #a ")", __FILE__, __LINE__)
#define EXPECT_EQ(a, b) EXPECT_TRUE((a) == (b))
#define EXPECT_NE(a, b) EXPECT_TRUE((a) != (b))
#define EXPECT_LT(a, b) EXPECT_TRUE((a) < (b))
#define EXPECT_GT(a, b) EXPECT_TRUE((a) > (b))
#define EXPECT_GE(a, b) EXPECT_TRUE((a) >= (b))
#define ASSERT_TRUE(a) \
  if (!EXPECT_TRUE(a)) return
#define ASSERT_EQ(a, b) \
  if (!EXPECT_EQ(a, b)) return
#define EXPECT_DEATH(statement, text) \
  EXPECT_TRUE(stand_in::dies([&] { statement; }, text))

int main() {
  int passed = 0;
  int failed = 0;
  for (auto* each = stand_in::first; each != nullptr; each = each->next) {
    int const before = stand_in::failures;
    each->body();
    bool const ok = stand_in::failures == before;
    ++(ok ? passed : failed);
    std::printf("%s %s.%s\n", ok ? "ok  " : "FAIL", each->suite, each->name);
  }
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed != 0 || passed == 0;
}
