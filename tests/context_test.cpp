// SPDX-License-Identifier: BSL-1.0
#include <activations/detail/context.hpp>
#include <activations/detail/exception_state.hpp>

#include <execinfo.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cfenv>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using namespace activations::detail;

// A context that runs a callable, and the context that drives it.
class coroutine {
 public:
  template <class Body>
  explicit coroutine(Body body, std::size_t bytes = 256 * 1024)
      : stack_(new std::byte[bytes]), body_(std::move(body)) {
    context_init_native(outside_);
    context_make(inside_, stack_.get(), bytes, &run, this);
  }

  ~coroutine() { context_finish(inside_); }

  // Runs the body until it suspends or ends; false once it has ended.
  bool resume() {
    context_switch(outside_, inside_);
    return !ended_;
  }

  void suspend() { context_switch(inside_, outside_); }

  context& inside() { return inside_; }
  std::byte* base() { return stack_.get(); }

 private:
  [[noreturn]] static void run(void* argument) {
    auto& self = *static_cast<coroutine*>(argument);
    context_enter(self.inside_);
    self.body_(self);
    self.ended_ = true;
    context_switch_final(self.inside_, self.outside_);
  }

  std::unique_ptr<std::byte[]> stack_;
  std::function<void(coroutine&)> body_;
  context inside_;
  context outside_;
  bool ended_ = false;
};

TEST(Context, EntryRunsOnTheGivenStackWithItsArgument) {
  std::uintptr_t local = 0;
  coroutine c([&](coroutine&) {
    int here;
    local = reinterpret_cast<std::uintptr_t>(&here);
  });
  auto const base = reinterpret_cast<std::uintptr_t>(c.base());
  EXPECT_FALSE(c.resume());
#if !ACTIVATIONS_ASAN  // locals may live in a fake stack there
  EXPECT_GT(local, base);
  EXPECT_LT(local, base + 256 * 1024);
#else
  (void)base;
#endif
}

}  // namespace
