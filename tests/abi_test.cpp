// SPDX-License-Identifier: BSL-1.0
// The contract as C++ sees it, and the areas that the portable backend lays
// out by it.  As C: abi_c11.c.
#include <activations/config.hpp>
#include <activations/detail/portable/areas.hpp>
#include <activations/detail/processor_word.hpp>

#include <gtest/gtest.h>

#include <sys/resource.h>

#include <atomic>
#include <cstdint>
#include <system_error>
#include <type_traits>

#include "abi_layout.h"

namespace {

using activations::detail::areas;
using activations::detail::processor_view;

// What C takes for a plain word with _Atomic is one here, too.
static_assert(sizeof(activations_word32) == 4 &&
              alignof(activations_word32) == 4 &&
              activations_word32::is_always_lock_free);
static_assert(sizeof(activations_word64) == 8 &&
              alignof(activations_word64) == 8 &&
              activations_word64::is_always_lock_free);
static_assert(std::is_standard_layout_v<activations_processor_info> &&
              std::is_standard_layout_v<activations_processor_control> &&
              std::is_standard_layout_v<activations_activation_info> &&
              std::is_standard_layout_v<activations_activation_control> &&
              std::is_standard_layout_v<activations_info_header> &&
              std::is_standard_layout_v<activations_control_header>);

TEST(Abi, AProcessorWordHasStateOwnerAndTag) {
  processor_view const first = {0};
  EXPECT_EQ(first.state(), unsigned{ACTIVATIONS_PROCESSOR_OFFLINE});
  EXPECT_EQ(first.tag(), 0u);
  processor_view const next = {
      first.next(ACTIVATIONS_PROCESSOR_RUNNING, ACTIVATIONS_INDEX_NONE)};
  EXPECT_EQ(next.state(), unsigned{ACTIVATIONS_PROCESSOR_RUNNING});
  EXPECT_EQ(next.owner(), ACTIVATIONS_INDEX_NONE);
  EXPECT_EQ(next.tag(), 1u);
  EXPECT_EQ(processor_view{next.next(ACTIVATIONS_PROCESSOR_IDLE, 5)}.word,
            std::uint64_t{2} << 23 | 5 << 3 | ACTIVATIONS_PROCESSOR_IDLE);
}

TEST(Abi, ATagThatWrapsLeavesStateAndOwnerAlone) {
  processor_view const last = {~std::uint64_t{0}};
  processor_view const next = {last.next(ACTIVATIONS_PROCESSOR_IDLE, 7)};
  EXPECT_EQ(next.tag(), 0u);
  EXPECT_EQ(next.owner(), 7u);
  EXPECT_TRUE(next.is_idle());
}

TEST(Areas, HeadersDescribeWhatFollows) {
  areas both(3, 50);
  auto const& info = both.info();
  EXPECT_EQ(info.magic, ACTIVATIONS_ABI_MAGIC);
  EXPECT_EQ(info.version, ACTIVATIONS_ABI_VERSION);
  EXPECT_EQ(info.bytes, 64u + 3 * 64 + 50 * 128);
  EXPECT_EQ(info.features,
            ACTIVATIONS_FEATURE_STOP | ACTIVATIONS_FEATURE_PREEMPT);
  EXPECT_EQ(info.processor_count, 3u);
  EXPECT_EQ(info.processor_offset, 64u);
  EXPECT_EQ(info.activation_count, 50u);
  EXPECT_EQ(info.activation_offset, 64u + 3 * 64);
  EXPECT_EQ(info.register_offset, 0u);
  auto const& control = both.control();
  EXPECT_EQ(control.magic, ACTIVATIONS_ABI_MAGIC);
  EXPECT_EQ(control.version, ACTIVATIONS_ABI_VERSION);
  EXPECT_EQ(control.bytes, 64u + 3 * 64 + 50 * 64);
  EXPECT_EQ(control.processor_count, 3u);
  EXPECT_EQ(control.processor_offset, 64u);
  EXPECT_EQ(control.activation_count, 50u);
  EXPECT_EQ(control.activation_offset, 64u + 3 * 64);
}

TEST(Areas, ElementsStandSideBySideAndOnCacheLines) {
  areas both(3, 50);
  auto const at = [](auto const& object) {
    return reinterpret_cast<std::uintptr_t>(&object);
  };
  auto const info = at(both.info());
  auto const control = at(both.control());
  EXPECT_EQ(info % 64, 0u);
  EXPECT_EQ(control % 64, 0u);
  for (std::uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(at(both.processor_info(i)), info + 64 + i * 64);
    EXPECT_EQ(at(both.processor_control(i)), control + 64 + i * 64);
  }
  for (std::uint32_t i = 0; i < 50; ++i) {
    EXPECT_EQ(at(both.activation_info(i)), info + 64 + 3 * 64 + i * 128);
    EXPECT_EQ(at(both.activation_control(i)), control + 64 + 3 * 64 + i * 64);
  }
}

TEST(Areas, EveryWordStartsAtZero) {
  areas both(2, 4);
  for (std::uint32_t i = 0; i < 2; ++i) {
    EXPECT_EQ(both.processor_info(i).word.load(), 0u);
    EXPECT_EQ(both.processor_control(i).dispatches.load(), 0u);
  }
  for (std::uint32_t i = 0; i < 4; ++i) {
    EXPECT_EQ(both.activation_info(i).state.load(),
              unsigned{ACTIVATIONS_ACTIVATION_UNUSED});
    EXPECT_EQ(both.activation_control(i).disabled.load(), 0u);
    EXPECT_EQ(both.activation_control(i).pending.load(), 0u);
  }
}

// The sanitizers need more address space themselves than a limit can leave.
#if !ACTIVATIONS_ASAN && !ACTIVATIONS_TSAN
TEST(Areas, NoMemoryIsASystemError) {
  rlimit before{};
  getrlimit(RLIMIT_AS, &before);
  rlimit const none{0, before.rlim_max};
  setrlimit(RLIMIT_AS, &none);
  int code = 0;
  try {
    areas const both(1000, 1'000'000);
  } catch (std::system_error const& error) {
    code = error.code().value();
  }
  setrlimit(RLIMIT_AS, &before);
  EXPECT_EQ(code, ENOMEM);
}
#endif

}  // namespace
