// SPDX-License-Identifier: BSL-1.0
//
// Problem: a recursive computation should use every processor, without one
// thread, one allocation or one queue entry for each of its million pieces.
//
// fork_join offers one half to idle processors and runs the other itself; what
// nobody took it runs as well.  The same with plain functions and coroutines.
#include <activations/activations.hpp>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <numeric>
#include <span>
#include <vector>

namespace {

constexpr std::size_t grain = 4'096;

// Plain functions, on the caller's stack.
std::uint64_t sum(std::span<std::uint32_t const> values) {
  if (values.size() <= grain)
    return std::accumulate(values.begin(), values.end(), std::uint64_t{0});
  auto const half = values.size() / 2;
  auto const [left, right] =
      activations::fork_join([&] { return sum(values.first(half)); },
                             [&] { return sum(values.subspan(half)); });
  return left + right;
}

// Coroutines: each piece may also wait for something, without a stack.
activations::task<std::uint64_t> sum_task(
    std::span<std::uint32_t const> values) {
  if (values.size() <= grain)
    co_return std::accumulate(values.begin(), values.end(), std::uint64_t{0});
  auto const half = values.size() / 2;
  auto const [left, right] = co_await activations::fork_join(
      sum_task(values.first(half)), sum_task(values.subspan(half)));
  co_return left + right;
}

}  // namespace

int main() {
  std::vector<std::uint32_t> values(4'000'000);
  std::iota(values.begin(), values.end(), 1u);
  auto const expected = std::uint64_t{4'000'000} * 4'000'001 / 2;

  activations::scheduler scheduler;
  auto const plain = scheduler.run([&] { return sum(values); });
  auto const coroutine = scheduler.run([&] { return sum_task(values); });
  std::printf("plain %llu, coroutines %llu\n",
              static_cast<unsigned long long>(plain),
              static_cast<unsigned long long>(coroutine));
  return plain == expected && coroutine == expected ? 0 : 1;
}
