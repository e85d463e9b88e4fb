// SPDX-License-Identifier: BSL-1.0
// The stacks of user threads as the user sees them: sizes, own memory, errors,
// overflow.
#include <activations/user_thread.hpp>

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <system_error>
#include <vector>

#include <activations/this_thread.hpp>

#include "crew.hpp"

namespace {

using namespace testing_crew;
using activations::minimum_stack_bytes;
using activations::scheduler;
using activations::scheduler_options;
using activations::thread_options;
using activations::threading;
using activations::user_thread;

template <class F>
int error_of(F f) {
  try {
    f();
  } catch (std::system_error const& error) {
    return error.code().value();
  }
  return 0;
}

// Writes to the last byte of `bytes` below the caller's frame.
[[gnu::noinline]] void touch_below(std::size_t bytes) {
  auto* const memory = static_cast<volatile char*>(__builtin_alloca(bytes));
  for (std::size_t i = bytes; i > 0; i -= std::min<std::size_t>(i, 1024))
    memory[i - 1] = 1;
  memory[0] = 1;
}

// What a test may use of a stack: sanitizers make frames larger.
constexpr std::size_t usable(std::size_t bytes) {
  return bytes - 12 * 1024;
}

std::uintptr_t here() {
  return reinterpret_cast<std::uintptr_t>(__builtin_frame_address(0));
}

TEST(ThreadStack, HasTheSizeOfTheSchedulersOption) {
  for (std::size_t const bytes : {64u << 10, 1u << 20, 3u << 20}) {
    scheduler there({.processors = 2, .stack_bytes = bytes});
    // Made outside and inside, the first and later ones.
    there.spawn([=] { touch_below(usable(bytes)); }).join();
    there.run([=] {
      for (int i = 0; i < 20; ++i)
        user_thread([=] { touch_below(usable(bytes)); }).join();
      user_thread a([=] { touch_below(usable(bytes)); });
      user_thread b([=] { touch_below(usable(bytes)); });
    });
  }
}

TEST(ThreadStack, OfATaskHasTheSizeOfTheSchedulersOption) {
  constexpr std::size_t bytes = 2 << 20;
  scheduler there({.processors = 2, .stack_bytes = bytes});
  there.run([]() -> activations::task<> {
    touch_below(usable(bytes));
    co_return;
  });
}

TEST(ThreadStack, HasTheSizeOfTheThreadsOption) {
  scheduler there({.processors = 2});
  for (std::size_t const bytes : {32u << 10, 64u << 10, 1u << 20, 5u << 20}) {
    thread_options const options{.stack_bytes = bytes};
    there.spawn(options, [=] { touch_below(usable(bytes)); }).join();
    there.run([&] {
      user_thread(options, [=] { touch_below(usable(bytes)); }).join();
    });
  }
}

TEST(ThreadStack, OfAKernelThreadHasTheSizeOfTheOptionToo) {
  constexpr std::size_t bytes = 12 << 20;  // more than the usual 8 MiB
  scheduler there({.processors = 1, .model = threading::one_to_one});
  there.spawn({.stack_bytes = bytes}, [] { touch_below(usable(bytes)); })
      .join();
}

TEST(ThreadStack, TooSmallIsAnError) {
  for (auto const model : {threading::many_to_many, threading::one_to_one}) {
    scheduler there({.processors = 1, .model = model});
    auto const start = [&](std::size_t bytes) {
      there.spawn({.stack_bytes = bytes}, [] {}).join();
    };
    EXPECT_EQ(error_of([&] { start(1); }), EINVAL);
    EXPECT_EQ(error_of([&] { start(minimum_stack_bytes - 1); }), EINVAL);
    EXPECT_EQ(error_of([&] { start(minimum_stack_bytes); }), 0);
  }
  EXPECT_EQ(error_of([] { scheduler({.stack_bytes = 4096}); }), EINVAL);
}

TEST(ThreadStack, TooLargeIsAnError) {
  scheduler there({.processors = 1});
  EXPECT_EQ(error_of([&] {
              (void)there.spawn({.stack_bytes = std::size_t{1} << 60}, [] {});
            }),
            ENOMEM);
  there.run([] {});
}

TEST(OwnStack, IsUsedForTheThread) {
  scheduler there({.processors = 2});
  std::vector<std::byte> memory(64 * 1024);
  auto const low = reinterpret_cast<std::uintptr_t>(memory.data());
  auto const high = low + memory.size();
  auto t = there.spawn({.stack = memory}, [=] {
    EXPECT_GE(here(), low);
    EXPECT_LT(here(), high);
    activations::this_thread::yield();
    activations::this_thread::sleep_for(100us);
    touch_below(usable(64 * 1024));
  });
  t.join();
  std::fill(memory.begin(), memory.end(), std::byte{0});  // it is ours again
}

TEST(OwnStack, MayBeUsedByOneThreadAfterAnother) {
  scheduler there({.processors = 2});
  std::vector<std::byte> memory(64 * 1024);
  int ran = 0;
  there.run([&] {
    for (int i = 0; i < 100; ++i)
      user_thread({.stack = memory}, [&] {
        activations::this_thread::yield();
        ++ran;
      }).join();
  });
  EXPECT_EQ(ran, 100);
}

TEST(OwnStack, NeedNotBeAligned) {
  scheduler there({.processors = 1});
  std::vector<std::byte> memory(64 * 1024);
  for (std::size_t const offset : {1, 7, 33, 63})
    there
        .spawn({.stack = std::span(memory).subspan(offset)},
               [] { touch_below(usable(64 * 1024)); })
        .join();
}

TEST(OwnStack, TooSmallIsAnError) {
  scheduler there({.processors = 1});
  std::vector<std::byte> memory(minimum_stack_bytes - 1);
  EXPECT_EQ(error_of([&] { (void)there.spawn({.stack = memory}, [] {}); }),
            EINVAL);
}

TEST(OwnStack, ThreadMayThrow) {
  scheduler there({.processors = 1});
  std::vector<std::byte> memory(64 * 1024);
  auto t = there.spawn({.stack = memory}, [] { throw 5; });
  EXPECT_THROW(t.join(), int);
}

TEST(ThreadStacks, AreGivenBack) {
  scheduler there({.processors = 2});
  for (int round = 0; round < 3; ++round) {
    std::vector<user_thread> threads;
    for (int i = 0; i < 200; ++i)
      threads.push_back(there.spawn([] { activations::this_thread::yield(); }));
    threads.clear();
    // The caches of the kernel threads hold some.
    EXPECT_LE(there.statistics().stacks.live,
              16u * (there.statistics().kernel_threads.activations + 1));
  }
}

// ---- overflow --------------------------------------------------------------

class StackDeathTest : public testing::Test {
 protected:
  StackDeathTest() { GTEST_FLAG_SET(death_test_style, "threadsafe"); }
};

[[gnu::noinline]] int recurse(int depth) {
  volatile char frame[512];
  frame[0] = static_cast<char>(depth);
  return depth == 0 ? 0 : recurse(depth - 1) + frame[0];
}

TEST_F(StackDeathTest, OverflowNamesThreadStackAndSize) {
  EXPECT_DEATH(
      {
        scheduler there({.processors = 1});
        there
            .spawn({.name = "too deep", .stack_bytes = 64 * 1024},
                   [] { recurse(1'000'000); })
            .join();
      },
      "activations: stack overflow in user thread 1 \\(too deep\\): its stack "
      "of 6[0-9]+ bytes at 0x[0-9a-f]+ was left at 0x[0-9a-f]+; give it a "
      "larger stack_bytes");
}

TEST_F(StackDeathTest, OverflowAfterAMoveNamesTheRightThread) {
  EXPECT_DEATH(
      {
        scheduler there({.processors = 2});
        std::vector<user_thread> others;
        for (int i = 0; i < 10; ++i)
          others.push_back(there.spawn([](std::stop_token token) {
            while (!token.stop_requested()) activations::this_thread::yield();
          }));
        there
            .spawn({.name = "mover", .stack_bytes = 64 * 1024},
                   [] {
                     for (int i = 0; i < 100; ++i)
                       activations::this_thread::yield();
                     recurse(1'000'000);
                   })
            .join();
      },
      "stack overflow in user thread 11 \\(mover\\)");
}

TEST_F(StackDeathTest, OverrunOfAnOwnStackIsFoundAtTheNextSwitch) {
  EXPECT_DEATH(
      {
        std::vector<std::byte> memory(64 * 1024);
        scheduler there({.processors = 1});
        there
            .spawn({.name = "own", .stack = memory},
                   [&] {
                     // As a large local array would.
                     for (std::size_t i = 0; i < 128; ++i)
                       static_cast<std::byte volatile&>(memory[i]) =
                           std::byte{1};
                     activations::this_thread::sleep_for(1us);
                   })
            .join();
      },
      "stack overflow in user thread 1 \\(own\\): its stack of 6[0-9]+ bytes "
      "at "
      "0x[0-9a-f]+ was overrun");
}

TEST_F(StackDeathTest, OverrunOfAnOwnStackIsFoundAtTheEndToo) {
  EXPECT_DEATH(
      {
        std::vector<std::byte> memory(64 * 1024);
        scheduler there({.processors = 1});
        there
            .spawn({.name = "own", .stack = memory},
                   [&] {
                     for (std::size_t i = 0; i < 128; ++i)
                       static_cast<std::byte volatile&>(memory[i]) =
                           std::byte{1};
                   })
            .join();
      },
      "stack overflow in user thread 1 \\(own\\)");
}

}  // namespace
